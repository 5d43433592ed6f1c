"""The commands role: deliveries in, batches to the worker, answers out, one ack; nothing is acked unrecorded."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
import uuid_utils
from aio_pika.abc import AbstractRobustChannel
from aiormq.abc import AbstractChannel
from faststream.rabbit import RabbitBroker
from pamqp.commands import Basic

from domain import DECIDER_OF_COMMAND
from domain.streams import stream_of
from services import messages, metrics
from services.crash import AFTER_COMMIT, AFTER_DECIDE, BEFORE_ACK, CrashPoints
from services.intake import topology
from services.intake.dead_letters import DeadLetters
from services.intake.frames import Message
from services.intake.outcome import Outcome
from services.intake.store_thread import StoreThread
from services.intake.subscriber import subscribe
from services.messages import Incoming, Malformed, Problem, Reply
from services.settings import Settings
from services.store.connect import Backoff
from services.store.event_store import StoreUnavailable

PRUNE_SECONDS = 600.0
# Between two batches of receipts when there are more: the ledger must shrink as fast as it can grow, also under load.
PRUNE_PAUSE = 0.2


@dataclass(slots=True)
class Delivery:
    """A message as it came, parsed; `command` is what it says, or why it says nothing.

    `buried` and `attempts` keep what was done for it already when the database goes away and its batch is run again.
    """

    channel: AbstractChannel
    message: Message
    command: Incoming | Malformed
    buried: bool = False
    attempts: int | None = None

    @property
    def tag(self) -> int:
        """Return the delivery tag, good on this delivery's own channel alone."""
        return self.message.delivery_tag


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
        self._subscriber = subscribe(self._broker, topology.QUEUE, topology.COMMANDS, settings.prefetch, handle_command)
        self._subscriber.received = self._received
        self._subscriber.channel_opened = self._channel_opened
        self._subscriber.declare = topology.declare_dead_letters
        self._buffer: list[Delivery] = []
        self._arrived = asyncio.Event()
        self._store = StoreThread(settings, on_decided=lambda: self._crash.reach(AFTER_DECIDE))
        self._backoff = Backoff("database", self._log)
        self._dead: DeadLetters | None = None
        self._answers: AbstractRobustChannel | None = None
        self._stopping = False
        self._store_up = False

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
        """Consume until `stop`; connections come back by themselves."""
        loop = asyncio.get_running_loop()
        await self._until_open()
        await self._connect_broker()
        next_prune = loop.time()
        try:
            while not self._stopping or self._buffer:
                if loop.time() >= next_prune and not self._stopping:
                    more = await self._store.prune()
                    next_prune = loop.time() + (PRUNE_PAUSE if more else PRUNE_SECONDS)
                if not self._buffer:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(1.0):
                            await self._arrived.wait()
                    self._arrived.clear()
                    continue
                await self._work()
        finally:
            await self._close()

    async def stop(self) -> None:
        """Take no more commands; what is at hand is finished by `run`."""
        with suppress(Exception):
            await self._subscriber.stop()
        self._stopping = True
        self._arrived.set()

    async def _connect_broker(self) -> None:
        backoff = Backoff("broker", self._log)
        while not self._stopping:
            try:
                connection: Any = await self._broker.connect()
                self._answers = await connection.channel(publisher_confirms=False)
                self._dead = DeadLetters(await connection.channel(publisher_confirms=True, on_return_raises=True))
                await self._broker.start()
                if self._stopping:
                    await self._subscriber.stop()
                backoff.reached()
                self._log.info("consuming commands")
                return
            except Exception as error:
                backoff.lost(error)
                with suppress(Exception):
                    await self._broker.stop()
                await asyncio.sleep(backoff.next_wait())

    async def _close(self) -> None:
        with suppress(Exception):
            await self._broker.stop()
        await self._store.close()

    # Taking.

    def _channel_opened(self) -> None:
        # Tags of an older channel mean other messages on this one, and the broker hands those commands out again.
        self._buffer.clear()

    def _received(self, channel: AbstractChannel, message: Message) -> None:
        self._buffer.append(Delivery(channel, message, self._parse(message)))
        if len(self._buffer) == 1:
            self._arrived.set()

    def _parse(self, message: Message) -> Incoming | Malformed:
        properties = message.properties
        try:
            command = messages.parse(properties, message.body, self._settings.command_limit, bool(message.redelivered))
        except Malformed as malformed:
            return malformed
        if not self._settings.may_send(properties.user_id, command.tenant):
            return Malformed("forbidden", f"this broker user does not speak for tenant {command.tenant}")
        return command

    async def _take(self) -> list[Delivery]:
        limit, wait = self._settings.batch_size, self._settings.batch_wait_ms / 1000
        if 1 < len(self._buffer) < limit and wait:
            # More than one command came at once: there is load, and a fuller batch is worth a moment.
            await asyncio.sleep(wait)
        if not self._buffer:
            return []
        # A redelivered command may be what killed its worker, so it runs alone.
        size = next(
            (index for index, delivery in enumerate(self._buffer[:limit]) if delivery.message.redelivered), limit
        )
        batch = self._buffer[: max(size, 1)]
        del self._buffer[: len(batch)]
        return batch

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
        batch = await self._take()
        if not batch:
            return
        started = time.perf_counter()
        channel = batch[0].channel
        while True:
            try:
                settled = await self._settle(batch)
                break
            except StoreUnavailable as error:
                self._store_up = False
                self._backoff.lost(error)
                if channel.is_closed:
                    return
                if self._stopping:
                    # A later batch must not be acknowledged over this one's head: `multiple` would take it along.
                    self._buffer.clear()
                    return
                await asyncio.sleep(self._backoff.next_wait())
        self._backoff.reached()
        self._store_up = True
        self._crash.reach(BEFORE_ACK)
        await self._acknowledge(channel, batch, settled)
        metrics.BATCH_SIZE.observe(len(batch))
        metrics.BATCH_SECONDS.observe(time.perf_counter() - started)

    async def _settle(self, batch: Sequence[Delivery]) -> set[int]:
        """Decide, record and answer, and return the tags that are done with."""
        settled: set[int] = set()
        good: list[tuple[Delivery, Incoming]] = []
        for delivery in batch:
            if isinstance(delivery.command, Malformed):
                delivery.buried = delivery.buried or await self._bury(delivery, delivery.command)
                if delivery.buried:
                    settled.add(delivery.tag)
            else:
                good.append((delivery, delivery.command))
        if not good:
            return settled
        if len(good) == 1 and good[0][1].redelivered:
            outcomes = await self._alone(good[0][0], good[0][1])
            if outcomes is None:
                return settled | {good[0][0].tag} if good[0][0].buried else settled
        else:
            outcomes = await self._run([command for _, command in good])
        self._crash.reach(AFTER_COMMIT)
        answered = [(each, outcome.reply) for (each, _), outcome in zip(good, outcomes, strict=True) if outcome.reply]
        for delivery, reply in answered:
            settled.add(delivery.tag)
            if delivery.message.properties.reply_to is not None:
                await self._answer(delivery, reply)
        for said, times in Counter(reply.outcome for _, reply in answered).items():
            metrics.COMMANDS.labels(said).inc(times)
        return settled

    async def _run(self, commands: list[Incoming], attempted: bool = False) -> list[Outcome]:
        try:
            outcomes = await self._store.run(commands, attempted)
        except StoreUnavailable:
            raise
        except Exception:
            if len(commands) > 1:
                self._log.exception("a batch failed, trying its commands one by one", commands=len(commands))
                return [outcome for command in commands for outcome in await self._run([command])]
            outcomes = [Outcome(commands[0], failure=RuntimeError("not recorded"), recorded=False)]
            self._log.exception("a command failed", **_context(commands[0]))
        for outcome in outcomes:
            if outcome.failure is not None:
                self._log.error("a command failed", exc_info=outcome.failure, **_context(outcome.incoming))
        return outcomes

    async def _alone(self, delivery: Delivery, command: Incoming) -> list[Outcome] | None:
        """Run a redelivered command by itself, counted first; None when it was buried instead."""
        if delivery.attempts is None:
            # Once a delivery: a database that goes away is not the command's doing.
            delivery.attempts = await self._store.count_attempt(command)
        if delivery.attempts < self._settings.poison_attempts:
            return await self._run([command], attempted=True)
        poison = Malformed("poison", f"its worker failed or died {delivery.attempts} times while deciding it")
        delivery.buried = delivery.buried or await self._bury(delivery, poison)
        if delivery.buried:
            await self._store.forget_attempts(command)
        return None

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

    # Answering.

    async def _answer(self, delivery: Delivery, reply: Reply) -> None:
        properties = delivery.message.properties
        if self._answers is None or not messages.may_reply_to(properties.reply_to):
            return
        if delivery.channel.is_closed:
            # The command comes again and is answered then; waiting here would take a second for each of the batch.
            return
        # A reply that cannot be delivered is the asker's loss alone; it never holds up the acknowledgement.
        with suppress(Exception):
            async with asyncio.timeout(1.0):
                channel: Any = await _reopened(self._answers)
                await channel.basic_publish(
                    messages.encode_reply(reply),
                    routing_key=properties.reply_to,
                    properties=Basic.Properties(
                        content_type="application/json",
                        correlation_id=properties.correlation_id,
                        message_id=str(uuid_utils.uuid7()),
                        message_type="reply",
                    ),
                    wait=False,
                )

    async def _bury(self, delivery: Delivery, malformed: Malformed) -> bool:
        """Publish a dead letter, and tell whether the broker has it; only then is the message acknowledged."""
        if self._dead is None or not await self._dead.bury(delivery.message, malformed):
            return False
        metrics.DEAD_LETTERS.labels(malformed.code).inc()
        properties = delivery.message.properties
        self._log.warning(
            "dead letter",
            code=malformed.code,
            detail=malformed.detail,
            pointer=malformed.pointer,
            command=properties.message_id,
            type=properties.message_type,
            tenant=(properties.headers or {}).get("tenant"),
        )
        error = Problem(malformed.code, malformed.detail, malformed.pointer)
        await self._answer(delivery, Reply(str(properties.message_id or ""), "rejected", error=error))
        return True


async def _reopened(robust: AbstractRobustChannel) -> AbstractChannel:
    """Return the channel under a robust one; after a reconnect the consumer's may be open before this one is."""
    while True:
        await robust.ready()
        channel = await robust.get_underlay_channel()
        if not channel.is_closed:
            return channel
        await asyncio.sleep(0.01)


def _context(command: Incoming) -> dict[str, Any]:
    own = next(iter(DECIDER_OF_COMMAND[command.name].reads(command.command)), None)
    return {
        "stream": stream_of(command.tenant, *own) if own is not None else None,
        "command": command.command_id,
        "type": command.name,
        "tenant": command.tenant,
        "correlation": command.correlation_id,
    }


async def handle_command(command: dict[str, Any]) -> None:
    """Take a command.

    AMQP `type` is its name, `message_id` its id, header `tenant` its tenant, the body its data, as JSON.
    """
