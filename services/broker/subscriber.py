"""Consumes a queue, that of commands or of dead letters, on a plain channel, without a task for each message.

A delivery keeps the channel object that it came on, since its tag is not valid on any other.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Any

import aiormq
import structlog
from aio_pika.abc import AbstractRobustChannel, AbstractRobustConnection

from services.broker import topology
from services.broker.acknowledging import Acknowledgements
from services.broker.connection import Channel, connect_robust, connected
from services.broker.frames.properties import MAX_HEADERS
from services.broker.frames.reader import Frames, Message, Taker
from services.broker.names import COMMAND_QUEUE
from services.cancellation import cancel

SETTLE_SECONDS = 0.3


class Subscriber:
    """Consumes on the channel below aio-pika's robust one, and again on every new one, which aio-pika does not do.

    `received` is called with each message and its channel, and `channel_opened` before the first of a new channel.
    Of a body over `limit` only the beginning is kept. While `room` is not set nothing more is read.
    """

    def __init__(
        self,
        url: str,
        *,
        prefetch: int,
        limit: int,
        room: asyncio.Event,
        received: Callable[[Channel, Message], None],
        channel_opened: Callable[[], None],
        declare: Callable[[], Awaitable[None]],
        queue: str = COMMAND_QUEUE,
        name: str = "commands",
        max_headers: int = MAX_HEADERS,
    ) -> None:
        self._url = url
        self._queue = queue
        self._name = name
        self._prefetch = prefetch
        self._limit = limit
        self._max_headers = max_headers
        self._room = room
        self._received = received
        self._channel_opened = channel_opened
        # On another connection, for a failed declaration closes its channel.
        self.declare = declare
        self._frames = Frames()
        self._connection: AbstractRobustConnection | None = None
        self._robust: AbstractRobustChannel | None = None
        self._consuming: Channel | None = None
        self._acknowledgements: Acknowledgements | None = None
        self._tag: str | None = None
        self._stopping = False
        self._again: asyncio.Task[None] | None = None
        # One at a time: a second consumer on the same channel would go on after `stop` has cancelled the first.
        self._consume_lock = asyncio.Lock()
        self._log = structlog.get_logger(name)

    async def connect(self) -> None:
        """Open the connection; raises when the broker cannot be reached."""
        self._connection = await connect_robust(self._url, self._name, self._frames)

    async def start(self) -> None:
        """Declare everything and consume, on the connection that `connect` has opened."""
        if self._connection is None:
            raise ConnectionError("the connection is not open")
        self._stopping = False  # an attempt to start that failed has stopped it
        await self.declare()
        robust: Any = await self._connection.channel(publisher_confirms=False)
        self._robust = robust
        await robust.set_qos(prefetch_count=self._prefetch)
        # On this channel, so that aio-pika declares it again on every new one before it is consumed.
        await topology.declare(robust)
        robust.reopen_callbacks.add(self._reopened)
        await self._consume(robust)

    async def stop(self) -> None:
        """Cancel the consumer; deliveries that were received can still be acknowledged."""
        self._stopping = True
        channel = self._consuming
        if channel is not None and not channel.is_closed and self._tag is not None:
            await channel.basic_cancel(self._tag, timeout=5)
        self._tag = None

    def vanished(self) -> None:
        """Consume again: the broker says that nobody consumes, although it has not cancelled this consumer."""
        if self._tag is not None and not self._stopping:
            self._cancelled(None)

    async def settle(self, channel: Channel, done: Collection[int], again: Collection[int] = ()) -> None:
        """Acknowledge the tags that are done, and requeue the others; on a lost channel the broker requeues all."""
        own = self._acknowledgements
        if own is not None and own.channel is channel:
            await own.settle(done, again)

    async def close(self) -> None:
        """Stop, and close the connection."""
        with suppress(Exception):
            await self.stop()
        if self._again is not None:
            await cancel(self._again)
        connection, self._connection, self._robust = self._connection, None, None
        if connection is not None:
            with suppress(Exception):
                await connection.close()

    @property
    def connected(self) -> bool:
        """Tell whether the connection can be used now."""
        return connected(self._connection)

    @property
    def consuming(self) -> bool:
        """Tell whether this consumer is registered with the broker."""
        return self._consuming is not None and not self._consuming.is_closed and self._tag is not None

    async def _reopened(self, channel: AbstractRobustChannel, *_: Any) -> None:
        if self._stopping:
            return
        try:
            await self._consume(channel)
        except Exception as error:
            self._log.warning("cannot consume on the new channel", error=str(error))
            self._tag = None
            self._consume_again()

    async def _consume(self, robust: AbstractRobustChannel) -> None:
        async with self._consume_lock:
            await self._consume_alone(await robust.get_underlay_channel())

    async def _consume_alone(self, channel: Channel) -> None:
        if channel is self._consuming and self._tag is not None:
            return
        if channel is not self._consuming:
            # On the same channel deliveries keep their tags, and the next acknowledgement covers them.
            self._channel_opened()
            self._acknowledgements = Acknowledgements(channel)
        received = self._received

        def take(message: Message) -> None:
            received(channel, message)

        def undelivered(_: Any) -> None:
            raise RuntimeError("a delivery was not taken from the frames")

        if isinstance(channel, aiormq.Channel):
            channel.on_consumer_cancel_callbacks.add(self._cancelled)
        tag = f"foldwork-{uuid.uuid4().hex}"
        self._frames.takers = {tag.encode(): Taker(take, self._limit, self._room, self._max_headers)}
        await channel.basic_consume(self._queue, undelivered, consumer_tag=tag, timeout=10)  # type: ignore[arg-type]
        self._consuming, self._tag = channel, tag

    def _cancelled(self, _: Any) -> None:
        """Declare and consume again after the broker cancelled the consumer, as it does when the queue is deleted."""
        self._tag = None
        self._log.warning("the broker cancelled the consumer")
        if not self._stopping:
            self._consume_again()

    def _consume_again(self) -> None:
        if self._again is None or self._again.done():
            self._again = asyncio.get_running_loop().create_task(self._start_again(), name="consume-again")

    async def _start_again(self) -> None:
        while not self._stopping and self._tag is None and self._robust is not None:
            try:
                await self.declare()
                # RabbitMQ accepts the declaration of a queue that it is still deleting; consuming from it would close
                # this channel, and the deliveries on it would be lost, since they are not redelivered.
                await asyncio.sleep(SETTLE_SECONDS)
                await self.declare()
                await self._consume(self._robust)
                self._log.info("consuming again")
            except Exception as error:
                self._log.debug("cannot consume yet", error=str(error))
                await asyncio.sleep(0.5)
