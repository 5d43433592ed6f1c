"""A follower of the log: it handles every event exactly once in effect, in order, and saves its position with the work.

A lock on its row lets one process work at a time; another takes over when that process's connection ends. No event is
skipped: an event that cannot be handled is held back together with the later events of its entity, and an error that
no single event causes halts the follower. Both are reported.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import psycopg

from services.store import log
from services.store.entities import EntityOf, of_stream
from services.store.failures import Fenced, lost, passes, timed_out, told, where
from services.store.held import Handle, Held, take_or_hold
from services.store.log import LogReplaced, LogRow
from services.store.pace import Pace
from services.store.reader import Reader, Step

# Seconds until held-back entities are tried again after a retry that found the database or the broker unavailable.
_RETRY_LATER = 5.0


class Follower(Reader):
    """One follower, by name. `handle(conn, rows)` runs inside the transaction that saves the position.

    `entity_of` names the entity of an event, which is kept in order and held back together; a stream by default.
    `act_outside` means that the handler has effects outside the database: a takeover increases the epoch, and a
    position is saved only under the epoch in which the work began.
    """

    def __init__(
        self,
        name: str,
        handle: Handle,
        *,
        batch: int = 500,
        batch_bytes: int = log.BATCH_BYTES,
        poll: float = 1.0,
        act_outside: bool = False,
        entity_of: EntityOf = of_stream,
    ):
        super().__init__(name, poll)
        self.handle = handle
        self.held = Held(name, entity_of)
        self.pace = Pace(batch)
        self._batch_bytes = batch_bytes
        # Whether the last attempt's batch ended by its size.
        self._heavy = False
        # The number of events of the last attempt, and the position before them; None until they are read.
        self._tried = batch
        self._tried_at: int | None = None
        self._act_outside = act_outside
        self._epoch: int | None = None
        self._halted_at: int | None = None

    @property
    def able(self) -> bool:
        """Whether it may work at all."""
        return True

    def enlist(self, conn: psycopg.Connection[Any]) -> None:
        """Insert the follower's row if there is none."""
        self._epoch = None
        conn.execute("INSERT INTO followers (name) VALUES (%s) ON CONFLICT DO NOTHING", (self.name,))

    def forget(self) -> None:
        """Drop the state that the handler keeps in memory, because its transaction may have been rolled back."""

    def step(self, conn: psycopg.Connection[Any]) -> Step:
        """Handle the next batch, then retry a held-back entity that is due."""
        self._done_to = None
        step = self._next(conn)
        if step in (Step.WORKED, Step.IDLE) and self.held.due and self.retry(conn):
            self._more = True
            return Step.WORKED
        return step

    def take(self, conn: psycopg.Connection[Any], rows: Sequence[LogRow]) -> None:
        """Handle the events, except those of entities that are held back."""
        free = self.held.set_aside(conn, rows)
        if free:
            self.handle(conn, free)

    def retry(self, conn: psycopg.Connection[Any]) -> bool:
        """Retry a held-back entity that is due; False when another process works as this follower."""
        self.forget()
        try:
            with conn.transaction():
                row = self._lock(conn)
                if row is None:
                    self.held.later(_RETRY_LATER)
                    return False
                self.held.refresh(conn, row[3])
                if self.held.due:
                    self.held.retry(conn, self.handle)
        except Exception:
            # While the database or the broker is unavailable, other events go first.
            self.held.later(_RETRY_LATER)
            raise
        finally:
            self.forget()
        return True

    def _next(self, conn: psycopg.Connection[Any]) -> Step:
        self._tried, self._tried_at = self.pace.limit, None
        try:
            return self._batch_of(conn, self.pace.limit) if self.pace.limit > 1 else self._narrow(conn)
        except Exception as error:
            if lost(error) and self._tried_at is not None:
                self.pace.lost(self._tried_at, self._tried)
            raise

    def _batch_of(self, conn: psycopg.Connection[Any], limit: int) -> Step:
        began = time.monotonic()
        try:
            step = self._attempt(conn, limit)
        except Exception as error:
            if passes(error):
                raise
            self.forget()
            if isinstance(error, LogReplaced):
                self._halt(conn, error)
                return Step.HALTED
            if not timed_out(error):
                self._log.warning("batch failed, looking for the event that causes it", error=told(error))
                return self._narrow(conn)
            # Perhaps no single event is the cause. An attempt takes long, so other followers get a turn in between.
            self.pace.too_much(self._tried)
            self._log.warning("batch timed out, trying fewer events", limit=self.pace.limit, error=told(error))
            self._more = True
            return Step.WORKED
        self._went(step, began)
        return step

    def _went(self, step: Step, began: float) -> None:
        # The duration of outside effects does not depend on the number of events.
        events = self._tried if step is Step.WORKED else 0
        self.pace.went(events, time.monotonic() - began, own=not self._act_outside, heavy=self._heavy)

    def _narrow(self, conn: psycopg.Connection[Any]) -> Step:
        """Halve the failed batch until one event is left; hold back its entity, or halt if that does not help."""
        left = self._tried
        while left > 1:
            half = left // 2
            try:
                step = self._attempt(conn, half)
            except Exception as error:
                if passes(error):
                    raise
                self.forget()
                left = half
            else:
                if step is not Step.WORKED:
                    return step
                left -= half
        self.pace.one()
        try:
            return self._attempt(conn, 1, hold=True)
        except Exception as error:
            self.forget()
            # A statement of the follower itself timed out, not the handler's; holding back the event would not help.
            if passes(error) or timed_out(error):
                raise
            self._done_to = None
            self._halt(conn, error)
            return Step.HALTED

    def _attempt(self, conn: psycopg.Connection[Any], limit: int, *, hold: bool = False) -> Step:
        self.beats += 1
        with conn.transaction():
            row = self._lock(conn)
            if row is None:
                return Step.ELSEWHERE
            position, _, halted_at, generation = row
            self.held.refresh(conn, generation)
            rows = log.read(conn, position, limit, self._batch_bytes)
            self._heavy = log.heavy(rows, limit, self._batch_bytes)
            if not rows:
                log.demand_reaches(conn, position, self.name)
                self._done_to = position
                return Step.IDLE
            self._tried, self._tried_at = len(rows), position
            if hold:
                self._take_or_hold(conn, rows[0])
            else:
                self.take(conn, rows)
            self.save(conn, rows[-1].position)
        self._done_to = rows[-1].position
        self._more = self._heavy or len(rows) == limit
        if halted_at is not None:
            self._halted_at = None
            self._log.info("follower resumed", position=rows[-1].position)
        return Step.WORKED

    def _take_or_hold(self, conn: psycopg.Connection[Any], row: LogRow) -> None:
        began = time.monotonic()
        if self.held.set_aside(conn, [row]):
            self.forget()
            if not take_or_hold(conn, self.held, row, self.handle):
                return
        self._went(Step.WORKED, began)

    def _lock(self, conn: psycopg.Connection[Any]) -> tuple[int, int, int | None, int] | None:
        """Lock the follower's row and return (position, epoch, halted at, generation of the held entities)."""
        found: Any = conn.execute(
            f"SELECT position, epoch, halted_at, held, {log.SAME} FROM followers WHERE name = %s"  # noqa: S608
            " FOR UPDATE SKIP LOCKED",
            (self.name,),
            prepare=True,
        ).fetchone()
        if found is None:
            self._epoch = None
            return None
        log.demand_same(found[4], found[0], self.name)
        if self._act_outside and self._epoch != found[1]:
            # Under another epoch the position could not be saved, and an outside effect would be repeated.
            self._take_over(conn, found[1] + 1)
        return found[:4]  # type: ignore[no-any-return]

    def _take_over(self, conn: psycopg.Connection[Any], epoch: int) -> None:
        conn.execute("UPDATE followers SET epoch = %s WHERE name = %s", (epoch, self.name))
        self._epoch = epoch

    def save(self, conn: psycopg.Connection[Any], position: int) -> None:
        saved = conn.execute(
            "UPDATE followers SET position = %s, halted_at = NULL, error = NULL, updated_at = now()"
            " WHERE name = %s AND position < %s AND (%s::bigint IS NULL OR epoch = %s)",
            (position, self.name, position, self._epoch, self._epoch),
            prepare=True,
        )
        if saved.rowcount != 1:
            raise Fenced(f"{self.name} was taken over by another process")

    def _halt(self, conn: psycopg.Connection[Any], error: Exception) -> None:
        row = conn.execute(
            "UPDATE followers SET halted_at = position + 1, error = %s, updated_at = now()"
            " WHERE name = %s RETURNING halted_at",
            (told(error), self.name),
        ).fetchone()
        position = int(row[0]) if row is not None else None
        if position != self._halted_at:
            self._halted_at = position
            self._log.error("follower halted", position=position, error=told(error), at=where(error))
