"""A group of followers that share one thread, one connection, one read of the log and one transaction.

Each follower keeps its own row, so each can halt, fall behind or be taken over by itself, and rejoins the group when it
is at the same position again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from services.store import log
from services.store.connect import end_in_time
from services.store.failures import lost, passes, timed_out, told
from services.store.follower import Follower
from services.store.log import LogRow
from services.store.reader import Reader, Step

_LOCK = (
    f"SELECT name, position, halted_at, held, {log.SAME} FROM followers"  # noqa: S608
    " WHERE name = ANY(%s) FOR UPDATE SKIP LOCKED"
)
_SAVE = (
    "UPDATE followers SET position = %s, halted_at = NULL, error = NULL, updated_at = now()"
    " WHERE name = ANY(%s) AND position < %s"
)
# A follower blocked for 500 ms on a lock is skipped for 5 s.
LOCK_TIMEOUT_MS, SKIP_SECONDS = 500, 5.0


class FollowerGroup(Reader):
    """Several followers, none of which acts outside the database.

    The followers at the same position handle a batch in one transaction. A follower that is behind gets every other
    turn until it has caught up; a halted one is tried by itself once per poll. When a batch fails, each follower tries
    it by itself and holds back what it cannot handle.
    """

    def __init__(
        self,
        name: str,
        members: Sequence[Follower],
        *,
        batch: int = 500,
        batch_bytes: int = log.BATCH_BYTES,
        poll: float = 1.0,
    ) -> None:
        super().__init__(name, poll)
        self._members = members
        self._batch = batch
        self._batch_bytes = batch_bytes
        # Whether the last shared batch ended by its size.
        self._heavy = False
        # Where the next batch begins unless another process has worked; it is requested together with the locks.
        self._expected = 0
        self._hindmost_next = False
        self._halted: list[Follower] = []
        self._absent: list[Follower] = []
        self._look_again = 0.0
        self._skipped: dict[Follower, float] = {}
        # The last shared batch: its followers, the position before it, and its number of events.
        self._tried: tuple[list[Follower], int, int] = [], 0, 0

    @property
    def unready(self) -> list[str]:
        return [member.name for member in self._members] if super().unready else []

    def enlist(self, conn: psycopg.Connection[Any]) -> None:
        conn.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
        for member in self._members:
            member.enlist(conn)

    def step(self, conn: psycopg.Connection[Any]) -> Step:
        """Handle the next batch of the followers at one position: those in front, or those behind."""
        self._done_to = None
        step: Step | None = None
        self._tried = [], 0, 0
        began = time.monotonic()
        try:
            step = self._together(conn)
        except Exception as error:
            self._note(error)
            # A pipeline is reported as aborted for the statements after the one that failed.
            if passes(error) and not isinstance(
                error, (psycopg.errors.PipelineAborted, psycopg.errors.LockNotAvailable)
            ):
                raise
            self._log.warning("batch failed, trying one follower at a time", error=told(error))
            self._more = True
        else:
            for member in self._tried[0]:
                member.pace.went(self._tried[2], time.monotonic() - began, heavy=self._heavy)
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
            most = min(self._batch, *(member.pace.limit for member in able.values())) if able else self._batch
            asked = self._expected, most, log.ask(conn, self._expected, most)
            positions: dict[Follower, int] = {}
            self._halted = []
            for name, position, halted_at, generation, same in locks:
                able[name].held.refresh(conn, generation)
                if halted_at is None:
                    log.demand_same(same, position, name)
                    positions[able[name]] = position
                else:
                    self._halted.append(able[name])
            self._absent = [
                each
                for each in self._members
                if each not in positions and each not in self._halted and each not in self._skipped
            ]
            if not positions:
                return Step.HALTED if self._halted else Step.ELSEWHERE
            level, after, rows, limit = self._next_batch(conn, positions, asked)
            self._tried = level, after, len(rows)
            if rows:
                self._handle(conn, level, rows)
                after = rows[-1].position
        positions |= dict.fromkeys(level, after)
        self._expected = max(positions.values())
        self._done_to = min(positions.values())
        self._more = self._heavy or len(rows) == limit or self._done_to < self._expected
        return Step.WORKED if rows else Step.IDLE

    def _next_batch(
        self,
        conn: psycopg.Connection[Any],
        positions: Mapping[Follower, int],
        asked: tuple[int, int, psycopg.Cursor[Any]],
    ) -> tuple[list[Follower], int, list[LogRow], int]:
        """Return the followers whose turn it is, their position, their next events, and the limit of the batch."""
        places = sorted(set(positions.values()))
        last, first = places[0], places[-1]
        hindmost = len(places) > 1 and self._hindmost_next
        rows: list[LogRow] = []
        level, limit = self._level(positions, first)
        if not hindmost:
            if asked[0] == first:
                limit = min(limit, asked[1])
                rows = log.taken(asked[2], first, self._batch_bytes)
            else:
                rows = log.read(conn, first, limit, self._batch_bytes)
        if len(places) > 1 and not rows:
            hindmost = True
            level, limit = self._level(positions, last)
            # Not beyond the position of the followers in front, or the two would never meet.
            limit = min(limit, places[1] - last)
            rows = log.read(conn, last, limit, self._batch_bytes)
        if not rows:
            log.demand_reaches(conn, first, self.name)
        self._heavy = log.heavy(rows, limit, self._batch_bytes)
        self._hindmost_next = len(places) > 1 and not hindmost
        return level, last if hindmost else first, rows, limit

    def _level(self, positions: Mapping[Follower, int], place: int) -> tuple[list[Follower], int]:
        level = [member for member, position in positions.items() if position == place]
        return level, min(self._batch, *(member.pace.limit for member in level))

    def _handle(self, conn: psycopg.Connection[Any], level: Sequence[Follower], rows: Sequence[LogRow]) -> None:
        for member in level:
            member.take(conn, rows)
        position = rows[-1].position
        # The rows are locked and behind this position, so the update matches all; a check would cost a round trip.
        conn.execute(_SAVE, (position, [member.name for member in level], position), prepare=True)

    def _apart(self, conn: psycopg.Connection[Any]) -> Step:
        """Let each follower make a step by itself; one that fails halts without affecting the others."""
        steps = [self._alone(conn, member) for member in self._present()]
        self._halted, self._absent = [], []
        return next((step for step in (Step.WORKED, Step.HALTED, Step.IDLE) if step in steps), Step.ELSEWHERE)

    def _alone(self, conn: psycopg.Connection[Any], member: Follower) -> Step:
        return self._unless_locked_out(member, lambda: member.step(conn))

    def _retried(self, conn: psycopg.Connection[Any], member: Follower) -> bool:
        retried = self._unless_locked_out(member, lambda: Step.WORKED if member.retry(conn) else Step.ELSEWHERE)
        return retried is Step.WORKED

    def _unless_locked_out(self, member: Follower, work: Callable[[], Step]) -> Step:
        self.beats += 1
        try:
            return work()
        except psycopg.errors.LockNotAvailable as error:
            self._log.warning("follower blocked by a lock is skipped", member=member.name, error=told(error))
            self._skipped[member] = time.monotonic() + SKIP_SECONDS
            return Step.ELSEWHERE

    def _present(self) -> list[Follower]:
        if self._skipped:
            now = time.monotonic()
            self._skipped = {each: until for each, until in self._skipped.items() if until > now}
        return [each for each in self._members if each.able and each not in self._skipped]

    def _rejoined(self, conn: psycopg.Connection[Any]) -> bool:
        """Try absent and halted followers, and held-back entities that are due; True if one made progress."""
        due = time.monotonic() >= self._look_again
        progressed = False
        for member in self._absent:
            # Another process has locked its row, or the row was replaced by a switch to new tables.
            if member.able or due:
                before = member.name, member.able
                member.enlist(conn)
                progressed |= before != (member.name, member.able)
        if due:
            for member in self._halted:
                progressed |= self._alone(conn, member) is Step.WORKED
            self._look_again = time.monotonic() + self._poll
        for member in self._present():
            if member.held.due:
                progressed |= self._retried(conn, member)
        if progressed:
            self._done_to, self._more = None, True
        return progressed


@contextmanager
def _one_transaction(conn: psycopg.Connection[Any]) -> Iterator[None]:
    """Run one transaction in a pipeline; the server skips the statements after one that fails."""
    try:
        with conn.pipeline():
            conn.execute("BEGIN")
            end_in_time(conn)
            yield
            conn.execute("COMMIT")
    except BaseException:
        # The server has skipped the COMMIT, so the transaction is still open.
        if not conn.closed and not conn.broken:
            conn.rollback()
        raise
