"""Frames, faults and messages; a message is forwarded byte for byte except for what the broker must change."""

from collections.abc import Iterator
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import takewhile
from struct import Struct
from typing import Any

from pamqp import base, commands, constants, header
from pamqp import decode as codec
from pamqp.exceptions import CLASS_MAPPING as REPLIES

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
HEAD, CONTENT, END = Struct(">BHI"), Struct(">HHQ"), constants.FRAME_END_CHAR
OVERHEAD = HEAD.size + len(END)
Properties = commands.Basic.Properties
MALFORMED = (ValueError, LookupError, OverflowError, OSError)  # what the codec raises
# The methods without the checks of the codec, which allows fewer characters in names than RabbitMQ does.
METHODS: dict[int, Any] = {
    index: type(kind.__name__, (kind,), {"validate": lambda _: None}) for index, kind in commands.INDEX_MAPPING.items()
}


class Fault(Exception):
    """An AMQP error; its code decides whether it closes the channel or the connection."""

    def __init__(self, code: int, text: str) -> None:
        name = str(getattr(REPLIES[code], "name")).replace("-", "_")  # noqa: B009
        self.text = f"{name} - {text}".encode()[:255].decode(errors="ignore")  # it has to be a short string
        self.code, self.soft = code, 403 <= code <= 406


def login(frame: commands.Connection.StartOk) -> list[Any]:
    """The user and the password of a client."""
    said = frame.response if isinstance(frame.response, bytes) else str(frame.response).encode()
    if frame.mechanism == "PLAIN" and len(parts := said.split(b"\0")) == 3:
        return [part.decode(errors="replace") for part in parts[1:]]
    with suppress(*MALFORMED):
        table = codec.field_table(len(said).to_bytes(4) + said)[1]
        if frame.mechanism == "AMQPLAIN" and table.keys() >= {"LOGIN", "PASSWORD"}:
            return [table["LOGIN"], table["PASSWORD"]]
    raise Fault(503, f"this is no login by {frame.mechanism}")


def split(buffer: bytearray, frame_max: int) -> Iterator[tuple[int, int, bytes]]:
    """Removes the complete frames from the front of the buffer."""
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


def made(kind: type[base.Frame], *values: Any) -> base.Frame:
    """A method whose arguments are names chosen by the client."""
    frame: base.Frame = METHODS[kind.index](*values)
    return frame


def decode(payload: bytes) -> base.Frame:
    if len(payload) < 4 or (kind := METHODS.get(int.from_bytes(payload[:4]))) is None:
        raise Fault(501, "unknown method")
    frame: base.Frame = object.__new__(kind)  # its __init__ would ask for all arguments
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
    deaths: tuple[dict[str, Any], ...] = ()  # the newest first

    @property
    def ttl(self) -> int | None:
        """The time to live in a queue, in milliseconds."""
        return int(self.properties.expiration) if self.properties.expiration else None

    def changed(self, headers: dict[str, Any], **others: str | None) -> "Message":
        properties = copy(self.properties)
        properties.headers = (properties.headers or {}) | headers
        for name, value in others.items():
            setattr(properties, name, value)
        return replace(self, properties=properties, encoded=properties.marshal())

    def frames(self, number: int, frame_max: int) -> bytes:
        """The header frame and the body frames, by the frame size of the connection."""
        step, head = frame_max - OVERHEAD, CONTENT.pack(60, 0, len(self.body)) + self.encoded
        chunks = (self.body[start : start + step] for start in range(0, len(self.body), step))
        return b"".join([encode(HEADER, number, head), *(encode(BODY, number, chunk) for chunk in chunks)])

    def died(self, queue: str, reason: str, exchange: str, key: str) -> "Message":
        """The message for a dead-letter exchange; as in RabbitMQ 4, deaths claimed by a client are ignored."""
        last: dict[str, Any] = {"reason": reason, "queue": queue, "exchange": self.exchange}
        same = next((one for one in self.deaths if (one["queue"], one["reason"]) == (queue, reason)), None)
        newest = same or last | {"count": 0, "time": datetime.now(UTC), "routing-keys": [self.key]}
        if same is None and self.properties.expiration:
            newest["original-expiration"] = self.properties.expiration
        deaths = (newest | {"count": newest["count"] + 1}, *(one for one in self.deaths if one is not same))
        headers = {f"x-last-death-{name}": value for name, value in last.items()} | {"x-death": list(deaths)}
        if not self.deaths:
            headers |= {f"x-first-death-{name}": value for name, value in last.items()}
        return replace(self.changed(headers, expiration=None), exchange=exchange, key=key, deaths=deaths)

    def cycles(self, queue: str) -> bool:
        """Whether it would be dead-lettered in a cycle without a rejection."""
        return any(one["queue"] == queue for one in takewhile(lambda one: one["reason"] != "rejected", self.deaths))


def parse(raw: bytes) -> Properties:
    try:
        (content := header.ContentHeader()).unmarshal(raw)
        content.properties.marshal()  # better refused now than when it turns out that no header can be added
    except (*MALFORMED, TypeError) as error:
        raise Fault(541, "the codec cannot read and write the properties of a message") from error
    return content.properties
