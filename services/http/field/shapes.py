"""The field dialect's shapes: our resources in its words, all pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from projections.task.document import shown_values

MASTER, CHILD, PLAIN = "activityMaster", "activityChild", "task"
UNASSIGNED, ONGOING, DONE, CANCELED, FAILED = STATUSES = ("UNASSIGNED", "ONGOING", "DONE", "CANCELED", "FAILED")
_ENDED = {"canceled": CANCELED, "failed": FAILED, "completed": DONE}
# What a master or a task shows beside what the page shows of it, in this order.
MORE_OF_MASTER = ("subStatus", "currentStep", "progress", "overdue", "updatedTime")
MORE_OF_TASK = ("overdue", "late", "updatedTime")
# Shown of a master only when somebody was left out.
LEFT_OUT = "leftOut"


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
    left_out = (each["member"] for each in resource.get("left_out", ()))
    return [*resource["assignees"], resource["created_by"], *left_out]


def created_master(activity: Mapping[str, Any], tenant: str, emails: Mapping[str, str]) -> dict[str, Any]:
    """Return a new activity as the page shows it, key by key in its order, then the activity's own fields."""
    return _with_fields(_page_of_master(activity, tenant, emails), activity["fields"])


def master(activity: Mapping[str, Any], tenant: str, emails: Mapping[str, str]) -> dict[str, Any]:
    """Return an activity as the page shows it, with how far it is, then the activity's own fields."""
    shown = _page_of_master(activity, tenant, emails)
    # A step's label is its master's sub-status once the step is done.
    more = (
        activity["sub_status"],
        activity["current_step"],
        activity["progress"],
        activity["overdue"],
        activity["updated_at"],
    )
    return _with_fields({**shown, **dict(zip(MORE_OF_MASTER, more, strict=True))}, activity["fields"])


def _page_of_master(activity: Mapping[str, Any], tenant: str, emails: Mapping[str, str]) -> dict[str, Any]:
    left_out = [
        {"step": each["step"], "assignee": emails.get(each["member"], each["member"]), "reason": each["reason"]}
        for each in activity["left_out"]
    ]
    return {
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
        **({LEFT_OUT: left_out} if left_out else {}),
    }


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
    values = shown_values(task["fields"], task["data"])
    more = (task["overdue"], task["late"], task["updated_at"])
    return _with_fields({**shown, **dict(zip(MORE_OF_TASK, more, strict=True))}, values)


def _with_fields(shown: dict[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    # A command that came another way may have a field of any name; what the service says of a task wins.
    return {**shown, **{name: value for name, value in fields.items() if name not in shown}}


def only(shown: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return a resource with just these keys, and its id."""
    wanted = {"_id", *names}
    return {name: value for name, value in shown.items() if name in wanted}
