"""Reading AMQP frames in bulk below aiormq, and handing a consumer its messages whole; no frame is lost or reordered.

aiormq reads each frame by two awaits and decodes every argument of it, three frames to a message. Here what the socket
gave is taken apart at one go, and the frames of a consumer that has registered its tag never become objects at all.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any

import aiormq.connection
import pamqp.frame
from aiormq.exceptions import AMQPConnectionError, InvalidFrameError
from pamqp import constants, decode
from pamqp.exceptions import PAMQPException
from pamqp.heartbeat import Heartbeat

_HEAD, _DELIVER, _CONTENT = Struct(">BHI"), Struct(">QB"), Struct(">HHQH")
_METHOD, _HEADER, _BODY = 1, 2, 3
_BASIC_DELIVER = (60).to_bytes(2) + (60).to_bytes(2)
_CHUNK = 1 << 18
# Basic properties in the order of their flags, from bit 15 down; what is not read here is skipped by its kind.
_SHORT, _TABLE, _BYTE, _TIME = range(4)
_PROPERTIES = (
    ("content_type", _SHORT),
    ("content_encoding", _SHORT),
    ("headers", _TABLE),
    ("delivery_mode", _BYTE),
    ("priority", _BYTE),
    ("correlation_id", _SHORT),
    ("reply_to", _SHORT),
    ("expiration", _SHORT),
    ("message_id", _SHORT),
    ("timestamp", _TIME),
    ("message_type", _SHORT),
    ("user_id", _SHORT),
    ("app_id", _SHORT),
    ("cluster_id", _SHORT),
)
_MOST_TABLES, _LONGEST_TABLE = 4096, 512


class Properties:
    """A message's properties; those that it does not have are None."""

    __slots__ = tuple(name for name, _ in _PROPERTIES)

    content_type: str | None
    correlation_id: str | None
    headers: dict[str, Any] | None
    message_id: str | None
    message_type: str | None
    reply_to: str | None
    user_id: str | None

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, None)


class Message:
    """A delivery, whole."""

    __slots__ = ("body", "delivery_tag", "properties", "redelivered", "routing_key", "size")

    def __init__(self, delivery_tag: int, redelivered: bool, routing_key: str) -> None:
        self.delivery_tag = delivery_tag
        self.redelivered = redelivered
        self.routing_key = routing_key
        self.properties = Properties()
        self.body = b""
        self.size = 0


Take = Callable[[Message], None]
# By consumer tag, which no two consumers share; a tag that is not here is aiormq's own business.
TAKERS: dict[bytes, Take] = {}
_tables: dict[bytes, dict[str, Any]] = {}


class BulkFrameReceiver(aiormq.connection.FrameReceiver):
    """aiormq's source of frames, of which it sees all but the deliveries of registered consumers."""

    def __init__(self, reader: Any) -> None:
        super().__init__(reader)
        self._data = b""
        self._at = 0
        self._arriving: dict[int, tuple[Take, Message, list[bytes]]] = {}
        self._handed_over = False

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
            take = TAKERS.get(data[start + 5 : tag_end])
            if take is None:
                return False
            delivery_tag, bits = _DELIVER.unpack_from(data, tag_end)
            key = tag_end + 10 + data[tag_end + 9]
            message = Message(delivery_tag, bool(bits & 1), data[key + 1 : end].decode("utf-8", "replace"))
            self._arriving[number] = (take, message, [])
            return True
        arriving = self._arriving.get(number)
        if arriving is None or kind not in (_HEADER, _BODY):
            return False
        take, message, parts = arriving
        if kind == _HEADER:
            message.size = _content(data[start:end], message.properties)
        elif len(parts) == 0 and end - start == message.size:
            message.body = data[start:end]
            message.size = 0
        else:
            parts.append(data[start:end])
            message.size -= end - start
            if message.size == 0:
                message.body = b"".join(parts)
        if message.size == 0:
            del self._arriving[number]
            self._handed_over = True
            take(message)
        return True


def _content(payload: bytes, properties: Properties) -> int:
    """Read a content header into properties and return the body's size."""
    size: int
    _, _, size, flags = _CONTENT.unpack_from(payload)
    at, bit = _CONTENT.size, 0x8000
    if flags & 1:
        raise InvalidFrameError("more property flags than AMQP 0-9-1 has")
    for name, kind in _PROPERTIES:
        if flags & bit:
            if kind == _SHORT:
                start, at = at + 1, at + 1 + payload[at]
                setattr(properties, name, payload[start:at].decode("utf-8", "replace"))
            elif kind == _TABLE:
                start, at = at, at + 4 + int.from_bytes(payload[at : at + 4])
                properties.headers = _table(payload[start:at])
            else:
                at += 1 if kind == _BYTE else 8
        bit >>= 1
    return size


def _table(encoded: bytes) -> dict[str, Any]:
    """Return a table of headers; senders repeat the same few, and a reader never changes one."""
    known = _tables.get(encoded)
    if known is None:
        try:
            known = decode.field_table(encoded)[1]
        except Exception:
            # The frame is whole, only what the sender wrote into it is not: as a command without a tenant it becomes a
            # dead letter, while an error here would end the connection, and the message would come again.
            known = {}
        if len(encoded) <= _LONGEST_TABLE:
            if len(_tables) >= _MOST_TABLES:
                _tables.clear()
            _tables[encoded] = known
    return known


aiormq.connection.FrameReceiver = BulkFrameReceiver  # type: ignore[misc]
