"""Frames, faults and messages; what the broker need not change in a message leaves byte for byte as it came."""

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from struct import Struct
from typing import Any

from pamqp import base, commands, constants, header
from pamqp.exceptions import CLASS_MAPPING as REPLIES

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
HEAD, CONTENT, END = Struct(">BHI"), Struct(">HHQ"), constants.FRAME_END_CHAR
OVERHEAD = HEAD.size + len(END)
Properties = commands.Basic.Properties
MALFORMED = (ValueError, LookupError, OverflowError, OSError)  # what the codec raises


class Fault(Exception):
    """A refusal; its code decides whether it ends the channel or the whole connection."""

    def __init__(self, code: int, text: str) -> None:
        name = str(getattr(REPLIES[code], "name")).replace("-", "_")  # noqa: B009
        self.text = f"{name} - {text}".encode()[:255].decode(errors="ignore")  # it has to be a short string
        self.code, self.soft = code, 403 <= code <= 406


def split(buffer: bytearray, frame_max: int) -> Iterator[tuple[int, int, bytes]]:
    """Takes the complete frames off the front of the buffer."""
    position, available = 0, len(buffer)
    try:
        while available - position >= HEAD.size:
            kind, number, size = HEAD.unpack_from(buffer, position)
            if size > frame_max - OVERHEAD:
                raise Fault(501, f"type {kind}: frame_too_large, {size}, {frame_max - OVERHEAD}")
            if (end := position + HEAD.size + size) >= available:
                return
            if buffer[end] != constants.FRAME_END:
                raise Fault(501, f"type {kind}: invalid_frame_end_marker, {buffer[end]}")
            position = end + 1
            yield kind, number, bytes(buffer[end - size : end])
    finally:
        del buffer[:position]


def decode(payload: bytes) -> base.Frame:
    if len(payload) < 4 or (kind := commands.INDEX_MAPPING.get(int.from_bytes(payload[:4]))) is None:
        raise Fault(501, "unknown method")
    frame: base.Frame = object.__new__(kind)  # its __init__ would ask for valid arguments
    try:
        frame.unmarshal(payload[4:])
    except MALFORMED as error:
        raise Fault(501, f"cannot decode {frame.name}") from error
    return frame


def encode(kind: int, number: int, payload: bytes) -> bytes:
    return HEAD.pack(kind, number, len(payload)) + payload + END


def method(frame: base.Frame, number: int) -> bytes:
    return encode(METHOD, number, frame.index.to_bytes(4) + frame.marshal())


@dataclass(slots=True, frozen=True)
class Message:
    exchange: str
    key: str
    properties: Properties
    encoded: bytes  # the properties as they came: the codec narrows the types of numbers in the headers
    body: bytes

    def changed(self, headers: dict[str, Any], reply_to: str | None = None) -> "Message":
        properties = copy(self.properties)
        properties.headers = (properties.headers or {}) | headers
        properties.reply_to = reply_to or properties.reply_to
        return replace(self, properties=properties, encoded=properties.marshal())

    def frames(self, number: int, frame_max: int) -> bytes:
        """The header frame and as many body frames as the frame size of the connection asks for."""
        step, head = frame_max - OVERHEAD, CONTENT.pack(60, 0, len(self.body)) + self.encoded
        chunks = (self.body[start : start + step] for start in range(0, len(self.body), step))
        return b"".join([encode(HEADER, number, head), *(encode(BODY, number, chunk) for chunk in chunks)])

    def died(self, queue: str, reason: str, exchange: str, key: str) -> "Message":
        """The message as it goes on to a dead-letter exchange; its newest death comes first in x-death."""
        first = {"reason": reason, "queue": queue, "exchange": self.exchange}
        newest: dict[str, Any] = first | {"count": 0, "time": datetime.now(UTC), "routing-keys": [self.key]}
        others, headers = [], self.properties.headers or {}
        for death in deaths if isinstance(deaths := headers.get("x-death"), list) else ():
            if isinstance(death, dict) and (death.get("queue"), death.get("reason")) == (queue, reason):
                newest |= death  # which keeps the time at which it died so for the first time
            else:
                others.append(death)
        added: dict[str, Any] = {"x-death": [newest | {"count": int(newest["count"]) + 1}, *others]}
        if "x-first-death-queue" not in headers:
            added |= {f"x-first-death-{name}": value for name, value in first.items()}
        return replace(self.changed(added), exchange=exchange, key=key)


def parse(raw: bytes) -> Properties:
    try:
        (content := header.ContentHeader()).unmarshal(raw)
        content.properties.marshal()  # better refused now than when it turns out that no header can be added
    except (*MALFORMED, TypeError) as error:
        raise Fault(541, "the codec cannot read and write the properties of a message") from error
    return content.properties
