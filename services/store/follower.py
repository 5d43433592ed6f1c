"""A follower of the log: it handles every event once in effect, in order, and saves its position in that transaction.

The lock on its row is its licence to work, so just one works at a time, another takes over when its connection ends,
and no lock outlives a process. Nothing is skipped: an event that cannot be handled halts the follower, visibly.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import psycopg
import structlog

from services.store import log
from services.store.connect import Backoff, connect
from services.store.log import LogRow

Handle = Callable[[psycopg.Connection[Any], Sequence[LogRow]], None]


class Step(Enum):
    """What one step of a follower found."""

    WORKED = "worked"
    IDLE = "idle"
    ELSEWHERE = "elsewhere"
    HALTED = "halted"


class OutsideUnavailable(Exception):
    """What a follower acts on cannot be reached; its events are as good as before, so it waits and does not halt."""


class Fenced(Exception):
    """Another process took this follower over; what was done since is not saved."""


_PASSING = (psycopg.OperationalError, psycopg.InterfaceError, OutsideUnavailable, Fenced)


def passes(error: Exception) -> bool:
    """Tell whether a failure says nothing of the event that was being handled."""
    # What is too long for PostgreSQL counts as operational too, but stays too long.
    return isinstance(error, _PASSING) and not (getattr(error, "sqlstate", None) or "").startswith("54")


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
            except (psycopg.OperationalError, psycopg.InterfaceError, OutsideUnavailable) as error:
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

    `act_outside` says that the handler acts on the outside world: an epoch is raised on takeover, and a position is
    saved only under the epoch that the work began with.
    """

    def __init__(self, name: str, handle: Handle, *, batch: int = 500, poll: float = 1.0, act_outside: bool = False):
        super().__init__(name, poll)
        self.handle = handle
        self._batch = batch
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

    def step(self, conn: psycopg.Connection[Any]) -> Step:
        """Handle the next batch, or find that there is nothing to do."""
        self._done_to = None
        try:
            return self._attempt(conn, self._batch)
        except Exception as error:
            if passes(error):
                raise
            if self._halted_at is None:
                self._log.warning("batch failed, trying event by event", error=str(error))
        return self._event_by_event(conn)

    def _event_by_event(self, conn: psycopg.Connection[Any]) -> Step:
        worked = Step.IDLE
        for _ in range(self._batch):
            try:
                step = self._attempt(conn, 1)
            except Exception as error:
                if passes(error):
                    raise
                self._done_to = None
                self._halt(conn, error)
                return Step.HALTED
            if step is not Step.WORKED:
                return step
            worked = Step.WORKED
        return worked

    def _attempt(self, conn: psycopg.Connection[Any], limit: int) -> Step:
        with conn.transaction():
            row = conn.execute(
                "SELECT position, epoch, halted_at FROM followers WHERE name = %s FOR UPDATE SKIP LOCKED",
                (self.name,),
                prepare=True,
            ).fetchone()
            if row is None:
                self._epoch = None
                return Step.ELSEWHERE
            position, epoch, halted_at = row
            if self._act_outside and self._epoch != epoch:
                # Under another's epoch nothing may be done outside: it could not be saved, and would be done twice.
                self._take_over(conn, epoch + 1)
            rows = log.read(conn, position, limit)
            if not rows:
                log.demand_reaches(conn, position, self.name)
                self._done_to = position
                return Step.IDLE
            self.handle(conn, rows)
            self._save(conn, rows[-1].position)
        self._done_to = rows[-1].position
        self._more = len(rows) == limit
        if halted_at is not None:
            self._halted_at = None
            self._log.info("follower goes on", position=rows[-1].position)
        return Step.WORKED

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
            (f"{type(error).__name__}: {error}"[:1000], self.name),
        ).fetchone()
        position = int(row[0]) if row is not None else None
        if position != self._halted_at:
            self._halted_at = position
            self._log.error("follower halted", position=position, error=str(error), exc_info=error)
