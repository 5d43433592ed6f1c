"""A thread that reads the log: it steps until nothing is left, then waits for a notification or the next poll."""

from __future__ import annotations

import time
from abc import abstractmethod
from enum import Enum
from typing import Any

import psycopg
import structlog

from services.store import identity, log
from services.store.listener import Listener


class Step(Enum):
    """The result of one step. `ELSEWHERE`: another process works as this follower."""

    WORKED = "worked"
    IDLE = "idle"
    ELSEWHERE = "elsewhere"
    HALTED = "halted"


class Reader(Listener):
    """The loop of one thread, with one connection; subclasses define what a step does."""

    def __init__(self, name: str, poll: float) -> None:
        super().__init__(name, f"follower-{name}", log.CHANNEL, structlog.get_logger("follower").bind(follower=name))
        self._poll = poll
        # Every event up to this position is handled; None when only a step can tell.
        self._done_to: int | None = None
        # Whether the last batch was full; after a short one, a notification announces the next event.
        self._more = True

    @abstractmethod
    def enlist(self, conn: psycopg.Connection[Any]) -> None:
        """Prepare to work on a new connection."""

    @abstractmethod
    def step(self, conn: psycopg.Connection[Any]) -> Step:
        """Handle the next batch, if there is one."""

    def begin(self, conn: psycopg.Connection[Any]) -> None:
        self._done_to = None
        identity.demand_own(conn)
        self.enlist(conn)

    def turn(self, conn: psycopg.Connection[Any]) -> float:
        """Handle the next batch; after a full one there may be more."""
        return 0.0 if self.step(conn) is Step.WORKED and self._more else self._poll

    def pause(self, conn: psycopg.Connection[Any], seconds: float) -> None:
        """Wait for an event that is not handled yet."""
        until = time.monotonic() + seconds
        while not self.stopped.is_set() and (left := until - time.monotonic()) > 0:
            if not self.notified(conn, left) or self._behind(conn):
                return

    def _behind(self, conn: psycopg.Connection[Any]) -> bool:
        # This is a read; a step that finds nothing takes a row lock, which PostgreSQL writes to the WAL and flushes.
        return self._done_to is None or log.head(conn) > self._done_to
