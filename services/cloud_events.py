"""A stored event as CloudEvents JSON, the form in which it is published and served."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from domain.streams import split_stream
from services.store import codec
from services.store.log import LogRow

CLOUD_EVENT = "application/cloudevents+json"

_encode = msgspec.json.Encoder().encode


class _CloudEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: Any
    datacontenttype: str
    tenant: str
    position: int
    streamversion: int
    recordedat: Any
    commandid: str
    correlationid: str
    causationid: str
    actor: str
    data: msgspec.Raw
    traceparent: str | None = None


def cloud_event(row: LogRow) -> bytes:
    """Return a stored event as structured CloudEvents JSON, the same bytes for every reader, in today's shape."""
    return published(row)[0]


def published(row: LogRow) -> tuple[bytes, str]:
    """Return a stored event as it is published, and its id."""
    tenant, category, entity_id = split_stream(row.stream)
    stored = codec.raw(row.state, row.name)
    meta = stored.meta
    shown = _encode(
        _CloudEvent(
            specversion="1.0",
            id=meta.id,
            source=f"/foldwork/{tenant}",
            type=row.name,
            subject=f"{category}/{entity_id}",
            time=meta.at,
            datacontenttype="application/json",
            tenant=tenant,
            position=row.position,
            streamversion=row.version,
            recordedat=row.recorded_at,
            commandid=meta.command,
            correlationid=meta.correlation,
            causationid=meta.causation,
            actor=meta.actor,
            data=stored.data,
            traceparent=meta.traceparent,
        )
    )
    return shown, meta.id


def ping_event(event_id: str, tenant: str, webhook: str, at: datetime) -> bytes:
    """Return the event that a webhook is tried with, which is not in the log."""
    found = {
        "specversion": "1.0",
        "id": event_id,
        "source": f"/foldwork/{tenant}",
        "type": "webhook.ping",
        "subject": f"webhook/{webhook}",
        "time": at,
        "datacontenttype": "application/json",
        "tenant": tenant,
        "data": {},
    }
    return _encode(found)


def event_key(row: LogRow) -> str:
    """Return the routing key of a published event, `<tenant>.<aggregate>.<event>`."""
    return f"{row.stream.partition('/')[0]}.{row.name}"
