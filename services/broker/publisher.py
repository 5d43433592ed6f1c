"""Publishing many messages by one write, for threads; it returns only when the broker has confirmed all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, wait
from typing import Any

import structlog
from aio_pika.abc import AbstractRobustChannel, AbstractRobustConnection
from aiormq.exceptions import AMQPError, DeliveryError
from pamqp.commands import Basic

from services.broker.confirms import Returned, Writes
from services.broker.connection import BLOCKED, close_channel, connect_robust
from services.broker.frames import writer
from services.broker.frames.reader import Frames
from services.broker.frames.writer import Publication
from services.broker.names import COMMAND_EXCHANGE
from services.broker.sender import Outgoing
from services.broker.topology import declare
from services.cancellation import cancel
from services.settings import broker_user
from services.store.connect import Backoff
from services.store.failures import OutsideUnavailable

CONFIRM_SECONDS = 30.0
_REOPEN_SECONDS, _REOPEN_PAUSE = 10.0, 0.01


class MessageRefused(Exception):
    """The broker is available and refuses a message of this write, because of its content or its routing."""


class Publisher:
    """A connection with confirms that threads share through its loop, one write at a time; it reconnects by itself."""

    def __init__(self, amqp_url: str, name: str) -> None:
        self._url = amqp_url
        self._name = name
        self.user = broker_user(amqp_url)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: AbstractRobustConnection | None = None
        self._channel: AbstractRobustChannel | None = None
        # One write and its confirms at a time, since delivery tags are counted per channel.
        self._turn = asyncio.Lock()
        self._opening: asyncio.Task[None] | None = None
        self._frames = Frames()
        self._writes = Writes(self._frames)

    async def start(self) -> None:
        """Keep the running loop for the threads' calls, and start to connect and declare in the background."""
        self._loop = asyncio.get_running_loop()
        self._opening = asyncio.create_task(self._open_early(), name=f"open-{self._name}")

    async def _open_early(self) -> None:
        backoff = Backoff("broker", structlog.get_logger(self._name))
        while self._channel is None:
            try:
                async with asyncio.timeout(CONFIRM_SECONDS), self._turn:
                    await self._open()
            except Exception as error:
                backoff.lost(error)
                await asyncio.sleep(backoff.next_wait())
        backoff.reached()

    async def close(self) -> None:
        if self._opening is not None:
            await cancel(self._opening)
        if self._connection is not None:
            await self._connection.close()

    def publish(self, publications: Sequence[Publication], meanwhile: Callable[[], object] = lambda: None) -> None:
        """Publish in order and wait for every confirm; to be called from threads, never from the loop.

        `meanwhile` is called every second until then. Raises `OutsideUnavailable`, or `MessageRefused` when the broker
        refuses one of the messages.
        """
        if self._loop is None:
            raise OutsideUnavailable("the publisher has not started")
        future = asyncio.run_coroutine_threadsafe(self._publish(publications), self._loop)
        try:
            for _ in range(int(CONFIRM_SECONDS) + 15):
                if wait([future], 1.0).done:
                    break
                meanwhile()
            future.result(0)
        except (AMQPError, DeliveryError, TimeoutError, ConnectionError, RuntimeError, CancelledError) as error:
            future.cancel()
            raise OutsideUnavailable(f"the broker did not confirm: {str(error) or type(error).__name__}") from error

    async def _publish(self, publications: Sequence[Publication]) -> None:
        async with asyncio.timeout(CONFIRM_SECONDS), self._turn:
            if self.blocked is not None:
                raise OutsideUnavailable(f"{BLOCKED}: {self.blocked}")
            channel = await self._open_channel()
            confirms = await self._writes.write(channel, publications)
            try:
                refused = await confirms.settled()
            except Returned as error:
                raise OutsideUnavailable(str(error)) from error
            except Exception as error:
                if confirms.refusal is not None:
                    raise MessageRefused(confirms.refusal) from error
                raise OutsideUnavailable(f"the broker did not confirm: {str(error) or type(error).__name__}") from error
            if refused and publications[0][0] == COMMAND_EXCHANGE:
                raise OutsideUnavailable("the broker has no room for more commands")
            if refused:
                # The other messages were accepted.
                raise MessageRefused(f"the broker refused {refused} messages of a write")

    @property
    def blocked(self) -> str | None:
        """Return why the broker reads nothing from this connection, as it does during an alarm."""
        return self._frames.blocked

    async def _open_channel(self) -> Any:
        """Return the channel to publish on; a closed one reopens after the topology was declared again."""
        robust = await self._open()
        try:
            async with asyncio.timeout(_REOPEN_SECONDS):
                while True:
                    await robust.ready()
                    channel = await robust.get_underlay_channel()
                    if not channel.is_closed:
                        return channel
                    # Nothing published on it would be confirmed. The robust channel notices this in a task of its own.
                    await asyncio.sleep(_REOPEN_PAUSE)
        except TimeoutError:
            # Reopening may have failed permanently, for example because a declaration was refused.
            self._channel = None
            await close_channel(robust)
            raise OutsideUnavailable("the channel does not reopen") from None

    async def _open(self) -> AbstractRobustChannel:
        if self._connection is None:
            self._connection = await connect_robust(self._url, self._name, self._frames)
        if self._channel is None:
            channel = await self._connection.channel(publisher_confirms=True)
            try:
                await declare(channel)
            except BaseException:
                await close_channel(channel)
                raise
            self._channel = channel
        return self._channel


def command_sender(publisher: Publisher) -> Callable[[Sequence[Outgoing]], None]:
    """Return a function by which a follower sends commands, and returns only when the broker has them."""

    def send(commands: Sequence[Outgoing]) -> None:
        publisher.publish(
            [
                (
                    COMMAND_EXCHANGE,
                    command.routing_key,
                    command.body,
                    writer.content_header(
                        Basic.Properties(
                            content_type="application/json",
                            delivery_mode=writer.PERSISTENT,
                            message_id=command.command_id,
                            message_type=command.type,
                            correlation_id=command.correlation_id,
                            headers=command.headers(),
                            user_id=publisher.user,
                        ),
                        len(command.body),
                    ),
                )
                for command in commands
            ]
        )

    return send
