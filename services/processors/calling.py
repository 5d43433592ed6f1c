"""A worker that makes calls to the outside: an event loop in a thread, with a connection to the database."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Generic, TypeVar

import psycopg
import structlog

from services.store.connect import Backoff, connect_async
from services.store.unavailable import AWAY

# How long calls in progress may take when the service stops.
STOP_TIMEOUT = 2.0
_Client = TypeVar("_Client")


class Caller(ABC, Generic[_Client]):
    """Takes what is due, calls, and stores the outcomes; several processes may run one.

    `client` opens what makes the calls, once for the life of the loop.
    """

    def __init__(self, name: str, client: AbstractAsyncContextManager[_Client], poll: float) -> None:
        self.name = name
        self._client = client
        self._poll = poll
        self._loop: asyncio.AbstractEventLoop | None = None
        self._log = structlog.get_logger(name)
        self.stopped = threading.Event()
        self.connected = False
        self.beats = 0

    @abstractmethod
    async def take(self, conn: psycopg.AsyncConnection[Any], client: _Client) -> int:
        """Start as many calls as the limits allow, and return how many were taken."""

    @abstractmethod
    async def store(self, conn: psycopg.AsyncConnection[Any]) -> None:
        """Store the outcomes of the calls that have ended."""

    @abstractmethod
    def running(self) -> Iterable[asyncio.Task[None]]:
        """Return the calls whose outcomes are not stored yet."""

    def run(self, database_url: str, statement_timeout: float = 30.0) -> None:
        """Work until `stop`, and reconnect when the connection is lost; one log line per change of state."""
        asyncio.run(self._run(database_url, statement_timeout))

    def stop(self) -> None:
        """Ask the worker to end after the calls in progress, or after `STOP_TIMEOUT`."""
        self.stopped.set()
        self.look()

    def look(self) -> None:
        """Look for what is due now; may be called from any thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # The loop has ended.
                self._loop.call_soon_threadsafe(self._wanted.set)

    def ended(self) -> None:
        """Note that a call has ended; called in the loop."""
        self._wanted.set()

    @property
    def unready(self) -> list[str]:
        """The name of the worker if it should be running and has no connection."""
        return [self.name] if not self.connected and not self.stopped.is_set() else []

    async def _run(self, database_url: str, statement_timeout: float) -> None:
        self._wanted = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        backoff = Backoff("connection", self._log)
        async with self._client as client:
            while not self.stopped.is_set():
                try:
                    async with await connect_async(database_url, self.name, statement_timeout) as conn:
                        await self._work(conn, client, backoff)
                except AWAY as error:
                    self.beats += 1
                    self.connected = False
                    backoff.lost(error)
                    await self._pause(backoff.next_wait())
                except Exception:
                    self.beats += 1
                    self._log.exception(f"{self.name} failed")
                    await self._pause(backoff.next_wait())
            left = [task for task in self.running() if not task.done()]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _work(self, conn: psycopg.AsyncConnection[Any], client: _Client, backoff: Backoff) -> None:
        while not self.stopped.is_set():
            self._wanted.clear()
            self.beats += 1
            await self.store(conn)
            took = await self.take(conn, client)
            backoff.reached()
            self.connected = True
            if not took:
                await self._wait(self._poll)
        if running := list(self.running()):
            await asyncio.wait(running, timeout=STOP_TIMEOUT)
        await self.store(conn)

    async def _pause(self, seconds: float) -> None:
        # A request from before cannot be served now, and must not turn this into a busy loop.
        self._wanted.clear()
        if not self.stopped.is_set():
            await self._wait(seconds)

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wanted.wait()
