"""A follower of the log: it handles every event once in effect, in order, and saves its position in that transaction.

The lock on its row is its licence to work, so just one works at a time, another takes over when its connection ends,
and no lock outlives a process. Nothing is skipped: an event that cannot be handled is held back with the later events
of its entity, and a fault that is not the event's halts the follower; both visibly.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import Enum
from typing import Any

import psycopg
import structlog

from services.store import log
from services.store.connect import Backoff, connect
from services.store.entities import EntityOf, of_stream
from services.store.failures import UNAVAILABLE, Fenced, lost, passes, timed_out, told, where
from services.store.held import Handle, Held, take_or_hold
from services.store.log import LogRow
from services.store.pace import Pace

# Seconds until what is held back is tried again after something was away while it was tried.
_RETRY_LATER = 5.0


class Step(Enum):
    """What one step of a follower found."""

    WORKED = "worked"
    IDLE = "idle"
    ELSEWHERE = "elsewhere"
    HALTED = "halted"


class Reader(ABC):
    """A thread's work on the log: it steps until nothing is left, then waits for a notification or the next poll."""

    def __init__(self, name: str, poll: float) -> None:
        self.name = name
        self._poll = poll
        # Everything up to here is done with; None when only a step can tell.
        self._done_to: int | None = None
        # Whether the last batch was one of many; what comes after a short one is announced.
        self._more = True
        self._log = structlog.get_logger("follower").bind(follower=name)
        self.stopped = threading.Event()
        self.connected = False

    def run(self, database_url: str, statement_timeout: float = 30.0) -> None:
        """Follow until `stop`, reconnecting by itself; one log line per change of state."""
        backoff = Backoff("connection", self._log)
        while not self.stopped.is_set():
            try:
                with connect(database_url, f"follower-{self.name}", statement_timeout, autocommit=True) as conn:
                    conn.execute(f"LISTEN {log.CHANNEL}")
                    self._done_to = None
                    self.enlist(conn)
                    self._follow(conn, backoff)
            except UNAVAILABLE as error:
                self.connected = False
                backoff.lost(error)
                self.stopped.wait(backoff.next_wait())
            except Exception:
                self._log.exception("follower failed")
                self.stopped.wait(backoff.next_wait())

    def stop(self) -> None:
        """Ask the follower to end after the transaction at hand."""
        self.stopped.set()

    @property
    def unready(self) -> list[str]:
        """Name the followers that should work and have no connection."""
        return [self.name] if not self.connected and not self.stopped.is_set() else []

    @abstractmethod
    def enlist(self, conn: psycopg.Connection[Any]) -> None:
        """Take up the work, on a connection that is new."""

    @abstractmethod
    def step(self, conn: psycopg.Connection[Any]) -> Step:
        """Handle the next batch, or find that there is nothing to do."""

    def _follow(self, conn: psycopg.Connection[Any], backoff: Backoff) -> None:
        while not self.stopped.is_set():
            step = self.step(conn)
            backoff.reached()
            self.connected = True
            if step is not Step.WORKED or not self._more:
                self._wait(conn)

    def _wait(self, conn: psycopg.Connection[Any]) -> None:
        until = time.monotonic() + self._poll
        while not self.stopped.is_set() and (left := until - time.monotonic()) > 0:
            # A notification that came while we worked waits in the connection, so none is lost between step and wait.
            if next(conn.notifies(timeout=left, stop_after=1), None) is None:
                return
            for _ in conn.notifies(timeout=0):
                pass
            if self._behind(conn):
                return

    def _behind(self, conn: psycopg.Connection[Any]) -> bool:
        # Looking costs a read; a step that finds nothing costs a lock, which PostgreSQL writes down and flushes.
        return self._done_to is None or log.head(conn) > self._done_to


class Follower(Reader):
    """One follower by name. `handle(conn, rows)` runs inside the transaction that saves the position.

    `entity_of` names what is kept in order and held back together, a stream by default. `act_outside` says that the
    handler acts on the outside world: an epoch is raised on takeover, and a position is saved only under the epoch that
    the work began with.
    """

    def __init__(
        self,
        name: str,
        handle: Handle,
        *,
        batch: int = 500,
        poll: float = 1.0,
        act_outside: bool = False,
        entity_of: EntityOf = of_stream,
    ):
        super().__init__(name, poll)
        self.handle = handle
        self.held = Held(name, entity_of)
        self.pace = Pace(batch)
        # How many events the last attempt was about, and behind which position; None before it was known.
        self._tried = batch
        self._tried_at: int | None = None
        self._act_outside = act_outside
        self._epoch: int | None = None
        self._halted_at: int | None = None

    @property
    def able(self) -> bool:
        """Tell whether it may work at all."""
        return True

    def enlist(self, conn: psycopg.Connection[Any]) -> None:
        """Make the follower's row if it has none."""
        self._epoch = None
        conn.execute("INSERT INTO followers (name) VALUES (%s) ON CONFLICT DO NOTHING", (self.name,))

    def forget(self) -> None:
        """Drop what the handler keeps in memory, since what it was made from may have been taken back."""

    def step(self, conn: psycopg.Connection[Any]) -> Step:
        """Handle the next batch, or find that there is nothing to do; after that, what was held back and is due."""
        self._done_to = None
        step = self._next(conn)
        if step in (Step.WORKED, Step.IDLE) and self.held.due and self.retry(conn):
            self._more = True
            return Step.WORKED
        return step

    def take(self, conn: psycopg.Connection[Any], rows: Sequence[LogRow]) -> None:
        """Handle the events that need not wait for what is held back."""
        free = self.held.set_aside(conn, rows)
        if free:
            self.handle(conn, free)

    def retry(self, conn: psycopg.Connection[Any]) -> bool:
        """Try an entity again that is held back and due; False when another process has the follower."""
        self.forget()
        try:
            with conn.transaction():
                row = self._lock(conn)
                if row is None:
                    self.held.later(_RETRY_LATER)
                    return False
                self.held.look(conn, row[3])
                if self.held.due:
                    self.held.retry(conn, self.handle)
        except Exception:
            # Whatever is away must not keep the others waiting.
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
            if not timed_out(error):
                self._log.warning("batch failed, looking for the event", error=told(error))
                return self._narrow(conn)
            # It may be no single event's fault. Trying takes long, so others have a turn in between.
            self.pace.too_much(self._tried)
            self._log.warning("batch took too long, trying fewer events", limit=self.pace.limit, error=told(error))
            self._more = True
            return Step.WORKED
        self._went(step, began)
        return step

    def _went(self, step: Step, began: float) -> None:
        # What acts outside waits for others, who are not faster for fewer events.
        events = self._tried if step is Step.WORKED else 0
        self.pace.went(events, time.monotonic() - began, own=not self._act_outside)

    def _narrow(self, conn: psycopg.Connection[Any]) -> Step:
        """Halve what failed until one event is left; its entity is held back, or if that is no help it halts all."""
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
            # Not the handler's statement took too long but one of our own, which holding back would not help.
            if passes(error) or timed_out(error):
                raise
            self._done_to = None
            self._halt(conn, error)
            return Step.HALTED

    def _attempt(self, conn: psycopg.Connection[Any], limit: int, *, hold: bool = False) -> Step:
        with conn.transaction():
            row = self._lock(conn)
            if row is None:
                return Step.ELSEWHERE
            position, _, halted_at, generation = row
            self.held.look(conn, generation)
            rows = log.read(conn, position, limit)
            if not rows:
                log.demand_reaches(conn, position, self.name)
                self._done_to = position
                return Step.IDLE
            self._tried, self._tried_at = len(rows), position
            if hold:
                self._take_or_hold(conn, rows[0])
            else:
                self.take(conn, rows)
            self._save(conn, rows[-1].position)
        self._done_to = rows[-1].position
        self._more = log.full(rows, limit)
        if halted_at is not None:
            self._halted_at = None
            self._log.info("follower goes on", position=rows[-1].position)
        return Step.WORKED

    def _take_or_hold(self, conn: psycopg.Connection[Any], row: LogRow) -> None:
        began = time.monotonic()
        if self.held.set_aside(conn, [row]):
            self.forget()
            if not take_or_hold(conn, self.held, row, self.handle):
                return
        self._went(Step.WORKED, began)

    def _lock(self, conn: psycopg.Connection[Any]) -> tuple[int, int, int | None, int] | None:
        """Lock the follower's row and return position, epoch, where it is halted and the generation of what is held."""
        found: Any = conn.execute(
            "SELECT position, epoch, halted_at, held FROM followers WHERE name = %s FOR UPDATE SKIP LOCKED",
            (self.name,),
            prepare=True,
        ).fetchone()
        if found is None:
            self._epoch = None
        elif self._act_outside and self._epoch != found[1]:
            # Under another's epoch nothing may be done outside: it could not be saved, and would be done twice.
            self._take_over(conn, found[1] + 1)
        return found  # type: ignore[no-any-return]

    def _take_over(self, conn: psycopg.Connection[Any], epoch: int) -> None:
        conn.execute("UPDATE followers SET epoch = %s WHERE name = %s", (epoch, self.name))
        self._epoch = epoch

    def _save(self, conn: psycopg.Connection[Any], position: int) -> None:
        saved = conn.execute(
            "UPDATE followers SET position = %s, halted_at = NULL, error = NULL, updated_at = now()"
            " WHERE name = %s AND position < %s AND (%s::bigint IS NULL OR epoch = %s)",
            (position, self.name, position, self._epoch, self._epoch),
            prepare=True,
        )
        if saved.rowcount != 1:
            raise Fenced(f"{self.name} was taken over")

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
