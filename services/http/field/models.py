"""The field dialect's views: activities as masters with tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from domain.limits import Id
from projections.task.document import shown_values
from services.http.core.models import From, Json
from services.http.core.shown import CamelView, Count, Time

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
    """What is shown beside a resource's own: its tenant, and the e-mails of its members."""

    tenant: str
    emails: Mapping[str, str]


def _email(member: str, beside: Beside) -> str:
    return beside.emails.get(member, member)


def emails(members: Iterable[str] | None, beside: Beside) -> list[str]:
    """Return members' e-mails, or the ids of those without."""
    return [_email(member, beside) for member in members or ()]


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
    return [*resource["assignees"], resource["created_by"], *(each["member"] for each in resource.get("left_out", ()))]


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
    organization_id: OrganizationId
    created_by: CreatedBy
    created_time: CreatedTime
    overdue: Any = Field(..., description=f"It is open, and its end has passed; {_UNLESS}", examples=[False])
    late: Any = Field(..., description=f"It was completed after its end; {_UNLESS}", examples=[False])
    updated_time: UpdatedTime


def task_or_master(resource: Mapping[str, Any], beside: Beside) -> Json:
    """Return a task or an activity as it is shown."""
    return (Master if "children" in resource else Task).show(resource, beside)
