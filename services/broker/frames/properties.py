"""Decodes the properties of a delivery from its content header; never raises, whatever the sender wrote."""

from __future__ import annotations

from struct import Struct
from typing import Any

from pamqp import decode

_CONTENT = Struct(">HHQH")
# Basic properties in the order of their flags, from bit 15 down; unused ones are skipped by their kind.
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
_MAX_TABLES, _MAX_TABLE_SIZE = 4096, 512
# The maximum size of headers that are decoded, in bytes: as objects they take up to 15 times as much memory.
MAX_HEADERS = 16 * 1024
# In larger headers only the tenant is searched, among so many. Sizes of values by type; others start with their size.
_MAX_SCANNED, _LONG_STRING = 100, ord("S")
_FIXED = {
    kind: size
    for kinds, size in ((b"V", 0), (b"tbB", 1), (b"suU", 2), (b"Iif", 4), (b"D", 5), (b"lLdT", 8))
    for kind in kinds
}
# None stands for a table that cannot be read.
_tables: dict[bytes, dict[str, Any] | None] = {}


class Properties:
    """A message's properties, None if absent. `unreadable` says what is malformed."""

    __slots__ = (*(name for name, _ in _PROPERTIES), "unreadable")

    content_type: str | None
    correlation_id: str | None
    headers: dict[str, Any] | None
    message_id: str | None
    message_type: str | None
    reply_to: str | None
    unreadable: str | None
    user_id: str | None

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, None)


def read_content(payload: bytes, properties: Properties, max_headers: int = MAX_HEADERS) -> int:
    """Read a content header into properties and return the body's size; headers have at most so many bytes.

    Malformed properties are noted in `unreadable`: an error here would close the connection, and the message would be
    redelivered.
    """
    size: int
    _, _, size, flags = _CONTENT.unpack_from(payload)
    try:
        _properties(payload, flags, properties, max_headers)
    except Exception as error:
        properties.unreadable = f"the properties cannot be read: {error!r}"[:200]
    return size


def _properties(payload: bytes, flags: int, properties: Properties, max_headers: int) -> None:
    at, bit = _CONTENT.size, 0x8000
    if flags & 1:
        raise ValueError("more property flags than AMQP 0-9-1 has")
    for name, kind in _PROPERTIES:
        if flags & bit:
            if kind == _SHORT:
                start, at = at + 1, at + 1 + payload[at]
                try:
                    text = payload[start:at].decode()
                except UnicodeDecodeError:
                    text = payload[start:at].decode("utf-8", "backslashreplace")
                    properties.unreadable = f"the property {name} is not UTF-8"
                setattr(properties, name, text)
            elif kind == _TABLE:
                start, at = at, at + 4 + int.from_bytes(payload[at : at + 4])
                if at - start > max_headers:
                    properties.headers = _tenant_alone(payload[start + 4 : at])
                    properties.unreadable = f"the headers have {at - start} bytes, and at most {max_headers} are read"
                    bit >>= 1
                    continue
                properties.headers = _table(payload[start:at])
                if properties.headers is None:
                    properties.unreadable = "the headers cannot be read"
            else:
                at += 1 if kind == _BYTE else 8
        bit >>= 1
    if at > len(payload):
        raise ValueError("the properties are longer than their frame")


def _tenant_alone(table: bytes) -> dict[str, Any] | None:
    """Return only the tenant of a table of headers, without decoding the other values; None if it is not found."""
    at = 0
    try:
        for _ in range(_MAX_SCANNED):
            kind_at = at + 1 + table[at]
            name, kind, at = table[at + 1 : kind_at], table[kind_at], kind_at + 1
            size = _FIXED.get(kind)
            if size is None:
                size, at = int.from_bytes(table[at : at + 4]), at + 4
            if name == b"tenant":
                return {"tenant": table[at : at + size].decode()} if kind == _LONG_STRING else None
            at += size
    except (IndexError, UnicodeDecodeError):
        return None
    return None


def _table(encoded: bytes) -> dict[str, Any] | None:
    """Return a table of headers, None if malformed. Cached: senders repeat the same few, and readers modify none."""
    try:
        return _tables[encoded]
    except KeyError:
        pass
    try:
        table: dict[str, Any] | None = decode.field_table(encoded)[1]
    except Exception:
        table = None
    if len(encoded) <= _MAX_TABLE_SIZE:
        if len(_tables) >= _MAX_TABLES:
            _tables.clear()
        _tables[encoded] = table
    return table
