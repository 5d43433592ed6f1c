"""Logs for tests of readers: events as a store would give them, made from commands or named one by one."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import psycopg

from domain import EVENT_NAMES
from domain.recorded import Recorded
from domain.streams import split_stream
from services.store import codec
from services.store.append import NewEvent, append_in
from tests.given import NOW, TENANT, Given, stream_of_event

_SAMPLES = uuid.UUID("00000000-0000-4000-8000-000000000000")


def recorded(
    events: Iterable[Any], *, tenant: str = TENANT, first: int = 1, began: datetime = NOW, every: float = 1.0
) -> list[Recorded]:
    """Return events at positions from `first` on, one every so many seconds, each by its own command."""
    versions: dict[str, int] = {}
    log = []
    for number, event in enumerate(events):
        stream = stream_of_event(event, tenant)
        versions[stream] = versions.get(stream, 0) + 1
        position = first + number
        event_id, command = (str(uuid.uuid5(_SAMPLES, f"{tenant}/{kind}/{position}")) for kind in ("event", "command"))
        moment = began + timedelta(seconds=every * number)
        log.append(
            Recorded(
                position,
                event_id,
                *split_stream(stream),
                versions[stream],
                EVENT_NAMES[type(event)],
                event,
                command,
                command,
                command,
                "max",
                moment,
                moment,
            )
        )
    return log


def after(commands: Iterable[Any], *more: Any) -> list[Any]:
    """Return the events of commands that run one after another, and then others that no command leads to."""
    return [*Given().and_commands(commands).log, *more]


def store(conn: psycopg.Connection[Any], log: Sequence[Recorded]) -> None:
    """Append events to the store; positions are the store's."""
    with conn.transaction():
        append_in(
            conn,
            [
                NewEvent(
                    f"{event.tenant}/{event.category}-{event.entity_id}",
                    event.version,
                    event.name,
                    event.data,
                    codec.Metadata(
                        id=event.event_id,
                        command=event.command_id,
                        correlation=event.correlation_id,
                        causation=event.causation_id,
                        actor=event.actor,
                        at=event.occurred_at,
                    ),
                )
                for event in log
            ],
        )
