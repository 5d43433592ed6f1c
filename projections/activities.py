"""How does the whole stand? One row for each activity, rolled up from all its children whenever one of them moves.

Nothing is counted up or down: a row is made from all the children's facts, so neither order nor repetition matters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from domain.activity import ActivityCanceled, ActivityCreated, ActivityFieldsChanged, LeftOut
from domain.decider import merged
from domain.recorded import Recorded
from domain.rollup import RULES, decides, rollup
from projections.listing import COMMON_SORTS, Listing, common_filters, equal, flag, people
from projections.support.conditions import text_fact
from projections.support.documents import Documents, MissingDocument
from projections.support.grams import gram_array
from projections.support.table import NOT_DONE, Key, Table, array, instant, listing_indexes, title_key
from projections.support.time import seconds, stamp
from projections.task.facts import LIFECYCLES, TASK_EVENTS, Child, ShownChild, apply_facts, as_rollup, placeholders

NAME = "activities"
VERSION = 4
VIEWS: tuple[str, ...] = ("activities",)
EVENTS = TASK_EVENTS | {"activity.created", "activity.fields-changed", "activity.canceled"}
BY_ACTIVITY = True

TABLES = """
CREATE TABLE activities_{suffix} (
    tenant      text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    status      text COLLATE "C" NOT NULL,
    rule        text COLLATE "C" NOT NULL,
    workflow_id text COLLATE "C" NOT NULL,
    hub         text COLLATE "C",
    project     text COLLATE "C",
    assignees   text[] NOT NULL,
    overdue     boolean NOT NULL,
    attention   boolean NOT NULL,
    title_key   text COLLATE "C" NOT NULL,
    grams       integer[],
    start_at    timestamptz NOT NULL,
    end_at      timestamptz NOT NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    done_at     timestamptz NOT NULL,
    position    bigint NOT NULL,
    doc         text NOT NULL,
    PRIMARY KEY (tenant, id)
)
"""
INDEXES = listing_indexes(
    "activities", own=("workflow_id",), optional=("hub", "project"), marked=("overdue", "attention")
)
_TABLE = Table.of(TABLES, key=("tenant", "id"))


class WorkflowUsed(msgspec.Struct, frozen=True):
    """The workflow that the activity was made from, as it was then."""

    id: str
    version: int
    name: str


class Activity(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """An activity's document: what is stored of it, without what has its default."""

    id: str
    title: str
    workflow: WorkflowUsed
    failure: str
    hub: str | None
    project: str | None
    fields: dict[str, Any]
    children: list[Child]
    created_at: str
    created_by: str
    updated_at: str
    updated_by: str
    status: str = "open"
    rule: str = "U10"
    partial: bool = False
    attention: bool = False
    unresolved: bool = False
    overdue: bool = False
    canceled: bool = False
    reason: str | None = None
    left_out: tuple[LeftOut, ...] = ()
    sub_status: str | None = None
    current_step: int | None = None
    progress: dict[str, int] = msgspec.field(default_factory=dict)
    assignees: tuple[str, ...] = ()
    start: str | None = None
    end: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    version: int = 0
    position: int = 0


class Shown(Activity, omit_defaults=False, kw_only=True):
    """The document as it is shown: every key is there, and the three periods at the time of reading."""

    children: list[ShownChild]  # type: ignore[assignment]
    working_seconds: float = 0.0
    live_seconds: float = 0.0
    pipeline_seconds: float = 0.0


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Activity).decode
_decode_shown = msgspec.json.Decoder(Shown).decode


def apply(activity: Activity | None, event: Recorded) -> Activity | None:
    """Return the activity after one more event of its own or of a child's; `settle` then rolls it up.

    An event that was applied before changes nothing.
    """
    if activity is not None and event.position <= activity.position:
        return activity
    at = stamp(event.occurred_at)
    data = event.data
    if isinstance(data, ActivityCreated):
        activity = _new(data, event.actor, at)
    elif activity is None:
        raise MissingDocument(f"no activity for {event.name} of {event.tenant} at position {event.position}")
    if event.category == "activity":
        activity.version = event.version
        if isinstance(data, ActivityFieldsChanged):
            activity.title = data.new.get("title", activity.title)
            activity.hub = data.new.get("hub", activity.hub)
            activity.fields = merged(activity.fields, data.new.get("fields", {}))
        elif isinstance(data, ActivityCanceled):
            activity.canceled, activity.reason = True, data.reason
    else:
        for child in activity.children:
            if child.id == event.entity_id:
                apply_facts(child, event, at)
    activity.updated_at, activity.updated_by = at, event.actor
    activity.position = event.position
    return activity


def _new(created: ActivityCreated, actor: str, at: str) -> Activity:
    return Activity(
        id=created.id,
        title=created.title,
        workflow=WorkflowUsed(created.workflow_id, created.workflow_version, created.workflow_name),
        failure=created.failure,
        hub=created.hub,
        project=created.project,
        fields=created.fields,
        left_out=created.left_out,
        children=placeholders(created.children, [step.status_mapping.get("DONE") for step in created.steps], at),
        created_at=at,
        created_by=actor,
        updated_at=at,
        updated_by=actor,
    )


def settle(activity: Activity) -> None:
    """Roll the activity up from all its children."""
    whole = rollup(
        [as_rollup(child) for child in activity.children], activity.canceled, activity.failure == "fail_fast"
    )
    activity.status = whole.lifecycle.value.lower()
    activity.rule = whole.rule
    activity.partial = whole.partial
    activity.attention = whole.attention
    activity.unresolved = whole.unresolved
    activity.overdue = whole.overdue
    activity.sub_status = whole.sub_status
    activity.current_step = whole.current_step
    activity.progress = whole.progress
    activity.assignees = whole.assignees
    activity.start, activity.end = whole.start, whole.end
    activity.started_at = stamp(whole.started_at) if whole.started_at is not None else None
    activity.ended_at = stamp(whole.ended_at) if whole.ended_at is not None else None


def projection(suffix: str, keep: int = 4096) -> Documents[Activity]:
    """Return what folds the log into the tables of this suffix."""
    return Documents(_TABLE, suffix, key_of=key_of, fold=apply, decode=_decode, row=_row, keep=keep)


def key_of(event: Recorded) -> Key | None:
    if event.category == "activity":
        return event.tenant, event.entity_id
    activity_id = event.data.activity_id if event.category == "task" else None
    return (event.tenant, activity_id) if activity_id is not None else None


def _row(key: Key, activity: Activity) -> Sequence[Any]:
    settle(activity)
    title = title_key(activity.title)
    return (
        *key,
        activity.status,
        activity.rule,
        activity.workflow.id,
        activity.hub,
        activity.project,
        array(activity.assignees),
        activity.overdue,
        activity.attention,
        title,
        gram_array(key[0], title),
        instant(activity.start),
        instant(activity.end),
        activity.created_at,
        activity.updated_at,
        activity.ended_at if activity.ended_at is not None and activity.status == "completed" else NOT_DONE,
        activity.position,
        _encode(activity).decode(),
    )


# Questions. Every one gives rows of (doc, id, key), which `resource`, `explain` and `cursor` take.

LISTING = Listing(
    "activities",
    filters={
        **common_filters(people("assignees", "assignees = '{}'")),
        "rule": equal("rule", words=RULES),
        "workflow_id": equal("workflow_id"),
        "attention": flag("attention"),
    },
    # An activity's place is that of its creation. No index serves it: it stays inside the tenant and the time-out.
    sorts={**COMMON_SORTS, "order_index": ("(extract(epoch FROM created_at) * 100000)::float", "float")},
)
# What a caller's own words for the state of an activity are functions of.
FACTS = (text_fact("status", LIFECYCLES),)
get = LISTING.get
get_many = LISTING.get_many
page = LISTING.page


# Rendering.


def _shown(row: Sequence[Any], now: datetime) -> Shown:
    shown = _decode_shown(row[0])
    shown.working_seconds, shown.live_seconds, shown.pipeline_seconds = seconds(shown, work(shown), stamp(now))
    return shown


def work(shown: Shown) -> Sequence[tuple[float, str | None]]:
    """Return the periods of work of each child: a closed sum, with the beginning of an open period."""
    return [(child.worked_seconds, child.working_since) for child in shown.children]


def resource(row: Sequence[Any], now: datetime) -> dict[str, Any]:
    """Return a row's resource in the native shape."""
    shown: dict[str, Any] = msgspec.to_builtins(_shown(row, now))
    return shown


def render_from_events(
    events: Iterable[Recorded], activity_id: str, now: datetime, base: str | None = None
) -> dict[str, Any] | None:
    """Return the activity's resource as the events leave it; `base` is the `doc` of a row that may be behind them.

    None when neither the events nor the row make the activity. The events may hold others' too.
    """
    activity = _decode(base) if base is not None else None
    for event in events:
        key = key_of(event)
        if key is not None and key[1] == activity_id:
            if activity is None and not isinstance(event.data, ActivityCreated):
                return None
            activity = apply(activity, event)
    if activity is None:
        return None
    settle(activity)
    return resource((_encode(activity).decode(),), now)


def explain(row: Sequence[Any]) -> dict[str, Any]:
    """Return why the activity has its status: the rule, each child's part in it, and how far the row has read."""
    activity = _decode(row[0])
    own = ("id", "status", "rule", "failure", "canceled", "progress", "left_out", "position")
    parts = ("id", "step", "status", "assignees", "resolution", "dispatch", "position")
    return {
        **{name: msgspec.to_builtins(getattr(activity, name)) for name in own},
        "rule_text": RULES[activity.rule],
        "children": [
            {**{name: getattr(child, name) for name in parts}, "decides": decides(activity.rule, as_rollup(child))}
            for child in activity.children
        ],
    }
