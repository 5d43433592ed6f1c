"""The field dialect's shapes: its create request as a command's data, and our resources in its words, both pure.

Nothing that a caller sends is dropped: a key that the dialect does not know is a field of the task's flow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from domain.decider import instant
from domain.errors import Rejected
from services.http.problems import Refused

MASTER, CHILD, PLAIN = "activityMaster", "activityChild", "task"
UNASSIGNED, ONGOING, DONE, CANCELED, FAILED = STATUSES = ("UNASSIGNED", "ONGOING", "DONE", "CANCELED", "FAILED")
_ENDED = {"canceled": CANCELED, "failed": FAILED, "completed": DONE}

_COMMON = ("_id", "taskType", "status", "organizationId", "createdBy", "createdTime", "subId", "parentId")
# What the service derives, and so nobody can set at creation.
_DERIVED_OF_MASTER = frozenset({*_COMMON, "assignee", "startTime", "endTime"})
_TASK_KEYS = {"startTime": "start", "endTime": "end", "hubId": "hub", "title": "title"}
_DERIVED_OF_TASK = frozenset({*_COMMON, "workflowId", "flow", "flowId"})


def task_status(task: Mapping[str, Any]) -> str:
    """Return the dialect's status of a task: a function of its facts, first match wins."""
    ended = _ENDED.get(task["status"])
    if ended is not None:
        return ended
    moving = task["status"] in ("active", "paused") or task["dispatch"] == "DISPATCHED"
    return ONGOING if moving or task["assignees"] else UNASSIGNED


def activity_status(activity: Mapping[str, Any]) -> str:
    """Return the dialect's status of a master: a function of what was rolled up."""
    ended = _ENDED.get(activity["status"])
    if ended is not None:
        return ended
    return UNASSIGNED if activity["status"] == "open" else ONGOING


def people_of(resource: Mapping[str, Any]) -> list[str]:
    """Return the members that a resource shows."""
    return [*resource["assignees"], resource["created_by"]]


def master(activity: Mapping[str, Any], tenant: str, emails: Mapping[str, str]) -> dict[str, Any]:
    """Return an activity as the page shows it, key by key in its order, then the activity's own fields."""
    shown = {
        "_id": activity["id"],
        "taskType": MASTER,
        "title": activity["title"],
        "workflowId": activity["workflow"]["id"],
        "subId": [child["id"] for child in activity["children"]],
        "status": activity_status(activity),
        "assignee": [emails.get(member, member) for member in activity["assignees"]],
        "startTime": activity["start"],
        "endTime": activity["end"],
        "hubId": activity["hub"],
        "organizationId": tenant,
        "createdBy": emails.get(activity["created_by"], activity["created_by"]),
        "createdTime": activity["created_at"],
    }
    return _with_fields(shown, activity["fields"])


def child(task: Mapping[str, Any], tenant: str, emails: Mapping[str, str]) -> dict[str, Any]:
    """Return a task, a child or one that stands alone, with the fields of its flow and what was saved at work."""
    shown = {
        "_id": task["id"],
        "taskType": PLAIN if task["activity_id"] is None else CHILD,
        "title": task["title"],
        "flow": task["flow"],
        "flowId": task["flow_id"],
        "parentId": task["activity_id"],
        "status": task_status(task),
        "assignee": [emails.get(member, member) for member in task["assignees"]],
        "startTime": task["start"],
        "endTime": task["end"],
        "hubId": task["hub"],
        "organizationId": tenant,
        "createdBy": emails.get(task["created_by"], task["created_by"]),
        "createdTime": task["created_at"],
    }
    return _with_fields(shown, {**task["fields"], **task["data"]})


def _with_fields(shown: dict[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    # A command that came another way may have a field of any name; what the service says of a task wins.
    return {**shown, **{name: value for name, value in fields.items() if name not in shown}}


def activity_data(body: Any) -> dict[str, Any]:
    """Return the data of `activity.create` that a create request means; raises `Refused`."""
    if not isinstance(body, dict):
        raise Refused("wrong-shape", "the body is an object")
    data: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for key, value in body.items():
        if key == "workflowId":
            data["workflow_id"] = _text(value, f"/{key}")
        elif key == "hubId":
            _put(data, "hub", value, f"/{key}")
        elif key == "title":
            _put(data, "title", value, f"/{key}")
        elif key in _DERIVED_OF_MASTER:
            raise Refused("derived", f"{key} follows from the tasks", f"/{key}")
        elif key != "tasks":
            own[key] = value
    if "workflow_id" not in data:
        raise Refused("wrong-shape", "workflowId is required", "/workflowId")
    if not isinstance(body.get("tasks"), list):
        raise Refused("wrong-shape", "tasks is a list, with a task for each step", "/tasks")
    data["tasks"] = [_task_data(task, f"/tasks/{index}") for index, task in enumerate(body["tasks"])]
    if own:
        data["fields"] = own
    return data


def _task_data(task: Any, pointer: str) -> dict[str, Any]:
    if not isinstance(task, dict):
        raise Refused("wrong-shape", "a task is an object", pointer)
    data: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    for key, value in task.items():
        at = f"{pointer}/{key}"
        if key == "assignee":
            if value is not None:
                data["assignees"] = _people(value, at)
        elif key in _TASK_KEYS:
            _put(data, _TASK_KEYS[key], value, at)
        elif key in _DERIVED_OF_TASK:
            raise Refused("derived", f"{key} is given by the service", at)
        else:
            # `createdFrom` too: the page knows it, and nothing but showing it again hangs on it.
            fields[key] = value
    if fields:
        data["fields"] = fields
    _demand_schedule(data, pointer)
    return data


def _demand_schedule(data: Mapping[str, Any], pointer: str) -> None:
    try:
        start = instant(data["start"], f"{pointer}/start") if "start" in data else None
        end = instant(data["end"], f"{pointer}/end") if "end" in data else None
    except Rejected as refusal:
        raise Refused(refusal.code, refusal.detail, refusal.pointer) from None
    if start is not None and end is not None and end < start:
        raise Refused("end-before-start", "a task cannot end before it starts", f"{pointer}/end")


def _people(value: Any, pointer: str) -> list[str]:
    if not isinstance(value, list):
        raise Refused("wrong-shape", "assignee is a list of e-mails or member ids", pointer)
    return [_text(item, f"{pointer}/{index}") for index, item in enumerate(value)]


def _put(data: dict[str, Any], name: str, value: Any, pointer: str) -> None:
    if value is not None:
        data[name] = _text(value, pointer)


def _text(value: Any, pointer: str) -> str:
    if not isinstance(value, str):
        raise Refused("wrong-shape", "this is a text", pointer)
    return value


def only(shown: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return a resource with just these keys, and its id."""
    wanted = {"_id", *names}
    return {name: value for name, value in shown.items() if name in wanted}
