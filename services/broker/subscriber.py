"""A FastStream subscriber that hands deliveries on as they come, below the framework's pipeline a message.

FastStream declares it (topology, AsyncAPI, lifecycle); deliveries go to one plain callback. A delivery keeps the
channel object that it came on, since its tag means nothing, or something else, on any other.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import aiormq
import structlog
from aio_pika.abc import AbstractRobustChannel
from aiormq.abc import AbstractChannel
from faststream._internal.broker.registrator import Registrator
from faststream._internal.endpoint.subscriber.call_item import CallsCollection
from faststream.middlewares import AckPolicy
from faststream.rabbit import Channel, ExchangeType, QueueType, RabbitBroker, RabbitExchange, RabbitQueue
from faststream.rabbit.subscriber.config import RabbitSubscriberConfig, RabbitSubscriberSpecificationConfig
from faststream.rabbit.subscriber.specification import RabbitSubscriberSpecification
from faststream.rabbit.subscriber.usecase import RabbitSubscriber

from services.broker.frames.reader import TAKERS, Message, Taker
from services.broker.names import COMMAND_EXCHANGE, COMMAND_QUEUE
from services.broker.topology import QUEUE_ARGUMENTS

SETTLE_SECONDS = 0.3
Received = Callable[[AbstractChannel, Message], None]

# What `topology.declare` declares, in FastStream's words.
COMMANDS = RabbitExchange(COMMAND_EXCHANGE, type=ExchangeType.TOPIC, durable=True)
QUEUE = RabbitQueue(
    COMMAND_QUEUE,
    queue_type=QueueType.QUORUM,
    durable=True,
    routing_key="#",
    arguments=QUEUE_ARGUMENTS,
)


class RawSubscriber(RabbitSubscriber):
    """Consumes on the channel below aio-pika's robust one, and again on every new one, which nobody does for it."""

    received: Received
    channel_opened: Callable[[], None]
    declare: Callable[[], Awaitable[None]]
    # Of a body over the limit only the beginning is kept; without room nothing more is read.
    limit: int
    room: asyncio.Event

    async def start(self) -> None:
        """Declare queue and bindings as any subscriber does, and consume."""
        self._stopping = False  # an attempt to start that failed has stopped it
        await self.declare()
        self._consume_lock = asyncio.Lock()
        calls, self.calls = self.calls, CallsCollection[Any]()
        try:
            await super().start()  # without calls it declares and binds, but does not consume
        finally:
            self.calls = calls
        channel = await self._robust_channel()
        channel.reopen_callbacks.add(self._reopened)  # type: ignore[arg-type]
        await self._consume(channel)

    async def stop(self) -> None:
        """Take no more deliveries; those at hand can still be acknowledged."""
        self._stopping = True
        channel = self._consuming
        if channel is not None and not channel.is_closed and self._tag is not None:
            await channel.basic_cancel(self._tag, timeout=5)
        self._tag = None

    @property
    def consuming(self) -> bool:
        """Tell whether the broker knows this consumer now."""
        return self._consuming is not None and not self._consuming.is_closed and self._tag is not None

    _consuming: AbstractChannel | None = None
    _tag: str | None = None
    _taker: bytes | None = None
    _stopping = False
    _again: asyncio.Task[None] | None = None
    _consume_lock: asyncio.Lock

    async def _robust_channel(self) -> AbstractRobustChannel:
        declarer: Any = self._outer_config.declarer
        manager = declarer._RabbitDeclarerImpl__channel_manager
        channel: AbstractRobustChannel = await manager.get_channel(self.channel)
        return channel

    async def _reopened(self, channel: AbstractRobustChannel, *_: Any) -> None:
        if self._stopping:
            return
        try:
            await self._consume(channel)
        except Exception as error:
            structlog.get_logger("intake").warning("cannot consume on the new channel", error=str(error))
            self._tag = None
            self._go_on()

    async def _consume(self, robust: AbstractRobustChannel) -> None:
        # One at a time: a second consumer on the same channel would go on after `stop` has cancelled the first.
        async with self._consume_lock:
            await self._consume_alone(await robust.get_underlay_channel())

    async def _consume_alone(self, channel: AbstractChannel) -> None:
        if channel is self._consuming and self._tag is not None:
            return
        if channel is not self._consuming:
            # On the same channel what is at hand stays: its tags hold, and the next acknowledgement covers them.
            self.channel_opened()
        received = self.received

        def take(message: Message) -> None:
            received(channel, message)

        def undelivered(_: Any) -> None:
            raise RuntimeError("a delivery went past its taker")

        if isinstance(channel, aiormq.Channel):
            channel.on_consumer_cancel_callbacks.add(self._cancelled)
        tag = f"foldwork-{uuid.uuid4().hex}"
        if self._taker is not None:
            TAKERS.pop(self._taker, None)
        self._taker = tag.encode()
        TAKERS[self._taker] = Taker(take, self.limit, self.room)
        await channel.basic_consume(self.queue.name, undelivered, consumer_tag=tag, timeout=10)  # type: ignore[arg-type]
        self._consuming, self._tag = channel, tag

    def _cancelled(self, _: Any) -> None:
        """The broker took the consumer away, as when its queue is deleted: declare all again, and go on."""
        self._tag = None
        structlog.get_logger("intake").warning("the broker cancelled the consumer")
        if not self._stopping:
            self._go_on()

    def _go_on(self) -> None:
        if self._again is None or self._again.done():
            self._again = asyncio.get_running_loop().create_task(self._start_again(), name="consume-again")
            self._again.add_done_callback(_told)

    async def _start_again(self) -> None:
        log = structlog.get_logger("intake")
        while not self._stopping and self._tag is None:
            try:
                robust = await self._robust_channel()
                await self.declare()
                # RabbitMQ lets a queue be declared while it still deletes it; consuming from that one would close this
                # channel, and what is at hand on it, which does not come again, would be dropped.
                await asyncio.sleep(SETTLE_SECONDS)
                await self.declare()
                await self._consume(robust)
                log.info("consuming again")
            except Exception as error:
                log.debug("cannot consume yet", error=str(error))
                await asyncio.sleep(0.5)


def _told(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        structlog.get_logger("intake").error("consuming again failed", exc_info=task.exception())


def subscribe(
    broker: RabbitBroker,
    queue: RabbitQueue,
    exchange: RabbitExchange,
    prefetch: int,
    limit: int,
    handler: Callable[..., Any],
    room: asyncio.Event,
) -> RawSubscriber:
    """Register a raw subscriber; `handler` is never called, its signature and docstring are the AsyncAPI's."""
    config: Any = broker.config
    calls = CallsCollection[Any]()
    subscriber = RawSubscriber(
        config=RabbitSubscriberConfig(
            no_reply=True,
            channel=Channel(prefetch_count=prefetch, publisher_confirms=False),
            queue=queue,
            exchange=exchange,
            _ack_policy=AckPolicy.MANUAL,
            _outer_config=config,
        ),
        specification=RabbitSubscriberSpecification(
            _outer_config=config,
            specification_config=RabbitSubscriberSpecificationConfig(
                title_="commands", description_=handler.__doc__, include_in_schema=True, queue=queue, exchange=exchange
            ),
            calls=calls,
        ),
        calls=calls,
    )
    subscriber.limit = limit
    subscriber.room = room
    Registrator.subscriber(broker, subscriber)
    subscriber.add_call(parser_=None, decoder_=None, codec_=None, dependencies_=())(handler)
    return subscriber
