"""How many events a follower takes at once: fewer after a batch that took too long, later more again."""

from __future__ import annotations

import time

# After a batch that took longer than this, in seconds, the next one is half as large, but not below so many events:
# what costs the same whatever the size, such as a slow disk, would otherwise cost that for every event.
SLOW, _MIN_SLOWED = 5.0, 16
# Seconds for which a limit that a statement time-out or a lost connection has set does not grow.
_REMEMBERED = 60.0


class Pace:
    """The limit of one follower's batches, of `most` events at first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.limit = most
        self._grows_from = 0.0
        self._lost_at: int | None = None

    def went(self, events: int, seconds: float, *, own: bool = True) -> None:
        """Note that a batch succeeded; `own` says that its duration is due to the number of its events."""
        self._lost_at = None
        if own and seconds > SLOW and events > 0:
            self.limit = max(min(self.limit, _MIN_SLOWED), events // 2)
        elif self.limit < self._most and (self.limit == 1 or time.monotonic() >= self._grows_from):
            self.limit = min(self._most, 2 * self.limit)

    def too_much(self, events: int) -> None:
        """Note that so many events were too many, and keep to half of them for a while."""
        self.limit = max(1, min(self.limit, events // 2))
        self._grows_from = time.monotonic() + _REMEMBERED

    def lost(self, position: int, events: int) -> None:
        """Note that the connection was lost in the batch behind a position; twice there, and it was too much."""
        if position == self._lost_at:
            self.too_much(events)
        self._lost_at = position

    def one(self) -> None:
        """Go on with one event: the next one is at fault, or the one behind it."""
        self.limit = 1
