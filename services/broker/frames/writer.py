"""Frames of messages to publish, ready to be written: aiormq would encode each argument of each message anew."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

from pamqp.commands import Basic
from pamqp.header import ContentHeader

from services.broker.names import COMMAND_EXCHANGE, DEAD_EXCHANGE
from services.cloud_events import CLOUD_EVENT

PERSISTENT = 2
_HEAD, _END = Struct(">BHI"), b"\xce"
_PUBLISH = Basic.Publish.index.to_bytes(4)
# Exchange, routing key, body, and the content header as it goes over the wire.
Publication = tuple[str, str, bytes, bytes]


def frames(number: int, max_size: int, publication: Publication) -> bytes:
    """Return a message's frames on a channel, whose frames hold at most `max_size` bytes of a body."""
    exchange, key, body, header = publication
    method = _PUBLISH + _method(exchange, key)
    parts = [_HEAD.pack(1, number, len(method)), method, _END, _HEAD.pack(2, number, len(header)), header, _END]
    for start in range(0, len(body), max_size):
        part = body[start : start + max_size]
        parts += (_HEAD.pack(3, number, len(part)), part, _END)
    return b"".join(parts)


@lru_cache(maxsize=4096)
def _method(exchange: str, key: str) -> bytes:
    # An event that nobody subscribed to is no loss; a command or a dead letter that reaches no queue is.
    mandatory = exchange in (COMMAND_EXCHANGE, DEAD_EXCHANGE)
    return bytes(Basic.Publish(exchange=exchange, routing_key=key, mandatory=mandatory).marshal())


def content_header(properties: Basic.Properties, size: int) -> bytes:
    """Return the content header of a message of `size` bytes."""
    return bytes(ContentHeader(properties=properties, body_size=size).marshal())


def event_header(tenant: str, name: str, event_id: str, size: int) -> bytes:
    """Return the content header of an event."""
    before, after = _around_id(tenant, name, len(event_id))
    return b"".join((before[:4], size.to_bytes(8), before[12:], event_id.encode(), after))


@lru_cache(maxsize=4096)
def _around_id(tenant: str, name: str, id_length: int) -> tuple[bytes, bytes]:
    """Return what stands before and after the id in the content header of an event; nothing else of it differs."""
    place = "@" * id_length
    properties = Basic.Properties(
        content_type=CLOUD_EVENT,
        delivery_mode=PERSISTENT,
        message_id=place,
        message_type=name,
        headers={"tenant": tenant},
    )
    before, _, after = content_header(properties, 0).partition(place.encode())
    return before, after
