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
from services.broker.confirms import Returned, Writes
from services.broker.connection import BLOCKED, close_channel, connected, temporary_channel
from services.broker.frames import writer
from services.broker.frames.reader import Frames, Message
from services.broker.names import DEAD_EXCHANGE, LETTER, OWN_HEADERS, SHORT, short
from services.commands.wire import InvalidMessage

# Headers are sent in one frame, 128 KiB by default; half of it is left for the headers that are added.
KEPT_HEADERS = 64 * 1024
# The bytes of each text that is added.
_LONG = 1000
_CONFIRM_SECONDS, _RECONNECT_SECONDS = 10.0, 5.0
# A letter during whose publishing the connection was lost is published alone from then on, and after so many
# losses in its reduced form.
_SUSPICIOUS = 3
_MAX_SUSPECTS = 1000

# A message, why it is none of a command, and the id of its letter.
Dead = tuple[Message, InvalidMessage, str]


def _cut(text: Any, size: int) -> str:
    """Truncate a text to a number of bytes."""
    return short(str(text), size) or ""


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


def whole_letter(dead: Dead, room: int, user: str) -> aio_pika.Message:
    """Return a letter of this broker user, with at most `room` bytes of the message's own headers."""
    message, reason, letter = dead
    properties = message.properties
    given_headers = properties.headers or {}
    # What these say is Foldwork's own alone.
    given_headers = {name: value for name, value in given_headers.items() if not name.startswith(OWN_HEADERS)}
    headers = kept_headers(given_headers, room)
    headers |= {
        LETTER: letter,
        "x-foldwork-code": reason.code,
        "x-foldwork-detail": _cut(reason.detail, _LONG),
        "x-foldwork-pointer": _cut(reason.pointer, _LONG),
        "x-foldwork-routing-key": _cut(message.routing_key, SHORT),
    }
    if properties.user_id is not None:
        headers["x-foldwork-user"] = _cut(properties.user_id, SHORT)
    if message.sha256 is not None:
        headers |= {"x-foldwork-sha256": message.sha256, "x-foldwork-bytes": message.size}
    given = {
        "message_id": properties.message_id,
        "type": properties.message_type,
        "correlation_id": properties.correlation_id,
        "content_type": properties.content_type,
    }
    # Bytes that are not UTF-8 became longer when they were decoded with backslashes.
    short: Any = {name: _cut(value, SHORT) for name, value in given.items() if value is not None}
    return aio_pika.Message(message.body, headers=headers, delivery_mode=DeliveryMode.PERSISTENT, user_id=user, **short)


def _bare_letter(dead: Dead, user: str) -> aio_pika.Message:
    """Return a letter that any broker accepts: the reason, the tenant, and the hash and size of the message."""
    message, reason, letter = dead
    headers: dict[str, Any] = {
        LETTER: letter,
        "tenant": _cut((message.properties.headers or {}).get("tenant"), 63),
        "x-foldwork-code": reason.code,
        "x-foldwork-routing-key": _cut(message.routing_key, SHORT),
        "x-foldwork-sha256": message.sha256 or hashlib.sha256(message.body).hexdigest(),
        "x-foldwork-bytes": message.size,
    }
    if message.properties.user_id is not None:
        headers["x-foldwork-user"] = _cut(message.properties.user_id, SHORT)
    return aio_pika.Message(b"", headers=headers, delivery_mode=DeliveryMode.PERSISTENT, user_id=user)


class DeadLetters:
    """Publishes dead letters on a channel with confirms; `frames` are those of the connection.

    They name Foldwork's own broker `user`, which the broker verifies, so that nobody else's message passes for one.
    """

    def __init__(self, connection: AbstractRobustConnection, frames: Frames, user: str) -> None:
        self._user = user
        self._connection = connection
        self._frames = frames
        self._writes = Writes(frames)
        self._channel: aio_pika.abc.AbstractRobustChannel | None = None
        self._suspects: Counter[bytes] = Counter()
        self._log = structlog.get_logger("commands")

    async def open(self) -> None:
        """Open the channel."""
        channel = self._connection.channel(publisher_confirms=True, on_return_raises=True)
        await channel.initialize(timeout=10)
        self._channel = channel

    async def bury(self, dead: Sequence[Dead]) -> list[bool]:
        """Publish messages with their reasons, and return which of them the broker has confirmed; never raises.

        All go out by one write. A letter that the broker refuses closes the channel for all, and which one it is shows
        only when each is sent alone.
        """
        buried = [False] * len(dead)
        try:
            if self._frames.blocked is not None:
                raise ConnectionError(f"{BLOCKED}: {self._frames.blocked}")
            if await self._together(dead, buried):
                await self._declare_again()
                for index, each in enumerate(dead):
                    if not connected(self._connection) or self._frames.blocked is not None:
                        break
                    if not buried[index]:
                        buried[index] = await self._alone(each)
        except Exception as error:
            self._log.warning("dead letters not confirmed, and published again later", error=repr(error)[:500])
        return buried

    async def _together(self, dead: Sequence[Dead], buried: list[bool]) -> bool:
        """Publish those that are not suspicious, and tell whether others are to be sent one by one."""
        channel = self._channel
        if channel is None:
            raise ConnectionError("the channel is not open")
        letters: dict[int, writer.Publication] = {}
        for index, each in enumerate(dead):
            if self._suspects and _key(each[0]) in self._suspects:
                continue
            try:
                letter = whole_letter(each, self._room, self._user)
                header = writer.content_header(letter.properties, len(letter.body))
                letters[index] = (DEAD_EXCHANGE, "", letter.body, header)
            except Exception as error:
                self._log.warning("dead letter cannot be written", error=repr(error)[:500])
        if not letters:
            return True
        under = self._under
        confirms = None
        try:
            async with asyncio.timeout(_CONFIRM_SECONDS):
                await channel.ready()
                confirms = await self._writes.write(await channel.get_underlay_channel(), list(letters.values()))
                await confirms.settled()
        except TimeoutError:
            self._log.warning("dead letters not confirmed in time, and published again later", letters=len(letters))
            return False
        except Exception as error:  # a confirm that is lost with its channel ends in a bare Exception
            self._log.debug("dead letters not confirmed", error=repr(error))
            if not isinstance(error, Returned) and under is not None and not under.is_opened:
                for index in letters:
                    self._suspect(dead[index][0], 1)
            return True
        finally:
            for index, accepted in zip(letters, confirms.accepted if confirms is not None else (), strict=False):
                buried[index] = accepted
        # Those that were refused alone find no room in the queue.
        return len(letters) < len(dead)

    async def _declare_again(self) -> None:
        """Declare the topology: with it in place, a broker that closes a channel does so because of a letter."""
        async with asyncio.timeout(_RECONNECT_SECONDS):
            while not connected(self._connection):
                await asyncio.sleep(0.05)
            async with temporary_channel(self._connection) as channel:
                await topology.declare(channel)

    async def _alone(self, dead: Dead) -> bool:
        """Publish one letter; if the broker refuses it, publish the reduced form."""
        message = dead[0]
        key = _key(message)
        for whole in (True, False) if self._suspects[key] < _SUSPICIOUS else (False,):
            under = self._under
            try:
                letter = whole_letter(dead, self._room, self._user) if whole else _bare_letter(dead, self._user)
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
