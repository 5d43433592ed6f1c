"""The field dialect's views: activities as masters with tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from domain.limits import Id
from projections.task.document import placed, shown_values
from services.http.core.lookups import Needs
from services.http.core.models import From, Json
from services.http.core.shown import CamelView, Count, MaybeTime, Time

MASTER, CHILD, PLAIN = "activityMaster", "activityChild", "task"
UNASSIGNED, ONGOING, DONE, CANCELED, FAILED = STATUSES = ("UNASSIGNED", "ONGOING", "DONE", "CANCELED", "FAILED")
Status = Literal["UNASSIGNED", "ONGOING", "DONE", "CANCELED", "FAILED"]
_ENDED = {"canceled": CANCELED, "failed": FAILED, "completed": DONE}
DRIVER, HUB = "driver@example.com", "68ff42815ed967adac0f7192"
DAY = {"startTime": "2025-10-31T08:55:00.000+07:00", "endTime": "2025-11-01T08:55:00.000+07:00"}
# What a task shows beside the original's keys; a field of the flow that has the same name is shown instead.
OURS = ("overdue", "late")
WORKFLOW_ID = "68f2198aef526585c30e16d2"


@dataclass(frozen=True, slots=True)
class Beside:
    """What is shown beside a resource's own: its tenant, the e-mails of its members, who has it first, and its hub."""

    tenant: str
    emails: Mapping[str, str] = field(default_factory=dict)
    people: Mapping[str, Json] = field(default_factory=dict)
    hubs: Mapping[str, Json] = field(default_factory=dict)


def _email(member: str | None, beside: Beside) -> str | None:
    return None if member is None else beside.emails.get(member, member)


def emails(members: Iterable[str] | None, beside: Beside) -> list[str]:
    """Return members' e-mails, or the ids of those without."""
    return [beside.emails.get(member, member) for member in members or ()]


def task_status(task: Mapping[str, Any], _: Any = None) -> str:
    """Return the dialect's status of a task: a function of its facts, first match wins."""
    moving = task["status"] in ("active", "paused") or task["dispatch"] == "DISPATCHED"
    return _ENDED.get(task["status"]) or (ONGOING if moving or task["assignees"] else UNASSIGNED)


def activity_status(activity: Mapping[str, Any], _: Any = None) -> str:
    """Return the dialect's status of a master: a function of what was rolled up."""
    return _ENDED.get(activity["status"]) or (UNASSIGNED if activity["status"] == "open" else ONGOING)


def people_of(resource: Mapping[str, Any]) -> list[str]:
    """Return the members that a task, an activity, a workflow or a flow shows; other entries show none."""
    if resource.get("kind", "workflow") != "workflow":
        return []
    if "kind" in resource:
        lists = [step.get(name, ()) for step in resource["fields"]["steps"] for name in OF_PEOPLE]
        return [resource["created_by"], *(member for members in lists for member in members)]
    if "assignees" not in resource:
        return [resource["created_by"]]
    named = [resource.get(name) for name in ("created_by", "updated_by", "assigned_by", "done_by")]
    left_out = (each["member"] for each in resource.get("left_out", ()))
    return [*resource["assignees"], *(member for member in named if member is not None), *left_out]


OF_PEOPLE = ("assignees", "whitelist", "blacklist")
OrganizationId = Annotated[str, From("", lambda _, beside: beside.tenant), Field(examples=["634e98098ce07d29474a7e20"])]
CreatedBy = Annotated[str, From("created_by", _email), Field(examples=["admin@example.com"])]
CreatedTime = Annotated[Time, From("created_at")]
UpdatedTime = Annotated[Time, From("updated_at")]
_ASSIGNEE = Field(description="E-mails; the ids of members without one", examples=[[DRIVER]])
_Assignee = Annotated[list[str], From("assignees", emails), _ASSIGNEE]
_Start = Annotated[str | None, From("start"), Field(examples=[DAY["startTime"]])]
_End = Annotated[str | None, From("end"), Field(examples=[DAY["endTime"]])]
_HubId = Annotated[str | None, From("hub"), Field(examples=[HUB])]


UpdatedBy = Annotated[str, From("updated_by", _email), Field(examples=["admin@example.com"])]


class TaskHub(CamelView):
    """The hub of a task or an activity, with what it was registered with."""

    id: str = Field(alias="_id", examples=[HUB])
    name: Annotated[Any, From("fields/name", default=None)] = Field(None, examples=["Jakarta"])
    lat: Annotated[Any, From("fields/lat", default=None)] = Field(None, examples=[-6.205154])
    lng: Annotated[Any, From("fields/lng", default=None)] = Field(None, examples=[106.84667])
    address: Annotated[Any, From("fields/address", default=None)] = None


class AssignedTo(CamelView):
    """Who has the task first."""

    id: str = Field(alias="_id", examples=["019a3d5e-3c1f-7a64"])
    name: str | None = Field(None, examples=["Leandro"])
    email: str | None = Field(None, examples=[DRIVER])
    hub_id: Annotated[list[str], From("hubs")] = Field(..., description="The hubs that the member was registered with")


def _hub(hub: str | None, beside: Beside) -> Json | None:
    return None if hub is None else beside.hubs.get(hub)


def _first(assignees: Sequence[str], beside: Beside) -> Json | None:
    return beside.people.get(assignees[0]) if assignees else None


# What the views of resources with a hub need beside them.
HUBS = "hubs"
_Hub = Annotated[TaskHub | None, From("hub", _hub), Needs(HUBS)]


class LeftOut(CamelView):
    """One of a step's default people who could not have its task any more."""

    step: Count
    assignee: Annotated[str, From("member", _email)]
    reason: str


class Progress(CamelView):
    """The activity's tasks by status."""

    total: Count
    open: Count
    active: Count
    paused: Count
    completed: Count
    failed: Count
    canceled: Count
    percent: Count


class _Open(CamelView):
    """A resource with the caller's own fields after the service's."""

    model_config = ConfigDict(extra="allow")

    @classmethod
    def show(cls, resource: Any, context: Any = None) -> Json:
        """Return the resource with its fields, and what was saved at work over them; they win over `OURS` alone."""
        shown = super().show(resource, context)
        fields = resource["fields"] if "children" in resource else shown_values(resource["fields"], resource["data"])
        return {**shown, **{name: value for name, value in fields.items() if name not in shown or name in OURS}}


class NewMaster(_Open):
    """A new activity. Any other key is a field."""

    id: Id = Field(alias="_id", examples=["634e98098ce07d29474a7e22"])
    task_type: Literal["activityMaster"]
    title: str = Field(examples=["Pickup to Delivery"])
    workflow_id: Annotated[str, From("workflow/id")] = Field(examples=[WORKFLOW_ID])
    sub_id: Annotated[list[str], From("children", lambda children, _: [child["id"] for child in children])] = Field(
        description="The children, in the order of the steps", examples=[["634e98098ce07d29474a7e23"]]
    )
    status: Annotated[Status, From("", activity_status)]
    assignee: _Assignee
    start_time: _Start
    end_time: _End
    hub_id: _HubId
    organization_id: OrganizationId
    created_by: CreatedBy
    created_time: CreatedTime
    left_out: list[LeftOut] = Field([], description="Default people who could not have their step's task any more")


class Master(NewMaster):
    """An activity with how far it is. Any other key is a field."""

    sub_status: str | None = Field(..., description="The label of the last step that is done")
    current_step: int | None = Field(..., description="From 0")
    progress: Progress
    overdue: bool
    updated_time: UpdatedTime
    updated_by: UpdatedBy
    order_index: Annotated[float, From("created_at", lambda at, _: placed(None, at))] = Field(
        ..., description="The place among others, that of the creation", examples=[176187540000000]
    )
    hub: _Hub = None


_UNLESS = "or the field of the flow that has this name"


class Task(_Open):
    """A task, a child or one that stands alone, with what was saved at work. Any other key is a field."""

    id: Id = Field(alias="_id", examples=["634e98098ce07d29474a7e23"])
    task_type: Annotated[
        Literal["activityChild", "task"], From("activity_id", lambda master, _: PLAIN if master is None else CHILD)
    ]
    title: str | None = Field(examples=["Visit"])
    flow: str | None = Field(examples=["Visit"])
    flow_id: str | None
    parent_id: Annotated[str | None, From("activity_id"), Field(description="The master of a child")]
    status: Annotated[Status, From("", task_status)]
    assignee: _Assignee
    start_time: _Start
    end_time: _End
    hub_id: _HubId
    hub: _Hub = Field(None, description="Of a task with a hub")
    order_index: Annotated[float, From("", lambda task, _: placed(task["order_index"], task["created_at"]))] = Field(
        ..., description="The place among other tasks; by default that of the creation", examples=[10]
    )
    assigned_to: Annotated[AssignedTo | None, From("assignees", _first)] = None
    assigned_by: Annotated[str | None, From("assigned_by", _email)] = Field(
        None, description="Who gave the task to those who have it"
    )
    assigned_time: Annotated[MaybeTime, From("assigned_at")] = None
    done_by: Annotated[str | None, From("done_by", _email)] = Field(None, description="Who did the task")
    done_time: Annotated[MaybeTime, From("", lambda task, _: task["ended_at"] if task["done_by"] else None)] = None
    organization_id: OrganizationId
    created_by: CreatedBy
    created_time: CreatedTime
    overdue: Any = Field(..., description=f"It is open, and its end has passed; {_UNLESS}", examples=[False])
    late: Any = Field(..., description=f"It was completed after its end; {_UNLESS}", examples=[False])
    updated_time: UpdatedTime
    updated_by: UpdatedBy


def task_or_master(resource: Mapping[str, Any], beside: Beside) -> Json:
    """Return a task or an activity as it is shown."""
    return (Master if "children" in resource else Task).show(resource, beside)
