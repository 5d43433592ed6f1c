"""The commands role: runs deliveries in batches, answers, then acknowledges; nothing is acknowledged unrecorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

import structlog

from services import metrics
from services.broker.connection import BLOCKED
from services.broker.outbox import Outbox
from services.broker.subscriber import Subscriber
from services.cancellation import cancel
from services.commands.buffer import Buffer, Delivery
from services.commands.burials import Burials, Pending
from services.commands.settling import Settler
from services.commands.store_thread import StoreThread
from services.commands.watchdog import Watchdog
from services.crash import AFTER_DECIDE, BEFORE_ACK, CrashPoints
from services.settings import Settings
from services.store.connect import Backoff
from services.store.unavailable import StoreUnavailable

PRUNE_SECONDS = 600.0
# Pause between two batches of receipts if there are more: under load too, the ledger must shrink as fast as it grows.
PRUNE_PAUSE = 0.2
# Of the grace period, for the commands that were received, and again for the dead letters.
STOP_SHARE = 0.3
# The topology is declared again so often, in case something was deleted.
DECLARE_SECONDS = 30.0


class CommandConsumer:
    """Runs up to `batch_size` waiting commands as one batch in the store's thread, answers and acknowledges.

    While idle a single command does not wait; what arrives during a commit forms the next batch. Its parts are public,
    so that they can be watched or replaced one by one.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log = structlog.get_logger("commands")
        self.crash = CrashPoints(settings)
        self.outbox = Outbox(settings.amqp_url.get_secret_value())
        self.burials = Burials(self.outbox, self._buried, lambda dropped: self.buffer.done(dropped))
        self.buffer = Buffer(settings, self.burials.put)
        self.subscriber = Subscriber(
            settings.amqp_url.get_secret_value(),
            prefetch=settings.prefetch,
            limit=settings.command_limit,
            room=self.buffer.room,
            received=self.buffer.add,
            # Tags of an older channel are not valid on the new one, and the broker redelivers those commands.
            channel_opened=self._reopened,
            declare=self.outbox.declare,
        )
        # Until the subscriber has started: the broker cannot be reached.
        self._away, self._started = True, False
        self.store = StoreThread(settings, lambda: self.crash.reach(AFTER_DECIDE), self.buffer.parse)
        self.backoff = Backoff("database", self._log)
        self._settler = Settler(
            self.store,
            self.outbox,
            settings.poison_attempts,
            lambda point: self.crash.reach(point),
            self.buffer.charge,
            self.burials,
        )
        self.watchdog = Watchdog(settings.consumer_timeout, self._lacking)
        self._stopping = self._leaving = False
        self._stop_by = 0.0
        self._store_up = False
        # The database is unavailable, rather than a statement too large; and the turns that `_lacking` saw last.
        self._outage = False
        self._seen = 0

    # Life.

    @property
    def unready(self) -> list[str]:
        """Name what prevents commands from being consumed, or their answers from being sent."""
        lacking = [] if self.subscriber.consuming else ["broker"]
        lacking += [] if self._store_up else ["database"]
        return lacking if self.blocked is None else [*lacking, f"{BLOCKED}: {self.blocked}"]

    @property
    def blocked(self) -> str | None:
        """Return why the broker takes neither answers nor dead letters, as during an alarm."""
        return self.outbox.blocked

    async def run(self) -> None:
        """Consume until `stop`, reconnecting as needed. Raises `NotConsuming` if that does not help."""
        await self._until_open()
        work = asyncio.create_task(self._consume(), name="commands")
        aside = [
            asyncio.create_task(self.burials.run(), name="burials"),
            asyncio.create_task(self.watchdog.watch(), name="watchdog"),
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
        while not self._stopping or (len(self.buffer) and loop.time() < self._stop_by):
            if loop.time() >= next_prune and not self._stopping:
                more = await self.store.prune()
                next_prune = loop.time() + (PRUNE_PAUSE if more else PRUNE_SECONDS)
            if not len(self.buffer):
                with suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await self.buffer.arrived.wait()
                self.buffer.arrived.clear()
                continue
            await self._work()
        await self.burials.finish(self._settings.shutdown_grace * STOP_SHARE)

    async def stop(self) -> None:
        """Stop consuming; `run` finishes what was received, or as much of it as it has time for."""
        self._leaving = True
        self._stop_by = asyncio.get_running_loop().time() + self._settings.shutdown_grace * STOP_SHARE
        self.buffer.close()
        with suppress(Exception):
            await self.subscriber.stop()
        self._stopping = True
        self.buffer.arrived.set()

    async def _connect_broker(self) -> None:
        backoff = Backoff("broker", self._log)
        while not self._stopping:
            self._away = True
            try:
                await self.subscriber.connect()
                self._away = False
                await self.outbox.open()
                await self.subscriber.start()
                self._started = True
                if self._stopping:
                    await self.subscriber.stop()
                backoff.reached()
                self._log.info("consuming commands")
                return
            except Exception as error:
                backoff.lost(error)
                self.watchdog.last_error = str(error)
                await self.subscriber.close()
                await self.outbox.close()
                await asyncio.sleep(backoff.next_wait())

    async def _close(self) -> None:
        await self.subscriber.close()
        await self.outbox.close()
        await self.store.close()

    def _lacking(self) -> str:
        """Return what should have happened since the last call and has not; an outage of a server does not count."""
        seen, self._seen = self._seen, self.store.turns
        if self._leaving:
            return ""
        if self.subscriber.consuming:
            stuck = self._settler.deciding and not self._outage and seen == self._seen
            return "the database is available, but the received commands were not recorded" if stuck else ""
        away = not self.subscriber.connected if self._started else self._away
        return "" if away else "the broker is available, but no commands were consumed"

    async def _keep_declared(self) -> None:
        lacking = 0
        while True:
            await asyncio.sleep(DECLARE_SECONDS)
            # During an alarm the connection that declares is not read.
            if self.subscriber.consuming and self.blocked is None:
                try:
                    # Twice: it may just have consumed again.
                    lacking = 0 if await self.outbox.consumers() else lacking + 1
                    if lacking > 1:
                        lacking = 0
                        self.subscriber.vanished()
                except Exception as error:
                    self._log.warning("the topology cannot be declared", error=str(error))

    # Working.

    async def _until_open(self) -> None:
        while not self._stopping:
            try:
                await self.store.open()
                self._store_up = True
                self.backoff.reached()
                return
            except StoreUnavailable as error:
                self.backoff.lost(error)
                await asyncio.sleep(self.backoff.next_wait())

    async def _work(self) -> None:
        batch = await self.buffer.take()
        if not batch:
            return
        ahead = asyncio.create_task(self.buffer.parse_ahead(), name="parse-ahead")
        try:
            await self._finish(batch)
        finally:
            self._settler.deciding = False
            await cancel(ahead)

    async def _finish(self, batch: Sequence[Delivery]) -> None:
        started = time.perf_counter()
        channel = batch[0].channel
        while True:
            try:
                settled = await self._settler.settle(batch)
                break
            except StoreUnavailable as error:
                self._store_up = False
                self.backoff.lost(error)
                self._outage = error.outage or not await self.store.reached()
                if not self._outage:
                    self.watchdog.last_error = str(error)
                if channel.is_closed or self._stopping:
                    # The broker delivers them again.
                    self.buffer.done(batch)
                    self._stop_by = 0.0
                    return
                await asyncio.sleep(self.backoff.next_wait())
        self.backoff.reached()
        self._store_up, self._outage = True, False
        self.crash.reach(BEFORE_ACK)
        seconds = time.perf_counter() - started
        self.buffer.went(len(settled.done), seconds)
        if channel.is_closed:
            self._log.info("channel closed before the acknowledgement, the commands will be redelivered")
            self.buffer.done([*settled.done, *settled.again, *settled.left])
            return
        await self.subscriber.settle(channel, [each.tag for each in settled.done], [each.tag for each in settled.again])
        self.buffer.done([*settled.done, *settled.again])
        self.buffer.put_back(settled.left)
        metrics.BATCH_SIZE.observe(len(settled.done))
        metrics.BATCH_SECONDS.observe(seconds)

    def _reopened(self) -> None:
        """Forget what came on another channel."""
        self.buffer.clear()
        self._settler.failing.clear()

    async def _buried(self, dead: Sequence[Pending]) -> None:
        """Acknowledge messages whose dead letters the broker has, once these are noted for the ordered commands."""
        deliveries = [each.delivery for each in dead]
        if burials := [burial for each in dead if (burial := each.burial) is not None]:
            await self.store.bury(burials)
        attempted = [each.key for each in deliveries if each.attempts]
        if attempted:
            with suppress(StoreUnavailable):
                # Otherwise they go with the receipts.
                await self.store.forget_attempts(attempted)
        for channel in {each.channel for each in deliveries}:
            await self.subscriber.settle(channel, [each.tag for each in deliveries if each.channel is channel])
        self.buffer.done(deliveries)
