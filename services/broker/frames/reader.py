"""Takes deliveries and confirms out of the stream that a connection reads, before aiormq parses it.

aiormq reads a frame by three awaits, decodes every argument of it, and starts a task for each message. Here what the
socket gave is taken apart at one go, and the frames of a consumer or of a channel that is registered in `Frames` never
become objects; all others go on to aiormq byte by byte, in their order. aiormq is given this reader through its
`transport_factory`, so it is in effect for the connections that ask for it alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from struct import Struct
from typing import Any, Protocol

from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from aiormq.exceptions import InvalidFrameError
from pamqp import commands, constants, frame
from pamqp.heartbeat import Heartbeat
from yarl import URL

from services.broker.frames.properties import MAX_HEADERS, Properties, read_content

_HEAD, _DELIVER, _CONFIRM = Struct(">BHI"), Struct(">QB"), Struct(">QB")
_METHOD, _HEADER, _BODY = 1, 2, 3
_BASIC_DELIVER = commands.Basic.Deliver.index.to_bytes(4)
_ACK, _NACK = commands.Basic.Ack.index.to_bytes(4), commands.Basic.Nack.index.to_bytes(4)
_RETURN = commands.Basic.Return.index.to_bytes(4)
_CLOSES = {commands.Channel.Close.index.to_bytes(4), commands.Connection.Close.index.to_bytes(4)}
_BLOCKED, _UNBLOCKED = commands.Connection.Blocked.index.to_bytes(4), commands.Connection.Unblocked.index.to_bytes(4)
_HEARTBEAT = bytes(frame.marshal(Heartbeat(), 0))
_CHUNK = 1 << 18
# Of a body over the consumer's limit this much is kept, in bytes.
KEPT_BODY = 4096
# aiormq takes a connection on which it sees no frame for a dead one: so often it is given a heartbeat while all that
# comes is taken, or while nothing is read.
ALIVE_SECONDS = 2.0


class Message:
    """A delivery, whole; of a body over the limit `body` is the beginning, and `sha256` that of all `size` bytes."""

    __slots__ = ("body", "delivery_tag", "header_size", "properties", "redelivered", "routing_key", "sha256", "size")

    def __init__(self, delivery_tag: int, redelivered: bool, routing_key: str) -> None:
        self.delivery_tag = delivery_tag
        self.redelivered = redelivered
        self.routing_key = routing_key
        self.properties = Properties()
        self.body = b""
        self.header_size = 0
        self.sha256: str | None = None
        self.size = 0

    @property
    def held(self) -> int:
        """Return the bytes of the message that are in memory, those of its properties included."""
        return len(self.body) + self.header_size


@dataclass(slots=True, eq=False)
class Taker:
    """What takes a consumer's messages; `take` must not raise, since that would end the connection.

    Of a body over `limit` bytes only the beginning and the hash are kept. While `room` is not set nothing more is read
    from a connection that has delivered to this consumer.
    """

    take: Callable[[Message], None]
    limit: int = 1 << 40
    room: asyncio.Event | None = None
    max_headers: int = MAX_HEADERS


class Confirms(Protocol):
    """What takes the confirms of a channel."""

    def confirmed(self, tag: int, multiple: bool, accepted: bool) -> None:
        """Note an ack or nack."""

    def returned(self, exchange: str) -> None:
        """Note a message that reached no queue."""

    def closed(self, code: int, text: str) -> None:
        """Note that the broker closes the channel, or the connection."""


@dataclass(slots=True, eq=False)
class Frames:
    """Which frames of a connection are taken: a consumer's by its tag, a publishing channel's by its number.

    `blocked` is the broker's reason while it reads nothing from this connection, since it publishes during an alarm;
    `on_blocked` is called when that begins.
    """

    takers: dict[bytes, Taker] = field(default_factory=dict)
    confirms: dict[int, Confirms] = field(default_factory=dict)
    blocked: str | None = None
    on_blocked: Callable[[], None] = lambda: None


class _Arriving:
    """A message of which frames are missing."""

    __slots__ = ("digest", "left", "message", "parts", "taker")

    def __init__(self, taker: Taker, message: Message) -> None:
        self.taker = taker
        self.message = message
        self.parts: list[bytes] = []
        self.left = 0
        self.digest: Any = None

    def header(self, payload: bytes) -> None:
        self.message.header_size = len(payload)
        self.message.size = self.left = read_content(payload, self.message.properties, self.taker.max_headers)
        if self.left > self.taker.limit:
            self.digest = hashlib.sha256()

    def body(self, part: bytes) -> None:
        self.left -= len(part)
        message = self.message
        if self.digest is not None:
            self.digest.update(part)
            if len(message.body) < KEPT_BODY:
                message.body = (message.body + part)[:KEPT_BODY]
            if self.left <= 0:
                message.sha256 = self.digest.hexdigest()
        elif self.left <= 0 and not self.parts:
            message.body = part
        else:
            self.parts.append(part)
            if self.left <= 0:
                message.body = b"".join(self.parts)


class FrameReader:
    """The part of `asyncio.StreamReader` that aiormq uses, with the registered frames left out."""

    def __init__(self, reader: Any, frames: Frames) -> None:
        self._reader = reader
        self._frames = frames
        # What the socket gave and is not taken apart yet, and what is for aiormq.
        self._data = b""
        self._others = bytearray()
        self._arriving: dict[int, _Arriving] = {}
        self._taker: Taker | None = None
        self._alive = time.monotonic()

    def at_eof(self) -> bool:
        """Return False: the end shows as an incomplete read, which aiormq takes for a lost connection."""
        return False

    async def readexactly(self, size: int) -> bytes:
        """Return the next bytes for aiormq."""
        others = self._others
        while len(others) < size:
            await self._read_more()
        piece = bytes(others[:size])
        del others[:size]
        return piece

    async def read(self, _: int = -1) -> bytes:
        """Return what there is for aiormq, which asks for it to show it in an error."""
        piece = bytes(self._others)
        self._others.clear()
        return piece

    async def _read_more(self) -> None:
        room = self._taker.room if self._taker is not None else None
        if room is not None and not room.is_set() and not await _within(room):
            self._keep_alive()
            return
        more = await self._reader.read(_CHUNK)
        if not more:
            raise asyncio.IncompleteReadError(bytes(self._others), None)
        self._split(self._data + more if self._data else more)
        if self._others:
            self._alive = time.monotonic()
        elif time.monotonic() - self._alive > ALIVE_SECONDS:
            self._keep_alive()

    def _keep_alive(self) -> None:
        self._others += _HEARTBEAT
        self._alive = time.monotonic()

    def _split(self, data: bytes) -> None:
        """Take what is registered, and leave the other frames that are whole for aiormq."""
        at, available = 0, len(data)
        while available - at >= _HEAD.size:
            if data.startswith(b"AMQP", at):
                raise InvalidFrameError("the server does not speak AMQP 0-9-1")
            kind, number, size = _HEAD.unpack_from(data, at)
            end = at + _HEAD.size + size
            if end >= available:
                break
            if data[end] != constants.FRAME_END:
                raise InvalidFrameError("a frame does not end where it should")
            if not self._taken(kind, number, data, at + _HEAD.size, end):
                self._others += data[at : end + 1]
            at = end + 1
        self._data = data[at:] if at < available else b""

    def _taken(self, kind: int, number: int, data: bytes, start: int, end: int) -> bool:
        """Take the frame if it is registered."""
        if kind == _METHOD:
            method = data[start : start + 4]
            if method == _BASIC_DELIVER:
                return self._delivery(number, data, start, end)
            if number == 0:
                self._look_for_alarm(method, data, start)
            return bool(self._frames.confirms) and self._confirm(method, number, data, start)
        arriving = self._arriving.get(number)
        if arriving is None or kind not in (_HEADER, _BODY):
            return False
        if kind == _HEADER:
            arriving.header(data[start:end])
        else:
            arriving.body(data[start:end])
        if arriving.left <= 0:
            del self._arriving[number]
            self._taker = arriving.taker
            arriving.taker.take(arriving.message)
        return True

    def _delivery(self, number: int, data: bytes, start: int, end: int) -> bool:
        tag_end = start + 5 + data[start + 4]
        taker = self._frames.takers.get(data[start + 5 : tag_end])
        if taker is None:
            return False
        delivery_tag, bits = _DELIVER.unpack_from(data, tag_end)
        key = tag_end + 10 + data[tag_end + 9]
        message = Message(delivery_tag, bool(bits & 1), data[key + 1 : end].decode("utf-8", "backslashreplace"))
        self._arriving[number] = _Arriving(taker, message)
        return True

    def _look_for_alarm(self, method: bytes, data: bytes, start: int) -> None:
        if method == _BLOCKED:
            self._frames.blocked = _short(data, start + 4) or "no reason given"
            self._frames.on_blocked()
        elif method == _UNBLOCKED:
            self._frames.blocked = None

    def _confirm(self, method: bytes, number: int, data: bytes, start: int) -> bool:
        if method in _CLOSES:
            # Only looked at: aiormq has to answer it.
            code, text = int.from_bytes(data[start + 4 : start + 6]), _short(data, start + 6)
            for each_number, each in self._frames.confirms.items():
                if number in (0, each_number):
                    each.closed(code, text)
            return False
        confirms = self._frames.confirms.get(number)
        if confirms is None:
            return False
        if method in (_ACK, _NACK):
            tag, bits = _CONFIRM.unpack_from(data, start + 4)
            confirms.confirmed(tag, bool(bits & 1), method == _ACK)
            return True
        if method == _RETURN:
            exchange = _short(data, start + 7 + data[start + 6])
            # Its content follows.
            returned = Taker(lambda _: confirms.returned(exchange), limit=0)
            self._arriving[number] = _Arriving(returned, Message(0, False, ""))
            return True
        return False


def _short(data: bytes, at: int) -> str:
    return data[at + 1 : at + 1 + data[at]].decode("utf-8", "backslashreplace")


async def _within(room: asyncio.Event) -> bool:
    """Wait for room, and tell whether it came before aiormq must be told that the connection lives."""
    try:
        async with asyncio.timeout(ALIVE_SECONDS):
            return await room.wait()
    except TimeoutError:
        return False


class TakingTransport(TransportFactory):
    """Opens aiormq's own transports, and puts the reader that takes frames before their streams."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames

    async def create(self, url: URL, **kwargs: Any) -> tuple[Any, asyncio.StreamWriter]:
        """Open a connection to the broker."""
        transport = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        reader, writer = await transport.create(url, **kwargs)
        self._frames.blocked = None
        return FrameReader(reader, self._frames), writer
