"""A thread that reads the log: it steps until nothing is left, then waits for a notification or the next poll."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from enum import Enum
from typing import Any

import psycopg
import structlog

from services.store import log
from services.store.connect import Backoff, connect
from services.store.failures import UNAVAILABLE


class Step(Enum):
    """The result of one step. `ELSEWHERE`: another process works as this follower."""

    WORKED = "worked"
    IDLE = "idle"
    ELSEWHERE = "elsewhere"
    HALTED = "halted"


class Reader(ABC):
    """The loop of one thread, with one connection; subclasses define what a step does."""

    def __init__(self, name: str, poll: float) -> None:
        self.name = name
        self._poll = poll
        # Every event up to this position is handled; None when only a step can tell.
        self._done_to: int | None = None
        # Whether the last batch was full; after a short one, a notification announces the next event.
        self._more = True
        self._log = structlog.get_logger("follower").bind(follower=name)
        self.stopped = threading.Event()
        self.connected = False

    def run(self, database_url: str, statement_timeout: float = 30.0) -> None:
        """Follow the log until `stop`, and reconnect when the connection is lost; one log line per change of state."""
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
        """Ask the thread to end after the current transaction."""
        self.stopped.set()

    @property
    def unready(self) -> list[str]:
        """The names of the followers that should be working and have no connection."""
        return [self.name] if not self.connected and not self.stopped.is_set() else []

    @abstractmethod
    def enlist(self, conn: psycopg.Connection[Any]) -> None:
        """Prepare to work on a new connection."""

    @abstractmethod
    def step(self, conn: psycopg.Connection[Any]) -> Step:
        """Handle the next batch, if there is one."""

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
            # A notification received during the step is kept by the connection, so none is lost between step and wait.
            if next(conn.notifies(timeout=left, stop_after=1), None) is None:
                return
            for _ in conn.notifies(timeout=0):
                pass
            if self._behind(conn):
                return

    def _behind(self, conn: psycopg.Connection[Any]) -> bool:
        # This is a read; a step that finds nothing takes a row lock, which PostgreSQL writes to the WAL and flushes.
        return self._done_to is None or log.head(conn) > self._done_to
