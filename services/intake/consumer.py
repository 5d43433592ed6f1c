"""The commands role: deliveries in, batches to the worker, answers out, one ack; nothing is acked unrecorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import structlog
from aiormq.abc import AbstractChannel
from faststream.rabbit import RabbitBroker

from services import metrics
from services.cancellation import cancel
from services.crash import AFTER_DECIDE, BEFORE_ACK, CrashPoints
from services.intake.buffer import Buffer, Delivery
from services.intake.connected import connected
from services.intake.outbox import Outbox
from services.intake.settling import Settler
from services.intake.store_thread import StoreThread
from services.intake.subscriber import COMMANDS, QUEUE, subscribe
from services.intake.watchdog import Watchdog
from services.settings import Settings
from services.store.connect import Backoff
from services.store.unavailable import StoreUnavailable

PRUNE_SECONDS = 600.0
# Between two batches of receipts when there are more: the ledger must shrink as fast as it can grow, also under load.
PRUNE_PAUSE = 0.2
# The topology is declared again so often, for what was deleted meanwhile.
DECLARE_SECONDS = 30.0


class CommandConsumer:
    """Takes what waits, up to `batch_size` commands, runs it as one batch in the store's thread, answers and acks.

    While idle a single command does not wait; what arrives during a commit is the next batch.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log = structlog.get_logger("commands")
        self._crash = CrashPoints(settings)
        self._broker = RabbitBroker(
            settings.amqp_url.get_secret_value(),
            client_properties={"connection_name": "foldwork-commands"},  # type: ignore[arg-type]
            logger=None,
            graceful_timeout=None,
            reconnect_interval=1.0,
        )
        self._buffer = Buffer(settings)
        self._subscriber = subscribe(
            self._broker,
            QUEUE,
            COMMANDS,
            settings.prefetch,
            settings.command_limit,
            handle_command,
            self._buffer.room,
        )
        self._subscriber.received = self._buffer.add
        # Tags of an older channel mean other messages on this one, and the broker hands those commands out again.
        self._subscriber.channel_opened = self._buffer.clear
        self._connection: Any = None
        self._away = True
        self._store = StoreThread(settings, on_decided=lambda: self._crash.reach(AFTER_DECIDE))
        self._backoff = Backoff("database", self._log)
        self._outbox = Outbox(settings.amqp_url.get_secret_value())
        self._subscriber.declare = self._outbox.declare
        self._settler = Settler(
            self._store, self._outbox, settings.poison_attempts, lambda point: self._crash.reach(point)
        )
        self._watchdog = Watchdog(settings.consumer_timeout, self._lacking)
        self._stopping = self._leaving = False
        self._store_up = False
        # The database is away, not just what is asked of it too much; and the turns that `_lacking` saw last.
        self._outage = False
        self._seen = 0

    # Life.

    @property
    def broker(self) -> RabbitBroker:
        """Return the FastStream broker, of which the AsyncAPI is made."""
        return self._broker

    @property
    def unready(self) -> list[str]:
        """Name what keeps commands from being taken."""
        lacking = [] if self._subscriber.consuming else ["broker"]
        return lacking if self._store_up else [*lacking, "database"]

    async def run(self) -> None:
        """Consume until `stop`; connections come back by themselves. Raises `NotConsuming` when that does not help."""
        await self._until_open()
        work = asyncio.create_task(self._consume(), name="commands")
        aside = [
            asyncio.create_task(self._watchdog.watch(), name="watchdog"),
            asyncio.create_task(self._keep_declared(), name="topology"),
        ]
        try:
            await asyncio.wait([work, *aside], return_when=asyncio.FIRST_COMPLETED)
            for ended in (work, *aside):
                if ended.done():
                    await ended
        finally:
            await cancel(work, *aside)
            await self._close()

    async def _consume(self) -> None:
        await self._connect_broker()
        loop = asyncio.get_running_loop()
        next_prune = loop.time()
        while not self._stopping or len(self._buffer):
            if loop.time() >= next_prune and not self._stopping:
                more = await self._store.prune()
                next_prune = loop.time() + (PRUNE_PAUSE if more else PRUNE_SECONDS)
            if not len(self._buffer):
                with suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await self._buffer.arrived.wait()
                self._buffer.arrived.clear()
                continue
            await self._work()

    async def stop(self) -> None:
        """Take no more commands; what is at hand is finished by `run`."""
        self._leaving = True
        self._buffer.close()
        with suppress(Exception):
            await self._subscriber.stop()
        self._stopping = True
        self._buffer.arrived.set()

    async def _connect_broker(self) -> None:
        backoff = Backoff("broker", self._log)
        while not self._stopping:
            there = False
            try:
                self._connection = await self._broker.connect()
                there = True
                await self._outbox.open()
                await self._broker.start()
                if self._stopping:
                    await self._subscriber.stop()
                backoff.reached()
                self._log.info("consuming commands")
                return
            except Exception as error:
                backoff.lost(error)
                self._watchdog.last_error = str(error)
                with suppress(Exception):
                    await self._broker.stop()
                await self._outbox.close()
                self._connection = None
                self._away = not there
                await asyncio.sleep(backoff.next_wait())

    async def _close(self) -> None:
        with suppress(Exception):
            await self._broker.stop()
        await self._outbox.close()
        await self._store.close()

    def _lacking(self) -> str:
        """Say what should have happened since the last call and has not, beside an outage of broker or database."""
        seen, self._seen = self._seen, self._store.turns
        if self._leaving:
            return ""
        if self._subscriber.consuming:
            stuck = self._settler.deciding and not self._outage and seen == self._seen
            return "the database is there, but the commands at hand were not recorded" if stuck else ""
        away = self._away if self._connection is None else not connected(self._connection)
        return "" if away else "the broker is there, but no commands were consumed"

    async def _keep_declared(self) -> None:
        while True:
            await asyncio.sleep(DECLARE_SECONDS)
            if self._subscriber.consuming:
                try:
                    await self._outbox.declare()
                except Exception as error:
                    self._log.warning("the topology cannot be declared", error=str(error))

    # Working.

    async def _until_open(self) -> None:
        while not self._stopping:
            try:
                await self._store.open()
                self._store_up = True
                self._backoff.reached()
                return
            except StoreUnavailable as error:
                self._backoff.lost(error)
                await asyncio.sleep(self._backoff.next_wait())

    async def _work(self) -> None:
        batch = await self._buffer.take()
        if not batch:
            return
        try:
            await self._finish(batch)
        finally:
            self._settler.deciding = False
            self._buffer.done(batch)

    async def _finish(self, batch: Sequence[Delivery]) -> None:
        started = time.perf_counter()
        channel = batch[0].channel
        while True:
            try:
                settled = await self._settler.settle(batch)
                break
            except StoreUnavailable as error:
                self._store_up = False
                self._backoff.lost(error)
                self._outage = error.outage or not await self._store.reached()
                if not self._outage:
                    self._watchdog.last_error = str(error)
                if channel.is_closed:
                    return
                if self._stopping:
                    # A later batch must not be acknowledged over this one's head: `multiple` would take it along.
                    self._buffer.clear()
                    return
                await asyncio.sleep(self._backoff.next_wait())
        self._backoff.reached()
        self._store_up, self._outage = True, False
        self._crash.reach(BEFORE_ACK)
        await self._acknowledge(channel, batch, settled)
        metrics.BATCH_SIZE.observe(len(batch))
        metrics.BATCH_SECONDS.observe(time.perf_counter() - started)

    async def _acknowledge(self, channel: AbstractChannel, batch: Sequence[Delivery], settled: set[int]) -> None:
        if channel.is_closed:
            self._log.info(
                "channel closed before the acknowledgement, the commands will come again", commands=len(batch)
            )
            return
        with suppress(Exception):
            for delivery in batch:
                if delivery.tag not in settled:
                    # reject, not nack: RabbitMQ 4.3 does not count a nack towards the delivery limit.
                    await channel.basic_reject(delivery.tag, requeue=True, wait=False)
            if settled:
                await channel.basic_ack(max(settled), multiple=True, wait=False)


async def handle_command(command: dict[str, Any]) -> None:
    """Take a command.

    AMQP `type` is its name, `message_id` its id, header `tenant` its tenant, the body its data, as JSON.
    """
