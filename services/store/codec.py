"""Encoding and decoding of stored events; the topic is the registered name of the event type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from domain import EVENT_NAMES, STORED_EVENTS
from domain.recorded import Recorded
from domain.streams import split_stream


class UnknownEvent(Exception):
    """A stored event has a type that this version does not know."""


class NewerStream(NamedTuple):
    """The state of a stream with an event that this version cannot decode."""

    event: str
    version: int


class Metadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """The metadata stored with each event; the names are short because every event has them."""

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
    """A stored event whose data is still JSON, for readers that only pass it on."""

    meta: Metadata
    data: msgspec.Raw


# When the schema of an event type changes, its upcaster converts older data to the current schema for every reader.
UPCASTERS: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}

_encode = msgspec.json.Encoder().encode
_split = msgspec.json.Decoder(StoredState).decode
DECODERS: dict[str, Callable[[bytes], Any]] = {
    name: msgspec.json.Decoder(kind).decode for name, kind in STORED_EVENTS.items()
}


def encode(metadata: Metadata, event: Any) -> bytes:
    return _encode(_Stored(metadata, event))


def name_of(event: Any) -> str:
    """Return the registered name of an event's type."""
    return EVENT_NAMES[type(event)]


def decode(name: str, state: bytes) -> Any:
    """Return the event without its metadata; raises `UnknownEvent`."""
    return _event(name, _split(state).data)


def raw(state: bytes, name: str | None = None) -> StoredState:
    """Return the metadata and the data as JSON; with the event's name, in the current schema."""
    return _upcast(_split(state), name)


def _upcast(stored: StoredState, name: str | None) -> StoredState:
    upcast = UPCASTERS.get(name) if name is not None else None
    if upcast is None:
        return stored
    return StoredState(stored.meta, msgspec.Raw(_encode(upcast(msgspec.json.decode(stored.data)))))


def split(state: bytes) -> StoredState:
    """Return the metadata and the data as stored, for `recorded` and `passed_on`."""
    return _split(state)


def recorded(
    stream: str, version: int, name: str, stored: StoredState, position: int, recorded_at: datetime
) -> Recorded:
    """Return a stored row with its data decoded."""
    return _row(stream, version, name, stored.meta, _event(name, stored.data), position, recorded_at)


def passed_on(
    stream: str, version: int, name: str, stored: StoredState, position: int, recorded_at: datetime
) -> Recorded:
    """Return a stored row with its data as JSON in the current schema; raises `UnknownEvent`."""
    if name not in STORED_EVENTS:
        raise _unknown(name)
    return _row(stream, version, name, stored.meta, _upcast(stored, name).data, position, recorded_at)


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
    decoder = DECODERS.get(name)
    if decoder is None:
        raise _unknown(name)
    upcast = UPCASTERS.get(name)
    if upcast is not None:
        return msgspec.convert(upcast(msgspec.json.decode(data)), STORED_EVENTS[name])
    return decoder(data)


def _unknown(name: str) -> UnknownEvent:
    return UnknownEvent(f"unknown event type {name!r} in the log")
