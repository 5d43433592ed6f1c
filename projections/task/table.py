"""How does each piece of work stand? One row for each task, a pure fold of the task's own events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, get_args

import msgspec

from domain.compare import text_key
from domain.plan import MESSAGE, TaskType
from domain.recorded import Recorded
from domain.task import Dispatch, Resolution, TaskCreated
from domain.task.results import Result
from projections.listing import COMMON_SORTS, Listing, common_filters, equal, people, time_range
from projections.support.conditions import Fact, text_fact
from projections.support.documents import Documents
from projections.support.grams import gram_array
from projections.support.query import MAX_MEMBERS
from projections.support.table import NOT_DONE, Key, Table, array, held, indexed, instant, title_key
from projections.support.time import seconds, stamp
from projections.task.document import Shown as Shown
from projections.task.document import Task, apply, decode, decode_shown, encode, placed, shown_values
from projections.task.facts import LIFECYCLES, TASK_EVENTS

NAME = "tasks"
VERSION = 7
VIEWS: tuple[str, ...] = ("tasks",)
EVENTS = TASK_EVENTS

# What few tasks have may be NULL, and the indexes over it leave such rows out, so that they cost nothing. An index of
# the kind that cannot lead with the tenant has it inside: roles and people are `<tenant>/<name>`, and `data` and
# `output` stand under the tenant's name.
TABLES = """
CREATE TABLE tasks_{suffix} (
    tenant       text COLLATE "C" NOT NULL,
    id           text COLLATE "C" NOT NULL,
    status       text COLLATE "C" NOT NULL,
    resolution   text COLLATE "C" NOT NULL,
    dispatch     text COLLATE "C" NOT NULL,
    type         text COLLATE "C" NOT NULL,
    activity_id  text COLLATE "C",
    flow         text COLLATE "C",
    flow_id      text COLLATE "C",
    hub          text COLLATE "C",
    project      text COLLATE "C",
    commerce     text COLLATE "C",
    route        text COLLATE "C",
    operator     text COLLATE "C",
    channel      text COLLATE "C",
    reference    text COLLATE "C",
    result       text COLLATE "C",
    assignees    text[] COLLATE "C" NOT NULL,
    roles        text[] COLLATE "C",
    whitelist    text[] COLLATE "C",
    blacklist    text[] COLLATE "C",
    overdue      boolean NOT NULL,
    late         boolean NOT NULL,
    title_key    text COLLATE "C" NOT NULL,
    grams        integer[],
    start_at     timestamptz NOT NULL,
    end_at       timestamptz NOT NULL,
    scheduled_at timestamptz NOT NULL,
    started_at   timestamptz,
    ended_at     timestamptz,
    done_at      timestamptz NOT NULL,
    done_by      text COLLATE "C",
    order_index  float NOT NULL,
    wake_at      timestamptz,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    data         jsonb,
    output       jsonb,
    position     bigint NOT NULL,
    doc          text NOT NULL,
    PRIMARY KEY (tenant, id)
)
"""
_ON: dict[str, str] = {
    **{name: f"(tenant, {name}_at, id)" for name in ("created", "updated", "start", "end", "done")},
    "order_index": "(tenant, order_index, id)",
    "title": "(tenant, title_key, id)",
    **{name: f"(tenant, {name}, created_at, id)" for name in ("status", "title_key")},
    "assignee": "(tenant, (assignees[1]), created_at, id)",
    "started": "(tenant, started_at, id) WHERE started_at IS NOT NULL",
    "scheduled": "(tenant, scheduled_at, id) WHERE scheduled_at < 'infinity'",
    "wake": "(tenant, wake_at, id) WHERE wake_at IS NOT NULL",
    "failed": "(tenant, activity_id, ended_at, id) WHERE status = 'failed' AND activity_id IS NOT NULL",
    # Those that may wait for earlier steps; most documents do not have the key.
    "behind": "(tenant, activity_id, id) WHERE status = 'open' AND strpos(doc, '\"after\":') > 0",
    **{
        name: f"(tenant, {name}, created_at, id) WHERE {name} IS NOT NULL"
        for name in (
            *("activity_id", "flow_id", "hub", "project", "commerce"),
            *("channel", "reference", "done_by", "result"),
        )
    },
    **{
        name: f"(tenant, created_at, id) WHERE {condition}"
        for name, condition in {
            "overdue": "overdue",
            "late": "late",
            "unresolved": "resolution IN ('FAILED', 'PENDING')",
            "dispatched": "dispatch = 'DISPATCHED'",
            "gave_up": "dispatch = 'GAVE_UP'",
            "message": f"type = '{MESSAGE}'",
            "alone": "activity_id IS NULL",
        }.items()
    },
    "assignees": "USING gin (assignees) WHERE assignees <> '{}'",
    **{name: f"USING gin ({name}) WHERE {name} IS NOT NULL" for name in ("roles", "whitelist", "blacklist", "grams")},
    **{name: f"USING gin ({name} jsonb_path_ops) WHERE {name} IS NOT NULL" for name in ("data", "output")},
}
INDEXES = ";\n".join(
    f"CREATE INDEX IF NOT EXISTS tasks_{{suffix}}_{name}_idx ON tasks_{{suffix}} {on}" for name, on in _ON.items()
)
_TABLE = Table.of(TABLES, key=("tenant", "id"))


def projection(suffix: str, keep: int = 4096) -> Documents[Task]:
    """Return what folds the log into the tables of this suffix."""
    return Documents(_TABLE, suffix, key_of=_key_of, fold=apply, decode=decode, row=_row, keep=keep)


def _key_of(event: Recorded) -> Key | None:
    return (event.tenant, event.entity_id) if event.category == "task" else None


def _row(key: Key, task: Task) -> Sequence[Any]:
    tenant, plan, fields, data, output = key[0], task.plan, task.fields, task.data, task.output
    title = title_key(task.title)
    shown = shown_values(fields, data)
    return (
        *key,
        task.status,
        task.resolution,
        task.dispatch,
        task.type,
        task.activity_id,
        indexed(text_key(task.flow)) if task.flow is not None else None,
        indexed(text_key(task.flow_id)) if task.flow_id is not None else None,
        task.hub,
        task.project,
        task.commerce,
        task.route,
        task.operator,
        indexed(plan.channel) if plan is not None else None,
        indexed(task.reference) if task.reference is not None else None,
        task.result,
        array(task.assignees),
        _named(tenant, task.roles),
        _named(tenant, task.whitelist),
        _named(tenant, task.blacklist),
        task.overdue,
        task.late,
        title,
        gram_array(tenant, title),
        instant(task.start),
        instant(task.end),
        instant(plan.scheduled_at if plan is not None else None),
        task.started_at,
        task.ended_at,
        task.ended_at if task.status == "completed" else NOT_DONE,
        task.done_by,
        placed(task.order_index, task.created_at),
        instant(task.wake_at) if task.wake_at is not None else None,
        task.created_at,
        task.updated_at,
        encode({tenant: shown}).decode() if shown else None,
        encode({tenant: output}).decode() if output else None,
        task.position,
        encode(task).decode(),
    )


def _named(tenant: str, names: Sequence[str]) -> str | None:
    return array([held(tenant, name) for name in names]) if names else None


# Questions. Every one gives rows of (doc, id, key), which `resource` and `cursor` take.

LISTING = Listing(
    "tasks",
    filters={
        **common_filters(people("assignees", "assignees[1] IS NULL", "assignees <> '{}'")),
        "resolution": equal("resolution"),
        "dispatch": equal("dispatch"),
        "type": equal("type", words=get_args(TaskType)),
        "activity_id": equal("activity_id", nullable=True),
        "flow": equal("flow", nullable=True, read=text_key),
        "flow_id": equal("flow_id", nullable=True, read=text_key),
        "commerce": equal("commerce", nullable=True),
        "route": equal("route", nullable=True),
        "operator": equal("operator", nullable=True),
        "channel": equal("channel", nullable=True),
        "reference": equal("reference", nullable=True, read=indexed),
        "result": equal("result", nullable=True, words=get_args(Result)),
        **time_range("scheduled_at", "scheduled_at"),
        "done_by": equal("done_by", nullable=True, most=MAX_MEMBERS),
    },
    sorts={
        **COMMON_SORTS,
        "scheduled_at": ("scheduled_at", "timestamptz"),
        "order_index": ("order_index", "float"),
    },
)
# What a caller's own words for the state of a task are functions of.
FACTS = (
    text_fact("status", LIFECYCLES),
    text_fact("resolution", Resolution),
    text_fact("dispatch", Dispatch),
    Fact("assignees", ((), ("member",)), lambda chosen: "assignees <> '{}'" if chosen[0] else "assignees = '{}'"),
)
page = LISTING.page
count = LISTING.count


def _shown(row: Sequence[Any], now: datetime) -> Shown:
    shown = decode_shown(row[0])
    shown.working_seconds, shown.live_seconds, shown.pipeline_seconds = seconds(shown, work(shown), stamp(now))
    return shown


def work(shown: Shown) -> Sequence[tuple[float, str | None]]:
    """Return the periods of work: a closed sum, with the beginning of an open period."""
    return ((shown.worked_seconds, shown.working_since),)


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
    task = decode(base) if base is not None else None
    for event in events:
        if event.category == "task" and event.entity_id == task_id:
            if task is None and not isinstance(event.data, TaskCreated):
                return None
            task = apply(task, event)
    return None if task is None else resource((encode(task).decode(),), now)
