"""Dead letters: a message that is no command is kept with the reason, and only then acknowledged."""

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

from services.intake import topology
from services.intake.connected import close_channel, connected, temporary_channel
from services.intake.frames import Message
from services.messages import DEAD_EXCHANGE, Malformed

# Headers travel in one frame of 128 KiB, or less where the broker is set so; half of it is left for what is added.
KEPT_HEADERS = 64 * 1024
# What a short string of AMQP holds, and what is kept of each text that is added, in bytes.
_SHORT, _LONG = 255, 1000
_CONFIRM_SECONDS, _RECONNECT_SECONDS = 10.0, 5.0
# A letter with which the connection was lost once is published alone from then on, and if it is lost so often, cut.
_SUSPICIOUS = 3
_MAX_SUSPECTS = 1000

Dead = tuple[Message, Malformed]


def _cut(text: Any, size: int) -> str:
    """Return a text that has at most so many bytes."""
    return str(text).encode("utf-8", "backslashreplace")[:size].decode("utf-8", "ignore")


def kept_headers(headers: Mapping[str, Any], room: int = KEPT_HEADERS) -> dict[str, Any]:
    """Return the headers as far as they can be sent again: senders put bytes into them that no client can write."""
    kept: dict[str, Any] = {}
    # The tenant first: of headers that are too large it is what says most.
    for name in sorted(headers, key=lambda name: name != "tenant"):
        try:
            value = _texts(headers[name])
            size = len(encode.field_table({name: value}))
        except Exception as error:
            structlog.get_logger("commands").debug("a header that cannot be kept", error=repr(error)[:200])
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


def _whole_letter(message: Message, reason: Malformed, room: int) -> aio_pika.Message:
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
    # What is not UTF-8 has grown when it was read.
    short: Any = {name: _cut(value, _SHORT) for name, value in given.items() if value is not None}
    return aio_pika.Message(message.body, headers=headers, delivery_mode=DeliveryMode.PERSISTENT, **short)


def _bare_letter(message: Message, reason: Malformed) -> aio_pika.Message:
    """Return what any broker takes: why, whose, and the hash and the size of what it was."""
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
                # One that the broker refuses closes the channel for all: only alone it is seen which one that is.
                await self._one_by_one(dead, buried)
        except Exception as error:
            self._log.warning("dead letters were not confirmed, the messages will come again", error=repr(error))
        return buried

    async def _together(self, message: Message, reason: Malformed) -> bool:
        if self._suspects and _key(message) in self._suspects:
            return False
        under = self._under
        try:
            await self._publish(_whole_letter(message, reason, self._room))
        except Exception as error:  # a confirm that is lost with its channel ends in a bare Exception
            self._log.debug("a dead letter was not confirmed", error=repr(error))
            if under is not None and not under.is_opened:
                self._suspect(message, 1)
            return False
        return True

    async def _one_by_one(self, dead: Sequence[Dead], buried: list[bool]) -> None:
        async with asyncio.timeout(_RECONNECT_SECONDS):
            while not connected(self._connection):
                await asyncio.sleep(0.05)
            # With the exchange and the queue there, it is the letter itself for which the broker closes the channel.
            async with temporary_channel(self._connection) as channel:
                await topology.declare(channel)
        for index, (message, reason) in enumerate(dead):
            if not buried[index]:
                buried[index] = await self._alone(message, reason)

    async def _alone(self, message: Message, reason: Malformed) -> bool:
        """Publish one letter, cut to what any broker takes if it is refused for what it is."""
        key = _key(message)
        for whole in (True, False) if self._suspects[key] < _SUSPICIOUS else (False,):
            under = self._under
            try:
                letter = _whole_letter(message, reason, self._room) if whole else _bare_letter(message, reason)
                await _publish_alone(under, letter)
            except (DeliveryError, TimeoutError) as error:
                self._log.warning("a dead letter was not confirmed, the message will come again", error=repr(error))
                return False
            except Exception as error:
                self._log.warning("a dead letter was refused", whole=whole, error=repr(error))
                if under is None or not under.is_opened:
                    # Whether the letter did that shows when the message comes again.
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
        """Return the bytes that a message's own headers may take."""
        under = self._under
        frame = under.connection_tune.frame_max if under is not None else 0
        return min(KEPT_HEADERS, frame // 2) if frame else KEPT_HEADERS


async def _publish_alone(under: Any, letter: aio_pika.Message) -> None:
    """Publish on a channel of its own: on one that the broker closes, what is under way ends the connection."""
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
    """Return the indexes in groups without a repeated message id: by it the client knows what the broker returns."""
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
