"""The batch size of a follower: reduced after a batch that took too long, then increased again."""

from __future__ import annotations

import time

# After a batch that took longer than 5 s the next one is half as large, but has at least 16 events: costs that do not
# depend on the size, such as those of a slow disk, would otherwise be paid for every event.
SLOW, _MIN_SLOWED = 5.0, 16
# Seconds for which a limit set by a statement time-out or a lost connection does not grow.
_REMEMBERED = 60.0


class Pace:
    """The limit of one follower's batches, at first `max_events` events."""

    def __init__(self, max_events: int) -> None:
        self._max = max_events
        self.limit = max_events
        self._grows_from = 0.0
        self._lost_at: int | None = None

    def went(self, events: int, seconds: float, *, own: bool = True, heavy: bool = False) -> None:
        """Record a success; `own` says that the duration depends on the number of events.

        `heavy` says that the batch ended by its size: what is read beyond it is read again for the next one.
        """
        self._lost_at = None
        if heavy:
            self.limit = min(self.limit, max(_MIN_SLOWED, 2 * events))
        elif own and seconds > SLOW and events > 0:
            self.limit = max(min(self.limit, _MIN_SLOWED), events // 2)
        elif self.limit < self._max and (self.limit == 1 or time.monotonic() >= self._grows_from):
            self.limit = min(self._max, 2 * self.limit)

    def too_much(self, events: int) -> None:
        """Record that a batch of this size failed, and keep to half of it for a while."""
        self.limit = max(1, min(self.limit, events // 2))
        self._grows_from = time.monotonic() + _REMEMBERED

    def lost(self, position: int, events: int) -> None:
        """Record a connection lost in the batch after a position; the second time there, the batch was too large."""
        if position == self._lost_at:
            self.too_much(events)
        self._lost_at = position

    def one(self) -> None:
        """Continue with single events, because one of the next is at fault."""
        self.limit = 1
