"""The thread in which the store is used, so that a slow statement never blocks the event loop and its heartbeats."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeVar

import structlog
import uuid_utils

from services.commands.buffer import Delivery
from services.commands.order import Ahead
from services.commands.outcome import Outcome
from services.commands.wire import Incoming, InvalidMessage
from services.commands.worker import Worker
from services.settings import Settings
from services.store import attempts, dead_letter_order
from services.store.append import CommandKey
from services.store.dead_letter_order import Burial
from services.store.event_store import EventStore
from services.store.unavailable import StatementFailed, StoreUnavailable

T = TypeVar("T")


class StoreThread:
    """The worker and its connection, called from the event loop; calls raise `StoreUnavailable` while it is down."""

    def __init__(
        self,
        settings: Settings,
        on_decided: Callable[[], None],
        parse: Callable[[Delivery], Incoming | InvalidMessage],
    ) -> None:
        self._settings = settings
        self._parse = parse
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

    async def run(self, deliveries: Sequence[Delivery], ahead: Ahead) -> list[Outcome]:
        """Decide and record a batch, or as many of its first commands as one transaction takes."""
        return await self._turn(lambda: self._worker.run(ahead.given(deliveries, self._store)))

    async def _turn(self, run: Callable[[], list[Outcome]]) -> list[Outcome]:
        try:
            outcomes = await self._call(run)
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

    async def attempts(self, commands: Sequence[CommandKey]) -> dict[CommandKey, int]:
        """Return the attempts at those commands that were attempted without an end."""
        return await self._call(lambda: attempts.counts(self._store, commands))

    async def forget_attempts(self, commands: Sequence[CommandKey]) -> None:
        """Drop the counts of commands that are done with."""
        await self._call(lambda: attempts.forget(self._store, commands))

    async def bury(self, burials: Sequence[Burial]) -> None:
        """Note dead letters that are on their way."""
        await self._call(dead_letter_order.bury, self._store, burials)

    async def run_counted(self, deliveries: Sequence[Delivery], ahead: Ahead) -> list[Outcome]:
        """Decide and record redelivered commands, and count an attempt at each of them before it is parsed.

        Nothing is counted while another writer, or whatever else, keeps this one from recording: a worker that ends
        while it waits does not end because of its commands. The count goes when the command is recorded.
        """
        return await self._turn(lambda: self._run_counted(deliveries, ahead))

    def _run_counted(self, deliveries: Sequence[Delivery], ahead: Ahead) -> list[Outcome]:
        store = self._store
        with store.alone():
            # After an outage they are counted already.
            self._count(attempts.count, [each for each in deliveries if not each.counted], True)
            commands = [each for each in deliveries if isinstance(self._parse(each), Incoming)]
            self._count(attempts.forget, [each for each in deliveries if not isinstance(each.command, Incoming)], False)
            outcomes = self._worker.run(ahead.given(commands, store), attempted=True) if commands else []
            self._count(attempts.undo, commands[len(outcomes) :], False)
        return outcomes

    def _count(
        self, change: Callable[[EventStore, list[CommandKey]], None], deliveries: Sequence[Delivery], counted: bool
    ) -> None:
        if deliveries:
            change(self._store, [each.key for each in deliveries])
        for each in deliveries:
            each.counted = counted

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
            cache=settings.state_cache_bytes,
            on_decided=self._on_decided,
            event_limit=settings.event_limit,
        )
        self._opened = (store, worker)

    async def _call(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)
