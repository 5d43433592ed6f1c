"""The roll-up policy: it records each change of an activity's status once, in the order of the log.

It is the only writer of the status streams, and it releases the unique key on a workflow when an activity has ended. A
change is recorded in the transaction that saves the position, with an id derived from its cause; commands are sent
before that with such ids too, so a repetition has no further effect.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import psycopg

from domain import EVENTS as ALL_EVENTS
from domain import STATUS_CATEGORY
from domain.activity import ActivityCanceled, ActivityCreated, ActivityStatusChanged
from domain.lifecycle import OPEN, TERMINAL, Lifecycle
from domain.recorded import Recorded
from domain.rollup import rollup
from domain.streams import stream_of
from domain.task import TaskFailed
from domain.workflow import use_of
from projections.support.documents import MissingDocument
from projections.support.time import stamp
from projections.task.facts import LIFECYCLES, TASK_EVENTS, Child, apply_facts, as_rollup, placeholders
from services.broker.sender import Outgoing
from services.store import codec
from services.store.append import NewEvent, TenantUniqueKey, write_unique_keys
from services.store.entities import of_activity
from services.store.follower import Follower
from services.store.log import LogRow

NAME = "rollup-policy"
EVENTS = TASK_EVENTS | {"activity.created", "activity.canceled"}

Append = Callable[[psycopg.Connection[Any], Sequence[NewEvent]], object]
Send = Callable[[Sequence[Outgoing]], object]
_Key = tuple[str, str]

# Must never change: the ids of recorded events and commands are derived from it.
_NAMESPACE = uuid.UUID("5f2f7b1c-6a0e-5c58-9d1b-6d0f7a3f5e21")
# Events that cannot change a status.
_QUIET = frozenset(
    {
        # A new child is as open as the placeholder that the activity created for it.
        "activity.created",
        "task.created",
        "task.data-saved",
        "task.fields-changed",
        "task.rescheduled",
        "task.attributes-resolved",
        "task.fields-mapped",
        "task.became-overdue",
        "task.wake-set",
        "task.dispatch-requested",
        "task.dispatch-failed",
        "task.result-recorded",
    }
)

_LOAD = """
SELECT r.tenant, r.activity_id, r.status, r.version, r.state
FROM unnest(%s::text[], %s::text[]) AS k (tenant, activity_id)
CROSS JOIN LATERAL (SELECT * FROM rollup_activities AS a
                    WHERE a.tenant = k.tenant AND a.activity_id = k.activity_id OFFSET 0) AS r"""
_SAVE = """
INSERT INTO rollup_activities (tenant, activity_id, status, version, state)
SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[], %s::bytea[])
ON CONFLICT (tenant, activity_id)
DO UPDATE SET status = EXCLUDED.status, version = EXCLUDED.version, state = EXCLUDED.state"""


class _Family(msgspec.Struct):
    """The facts that the status of an activity is derived from, and the workflow that it uses until it ends."""

    failure: str
    children: list[Child]
    canceled: bool = False
    workflow: str = ""


class _Master:
    """An activity, as the policy stores it; `version` is that of its status stream."""

    __slots__ = ("family", "status", "version")

    def __init__(self, family: _Family, status: str = OPEN.value, version: int = 0) -> None:
        self.family = family
        self.status = status
        self.version = version


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Family).decode


def follower(append: Append, send: Send, *, batch: int = 500) -> Follower:
    """Return the policy as a follower of the log.

    `append` records events in the open transaction; `send` returns when the broker has confirmed the commands.
    """
    return Follower(NAME, Policy(append, send), batch=batch, entity_of=_entity_of)


def _reads(row: LogRow) -> bool:
    # An event of an unknown type is read too: decoding it fails, while skipping it would lose it.
    return row.name in EVENTS or row.name not in ALL_EVENTS


def _entity_of(conn: psycopg.Connection[Any], row: LogRow) -> str | None:
    return of_activity(conn, row) if _reads(row) else None


class Policy:
    """The handler of the follower."""

    def __init__(self, append: Append, send: Send) -> None:
        self._append = append
        self._send = send

    def __call__(self, conn: psycopg.Connection[Any], rows: Sequence[LogRow]) -> None:
        """Handle a batch in the transaction that saves its position."""
        events = [row.recorded() for row in rows if _reads(row)]
        keyed = [(key, event) for event in events if (key := _key_of(event)) is not None]
        if not keyed:
            return
        masters = _load(conn, dict.fromkeys(key for key, _ in keyed))
        changes: list[NewEvent] = []
        commands: list[Outgoing] = []
        uses: dict[TenantUniqueKey, str | None] = {}
        for key, event in keyed:
            master = masters[key] = _applied(masters.get(key), event)
            commands += _cancellations(key, master, event)
            change = _change(key, master, event)
            if change is not None:
                changes.append(change)
                uses |= _use(key, master, change.event)
        _save(conn, masters)
        # Sent before the append lock is taken; otherwise a slow broker would block every worker.
        if commands:
            self._send(commands)
        if changes:
            self._append(conn, changes)
            write_unique_keys(conn, uses)


def _key_of(event: Recorded) -> _Key | None:
    if event.category == "activity":
        return event.tenant, event.entity_id
    activity_id = event.data.activity_id
    return (event.tenant, activity_id) if activity_id is not None else None


def _applied(master: _Master | None, event: Recorded) -> _Master:
    at = stamp(event.occurred_at)
    if isinstance(event.data, ActivityCreated):
        created = event.data
        labels = [step.status_mapping.get("DONE") for step in created.steps]
        children = placeholders(created.children, labels, at)
        return _Master(_Family(created.failure, children, workflow=created.workflow_id))
    if master is None:
        raise MissingDocument(f"no activity for {event.name} of {event.tenant} at position {event.position}")
    if isinstance(event.data, ActivityCanceled):
        master.family.canceled = True
    for child in master.family.children:
        if child.id == event.entity_id and event.category == "task":
            apply_facts(child, event, at)
    return master


def _change(key: _Key, master: _Master, event: Recorded) -> NewEvent | None:
    if event.name in _QUIET:
        return None
    family = master.family
    whole = rollup([as_rollup(child) for child in family.children], family.canceled, family.failure == "fail_fast")
    old, new = master.status, whole.lifecycle.value
    if new == old:
        return None
    master.status = new
    master.version += 1
    tenant, activity_id = key
    return NewEvent(
        stream_of(tenant, STATUS_CATEGORY, activity_id),
        master.version,
        codec.name_of(changed := ActivityStatusChanged(activity_id, old, new, whole.rule, whole.progress)),
        changed,
        codec.Metadata(
            id=id_from(tenant, activity_id, event.position),
            command=event.command_id,
            correlation=event.correlation_id,
            causation=event.event_id,
            actor="system",
            at=event.occurred_at,
            traceparent=event.traceparent,
        ),
    )


def _use(key: _Key, master: _Master, change: ActivityStatusChanged) -> dict[TenantUniqueKey, str | None]:
    """Return the change of the unique key on the workflow: released when the activity ends, taken when it resumes."""
    (tenant, activity_id), workflow = key, master.family.workflow
    before, now = (Lifecycle(status) in TERMINAL for status in (change.old, change.new))
    # An activity recorded before the policy stored workflows has no unique key.
    if before == now or not workflow:
        return {}
    return {(tenant, use_of(workflow), activity_id): None if now else activity_id}


def _cancellations(key: _Key, master: _Master, event: Recorded) -> Iterable[Outgoing]:
    """Return a command for each sibling that a failure cancels; a sibling that has ended meanwhile refuses it."""
    if not isinstance(event.data, TaskFailed) or master.family.failure != "fail_fast" or master.family.canceled:
        return
    tenant, activity_id = key
    for child in master.family.children:
        if LIFECYCLES[child.status] not in TERMINAL:
            yield Outgoing(
                "task.cancel",
                _encode({"id": child.id, "reason": "sibling-failed"}),
                tenant,
                routing_key=activity_id,
                command_id=id_from(tenant, activity_id, event.event_id, child.id),
                traceparent=event.traceparent,
            )


def id_from(*cause: object) -> str:
    return str(uuid.uuid5(_NAMESPACE, "/".join(map(str, cause))))


def _load(conn: psycopg.Connection[Any], keys: Iterable[_Key]) -> dict[_Key, _Master]:
    tenants, ids = (list(part) for part in zip(*keys, strict=True))
    # Not prepared: a prepared plan for a small table would be kept while the table grows.
    rows = conn.execute(_LOAD, (tenants, ids), prepare=False, binary=True).fetchall()
    return {
        (tenant, activity_id): _Master(_decode(state), status, version)
        for tenant, activity_id, status, version, state in rows
    }


def _save(conn: psycopg.Connection[Any], masters: dict[_Key, _Master]) -> None:
    rows = [(*key, master.status, master.version, _encode(master.family)) for key, master in masters.items()]
    conn.execute(_SAVE, [list(column) for column in zip(*rows, strict=True)], prepare=True)
