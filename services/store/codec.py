"""Events to stored bytes and back; the topic is the event's stable name, and one that is not registered is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from domain import EVENT_NAMES, EVENTS
from domain.recorded import Recorded
from domain.streams import split_stream


class UnknownEvent(Exception):
    """A stored row names an event that this version does not know; nothing is guessed of it."""


class NewerStream(NamedTuple):
    """What stands for the state of a stream with an event that this version cannot read."""

    event: str
    version: int


class Metadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is stored with each event beside its data, under short names since every event carries it."""

    id: str
    command: str
    correlation: str
    causation: str
    actor: str
    at: datetime
    traceparent: str | None = None


class _Stored(msgspec.Struct, frozen=True):
    meta: Metadata
    data: Any


class StoredState(msgspec.Struct, frozen=True):
    """A stored event whose data is still JSON text, for readers that only pass it on."""

    meta: Metadata
    data: msgspec.Raw


# A changed shape keeps its event's name; the upcaster brings the older data to today's shape for every reader.
UPCASTERS: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}

_encode = msgspec.json.Encoder().encode
_split = msgspec.json.Decoder(StoredState).decode
_decoders: dict[str, Callable[[bytes], Any]] = {
    name: msgspec.json.Decoder(kind).decode for name, kind in EVENTS.items()
}


def encode(metadata: Metadata, event: Any) -> bytes:
    """Return the bytes that are stored."""
    return _encode(_Stored(metadata, event))


def name_of(event: Any) -> str:
    """Return the stable name that an event is stored under."""
    return EVENT_NAMES[type(event)]


def decode(name: str, state: bytes) -> Any:
    """Return the event alone."""
    return _event(name, _split(state).data)


def raw(state: bytes, name: str | None = None) -> StoredState:
    """Return metadata and the data's own JSON; with the event's name, the data in today's shape."""
    return _in_todays_shape(_split(state), name)


def _in_todays_shape(stored: StoredState, name: str | None) -> StoredState:
    upcast = UPCASTERS.get(name) if name is not None else None
    if upcast is None:
        return stored
    return StoredState(stored.meta, msgspec.Raw(_encode(upcast(msgspec.json.decode(stored.data)))))


def split(state: bytes) -> StoredState:
    """Return metadata and the data's own JSON as they are stored, for `recorded` and `passed_on`."""
    return _split(state)


def recorded(
    stream: str, version: int, name: str, stored: StoredState, position: int, recorded_at: datetime
) -> Recorded:
    """Return a stored row as the event that readers meet."""
    return _row(stream, version, name, stored.meta, _event(name, stored.data), position, recorded_at)


def passed_on(
    stream: str, version: int, name: str, stored: StoredState, position: int, recorded_at: datetime
) -> Recorded:
    """Return a stored row as an event whose data is JSON in today's shape; a name that is not registered is refused."""
    if name not in EVENTS:
        raise _unknown(name)
    return _row(stream, version, name, stored.meta, _in_todays_shape(stored, name).data, position, recorded_at)


def _row(
    stream: str, version: int, name: str, meta: Metadata, data: Any, position: int, recorded_at: datetime
) -> Recorded:
    tenant, category, entity_id = split_stream(stream)
    return Recorded(
        position,
        meta.id,
        tenant,
        category,
        entity_id,
        version,
        name,
        data,
        meta.command,
        meta.correlation,
        meta.causation,
        meta.actor,
        meta.at,
        recorded_at,
        meta.traceparent,
    )


def _event(name: str, data: msgspec.Raw) -> Any:
    decoder = _decoders.get(name)
    if decoder is None:
        raise _unknown(name)
    upcast = UPCASTERS.get(name)
    if upcast is not None:
        return msgspec.convert(upcast(msgspec.json.decode(data)), EVENTS[name])
    return decoder(data)


def _unknown(name: str) -> UnknownEvent:
    return UnknownEvent(f"the log holds an event named {name!r}, which this version does not know")
