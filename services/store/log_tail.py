"""A reader that hands on the events after a position as they are recorded, and keeps no position of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from services.store import identity, log
from services.store.log import LogReplaced, LogRow
from services.store.reader import Reader, Step

# Events that are read at once, and their bytes in memory.
ROWS, BYTES = 500, 1 << 20


class LogTail(Reader):
    """Calls `take` with the next events, in order; they count as taken when it returns.

    It begins after a position, or without one at the end of the log when it first connects; `begun` is then called with
    the position. When the log was replaced by another one, `replaced` is called with the error, and nothing is handed
    on any more.
    """

    def __init__(
        self,
        name: str,
        take: Callable[[Sequence[LogRow]], None],
        begun: Callable[[int], None],
        replaced: Callable[[LogReplaced], None],
        poll: float,
        after: int | None = None,
    ) -> None:
        super().__init__(name, poll)
        # Readiness judges the sessions of followers; this one delays nobody, as when a terminal is paused.
        self._role = name
        self._take = take
        self._begun = begun
        self._replaced = replaced
        self._after = after
        # What distinguishes the last event from any other that was ever at its position.
        self._mark: identity.Mark | None = None

    def enlist(self, conn: psycopg.Connection[Any]) -> None:
        if self._after is None:
            self._after = log.head(conn)
            self._mark = identity.ask_mark(conn, self._after).fetchone()
            self._begun(self._after)
            return
        try:
            log.demand_reaches(conn, self._after, self.name)
            found = identity.ask_mark(conn, self._after).fetchone()
            log.demand_same(self._mark in (None, found), self._after, self.name)
        except LogReplaced as error:
            self.stop()
            self._replaced(error)
            return
        self._mark = found

    def step(self, conn: psycopg.Connection[Any]) -> Step:
        if self.stopped.is_set():
            return Step.IDLE
        assert self._after is not None  # noqa: S101
        rows = log.read(conn, self._after, ROWS, BYTES)
        if rows:
            self._take(rows)
            last = rows[-1]
            self._after = last.position
            if self._mark is None:
                self._mark = identity.ask_mark(conn, last.position).fetchone()
            else:
                self._mark = (*self._mark[:2], last.stream, last.version, last.recorded_at)
        self._more = len(rows) == ROWS or log.heavy(rows, ROWS, BYTES)
        self._done_to = self._after
        return Step.WORKED if rows else Step.IDLE
