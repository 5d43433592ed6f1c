"""How does each piece of work stand? One row for each task, a pure fold of the task's own events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from domain.decider import merged
from domain.recorded import Recorded
from domain.task import (
    AttributesResolved,
    TargetsResolved,
    TaskCanceled,
    TaskCompleted,
    TaskCreated,
    TaskDataSaved,
    TaskFailed,
    TaskFieldsChanged,
    TaskResumed,
    TaskRetried,
    TaskStarted,
)
from projections.documents import Documents, Key, MissingDocument, Table, array, instant, listing_indexes, title_key
from projections.query import COMMON_SORTS, Listing, common_filters, equal
from projections.task_facts import TASK_EVENTS, TaskFacts, fold_facts, seconds, stamp

NAME = "tasks"
VERSION = 1
VIEWS: tuple[str, ...] = ("tasks",)
EVENTS = TASK_EVENTS

TABLES = """
CREATE TABLE tasks_{suffix} (
    tenant      text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    status      text COLLATE "C" NOT NULL,
    resolution  text COLLATE "C" NOT NULL,
    dispatch    text COLLATE "C" NOT NULL,
    activity_id text COLLATE "C",
    flow        text COLLATE "C",
    flow_id     text COLLATE "C",
    hub         text COLLATE "C",
    project     text COLLATE "C",
    commerce    text COLLATE "C",
    route       text COLLATE "C",
    operator    text COLLATE "C",
    assignees   text[] NOT NULL,
    overdue     boolean NOT NULL,
    title_key   text COLLATE "C" NOT NULL,
    start_at    timestamptz NOT NULL,
    end_at      timestamptz NOT NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    position    bigint NOT NULL,
    doc         text NOT NULL,
    PRIMARY KEY (tenant, id)
)
"""
INDEXES = listing_indexes(
    "tasks",
    own=(),
    optional=("flow", "flow_id", "hub", "project", "commerce", "route", "operator", "activity_id"),
    marked=("overdue", "activity_id IS NULL"),
)
_TABLE = Table.of(TABLES, key=("tenant", "id"))
# A caller's own text may be longer than an index takes; longer ones are shown but not found by their filter.
_INDEXED = 500


class Task(TaskFacts):
    """A task's document: what is stored of it, without what has its default."""

    activity_id: str | None = None
    flow: str | None = None
    flow_id: str | None = None
    fields: dict[str, Any] = msgspec.field(default_factory=dict)
    hub: str | None = None
    project: str | None = None
    commerce: str | None = None
    route: str | None = None
    operator: str | None = None
    roles: tuple[str, ...] = ()
    whitelist: tuple[str, ...] = ()
    blacklist: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    runner: str | None = None
    data: dict[str, Any] = msgspec.field(default_factory=dict)
    output: dict[str, Any] | None = None
    attributes: dict[str, Any] = msgspec.field(default_factory=dict)
    targets: tuple[str, ...] = ()
    late: bool = False
    comment: str | None = None
    reason: str | None = None
    created_by: str = ""
    updated_at: str = ""
    version: int = 0


class Shown(Task, omit_defaults=False):
    """The document as it is shown: every key is there, and the three periods at the time of reading."""

    working_seconds: float = 0.0
    live_seconds: float = 0.0
    pipeline_seconds: float = 0.0


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Task).decode
_decode_shown = msgspec.json.Decoder(Shown).decode


def fold(task: Task | None, event: Recorded) -> Task | None:
    """Return the task after one more of its events; one that was folded before changes nothing."""
    if task is not None and event.position <= task.position:
        return task
    at = stamp(event.occurred_at)
    if isinstance(event.data, TaskCreated):
        task = _new(event.data, event.actor)
    elif task is None:
        raise MissingDocument(f"task {event.entity_id} of {event.tenant} is not there at position {event.position}")
    fold_facts(task, event, at)
    change = _CHANGES.get(type(event.data))
    if change is not None:
        change(task, event.data)
    if task.status != "active":
        task.runner = None
    task.version = event.version
    task.updated_at = at
    return task


def _new(created: TaskCreated, actor: str) -> Task:
    return Task(
        id=created.id,
        activity_id=created.activity_id,
        flow=created.flow,
        flow_id=created.flow_id,
        fields=created.fields,
        hub=created.hub,
        project=created.project,
        commerce=created.commerce,
        route=created.route,
        operator=created.operator,
        roles=created.roles,
        whitelist=created.whitelist,
        blacklist=created.blacklist,
        after=created.after,
        created_by=actor,
    )


def _runs(task: Task, event: TaskStarted | TaskResumed) -> None:
    task.runner = event.runner


def _saved(task: Task, event: TaskDataSaved) -> None:
    task.data = {**task.data, **event.new}


def _changed(task: Task, event: TaskFieldsChanged) -> None:
    task.hub = event.new.get("hub", task.hub)
    task.fields = merged(task.fields, event.new.get("fields", {}))


def _completed(task: Task, event: TaskCompleted) -> None:
    task.data = task.output = event.output
    task.late = event.late


def _failed(task: Task, event: TaskFailed) -> None:
    task.comment = event.comment


def _canceled(task: Task, event: TaskCanceled) -> None:
    task.reason = event.reason


def _retried(task: Task, event: TaskRetried) -> None:
    task.comment = None


def _attributes(task: Task, event: AttributesResolved) -> None:
    task.attributes = {**task.attributes, **event.attributes}


def _targets(task: Task, event: TargetsResolved) -> None:
    task.targets = event.targets


_CHANGES: dict[type, Callable[[Any, Any], None]] = {
    TaskStarted: _runs,
    TaskResumed: _runs,
    TaskDataSaved: _saved,
    TaskFieldsChanged: _changed,
    TaskCompleted: _completed,
    TaskFailed: _failed,
    TaskCanceled: _canceled,
    TaskRetried: _retried,
    AttributesResolved: _attributes,
    TargetsResolved: _targets,
}


def projection(suffix: str, keep: int = 4096) -> Documents[Task]:
    """Return what folds the log into the tables of this suffix."""
    return Documents(_TABLE, suffix, key_of=_key_of, fold=fold, decode=_decode, row=_row, keep=keep)


def _key_of(event: Recorded) -> Key | None:
    return (event.tenant, event.entity_id) if event.category == "task" else None


def _row(key: Key, task: Task) -> Sequence[Any]:
    return (
        *key,
        task.status,
        task.resolution,
        task.dispatch,
        task.activity_id,
        task.flow[:_INDEXED] if task.flow is not None else None,
        task.flow_id[:_INDEXED] if task.flow_id is not None else None,
        task.hub,
        task.project,
        task.commerce,
        task.route,
        task.operator,
        array(task.assignees),
        task.overdue,
        title_key(task.title),
        instant(task.start),
        instant(task.end),
        task.created_at,
        task.updated_at,
        task.position,
        _encode(task).decode(),
    )


# Questions. Every one gives rows of (doc, id, key), which `resource` and `cursor` take.

LISTING = Listing(
    "tasks",
    filters={
        **common_filters(),
        "resolution": equal("resolution"),
        "dispatch": equal("dispatch"),
        "activity_id": equal("activity_id", nullable=True),
        "flow": equal("flow", nullable=True),
        "flow_id": equal("flow_id", nullable=True),
        "commerce": equal("commerce", nullable=True),
        "route": equal("route", nullable=True),
        "operator": equal("operator", nullable=True),
    },
    sorts=COMMON_SORTS,
)
get = LISTING.get
get_many = LISTING.get_many
page = LISTING.page
count = LISTING.count
cursor = LISTING.cursor


def _shown(row: Sequence[Any], now: datetime) -> Shown:
    shown = _decode_shown(row[0])
    work = ((shown.worked_seconds, shown.working_since),)
    shown.working_seconds, shown.live_seconds, shown.pipeline_seconds = seconds(shown, work, stamp(now))
    return shown


def resource_bytes(row: Sequence[Any], now: datetime) -> bytes:
    """Return a row's resource as JSON; the fast way for lists."""
    return _encode(_shown(row, now))


def resource(row: Sequence[Any], now: datetime) -> dict[str, Any]:
    """Return a row's resource in the native shape."""
    shown: dict[str, Any] = msgspec.to_builtins(_shown(row, now))
    return shown


def render_from_events(
    events: Iterable[Recorded], task_id: str, now: datetime, base: str | None = None
) -> dict[str, Any] | None:
    """Return the task's resource as the events leave it; `base` is the `doc` of a row that may be behind them.

    None when neither the events nor the row make the task. The events may hold others' too.
    """
    task = _decode(base) if base is not None else None
    for event in events:
        if event.category == "task" and event.entity_id == task_id:
            if task is None and not isinstance(event.data, TaskCreated):
                return None
            task = fold(task, event)
    return None if task is None else resource((_encode(task).decode(),), now)
