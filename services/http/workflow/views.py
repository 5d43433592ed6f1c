"""What the workflow dialect shows: a task as an activity, and what stands beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from projections.support.table import instant
from projections.task.document import shown_values
from services.http.core.members import Member
from services.http.core.models import From, Json, View, names

STATUSES: Mapping[str, str] = {
    "open": "pending",
    "active": "in-progress",
    "paused": "paused",
    "completed": "completed",
    "failed": "errored",
    "canceled": "canceled",
}
Status = Annotated[
    Literal["pending", "in-progress", "paused", "completed", "errored", "canceled"],
    From("status", lambda status, _: STATUSES[status]),
]
Seconds = Annotated[float, Field(ge=0)]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
MaybeTime = Annotated[str | None, Field(json_schema_extra={"format": "date-time"})]
CompletedAt = Annotated[
    MaybeTime, From("", lambda found, _: found["ended_at"] if found["status"] == "completed" else None)
]


# What views are shown with: the members that the resources name.
People = Mapping[str, Member]


def people_of(task: Mapping[str, Any]) -> list[str]:
    """Return the members that an activity shows."""
    return [*task["assignees"][:1], *task["whitelist"], *task["blacklist"]]


def node_id(task: Mapping[str, Any]) -> str | None:
    """Return the id of the step that a task belongs to: its workflow and its place there, from 0."""
    if task["workflow_id"] is None or task["step"] is None:
        return None
    return f"{task['workflow_id']}:{task['step']}"


def _account(member: str, people: People) -> int | None:
    found = people.get(member)
    return None if found is None else found.account_id


def _accounts(members: Sequence[str], people: People) -> list[int | str]:
    """Return account numbers; a list may name somebody who is not registered, and then by id."""
    if not members:
        return []
    numbers = [(member, _account(member, people)) for member in members]
    return [member if number is None else number for member, number in numbers]


Accounts = Annotated[list[int | str], Field(description="Account numbers; whoever has none is named by id")]


def _any_left_out(schema: Json) -> None:
    del schema["required"]


class _Attributes(View):
    # `fields` may leave any attribute out.
    model_config = ConfigDict(json_schema_extra=_any_left_out)


class Indicators(View):
    overdue: bool
    late: bool
    unresolved: Annotated[bool, From("resolution", lambda found, _: found == "FAILED")]
    dispatched: Annotated[bool, From("dispatch", lambda found, _: found == "DISPATCHED")]


class ActivityAttributes(_Attributes):
    id: str
    assigned_account_id: Annotated[
        int | None, From("assignees", lambda found, people: _account(found[0], people) if found else None)
    ]
    name: Annotated[str | None, From("title")]
    status: Status
    started_at: MaybeTime
    completed_at: CompletedAt
    try_resolve_at: Annotated[MaybeTime, From("wake_at", lambda at, _: None if at is None else instant(at))]
    actor_roles: Annotated[list[str], From("roles")]
    whitelisted_ids: Annotated[Accounts, From("whitelist", _accounts)]
    blacklisted_ids: Annotated[Accounts, From("blacklist", _accounts)]
    working_seconds: Seconds
    live_seconds: Seconds
    pipeline_seconds: Seconds
    data: Annotated[dict[str, Any], From("", lambda task, _: shown_values(task["fields"], task["data"]))]
    output: dict[str, Any] | None
    indicators: Annotated[Indicators, From("")]
    created_at: Time


class Identifier(View):
    type: Literal["workflow/projects", "workflow/work_units", "workflow/nodes"]
    id: str


class Related(View):
    data: Identifier | None


class Relationships(View):
    project: Related
    work_unit: Related
    node: Related


def _related(kind: str, entity_id: str | None) -> Json:
    return {"data": None if entity_id is None else {"type": kind, "id": entity_id}}


def _relationships(task: Mapping[str, Any], _: People) -> Json:
    return {
        "project": _related("workflow/projects", task["project"]),
        "work_unit": _related("workflow/work_units", task["activity_id"]),
        "node": _related("workflow/nodes", node_id(task)),
    }


_TASK, _UNIT = "0199f1c2-7a10-7000-8000-000000000001", "0199f1c2-7a10-7000-8000-000000000000"


class Activity(View):
    """A task."""

    type: Literal["workflow/activities"]
    id: str
    attributes: Annotated[ActivityAttributes, From("")]
    relationships: Annotated[Relationships, From("", _relationships)]

    example: ClassVar[Json] = {
        "type": "workflow/activities",
        "id": _TASK,
        "attributes": {
            "id": _TASK, "assigned_account_id": 42, "name": "Pickup", "status": "in-progress",
            "started_at": "2025-10-31T01:50:00.000Z", "completed_at": None, "try_resolve_at": None,
            "actor_roles": ["driver"], "whitelisted_ids": [], "blacklisted_ids": [7],
            "working_seconds": 12.5, "live_seconds": 12.5, "pipeline_seconds": 60.0,
            "data": {"customerName": "John Doe"}, "output": None,
            "indicators": {"overdue": False, "late": False, "unresolved": False, "dispatched": False},
            "created_at": "2025-10-31T01:49:12.500Z",
        },
        "relationships": {
            "project": {"data": {"type": "workflow/projects", "id": "north"}},
            "work_unit": {"data": {"type": "workflow/work_units", "id": _UNIT}},
            "node": {"data": {"type": "workflow/nodes", "id": "pickup-to-delivery:0"}},
        },
    }  # fmt: skip


class ProjectAttributes(_Attributes):
    id: str
    name: Annotated[str | None, From("fields/name", default=None)]
    own: Annotated[
        dict[str, Any],
        From("fields", lambda fields, _: {name: value for name, value in fields.items() if name != "name"}),
    ] = Field(alias="fields")


class Project(View):
    """A project of the directory."""

    type: Literal["workflow/projects"]
    id: str
    attributes: Annotated[ProjectAttributes, From("")]


class WorkUnitAttributes(_Attributes):
    id: str
    name: Annotated[str, From("title")]
    status: Status
    sub_status: str | None
    progress: dict[str, int]
    started_at: MaybeTime
    completed_at: CompletedAt
    working_seconds: Seconds
    live_seconds: Seconds
    pipeline_seconds: Seconds
    data: Annotated[dict[str, Any], From("fields")]
    created_at: Time


class WorkUnit(View):
    """A run of a workflow."""

    type: Literal["workflow/work_units"]
    id: str
    attributes: Annotated[WorkUnitAttributes, From("")]

    example: ClassVar[Json] = {
        "type": "workflow/work_units",
        "id": _UNIT,
        "attributes": {
            "id": _UNIT, "name": "Pickup to Delivery", "status": "canceled", "sub_status": None,
            "progress": {
                "total": 2, "open": 0, "active": 0, "paused": 0, "completed": 0, "failed": 0, "canceled": 2,
                "percent": 0,
            },
            "started_at": None, "completed_at": None,
            "working_seconds": 0.0, "live_seconds": 0.0, "pipeline_seconds": 60.0,
            "data": {}, "created_at": "2025-10-31T01:49:12.500Z",
        },
    }  # fmt: skip


class NodeAttributes(_Attributes):
    id: str
    name: str | None
    step: int
    flow: str | None
    flow_id: str | None


class Node(View):
    """A step of a workflow; its name is the workflow's own word for it, as it is now."""

    type: Literal["workflow/nodes"]
    id: str
    attributes: Annotated[NodeAttributes, From("")]


ATTRIBUTES: Mapping[str, list[str]] = {
    "workflow/activities": names(ActivityAttributes),
    "workflow/projects": names(ProjectAttributes),
    "workflow/work_units": names(WorkUnitAttributes),
    "workflow/nodes": names(NodeAttributes),
}
