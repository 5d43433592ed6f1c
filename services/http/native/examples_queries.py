"""What the OpenAPI document says of the native queries: activities, tasks, their histories, and why a status is one."""

from __future__ import annotations

from typing import Any

from domain.lifecycle import Lifecycle
from domain.rollup import RULES
from projections import activities, tasks
from projections.listing import PERSON, Filter, Listing
from services.http.core import openapi
from services.http.native import components
from services.http.native.components import MOST_POSITION, page_of, ref
from services.http.native.examples import (
    CURSOR,
    ID,
    LIMIT,
    MIN_POSITION,
    answer,
    link,
    parameter,
    problems,
)

Json = dict[str, Any]

_STATUSES = [state.value.lower() for state in Lifecycle]
_TEXTS: Json = {"type": "string", "maxLength": 1000, "pattern": "^[^\\u0000]*$"}
_CHOICES = {"status": _STATUSES, "rule": list(RULES)}


def _filter(name: str, known: Filter) -> Json:
    if known.kind == "flag":
        return parameter(name, "Filter", "boolean")
    if known.kind == "time":
        way = "From this time on" if name.endswith("__gte") else "Until this time"
        return parameter(name, f"{way}; RFC 3339 with an offset", format="date-time")
    if not known.several:
        return parameter(name, "Part of the title, in any case of letters", **{**_TEXTS, "minLength": 1})
    # Several values may hold one that nothing has; a choice is only told of.
    items: Json = dict(_TEXTS) if name != PERSON else {"type": "string", **openapi.PERSON}
    if name in _CHOICES:
        items["examples"] = _CHOICES[name]
    if not known.nullable:
        items["minLength"] = 1
    none = ", leave it empty for none" if known.nullable else ""
    what = f"Filter: {openapi.PERSONS}" if name == PERSON else "Filter"
    found = parameter(name, f"{what}; repeat it for several values{none}", "array", items=items)
    return {**found, "style": "form", "explode": True}


def _queries(noun: str, path: str, listing: Listing, example: Json) -> Json:
    sorts = [way + name for name in listing.sorts for way in ("", "-")]
    plural = path.rpartition("/")[2]
    first = {"id": "$response.body#/data/0/id"}
    return {
        "noun": noun,
        "path": path,
        "page": {
            "operationId": f"list_{plural}",
            "tags": [plural],
            "summary": f"List {plural}",
            "parameters": [
                *(_filter(name, known) for name, known in listing.filters.items()),
                parameter("sort", "Order; - means descending", enum=sorts, default=listing.default),
                LIMIT,
                CURSOR,
                MIN_POSITION,
            ],
            "responses": {
                "200": answer(
                    "A page",
                    {"data": [example], "next": None},
                    schema=page_of(noun.capitalize()),
                    links={
                        "first": link(f"get_{noun}", f"The first {noun}", **first),
                        "history": link(f"get_{noun}_history", "Its history", **first),
                    },
                ),
                **problems(400),
            },
        },
        "get": {
            "operationId": f"get_{noun}",
            "tags": [plural],
            "summary": f"Read one {noun}",
            "parameters": [ID, MIN_POSITION],
            "responses": {
                "200": answer(f"The {noun}", example, schema=ref(noun.capitalize())),
                **problems(400, 404),
            },
        },
    }


_AT = "2025-10-31T01:50:00.000Z"
_START, _END = "2025-10-31T08:55:00.000+07:00", "2025-11-01T08:55:00.000+07:00"
_FACTS: Json = {
    "status": "open",
    "assignees": ["ann"],
    "resolution": "NONE",
    "dispatch": "NONE",
    "start": _START,
    "end": _END,
    "overdue": False,
    "created_at": _AT,
    "started_at": None,
    "ended_at": None,
    "worked_seconds": 0.0,
    "working_since": None,
}
_PERIODS = {"working_seconds": 0.0, "live_seconds": 0.0, "pipeline_seconds": 12.5}


def _example(schema: str, known: Json) -> Json:
    """Return an example with every key in its order; what is not known has the emptiest value of its type."""
    empty = {"string": "", "integer": 0, "number": 0.0, "boolean": False, "array": [], "object": {}}
    shown = {}
    for name, field in components.shared()[schema]["properties"].items():
        kinds = field.get("type", "null")
        shown[name] = known[name] if name in known else (None if "null" in kinds else empty[kinds])
    return shown


_TASK = _example(
    "Task",
    {
        "id": "t1",
        "step": 0,
        "title": "Pickup",
        **_FACTS,
        "position": 41,
        "activity_id": "a1",
        "flow": "pickup",
        "fields": {"customerName": "John Doe"},
        "created_by": "system",
        "updated_at": _AT,
        "version": 2,
        **_PERIODS,
        "allowed_actions": ["task.process", "task.save", "task.complete"],
    },
)
_CHILD = _example("Child", {"id": "t1", "step": 0, "title": "Pickup", **_FACTS, "position": 41, "label": "picked up"})
_PROGRESS = {"total": 1, "open": 1, "active": 0, "paused": 0, "completed": 0, "failed": 0, "canceled": 0, "percent": 0}
_ACTIVITY = _example(
    "Activity",
    {
        "id": "a1",
        "title": "Pickup to Delivery",
        "workflow": {"id": "w1", "version": 1, "name": "Pickup to Delivery"},
        "failure": "wait_all",
        "children": [_CHILD],
        "created_at": _AT,
        "created_by": "system",
        "updated_at": _AT,
        "status": "active",
        "rule": "U8",
        "current_step": 0,
        "progress": _PROGRESS,
        "assignees": ["ann"],
        "start": _START,
        "end": _END,
        "version": 1,
        "position": 41,
        **_PERIODS,
        "allowed_actions": ["activity.change", "activity.cancel"],
    },
)
ACTIVITY_QUERIES = _queries("activity", "/v1/activities", activities.LISTING, _ACTIVITY)
TASK_QUERIES = _queries("task", "/v1/tasks", tasks.LISTING, _TASK)


def _history(noun: str, plural: str) -> Json:
    entry = {
        "position": 42,
        "event_id": "0199a1f0-0000-7000-8000-000000000001",
        "type": "task.completed",
        "category": "task",
        "entity_id": "t1",
        "activity_id": "a1",
        "version": 3,
        "occurred_at": _AT,
        "recorded_at": _AT,
        "actor": "ann",
        "command_id": "c-1",
        "correlation_id": "c-1",
        "causation_id": "c-1",
        "data": {"id": "t1", "activity_id": "a1", "output": {"signed": True}, "late": False},
    }
    after = parameter("cursor", "The last position seen", "integer", minimum=0, maximum=MOST_POSITION)
    return {
        "operationId": f"get_{noun}_history",
        "tags": [plural],
        "summary": f"Read what happened to one {noun}, oldest first",
        "parameters": [ID, LIMIT, after, MIN_POSITION],
        "responses": {
            "200": answer("A page", {"data": [entry], "next": None}, schema=page_of("HistoryEntry")),
            **problems(400, 404),
        },
    }


ACTIVITY_HISTORY = _history("activity", "activities")
TASK_HISTORY = _history("task", "tasks")
_PART = ("id", "step", "status", "assignees", "resolution", "dispatch", "position")
EXPLAIN: Json = {
    "operationId": "explain_activity",
    "tags": ["activities"],
    "summary": "Say why an activity has its status",
    "parameters": [ID, MIN_POSITION],
    "responses": {
        "200": answer(
            "The rule, and each child's part in it",
            {
                "id": "a1",
                "status": "active",
                "rule": "U8",
                "failure": "wait_all",
                "canceled": False,
                "progress": _PROGRESS,
                "left_out": [],
                "position": 41,
                "rule_text": RULES["U8"],
                "children": [{**{name: _CHILD[name] for name in _PART}, "decides": True}],
            },
            schema=ref("Explanation"),
        ),
        **problems(400, 404),
    },
}
