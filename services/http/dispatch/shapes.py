"""The dispatch dialect's shapes: requests in snake_case as a command's data, our tasks in camelCase, all pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from domain.plan import reason_of
from services.http.core.errors import ApiError
from services.http.core.members import Member

TYPE = "TASK"
READY, UNRESOLVED, DISPATCHED, COMPLETED, FAILED, CANCELED = STATUSES = (
    "READY",
    "UNRESOLVED",
    "DISPATCHED",
    "COMPLETED",
    "FAILED",
    "CANCELED",
)
_ENDED = {"completed": COMPLETED, "failed": FAILED, "canceled": CANCELED}

REQUIRED = (
    "reason",
    "channel",
    "commerce_id",
    "idempotency_key",
    "assigned_route_id",
    "assigned_operator_id",
    "scheduled_at",
)
# The request's names, and where a command has them.
_OF_PLAN = {
    "channel": "channel",
    "scheduled_at": "scheduled_at",
    "suggested_execution_time": "suggested_at",
    "user_status": "user_status",
    "score": "score",
    "assignment_reason": "assignment_reason",
    "target_criteria": "criteria",
    "attribute_keys": "attribute_keys",
}
_OF_TASK = {
    # What the other dialects call the title.
    "reason": "title",
    "commerce_id": "commerce",
    "assigned_route_id": "route",
    "assigned_operator_id": "operator",
    "attributes": "attributes",
}
CREATE_FIELDS = (*_OF_PLAN, *_OF_TASK, "idempotency_key")
RESULT_FIELDS = ("activity_id", "result", "hard_override", "data", "comment")
MOST_KEY = 255
# No control character; the rest of Unicode may stand in a key.
_KEY = re.compile(r"[^\x00-\x1f\x7f]{1,255}\Z")


def status_of(lifecycle: str, resolution: str, dispatch: str) -> str:
    """Return the dialect's status of a task: a function of its facts, first match wins."""
    ended = _ENDED.get(lifecycle)
    if ended is not None:
        return ended
    if lifecycle == "open" and resolution == "FAILED":
        return UNRESOLVED
    return DISPATCHED if dispatch == "DISPATCHED" else READY


def activity(task: Mapping[str, Any], members: Mapping[str, Member]) -> dict[str, Any]:
    """Return a task as an activity: the page's keys in their order, then what else is known of it."""
    plan: Mapping[str, Any] = task["plan"] or {}
    return {
        **short(task, plan, operator_of(task, members)),
        "reason": reason_of(task["title"], plan.get("reason")),
        "commerceId": task["commerce"],
        "scheduledAt": plan.get("scheduled_at"),
        "suggestedExecutionTime": plan.get("suggested_at"),
        "userStatus": plan.get("user_status"),
        "score": plan.get("score"),
        "assignmentReason": plan.get("assignment_reason"),
        "targetCriteria": plan.get("criteria"),
        "attributeKeys": plan.get("attribute_keys") or [],
        "dispatchAttempts": task["attempt"],
        "result": task["result"],
        "createdAt": task["created_at"],
        "updatedAt": task["updated_at"],
    }


def short(task: Mapping[str, Any], plan: Mapping[str, Any], operator: str | None) -> dict[str, Any]:
    """Return just what the page shows of an activity."""
    return {
        "id": task["id"],
        "type": TYPE,
        "channel": plan.get("channel"),
        "status": status_of(task["status"], task["resolution"], task["dispatch"]),
        "taskDetails": {"assignedRouteId": task["route"], "assignedOperatorId": operator},
    }


def operator_of(task: Mapping[str, Any], members: Mapping[str, Member]) -> str | None:
    """Return the operator of the person who has the task now, else the one that it was created with."""
    found = members.get(task["assignees"][0]) if task["assignees"] else None
    operator: str | None = task["operator"]
    return operator if found is None or found.operator_id is None else found.operator_id


def people_of(task: Mapping[str, Any]) -> list[str]:
    """Return the member whose operator a task shows, if anybody has the task."""
    return list(task["assignees"][:1])


def targets(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the users that a task is meant for, and the places of those that were not found."""
    return [
        {
            "id": target["id"],
            "criterion": target["criterion"],
            "status": target["status"],
            "userId": target["user"],
            "reason": target["reason"],
        }
        for target in task["targets"]
    ]


def attributes(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the attributes that have a value, in the order in which they were resolved."""
    return [{"key": key, "value": value} for key, value in task["attributes"].items()]


def create_data(body: Any) -> tuple[dict[str, Any], str]:
    """Return the data of `task.create` that a create request means, and its idempotency key; raises `ApiError`."""
    given = fields_of(body, CREATE_FIELDS)
    for name in REQUIRED:
        text(given, name)
    key: str = given.pop("idempotency_key")
    if not _KEY.match(key):
        detail = f"a key is a text of 1 to {MOST_KEY} characters without control characters"
        raise ApiError("wrong-shape", detail, "/idempotency_key")
    plan = {name: given[ours] for ours, name in _OF_PLAN.items() if ours in given}
    data = {name: given[ours] for ours, name in _OF_TASK.items() if ours in given}
    return {**data, "plan": plan}, key


def result_data(body: Any) -> dict[str, Any]:
    """Return the data of `task.submit-result` that a result means; raises `ApiError`."""
    given = fields_of(body, RESULT_FIELDS)
    text(given, "result")
    return {"id": text(given, "activity_id"), **{name: given[name] for name in RESULT_FIELDS[1:] if name in given}}


def fields_of(body: Any, known: Iterable[str]) -> dict[str, Any]:
    """Return what a body gives, without what is null; refuses names that nobody knows."""
    if not isinstance(body, dict):
        raise ApiError("wrong-shape", "the body is an object")
    known = tuple(known)
    for name in body:
        if name not in known:
            raise ApiError("unknown-field", f"the fields are {', '.join(known)}", parameter=_printable(name))
    return {name: value for name, value in body.items() if value is not None}


def text(given: Mapping[str, Any], name: str) -> str:
    """Return a required text."""
    value = given.get(name)
    if value is None:
        raise ApiError("wrong-shape", f"{name} is required", f"/{name}")
    if not isinstance(value, str) or not value:
        raise ApiError("wrong-shape", f"{name} is a text that is not empty", f"/{name}")
    return value


def _printable(name: str) -> str:
    return "".join(mark if mark.isprintable() else "?" for mark in name[:100])
