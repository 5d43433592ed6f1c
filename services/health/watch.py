"""For how long something has not changed, by the clock of this process, which no adjustment of the time moves."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import NamedTuple


class _Seen(NamedTuple):
    state: object
    since: float
    looked: float


class Watch:
    """Ages of states, each of one thing of a kind."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[tuple[str, Hashable], _Seen] = {}

    def age(self, kind: str, name: Hashable, state: object, told: float = 0.0) -> float:
        """Return for how many seconds the state has been this one.

        `told` is its age by another clock, such as the database's. It counts on the first look, and afterwards for a
        state that is new, up to the time since the look before: that is how long it can have been so.
        """
        now, told = self._clock(), max(told, 0.0)
        key = kind, name
        seen = self._seen.get(key)
        if seen is None:
            since = now - told
        elif seen.state == state:
            since = seen.since
        else:
            since = now - min(told, now - seen.looked)
        self._seen[key] = _Seen(state, since, now)
        return now - since

    def keep(self, kind: str, names: set[Hashable]) -> None:
        """Forget the others of a kind."""
        self._seen = {key: seen for key, seen in self._seen.items() if key[0] != kind or key[1] in names}
