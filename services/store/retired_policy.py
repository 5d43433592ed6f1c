"""What the roll-up policy of earlier versions has not recorded, recorded by the upgrade that retires it.

The policy followed the log: it recorded the changes of an activity's status, and had the siblings of a failed task
cancelled in a `fail_fast` workflow. Its remaining events are those after its position, and those that it held back.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import psycopg
import structlog

from domain.activity.state import Activity
from domain.activity.state import evolve as evolve_activity
from domain.activity.status import (
    STATUS_CATEGORY,
    ActivityStatusChanged,
    canceled_siblings,
    evolve_status,
    status_from,
    workflow_use,
)
from domain.decider import SYSTEM, Context
from domain.lifecycle import OPEN, TERMINAL, Lifecycle
from domain.recorded import Recorded
from domain.streams import split_stream, stream_of
from domain.task import Task, TaskFailed
from domain.task.state import evolve as evolve_task
from services.store import append, codec, log
from services.store.append import NewEvent, TenantUniqueKey

_NAME = "rollup-policy"
# The ids of the recorded events are derived from it.
_NAMESPACE = uuid.UUID("5f2f7b1c-6a0e-5c58-9d1b-6d0f7a3f5e21")
_LOCK = "SELECT position FROM followers WHERE name = %s FOR UPDATE"
_HELD = "SELECT DISTINCT position FROM held_events WHERE follower = %s ORDER BY position"
_PAGE = 1000
# Activities whose events are in memory at the same time.
_ACTIVITIES = 200
_Key = tuple[str, str]

_log = structlog.get_logger("upgrade")


@dataclass(slots=True)
class _Fold:
    """An activity with its tasks, folded up to an event, and what the policy would have recorded by then."""

    activity: Activity | None = None
    tasks: dict[str, Task | None] = field(default_factory=dict)
    versions: dict[tuple[str, str], int] = field(default_factory=dict)
    recorded: Lifecycle = OPEN
    # The open siblings of a task that failed, with the event of the failure.
    siblings: dict[str, Recorded] = field(default_factory=dict)
    events: list[NewEvent] = field(default_factory=list)
    unique_keys: dict[TenantUniqueKey, str | None] = field(default_factory=dict)


def catch_up(conn: psycopg.Connection[Any]) -> None:
    """Record what the policy has not; the caller's transaction then retires it."""
    # A batch of the policy has its row before it takes the append lock.
    row = conn.execute(_LOCK, (_NAME,)).fetchone()
    append.lock(conn)
    held = [position for (position,) in conn.execute(_HELD, (_NAME,)).fetchall()]
    remaining = iter(_remaining(conn, row[0] if row is not None else 0, held).items())
    while some := dict(islice(remaining, _ACTIVITIES)):
        events: list[NewEvent] = []
        unique_keys: dict[TenantUniqueKey, str | None] = {}
        for (tenant, _), found, first in _histories(conn, some):
            fold = _folded(tenant, found, first)
            events += fold.events
            unique_keys |= fold.unique_keys
        append.append_in(conn, events)
        append.write_unique_keys(conn, unique_keys)


def _remaining(conn: psycopg.Connection[Any], position: int, held: list[int]) -> dict[_Key, int]:
    """Return the activities that the policy has events of left, each with the first of these."""
    found: dict[_Key, int] = {}
    for start in range(0, len(held), _PAGE):
        wanted = held[start : start + _PAGE]
        while rows := log.at(conn, wanted):
            _note(rows, found)
            wanted = [each for each in wanted if each > rows[-1].position]
    while rows := log.read(conn, position, _PAGE):
        _note(rows, found)
        position = rows[-1].position
    return found


def _note(rows: Iterable[log.LogRow], found: dict[_Key, int]) -> None:
    for row in rows:
        event = _decoded(row)
        if event is None:
            continue
        activity_id = event.entity_id if event.category == "activity" else getattr(event.data, "activity_id", None)
        if activity_id is not None:
            found.setdefault((event.tenant, activity_id), row.position)


def _decoded(row: log.LogRow) -> Recorded | None:
    try:
        return row.recorded()
    except Exception as error:
        # Whatever its activity is, no command on it is decided either.
        _log.warning("event cannot be decoded", stream=row.stream, version=row.version, type=row.name, error=str(error))
        return None


def _histories(conn: psycopg.Connection[Any], firsts: Mapping[_Key, int]) -> Iterator[tuple[_Key, list[Recorded], int]]:
    """Yield the events of activities, their tasks and their status, as far as all of them can be read."""
    own = [stream_of(tenant, category, name) for tenant, name in firsts for category in ("activity", STATUS_CATEGORY)]
    families: dict[_Key, list[Recorded | None]] = {}
    family_of: dict[str, _Key] = {}
    for stream, event in _events(conn, own):
        tenant, _, name = split_stream(stream)
        families.setdefault((tenant, name), []).append(event)
        if event is not None and event.name == "activity.created":
            family_of |= {stream_of(tenant, "task", child): (tenant, name) for child in event.data.children}
    for stream, event in _events(conn, list(family_of)):
        families[family_of[stream]].append(event)
    for key, found in families.items():
        whole = [event for event in found if event is not None]
        if len(whole) == len(found):
            yield key, sorted(whole, key=lambda event: event.position), firsts[key]


def _events(conn: psycopg.Connection[Any], streams: list[str]) -> Iterator[tuple[str, Recorded | None]]:
    for found in conn.execute(*log.all_events(streams), binary=True):
        row = log.LogRow(*found)
        yield row.stream, _decoded(row)


def _folded(tenant: str, events: list[Recorded], first: int) -> _Fold:
    """Return what the policy would have recorded of an activity from a position on."""
    fold = _Fold()
    for event in events:
        fold.versions[event.category, event.entity_id] = event.version
        if event.category == STATUS_CATEGORY:
            fold.recorded = evolve_status(None, event.data)
    for event in events:
        if event.category == "activity":
            fold.activity = evolve_activity(fold.activity, event.data)
        elif event.category == "task":
            fold.tasks[event.entity_id] = evolve_task(fold.tasks.get(event.entity_id), event.data)
        if event.position >= first and event.category != STATUS_CATEGORY and fold.activity is not None:
            rule = _change(tenant, fold, fold.activity, event)
            if rule == "U4" and isinstance(event.data, TaskFailed):
                going_on = [name for name, task in fold.tasks.items() if task and task.lifecycle not in TERMINAL]
                fold.siblings |= dict.fromkeys(going_on, event)
    if fold.activity is not None:
        for name, failed in fold.siblings.items():
            _cancel(tenant, fold, fold.activity, name, failed)
    return fold


def _change(tenant: str, fold: _Fold, activity: Activity, cause: Recorded) -> str:
    """Record the change of the status, if there is one; return the rule."""
    status = status_from(activity, map(fold.tasks.get, activity.children))
    if status.lifecycle is not fold.recorded:
        old, fold.recorded = fold.recorded, status.lifecycle
        changed = ActivityStatusChanged(
            activity.id, old.value, status.lifecycle.value, status.rule, dict(status.progress)
        )
        _record(tenant, fold, STATUS_CATEGORY, activity.id, changed, cause)
        fold.unique_keys |= {(tenant, *unique): holder for unique, holder in workflow_use(activity, changed).items()}
    return status.rule


def _cancel(tenant: str, fold: _Fold, activity: Activity, name: str, failed: Recorded) -> None:
    context = Context(tenant, SYSTEM, datetime.now(UTC), str, int, {}, {})
    ended = canceled_siblings([fold.tasks[name]], context)
    fold.unique_keys |= {(tenant, *unique): holder for unique, holder in ended.unique_keys.items()}
    for _, event in ended.events:
        fold.tasks[name] = evolve_task(fold.tasks[name], event)
        # As the policy had a command of its own for it: that of the failure has no effect a second time.
        command = str(uuid.uuid5(_NAMESPACE, f"{failed.event_id}/cancel/{name}"))
        cause = failed._replace(occurred_at=context.now, command_id=command)
        _record(tenant, fold, "task", name, event, cause)
        _change(tenant, fold, activity, cause)


def _record(tenant: str, fold: _Fold, category: str, name: str, event: Any, cause: Recorded) -> None:
    version = fold.versions[category, name] = fold.versions.get((category, name), 0) + 1
    metadata = codec.Metadata(
        id=str(uuid.uuid5(_NAMESPACE, f"{cause.event_id}/{category}/{name}/{version}")),
        command=cause.command_id,
        correlation=cause.correlation_id,
        causation=cause.event_id,
        actor=SYSTEM,
        at=cause.occurred_at,
        traceparent=cause.traceparent,
    )
    fold.events.append(NewEvent(stream_of(tenant, category, name), version, codec.name_of(event), event, metadata))
