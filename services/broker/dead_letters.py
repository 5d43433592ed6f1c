"""Publishes messages that are no commands as dead letters, with the reason; they are acknowledged only afterwards."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import aio_pika
import structlog
from aio_pika.abc import AbstractRobustConnection, DeliveryMode
from aiormq.exceptions import DeliveryError
from pamqp import encode

from services.broker import topology
from services.broker.connection import close_channel, connected, temporary_channel
from services.broker.frames.reader import Message
from services.broker.names import DEAD_EXCHANGE
from services.commands.wire import InvalidMessage

# Headers are sent in one frame, 128 KiB by default; half of it is left for the headers that are added.
KEPT_HEADERS = 64 * 1024
# The bytes of an AMQP short string, and of each text that is added.
_SHORT, _LONG = 255, 1000
_CONFIRM_SECONDS, _RECONNECT_SECONDS = 10.0, 5.0
# A letter during whose publishing the connection was lost is published alone from then on, and after so many
# losses in its reduced form.
_SUSPICIOUS = 3
_MAX_SUSPECTS = 1000

Dead = tuple[Message, InvalidMessage]


def _cut(text: Any, size: int) -> str:
    """Truncate a text to a number of bytes."""
    return str(text).encode("utf-8", "backslashreplace")[:size].decode("utf-8", "ignore")


def kept_headers(headers: Mapping[str, Any], room: int = KEPT_HEADERS) -> dict[str, Any]:
    """Return the headers that can be encoded again; senders may put bytes into them that no client can write."""
    kept: dict[str, Any] = {}
    # The tenant first: it is the most useful one if not all fit.
    for name in sorted(headers, key=lambda name: name != "tenant"):
        try:
            value = _texts(headers[name])
            size = len(encode.field_table({name: value}))
        except Exception as error:
            structlog.get_logger("commands").debug("header cannot be kept", error=repr(error)[:200])
            continue
        if size <= room:
            kept[name] = value
            room -= size
    return kept


def _texts(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, Mapping):
        return {str(key): _texts(item) for key, item in value.items()}
    return [_texts(item) for item in value] if isinstance(value, list) else value


def whole_letter(message: Message, reason: InvalidMessage, room: int) -> aio_pika.Message:
    properties = message.properties
    headers = kept_headers(properties.headers or {}, room)
    headers |= {
        "x-foldwork-code": reason.code,
        "x-foldwork-detail": _cut(reason.detail, _LONG),
        "x-foldwork-pointer": _cut(reason.pointer, _LONG),
        "x-foldwork-routing-key": _cut(message.routing_key, _SHORT),
    }
    if message.sha256 is not None:
        headers |= {"x-foldwork-sha256": message.sha256, "x-foldwork-bytes": message.size}
    given = {
        "message_id": properties.message_id,
        "type": properties.message_type,
        "correlation_id": properties.correlation_id,
        "content_type": properties.content_type,
    }
    # Bytes that are not UTF-8 became longer when they were decoded with backslashes.
    short: Any = {name: _cut(value, _SHORT) for name, value in given.items() if value is not None}
    return aio_pika.Message(message.body, headers=headers, delivery_mode=DeliveryMode.PERSISTENT, **short)


def _bare_letter(message: Message, reason: InvalidMessage) -> aio_pika.Message:
    """Return a letter that any broker accepts: the reason, the tenant, and the hash and size of the message."""
    headers: dict[str, Any] = {
        "tenant": _cut((message.properties.headers or {}).get("tenant"), 63),
        "x-foldwork-code": reason.code,
        "x-foldwork-sha256": message.sha256 or hashlib.sha256(message.body).hexdigest(),
        "x-foldwork-bytes": message.size,
    }
    return aio_pika.Message(b"", headers=headers, delivery_mode=DeliveryMode.PERSISTENT)


class DeadLetters:
    """Publishes dead letters on a channel with confirms."""

    def __init__(self, connection: AbstractRobustConnection) -> None:
        self._connection = connection
        self._channel: aio_pika.abc.AbstractRobustChannel | None = None
        self._suspects: Counter[bytes] = Counter()
        self._log = structlog.get_logger("commands")

    async def open(self) -> None:
        """Open the channel."""
        channel = self._connection.channel(publisher_confirms=True, on_return_raises=True)
        await channel.initialize(timeout=10)
        self._channel = channel

    async def bury(self, dead: Sequence[Dead]) -> list[bool]:
        """Publish messages with their reasons, and return which of them the broker has confirmed; never raises."""
        buried = [False] * len(dead)
        try:
            for wave in _waves(dead):
                done = await asyncio.gather(*(self._together(*dead[index]) for index in wave))
                for index, fine in zip(wave, done, strict=True):
                    buried[index] = fine
            if not all(buried):
                # A refused letter closes the channel for all; which one it is shows only when each is sent alone.
                await self._one_by_one(dead, buried)
        except Exception as error:
            self._log.warning("dead letters not confirmed, the messages will be redelivered", error=repr(error))
        return buried

    async def _together(self, message: Message, reason: InvalidMessage) -> bool:
        if self._suspects and _key(message) in self._suspects:
            return False
        under = self._under
        try:
            await self._publish(whole_letter(message, reason, self._room))
        except Exception as error:  # a confirm that is lost with its channel ends in a bare Exception
            self._log.debug("dead letter not confirmed", error=repr(error))
            if under is not None and not under.is_opened:
                self._suspect(message, 1)
            return False
        return True

    async def _one_by_one(self, dead: Sequence[Dead], buried: list[bool]) -> None:
        async with asyncio.timeout(_RECONNECT_SECONDS):
            while not connected(self._connection):
                await asyncio.sleep(0.05)
            # Once exchange and queue exist, a channel that the broker closes was closed because of the letter.
            async with temporary_channel(self._connection) as channel:
                await topology.declare(channel)
        for index, (message, reason) in enumerate(dead):
            if not buried[index]:
                buried[index] = await self._alone(message, reason)

    async def _alone(self, message: Message, reason: InvalidMessage) -> bool:
        """Publish one letter; if the broker refuses it, publish the reduced form."""
        key = _key(message)
        for whole in (True, False) if self._suspects[key] < _SUSPICIOUS else (False,):
            under = self._under
            try:
                letter = whole_letter(message, reason, self._room) if whole else _bare_letter(message, reason)
                await _publish_alone(under, letter)
            except (DeliveryError, TimeoutError) as error:
                self._log.warning("dead letter not confirmed, the message will be redelivered", error=repr(error))
                return False
            except Exception as error:
                self._log.warning("dead letter refused", whole=whole, error=repr(error))
                if under is None or not under.is_opened:
                    # Whether the letter caused it shows when the message is redelivered.
                    self._suspect(message, self._suspects[key] + 1)
                    return False
            else:
                del self._suspects[key]
                return True
        return False

    def _suspect(self, message: Message, times: int) -> None:
        if len(self._suspects) >= _MAX_SUSPECTS:
            self._suspects.clear()
        self._suspects[_key(message)] = times

    @property
    def _under(self) -> Any:
        transport: Any = self._connection.transport
        return transport.connection if transport is not None else None

    async def _publish(self, letter: aio_pika.Message) -> None:
        channel = self._channel
        if channel is None:
            raise ConnectionError("the channel is not open")
        async with asyncio.timeout(_CONFIRM_SECONDS):
            await channel.ready()
            exchange = await channel.get_exchange(DEAD_EXCHANGE, ensure=False)
            await exchange.publish(letter, "", mandatory=True)

    @property
    def _room(self) -> int:
        """Return the maximum bytes of a message's own headers."""
        under = self._under
        frame = under.connection_tune.frame_max if under is not None else 0
        return min(KEPT_HEADERS, frame // 2) if frame else KEPT_HEADERS


async def _publish_alone(under: Any, letter: aio_pika.Message) -> None:
    """Publish on a channel of its own: frames in flight on a channel that the broker closes end the connection."""
    async with asyncio.timeout(_CONFIRM_SECONDS):
        channel = await under.channel(publisher_confirms=True, on_return_raises=True)
        try:
            await channel.basic_publish(
                letter.body, exchange=DEAD_EXCHANGE, properties=letter.properties, mandatory=True
            )
        finally:
            await close_channel(channel)


def _key(message: Message) -> bytes:
    return hashlib.sha256(f"{message.properties.message_id}\0{message.size}\0".encode() + message.body).digest()


def _waves(dead: Sequence[Dead]) -> list[list[int]]:
    """Group the indexes so that no group repeats a message id, by which aiormq matches returned messages."""
    waves: list[list[int]] = []
    seen: Counter[str | None] = Counter()
    for index, (message, _) in enumerate(dead):
        own = message.properties.message_id
        turn = seen[own] if own is not None else 0
        seen[own] += 1
        if turn == len(waves):
            waves.append([])
        waves[turn].append(index)
    return waves
