"""The thread in which the store is used, so that a slow statement never blocks the event loop and its heartbeats."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeVar

import structlog
import uuid_utils

from services.commands.outcome import Outcome
from services.commands.wire import Incoming
from services.commands.worker import Worker
from services.settings import Settings
from services.store.event_store import EventStore
from services.store.unavailable import StatementFailed, StoreUnavailable

T = TypeVar("T")


class StoreThread:
    """The worker and its connection, called from the event loop; calls raise `StoreUnavailable` while it is down."""

    def __init__(self, settings: Settings, on_decided: Callable[[], None]) -> None:
        self._settings = settings
        self._on_decided = on_decided
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._opened: tuple[EventStore, Worker] | None = None
        # Batches that the database committed, or refused as too large.
        self.turns = 0
        # Milliseconds with room for 2,048 in each: account numbers stay below 2^53, which JSON readers can hold.
        self._numbers = count(int(time.time() * 1000) << 11)

    async def open(self) -> None:
        await self._call(self._open)

    async def close(self) -> None:
        """Disconnect, after the call at hand."""
        if self._opened is not None:
            await self._call(self._opened[0].close)
        self._thread.shutdown(wait=False)

    async def run(self, commands: list[Incoming], attempted: bool = False) -> list[Outcome]:
        """Decide and record a batch, or as many of its first commands as one transaction takes."""
        try:
            outcomes = await self._call(self._worker.run, commands, attempted)
        except StatementFailed:
            self.turns += 1
            raise
        self.turns += 1
        return outcomes

    async def reached(self) -> bool:
        """Tell whether the database answers a plain query."""
        try:
            await self._call(self._store.head)
        except StoreUnavailable:
            return False
        return True

    async def count_attempt(self, command: Incoming) -> int:
        """Count one more attempt at a redelivered command and return how many there were."""
        return await self._call(self._store.count_attempt, command.tenant, command.command_id)

    async def forget_attempts(self, command: Incoming) -> None:
        """Drop the count of a command that is done with."""
        await self._call(self._store.forget_attempts, command.tenant, command.command_id)

    async def prune(self) -> bool:
        """Delete a batch of expired receipts, and tell whether there may be more."""
        try:
            gone = await self._call(self._store.prune, self._settings.receipts_days)
        except StoreUnavailable:
            return False
        if gone:
            structlog.get_logger("commands").info("receipts pruned", receipts=gone)
        return gone > 0

    @property
    def _store(self) -> EventStore:
        if self._opened is None:
            raise StoreUnavailable("the store is not open yet")
        return self._opened[0]

    @property
    def _worker(self) -> Worker:
        if self._opened is None:
            raise StoreUnavailable("the store is not open yet")
        return self._opened[1]

    def _open(self) -> None:
        settings = self._settings
        store = EventStore(settings.database_url.get_secret_value(), "commands", settings.statement_timeout)
        worker = Worker(
            store,
            clock=lambda: datetime.now(UTC),
            new_id=lambda: str(uuid_utils.uuid7()),
            new_number=lambda: next(self._numbers),
            cache=settings.state_cache,
            on_decided=self._on_decided,
            event_limit=settings.event_limit,
        )
        self._opened = (store, worker)

    async def _call(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)
