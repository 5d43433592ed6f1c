"""Reading AMQP frames in bulk below aiormq, and handing a consumer its messages whole; no frame is lost or reordered.

aiormq reads each frame by two awaits and decodes every argument of it, three frames to a message. Here what the socket
gave is taken apart at one go, and the frames of a consumer that has registered its tag never become objects at all.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Any

import aiormq.connection
import pamqp.frame
from aiormq.exceptions import AMQPConnectionError, InvalidFrameError
from pamqp import constants
from pamqp.exceptions import PAMQPException
from pamqp.heartbeat import Heartbeat

from services.broker.frames.properties import Properties, read_content

_HEAD, _DELIVER = Struct(">BHI"), Struct(">QB")
_METHOD, _HEADER, _BODY = 1, 2, 3
_BASIC_DELIVER = (60).to_bytes(2) + (60).to_bytes(2)
_CHUNK = 1 << 18
# Of a body over the consumer's limit this much is kept, in bytes.
KEPT_BODY = 4096
# While nothing is read, aiormq is told so often that the connection lives.
_ALIVE_SECONDS = 5.0


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
        """Return the bytes of the message that are at hand, those of its properties included."""
        return len(self.body) + self.header_size


@dataclass(slots=True, eq=False)
class Taker:
    """What takes a consumer's messages; `take` must not raise, since that would end the connection.

    Of a body over `limit` bytes only the beginning and the hash are kept. While `room` is not set nothing more is read
    from a connection that has delivered to this consumer.
    """

    take: Callable[[Message], None]
    limit: int
    room: asyncio.Event


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
        self.message.size = self.left = read_content(payload, self.message.properties)
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


# By consumer tag, which no two consumers share; a tag that is not here is aiormq's own business.
TAKERS: dict[bytes, Taker] = {}


class BulkFrameReceiver(aiormq.connection.FrameReceiver):
    """aiormq's source of frames, of which it sees all but the deliveries of registered consumers."""

    def __init__(self, reader: Any) -> None:
        super().__init__(reader)
        self._data = b""
        self._at = 0
        self._arriving: dict[int, _Arriving] = {}
        self._handed_over = False
        self._taker: Taker | None = None

    async def get_frame(self) -> Any:
        """Return the next frame that is aiormq's own; a heartbeat stands for deliveries that were handed over."""
        while True:
            frame = self._next()
            if frame is not None:
                return frame
            if self._handed_over:
                # aiormq takes a connection on which it sees nothing for a dead one.
                self._handed_over = False
                return 0, 0, Heartbeat()
            if self._taker is not None and not self._taker.room.is_set() and not await _within(self._taker.room):
                return 0, 0, Heartbeat()
            try:
                more = await self.reader.read(_CHUNK)
            except OSError as error:
                raise AMQPConnectionError(f"Server communication error: {error!r}") from error
            if not more:
                # After a close that was agreed on nobody reads any more, so this one was not.
                raise AMQPConnectionError("Server connection unexpectedly closed")
            self._data = self._data[self._at :] + more if self._at < len(self._data) else more
            self._at = 0

    def _next(self) -> Any:
        data, at = self._data, self._at
        available = len(data)
        while available - at >= _HEAD.size:
            if data.startswith(b"AMQP", at):
                raise InvalidFrameError("the server does not speak AMQP 0-9-1")
            kind, number, size = _HEAD.unpack_from(data, at)
            end = at + _HEAD.size + size
            if end >= available:
                break
            if data[end] != constants.FRAME_END:
                raise InvalidFrameError("a frame does not end where it should")
            start, self._at = at + _HEAD.size, end + 1
            if not self._taken(kind, number, data, start, end):
                try:
                    return pamqp.frame.unmarshal(data[at : end + 1])
                except PAMQPException as error:
                    raise InvalidFrameError(str(error)) from error
            at = self._at
        return None

    def _taken(self, kind: int, number: int, data: bytes, start: int, end: int) -> bool:
        """Take the frame if it belongs to a registered consumer's delivery."""
        if kind == _METHOD:
            if data[start : start + 4] != _BASIC_DELIVER:
                return False
            tag_end = start + 5 + data[start + 4]
            taker = TAKERS.get(data[start + 5 : tag_end])
            if taker is None:
                return False
            delivery_tag, bits = _DELIVER.unpack_from(data, tag_end)
            key = tag_end + 10 + data[tag_end + 9]
            message = Message(delivery_tag, bool(bits & 1), data[key + 1 : end].decode("utf-8", "backslashreplace"))
            self._arriving[number] = _Arriving(taker, message)
            return True
        arriving = self._arriving.get(number)
        if arriving is None or kind not in (_HEADER, _BODY):
            return False
        if kind == _HEADER:
            arriving.header(data[start:end])
        else:
            arriving.body(data[start:end])
        if arriving.left <= 0:
            del self._arriving[number]
            self._handed_over = True
            self._taker = arriving.taker
            arriving.taker.take(arriving.message)
        return True


async def _within(room: asyncio.Event) -> bool:
    """Wait for room, and tell whether it came before aiormq must be told that the connection lives."""
    try:
        async with asyncio.timeout(_ALIVE_SECONDS):
            return await room.wait()
    except TimeoutError:
        return False


aiormq.connection.FrameReceiver = BulkFrameReceiver  # type: ignore[misc]
