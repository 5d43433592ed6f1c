"""The entity of an event, the unit that a follower keeps in order and holds back together.

An entity has the name of a stream. It is known even for an event that cannot be decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import psycopg

from domain import EVENTS
from domain.streams import split_stream, stream_of
from services.store.log import LogRow

# None for an event that the follower does not read.
EntityOf = Callable[[psycopg.Connection[Any], LogRow], str | None]
# An activity and its tasks are created in one transaction, so their positions are at most this far apart.
_CREATED_WITHIN = 5000
_OF_STREAM = """
SELECT topic, state FROM stored_events WHERE originator_id = %s ORDER BY originator_version LIMIT 20"""
_CREATIONS = """
SELECT originator_id, state FROM stored_events
WHERE notification_id BETWEEN %s AND %s AND topic = 'activity.created' AND starts_with(originator_id, %s)
ORDER BY notification_id DESC"""


class _Task(msgspec.Struct):
    activity_id: str | None = None


class _TaskState(msgspec.Struct):
    data: _Task


class _Activity(msgspec.Struct):
    children: list[str]


class _ActivityState(msgspec.Struct):
    data: _Activity


_task_state = msgspec.json.Decoder(_TaskState).decode
_activity_state = msgspec.json.Decoder(_ActivityState).decode


def of_stream(_: psycopg.Connection[Any], row: LogRow) -> str | None:
    return row.stream


def of_activity(conn: psycopg.Connection[Any], row: LogRow) -> str | None:
    """Return the activity of an event or of its task; a task without an activity is its own entity."""
    tenant, category, entity_id = split_stream(row.stream)
    if category != "task":
        return row.stream
    known, activity_id = _named_by(row.name, row.state)
    if not known and activity_id is None:
        activity_id = _looked_up(conn, row, tenant, entity_id)
    return stream_of(tenant, "activity", activity_id) if activity_id is not None else row.stream


def _named_by(name: str, state: bytes) -> tuple[bool, str | None]:
    """Return whether the type of a task's event is known, and the activity that the event names."""
    try:
        return name in EVENTS, _task_state(state).data.activity_id
    except msgspec.MsgspecError:
        return False, None


def _looked_up(conn: psycopg.Connection[Any], row: LogRow, tenant: str, task_id: str) -> str | None:
    for name, state in conn.execute(_OF_STREAM, (row.stream,), binary=True).fetchall():
        known, activity_id = _named_by(name, state)
        if known or activity_id is not None:
            return activity_id
    around = (row.position - _CREATED_WITHIN, row.position, stream_of(tenant, "activity", ""))
    for stream, state in conn.execute(_CREATIONS, around, binary=True).fetchall():
        try:
            children = _activity_state(state).data.children
        except msgspec.MsgspecError:
            continue
        if task_id in children:
            return split_stream(stream)[2]
    return None
