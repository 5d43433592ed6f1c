"""Followers that go together: one thread, one connection, one reading of the log and one transaction for all.

Each keeps its own row, so any may halt, fall behind or be taken over by itself; it is met again where it is level.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from services.store import log
from services.store.failures import lost, passes, timed_out, told
from services.store.follower import Follower, Reader, Step
from services.store.log import LogRow

_LOCK = "SELECT name, position, halted_at, held FROM followers WHERE name = ANY(%s) FOR UPDATE SKIP LOCKED"
_SAVE = (
    "UPDATE followers SET position = %s, halted_at = NULL, error = NULL, updated_at = now()"
    " WHERE name = ANY(%s) AND position < %s"
)
# Nobody keeps the others waiting: who has to wait longer for a lock, in milliseconds, is left behind, in seconds.
_LOCK_WAIT, _LEFT_BEHIND = 500, 5.0


class FollowerGroup(Reader):
    """Several followers of which none acts outside.

    Those that stand level are handled in one transaction. One that is behind has every other turn until it is level;
    one that is halted is tried by itself once in each poll, and a batch that fails is tried by one after another, who
    hold back what they cannot take.
    """

    def __init__(self, name: str, members: Sequence[Follower], *, batch: int = 500, poll: float = 1.0) -> None:
        super().__init__(name, poll)
        self._members = members
        self._batch = batch
        # Where the next batch begins if nobody else works: it is asked for together with the locks.
        self._expected = 0
        self._hindmost_next = False
        self._halted: list[Follower] = []
        self._absent: list[Follower] = []
        self._look_again = 0.0
        self._left_behind: dict[Follower, float] = {}
        # Of the last batch for all: whose it was, behind which position, and how many events.
        self._tried: tuple[list[Follower], int, int] = [], 0, 0

    @property
    def unready(self) -> list[str]:
        """Name the followers that should work and have no connection."""
        return [member.name for member in self._members] if super().unready else []

    def enlist(self, conn: psycopg.Connection[Any]) -> None:
        """Enlist every follower."""
        conn.execute(f"SET lock_timeout = {_LOCK_WAIT}")
        for member in self._members:
            member.enlist(conn)

    def step(self, conn: psycopg.Connection[Any]) -> Step:
        """Handle the next batch of those that stand level, or of one that has to catch up."""
        self._done_to = None
        step: Step | None = None
        self._tried = [], 0, 0
        began = time.monotonic()
        try:
            step = self._together(conn)
        except Exception as error:
            self._note(error)
            # An aborted pipeline is said of what came after the statement that failed.
            if passes(error) and not isinstance(
                error, (psycopg.errors.PipelineAborted, psycopg.errors.LockNotAvailable)
            ):
                raise
            self._log.warning("batch failed, trying one follower at a time", error=told(error))
            self._more = True
        else:
            for member in self._tried[0]:
                member.pace.went(self._tried[2], time.monotonic() - began)
        if step is None:
            step = self._apart(conn)
        return Step.WORKED if self._rejoined(conn) else step

    def _note(self, error: Exception) -> None:
        level, after, events = self._tried
        for member in level:
            if lost(error):
                member.pace.lost(after, events)
            elif timed_out(error):
                member.pace.too_much(events)

    def _together(self, conn: psycopg.Connection[Any]) -> Step:
        able = {member.name: member for member in self._present()}
        with _one_transaction(conn):
            locks = conn.execute(_LOCK, (list(able),), prepare=True)
            asked = self._expected, log.ask(conn, self._expected, self._batch)
            standing: dict[Follower, int] = {}
            self._halted = []
            for name, position, halted_at, generation in locks:
                able[name].held.look(conn, generation)
                if halted_at is None:
                    standing[able[name]] = position
                else:
                    self._halted.append(able[name])
            self._absent = [
                each
                for each in self._members
                if each not in standing and each not in self._halted and each not in self._left_behind
            ]
            if not standing:
                return Step.HALTED if self._halted else Step.ELSEWHERE
            level, after, rows, limit = self._next_batch(conn, standing, asked)
            self._tried = level, after, len(rows)
            if rows:
                self._handle(conn, level, rows)
                after = rows[-1].position
        standing |= dict.fromkeys(level, after)
        self._expected = max(standing.values())
        self._done_to = min(standing.values())
        self._more = log.full(rows, limit) or self._done_to < self._expected
        return Step.WORKED if rows else Step.IDLE

    def _next_batch(
        self, conn: psycopg.Connection[Any], standing: Mapping[Follower, int], asked: tuple[int, psycopg.Cursor[Any]]
    ) -> tuple[list[Follower], int, list[LogRow], int]:
        """Return whose turn it is, where they stand, what comes next for them, and how much that may be."""
        places = sorted(set(standing.values()))
        last, first = places[0], places[-1]
        hindmost = len(places) > 1 and self._hindmost_next
        rows: list[LogRow] = []
        level, limit = self._level(standing, first)
        if not hindmost:
            rows = log.taken(asked[1], first)[:limit] if asked[0] == first else log.read(conn, first, limit)
        if len(places) > 1 and not rows:
            hindmost = True
            level, limit = self._level(standing, last)
            # Not a step beyond those in front, or they would never be level.
            limit = min(limit, places[1] - last)
            rows = log.read(conn, last, limit)
        if not rows:
            log.demand_reaches(conn, first, self.name)
        self._hindmost_next = len(places) > 1 and not hindmost
        return level, last if hindmost else first, rows, limit

    def _level(self, standing: Mapping[Follower, int], place: int) -> tuple[list[Follower], int]:
        level = [member for member, position in standing.items() if position == place]
        return level, min(self._batch, *(member.pace.limit for member in level))

    def _handle(self, conn: psycopg.Connection[Any], level: Sequence[Follower], rows: Sequence[LogRow]) -> None:
        for member in level:
            member.take(conn, rows)
        position = rows[-1].position
        # The rows are locked and were behind a moment ago, so every one of them is saved; asking would cost a wait.
        conn.execute(_SAVE, (position, [member.name for member in level], position), prepare=True)

    def _apart(self, conn: psycopg.Connection[Any]) -> Step:
        """Let each make a step by itself: who cannot go on halts, and the others do not notice."""
        steps = [self._alone(conn, member) for member in self._present()]
        self._halted, self._absent = [], []
        return next((step for step in (Step.WORKED, Step.HALTED, Step.IDLE) if step in steps), Step.ELSEWHERE)

    def _alone(self, conn: psycopg.Connection[Any], member: Follower) -> Step:
        return self._unless_locked_out(member, lambda: member.step(conn))

    def _retried(self, conn: psycopg.Connection[Any], member: Follower) -> bool:
        retried = self._unless_locked_out(member, lambda: Step.WORKED if member.retry(conn) else Step.ELSEWHERE)
        return retried is Step.WORKED

    def _unless_locked_out(self, member: Follower, work: Callable[[], Step]) -> Step:
        try:
            return work()
        except psycopg.errors.LockNotAvailable as error:
            self._log.warning("left behind", member=member.name, error=str(error).strip())
            self._left_behind[member] = time.monotonic() + _LEFT_BEHIND
            return Step.ELSEWHERE

    def _present(self) -> list[Follower]:
        if self._left_behind:
            now = time.monotonic()
            self._left_behind = {each: until for each, until in self._left_behind.items() if until > now}
        return [each for each in self._members if each.able and each not in self._left_behind]

    def _rejoined(self, conn: psycopg.Connection[Any]) -> bool:
        """Look after those that did not take part, and what is held back and due; True when one of them goes on."""
        due = time.monotonic() >= self._look_again
        gone_on = False
        for member in self._absent:
            # Its row is locked by another process, or was replaced when other tables began to serve.
            if member.able or due:
                before = member.name, member.able
                member.enlist(conn)
                gone_on |= before != (member.name, member.able)
        if due:
            for member in self._halted:
                gone_on |= self._alone(conn, member) is Step.WORKED
            self._look_again = time.monotonic() + self._poll
        for member in self._present():
            if member.held.due:
                gone_on |= self._retried(conn, member)
        if gone_on:
            self._done_to, self._more = None, True
        return gone_on


@contextmanager
def _one_transaction(conn: psycopg.Connection[Any]) -> Iterator[None]:
    """Send everything without waiting for answers that nobody needs; the server skips what follows a failure."""
    try:
        with conn.pipeline():
            conn.execute("BEGIN")
            yield
            conn.execute("COMMIT")
    except BaseException:
        # A failure leaves the transaction open, the commit having been skipped.
        if not conn.closed and not conn.broken:
            conn.rollback()
        raise
