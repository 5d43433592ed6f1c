"""What the field dialect shows: activities as masters with tasks, and workflows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, create_model
from pydantic.alias_generators import to_camel

from domain.limits import Id
from projections.task.document import shown_values
from services.http.core.models import From, Json, View

MASTER, CHILD, PLAIN = "activityMaster", "activityChild", "task"
UNASSIGNED, ONGOING, DONE, CANCELED, FAILED = STATUSES = ("UNASSIGNED", "ONGOING", "DONE", "CANCELED", "FAILED")
Status = Literal["UNASSIGNED", "ONGOING", "DONE", "CANCELED", "FAILED"]
_ENDED = {"canceled": CANCELED, "failed": FAILED, "completed": DONE}

Count = Annotated[int, Field(ge=0)]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
_CAMEL = ConfigDict(alias_generator=to_camel)


@dataclass(frozen=True, slots=True)
class Beside:
    """What is shown beside a resource's own: its tenant, and the e-mails of its members."""

    tenant: str
    emails: Mapping[str, str]


def email(member: str, beside: Beside) -> str:
    """Return a member's e-mail, or the id of one without."""
    return beside.emails.get(member, member)


def emails(members: Iterable[str] | None, beside: Beside) -> list[str]:
    """Return members' e-mails."""
    return [email(member, beside) for member in members or ()]


def task_status(task: Mapping[str, Any], _: Any = None) -> str:
    """Return the dialect's status of a task: a function of its facts, first match wins."""
    ended = _ENDED.get(task["status"])
    if ended is not None:
        return ended
    moving = task["status"] in ("active", "paused") or task["dispatch"] == "DISPATCHED"
    return ONGOING if moving or task["assignees"] else UNASSIGNED


def activity_status(activity: Mapping[str, Any], _: Any = None) -> str:
    """Return the dialect's status of a master: a function of what was rolled up."""
    ended = _ENDED.get(activity["status"])
    if ended is not None:
        return ended
    return UNASSIGNED if activity["status"] == "open" else ONGOING


def people_of(resource: Mapping[str, Any]) -> list[str]:
    """Return the members that a task or an activity shows."""
    left_out = (each["member"] for each in resource.get("left_out", ()))
    return [*resource["assignees"], resource["created_by"], *left_out]


class FieldView(View):
    """What the dialect shows, with names in camelCase."""

    model_config = _CAMEL


OrganizationId = Annotated[str, From("", lambda _, beside: beside.tenant)]
CreatedBy = Annotated[str, From("created_by", email)]
CreatedTime = Annotated[Time, From("created_at")]
UpdatedTime = Annotated[Time, From("updated_at")]
Assignee = Annotated[list[str], From("assignees", emails), Field(description="E-mails; the ids of members without one")]
StartTime = Annotated[str | None, From("start")]
EndTime = Annotated[str | None, From("end")]
HubId = Annotated[str | None, From("hub")]
DAY = {"startTime": "2025-10-31T08:55:00.000+07:00", "endTime": "2025-11-01T08:55:00.000+07:00"}
HUB = "68ff42815ed967adac0f7192"
_OF_BOTH: Json = {
    "status": "ONGOING",
    "assignee": ["driver@example.com"],
    **DAY,
    "hubId": HUB,
    "organizationId": "634e98098ce07d29474a7e20",
    "createdBy": "admin@example.com",
    "createdTime": "2025-10-31T08:50:00.000+07:00",
}


class LeftOut(FieldView):
    """One of a step's default people who could not have its task any more."""

    step: Count
    assignee: Annotated[str, From("member", email)]
    reason: str


class Progress(FieldView):
    """The activity's tasks by status."""

    total: Count
    open: Count
    active: Count
    paused: Count
    completed: Count
    failed: Count
    canceled: Count
    percent: Count


class _Open(FieldView):
    """A resource with the caller's own fields after the service's."""

    model_config = ConfigDict(extra="allow")

    @classmethod
    def fields_of(cls, resource: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the caller's own fields."""
        fields: Mapping[str, Any] = resource["fields"]
        return fields

    @classmethod
    def show(cls, resource: Any, context: Any = None) -> Json:
        """Return the resource with its fields; where both have a name, what the service says wins."""
        shown = super().show(resource, context)
        return {**shown, **{name: value for name, value in cls.fields_of(resource).items() if name not in shown}}


class NewMaster(_Open):
    """A new activity. Any other key is a field."""

    id: Id = Field(alias="_id")
    task_type: Literal["activityMaster"]
    title: str
    workflow_id: Annotated[str, From("workflow/id")]
    sub_id: Annotated[
        list[str],
        From("children", lambda children, _: [child["id"] for child in children]),
        Field(description="The children, in the order of the steps"),
    ]
    status: Annotated[Status, From("", activity_status)]
    assignee: Assignee
    start_time: StartTime
    end_time: EndTime
    hub_id: HubId
    organization_id: OrganizationId
    created_by: CreatedBy
    created_time: CreatedTime
    left_out: list[LeftOut] = Field([], description="Default people who could not have their step's task any more")

    example: ClassVar[Json] = {
        "_id": "634e98098ce07d29474a7e22",
        "taskType": MASTER,
        "title": "Pickup to Delivery",
        "workflowId": "68f2198aef526585c30e16d2",
        "subId": ["634e98098ce07d29474a7e23", "634e98098ce07d29474a7e24"],
        **_OF_BOTH,
    }


class Master(NewMaster):
    """An activity with how far it is. Any other key is a field."""

    sub_status: str | None = Field(..., description="The label of the last step that is done")
    current_step: int | None = Field(..., description="From 0")
    progress: Progress
    overdue: bool
    updated_time: UpdatedTime


class Task(_Open):
    """A task, a child or one that stands alone, with what was saved at work. Any other key is a field."""

    id: Id = Field(alias="_id")
    task_type: Annotated[
        Literal["activityChild", "task"], From("activity_id", lambda master, _: PLAIN if master is None else CHILD)
    ]
    title: str | None
    flow: str | None
    flow_id: str | None
    parent_id: Annotated[str | None, From("activity_id"), Field(description="The master of a child")]
    status: Annotated[Status, From("", task_status)]
    assignee: Assignee
    start_time: StartTime
    end_time: EndTime
    hub_id: HubId
    organization_id: OrganizationId
    created_by: CreatedBy
    created_time: CreatedTime
    overdue: bool = Field(..., description="It is open, and its end has passed")
    late: bool = Field(..., description="It was completed after its end")
    updated_time: UpdatedTime

    example: ClassVar[Json] = {
        "_id": "634e98098ce07d29474a7e23",
        "taskType": PLAIN,
        "title": "Visit",
        "flow": "Visit",
        "flowId": "68f2198aef526585c30e16d0",
        "parentId": None,
        **_OF_BOTH,
        "overdue": False,
        "late": False,
        "updatedTime": "2025-10-31T01:50:00.000Z",
        "customerName": "John Doe",
    }

    @classmethod
    def fields_of(cls, resource: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the fields of the flow, and what was saved at work over them."""
        return shown_values(resource["fields"], resource["data"])


def task_or_master(resource: Mapping[str, Any], beside: Beside) -> Json:
    """Return a task or an activity as it is shown."""
    return (Master if "children" in resource else Task).show(resource, beside)


AnyTask = Annotated[Task | Master, From("", task_or_master)]
_KEYS: Any = {
    name: (field.annotation | None, None)  # type: ignore[operator]
    for model in (Master, Task)
    for name, field in model.model_fields.items()
    if name not in ("id", "task_type")
}


class _Listed(FieldView):
    """A master or a task; with `fields` just what was asked for."""

    model_config = ConfigDict(extra="allow")

    id: str = Field(alias="_id")
    task_type: str = Field("", description="The type")


ListedTask = create_model("ListedTask", __base__=_Listed, __module__=__name__, __doc__=_Listed.__doc__, **_KEYS)
ListedTask.example = Task.example
