"""A thread that listens to a channel of PostgreSQL, and connects again when its connection is lost."""

from __future__ import annotations

import math
import select
import socket
import threading
from abc import ABC, abstractmethod
from typing import Any

import psycopg

from services.store.connect import Backoff, connect
from services.store.failures import UNAVAILABLE


class Listener(ABC):
    """Takes turns until `stop`, and pauses after each; subclasses define the turn and the pause.

    `role` names its connection, and `channel` is what it listens to.
    """

    def __init__(self, name: str, role: str, channel: str, log: Any) -> None:
        self.name = name
        self._role = role
        self._channel = channel
        self._log = log
        self.stopped = threading.Event()
        self.connected = False
        # Counts everything that it does; a number that stays the same means that it hangs.
        self.beats = 0
        # While it runs: closed by `stop`, which ends a wait on the other end.
        self._waker: socket.socket | None = None
        self._woken: socket.socket | None = None

    def run(self, database_url: str, statement_timeout: float = 30.0) -> None:
        """Work until `stop`, and reconnect when the connection is lost; one log line per change of state."""
        backoff = Backoff("connection", self._log)
        self._woken, self._waker = socket.socketpair()
        with self._woken, self._waker:
            while not self.stopped.is_set():
                try:
                    with connect(database_url, self._role, statement_timeout, autocommit=True) as conn:
                        conn.execute(f"LISTEN {self._channel}")
                        self.begin(conn)
                        while not self.stopped.is_set():
                            self.beats += 1
                            seconds = self.turn(conn)
                            backoff.reached()
                            self.connected = True
                            self.pause(conn, seconds)
                except UNAVAILABLE as error:
                    self.beats += 1
                    self.connected = False
                    backoff.lost(error)
                    self.stopped.wait(backoff.next_wait())
                except Exception:
                    self.beats += 1
                    self._log.exception(f"{self.name} failed")
                    self.stopped.wait(backoff.next_wait())

    def stop(self) -> None:
        """Ask the thread to end after the current transaction; one that waits for a notification ends at once."""
        self.stopped.set()
        if self._waker is not None:
            self._waker.close()

    @property
    def unready(self) -> list[str]:
        """The names of the workers that should be running and have no connection."""
        return [self.name] if not self.connected and not self.stopped.is_set() else []

    @abstractmethod
    def begin(self, conn: psycopg.Connection[Any]) -> None:
        """Prepare to work on a new connection."""

    @abstractmethod
    def turn(self, conn: psycopg.Connection[Any]) -> float:
        """Do what is there to be done, and return the seconds to pause if no notification comes."""

    @abstractmethod
    def pause(self, conn: psycopg.Connection[Any], seconds: float) -> None:
        """Wait, at most so long, for what a notification announces."""

    def notified(self, conn: psycopg.Connection[Any], seconds: float) -> bool:
        """Wait for a notification, at most so long and not after `stop`; tell whether there was one."""
        # A notification received during the turn is kept by the connection, so none is lost between turn and wait.
        if _taken(conn):
            return True
        ready = select.poll()
        ready.register(conn.fileno(), select.POLLIN)
        if self._woken is not None:
            ready.register(self._woken.fileno(), select.POLLIN)
        ready.poll(math.ceil(seconds * 1000))
        return _taken(conn)


def _taken(conn: psycopg.Connection[Any]) -> bool:
    """Take the notifications that have arrived, and tell whether there were any."""
    return sum(1 for _ in conn.notifies(timeout=0)) > 0
