"""The relay: every event to the events exchange, in order; its position is saved only after the broker's confirms.

The event table is the outbox. A crash between publishing and saving publishes again, under the same event id. An event
that the broker refuses for itself is no outage: it is held back with those behind it in its stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import lru_cache
from struct import Struct
from typing import Any

import aio_pika
import psycopg
import structlog
from aio_pika.abc import AbstractRobustChannel, AbstractRobustConnection
from aiormq.abc import ChannelFrame
from aiormq.exceptions import (
    AMQPError,
    ChannelAccessRefused,
    ChannelClosed,
    ChannelPreconditionFailed,
    ConnectionFrameError,
    ConnectionSyntaxError,
    DeliveryError,
)
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from services import messages, metrics
from services.cancellation import cancel
from services.intake.connected import close_channel
from services.intake.sender import Outgoing
from services.intake.topology import declare
from services.messages import CLOUD_EVENT, COMMAND_EXCHANGE, EVENT_EXCHANGE
from services.settings import broker_user
from services.store.connect import Backoff
from services.store.failures import OutsideUnavailable
from services.store.held import Handle
from services.store.log import LogRow

_PERSISTENT = 2
CONFIRM_SECONDS = 30.0
_REOPEN_SECONDS, _REOPEN_PAUSE = 10.0, 0.01
_HEAD, _END = Struct(">BHI"), b"\xce"
_PUBLISH = Basic.Publish.index.to_bytes(4)
# Exchange, routing key, body, and the content header as it goes over the wire.
Publication = tuple[str, str, bytes, bytes]


class MessageRefused(Exception):
    """The broker is there and does not take a message of this write, for what it is or for where it goes."""


# Codes by which a broker closes a channel, or a connection, over a message: content too large, no consumers,
# precondition failed; frame error and syntax error. Others say that the broker, or something on it, is not there.
_REFUSING_CODES = frozenset({311, 313, 406, 501, 502})
_REFUSALS = (ChannelPreconditionFailed, ConnectionFrameError, ConnectionSyntaxError)


def _refuses(error: BaseException | None) -> bool:
    """Tell whether an error is the broker's word on what was published, and not on itself."""
    if isinstance(error, ChannelAccessRefused):
        # A user may be kept from some routing keys and not from others.
        return "to topic" in str(error)
    code = error.args[0] if isinstance(error, ChannelClosed) and len(error.args) == 2 else None
    return isinstance(error, (MessageRefused, *_REFUSALS)) or code in _REFUSING_CODES


class _Confirms:
    """Waits for the confirms of one write as a whole; aiormq's own way is a future for each message."""

    def __init__(self, channel: Any, count: int) -> None:
        self.all: asyncio.Future[None] = channel.create_future()
        first = channel.delivery_tag + 1
        channel.delivery_tag += count
        self._open = set(range(first, first + count))
        self._refused = 0
        channel._on_confirm_frame = self._confirmed
        channel._on_return_frame = self._returned
        self._channel = channel

    async def _confirmed(self, frame: Basic.Ack | Basic.Nack) -> None:
        tag = frame.delivery_tag or 0
        settled = {each for each in self._open if each <= tag} if frame.multiple else self._open & {tag}
        self._open -= settled
        if isinstance(frame, Basic.Nack):
            self._refused += len(settled)
        if self.all.done() or self._open:
            return
        if self._refused:
            # As of a queue that is full and refuses what comes: the others were taken.
            self.all.set_exception(MessageRefused(f"the broker refused {self._refused} messages of a write"))
        else:
            self.all.set_result(None)

    async def _returned(self, frame: Basic.Return) -> None:
        header: Any = await self._channel._get_frame()
        await self._channel._read_content(frame, header)
        if not self.all.done():
            self.all.set_exception(OutsideUnavailable(f"no queue takes what goes to {frame.exchange}"))


@lru_cache(maxsize=4096)
def _method(exchange: str, key: str) -> bytes:
    # An event that nobody subscribed to is no loss; a command that reaches no queue is.
    return bytes(Basic.Publish(exchange=exchange, routing_key=key, mandatory=exchange == COMMAND_EXCHANGE).marshal())


def _header(properties: Basic.Properties, size: int) -> bytes:
    return bytes(ContentHeader(properties=properties, body_size=size).marshal())


@lru_cache(maxsize=4096)
def _event_header(tenant: str, name: str, id_length: int) -> tuple[bytes, bytes]:
    """Return what stands before and after the id in the content header of an event; nothing else of it differs."""
    place = "@" * id_length
    properties = Basic.Properties(
        content_type=CLOUD_EVENT,
        delivery_mode=_PERSISTENT,
        message_id=place,
        message_type=name,
        headers={"tenant": tenant},
    )
    before, _, after = _header(properties, 0).partition(place.encode())
    return before, after


def _frames(number: int, most: int, exchange: str, key: str, body: bytes, header: bytes) -> bytes:
    """Return a message's frames."""
    method = _PUBLISH + _method(exchange, key)
    parts = [_HEAD.pack(1, number, len(method)), method, _END, _HEAD.pack(2, number, len(header)), header, _END]
    for start in range(0, len(body), most):
        part = body[start : start + most]
        parts += (_HEAD.pack(3, number, len(part)), part, _END)
    return b"".join(parts)


class Publisher:
    """One connection with confirms, which threads use in turn through its event loop; it reconnects by itself."""

    def __init__(self, amqp_url: str, name: str) -> None:
        self._url = amqp_url
        self._name = name
        self.user = broker_user(amqp_url)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: AbstractRobustConnection | None = None
        self._channel: AbstractRobustChannel | None = None
        # One write and its confirms at a time: the channel tells whoever listens to it, and counts without a gap.
        self._turn = asyncio.Lock()
        self._opening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take the running loop for the threads' calls, and connect without waiting for it, so that all is declared."""
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
        """Close the connection."""
        if self._opening is not None:
            await cancel(self._opening)
        if self._connection is not None:
            await self._connection.close()

    def publish(self, publications: Sequence[Publication]) -> None:
        """Publish in order and wait for every confirm; for threads, never for the loop.

        Raises `OutsideUnavailable`, or `MessageRefused` when it is one of the messages that is at fault.
        """
        if self._loop is None:
            raise OutsideUnavailable("the publisher has not started")
        future = asyncio.run_coroutine_threadsafe(self._publish(publications), self._loop)
        try:
            future.result(CONFIRM_SECONDS + 15)
        except (AMQPError, DeliveryError, TimeoutError, ConnectionError, RuntimeError, asyncio.CancelledError) as error:
            future.cancel()
            raise OutsideUnavailable(f"the broker did not confirm: {str(error) or type(error).__name__}") from error

    async def _publish(self, publications: Sequence[Publication]) -> None:
        async with asyncio.timeout(CONFIRM_SECONDS), self._turn:
            channel = await self._open_channel()
            # One write for all: aiormq's own publish costs a lock, a task and a drain for each message.
            payload = b"".join([_frames(channel.number, channel.max_content_size, *each) for each in publications])
            async with channel.lock:
                # Counted only now: who gives up while waiting must not leave the count ahead of the broker's.
                confirms = _Confirms(channel, len(publications))
                await channel.write_queue.put(ChannelFrame(payload=payload, should_close=False))
            try:
                await confirms.all
            except Exception as error:
                # Of a channel that closes, confirms end in whatever it closed with, a bare Exception included.
                for each in (error, channel._close_exception):
                    if _refuses(each):
                        raise MessageRefused(str(each)) from error
                raise OutsideUnavailable(f"the broker did not confirm: {str(error) or type(error).__name__}") from error

    async def _open_channel(self) -> Any:
        """Return the channel to publish on; one that the broker closed opens again when all is declared again."""
        robust = await self._open()
        try:
            async with asyncio.timeout(_REOPEN_SECONDS):
                while True:
                    await robust.ready()
                    channel = await robust.get_underlay_channel()
                    if not channel.is_closed:
                        return channel
                    # What is published on it is never confirmed. The robust channel learns of it in a task of its own.
                    await asyncio.sleep(_REOPEN_PAUSE)
        except TimeoutError:
            # Opening it again may have failed for good, as when a declaration was refused meanwhile.
            self._channel = None
            await close_channel(robust)
            raise OutsideUnavailable("the channel does not open again") from None

    async def _open(self) -> AbstractRobustChannel:
        if self._connection is None:
            self._connection = await aio_pika.connect_robust(
                self._url,
                client_properties={"connection_name": f"foldwork-{self._name}"},
                timeout=10,
                reconnect_interval=1,
            )
        if self._channel is None:
            channel = await self._connection.channel(publisher_confirms=True)
            try:
                await declare(channel)
            except BaseException:
                await close_channel(channel)
                raise
            self._channel = channel
        return self._channel


def relay_handle(publisher: Publisher, on_published: Callable[[], None] = lambda: None) -> Handle:
    """Return the handler that publishes a batch of events; `on_published` runs before the position is saved."""

    def handle(_: psycopg.Connection[Any], rows: Sequence[LogRow]) -> None:
        publisher.publish([_publication(row) for row in rows])
        metrics.PUBLISHED.inc(len(rows))
        on_published()

    return handle


def _publication(row: LogRow) -> Publication:
    body, event_id = messages.published(row)
    before, after = _event_header(row.stream.partition("/")[0], row.name, len(event_id))
    header = b"".join((before[:4], len(body).to_bytes(8), before[12:], event_id.encode(), after))
    return EVENT_EXCHANGE, messages.event_key(row), body, header


def command_sender(publisher: Publisher) -> Callable[[Sequence[Outgoing]], None]:
    """Return a function by which a follower sends commands, and returns only when the broker has them."""

    def send(commands: Sequence[Outgoing]) -> None:
        publisher.publish(
            [
                (
                    COMMAND_EXCHANGE,
                    command.routing_key,
                    command.body,
                    _header(
                        Basic.Properties(
                            content_type="application/json",
                            delivery_mode=_PERSISTENT,
                            message_id=command.command_id,
                            message_type=command.name,
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
