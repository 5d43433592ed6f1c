"""The dialect's resources: a task as an activity, and what stands beside it, key by key in the page's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from projections.support.table import instant
from projections.task.document import shown_values
from services.http.core.members import Member

ACTIVITY, PROJECT, WORK_UNIT, NODE = (
    "workflow/activities",
    "workflow/projects",
    "workflow/work_units",
    "workflow/nodes",
)
STATUSES: Mapping[str, str] = {
    "open": "pending",
    "active": "in-progress",
    "paused": "paused",
    "completed": "completed",
    "failed": "errored",
    "canceled": "canceled",
}
# What `included` may name, and the type of what it brings.
RELATED: Mapping[str, str] = {"project": PROJECT, "work_unit": WORK_UNIT, "node": NODE}
ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    ACTIVITY: (
        "id",
        "assigned_account_id",
        "name",
        "status",
        "started_at",
        "completed_at",
        "try_resolve_at",
        "actor_roles",
        "whitelisted_ids",
        "blacklisted_ids",
        "working_seconds",
        "live_seconds",
        "pipeline_seconds",
        "data",
        "output",
        "indicators",
        "created_at",
    ),
    PROJECT: ("id", "name", "fields"),
    WORK_UNIT: (
        "id",
        "name",
        "status",
        "sub_status",
        "progress",
        "started_at",
        "completed_at",
        "working_seconds",
        "live_seconds",
        "pipeline_seconds",
        "data",
        "created_at",
    ),
    NODE: ("id", "name", "step", "flow", "flow_id"),
}

Fields = Mapping[str, Sequence[str]]
Json = dict[str, Any]


def people_of(task: Mapping[str, Any]) -> list[str]:
    """Return the members that an activity shows."""
    return [*task["assignees"][:1], *task["whitelist"], *task["blacklist"]]


def activity(task: Mapping[str, Any], people: Mapping[str, Member], fields: Fields) -> Json:
    """Return a task as the dialect's activity, with just the attributes that are asked for."""
    attributes = {
        "id": task["id"],
        "assigned_account_id": _account(task["assignees"][0], people) if task["assignees"] else None,
        "name": task["title"],
        "status": STATUSES[task["status"]],
        "started_at": task["started_at"],
        "completed_at": task["ended_at"] if task["status"] == "completed" else None,
        "try_resolve_at": instant(task["wake_at"]) if task["wake_at"] is not None else None,
        "actor_roles": task["roles"],
        "whitelisted_ids": [_shown(member, people) for member in task["whitelist"]],
        "blacklisted_ids": [_shown(member, people) for member in task["blacklist"]],
        "working_seconds": task["working_seconds"],
        "live_seconds": task["live_seconds"],
        "pipeline_seconds": task["pipeline_seconds"],
        "data": shown_values(task["fields"], task["data"]),
        "output": task["output"],
        "indicators": {
            "overdue": task["overdue"],
            "late": task["late"],
            "unresolved": task["resolution"] == "FAILED",
            "dispatched": task["dispatch"] == "DISPATCHED",
        },
        "created_at": task["created_at"],
    }
    relationships = {
        "project": _reference(PROJECT, task["project"]),
        "work_unit": _reference(WORK_UNIT, task["activity_id"]),
        "node": _reference(NODE, node_id(task)),
    }
    return {**_resource(ACTIVITY, task["id"], attributes, fields), "relationships": relationships}


def _account(member: str, people: Mapping[str, Member]) -> int | None:
    found = people.get(member)
    return None if found is None else found.account_id


def _shown(member: str, people: Mapping[str, Member]) -> int | str:
    """Return an account number; a list may name somebody who is not registered, and then by id."""
    number = _account(member, people)
    return member if number is None else number


def node_id(task: Mapping[str, Any]) -> str | None:
    """Return the id of the step that a task belongs to: its workflow and its place there, from 0."""
    if task["workflow_id"] is None or task["step"] is None:
        return None
    return f"{task['workflow_id']}:{task['step']}"


def _reference(kind: str, entity_id: str | None) -> Json:
    return {"data": None if entity_id is None else {"type": kind, "id": entity_id}}


def _resource(kind: str, entity_id: str, attributes: Json, fields: Fields) -> Json:
    wanted = fields.get(kind)
    shown = attributes if wanted is None else {name: attributes[name] for name in attributes if name in wanted}
    return {"type": kind, "id": entity_id, "attributes": shown}


def project(entry: Mapping[str, Any], fields: Fields) -> Json:
    """Return a project of the directory."""
    own = {name: value for name, value in entry["fields"].items() if name != "name"}
    attributes = {"id": entry["id"], "name": entry["fields"].get("name"), "fields": own}
    return _resource(PROJECT, entry["id"], attributes, fields)


def work_unit(unit: Mapping[str, Any], fields: Fields) -> Json:
    """Return a run of a workflow."""
    attributes = {
        "id": unit["id"],
        "name": unit["title"],
        "status": STATUSES[unit["status"]],
        "sub_status": unit["sub_status"],
        "progress": unit["progress"],
        "started_at": unit["started_at"],
        "completed_at": unit["ended_at"] if unit["status"] == "completed" else None,
        "working_seconds": unit["working_seconds"],
        "live_seconds": unit["live_seconds"],
        "pipeline_seconds": unit["pipeline_seconds"],
        "data": unit["fields"],
        "created_at": unit["created_at"],
    }
    return _resource(WORK_UNIT, unit["id"], attributes, fields)


def node(task: Mapping[str, Any], workflow: Mapping[str, Any] | None, fields: Fields) -> Json:
    """Return the step of a task; its name is the workflow's own word for it, as it is now."""
    steps = workflow["fields"]["steps"] if workflow is not None else []
    name = steps[task["step"]]["name"] if task["step"] < len(steps) else task["title"]
    found = node_id(task) or ""
    attributes = {
        "id": found,
        "name": name,
        "step": task["step"],
        "flow": task["flow"],
        "flow_id": task["flow_id"],
    }
    return _resource(NODE, found, attributes, fields)
