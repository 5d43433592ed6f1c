"""The field dialect's requests as the data of commands.

Nothing that a caller sends is dropped: a key that the dialect does not know is a field of the task's flow.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from domain.decider import checked_schedule
from domain.errors import Rejected
from domain.limits import (
    MAX_ASSIGNEES,
    Flow,
    Id,
    Instant,
    Items,
    Person,
    Title,
)
from services.http.core.models import Json, Request, To, View, names, refuse
from services.http.field.views import DAY, DONE, HUB, Master, Task

# Of a bulk request: its tasks, and the characters of a task's `refId`.
MAX_TASKS = 2000
MAX_REF = 255
REFERENCES = "E-mails, member ids, `account:<number>` or `operator:<id>`"
PEOPLE = f"{REFERENCES}; an e-mail not known yet becomes a member"
People = Annotated[list[Person], Items(MAX_ASSIGNEES), Field(description=PEOPLE)]


class FieldRequest(Request):
    """A request with names in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel)


class _WithFields(FieldRequest):
    """A request whose other keys are fields."""

    model_config = ConfigDict(extra="allow")
    free = "fields"


def derived_from(views: Iterable[type[View]], why: str, *more: str) -> dict[str, str]:
    """Return the keys of views as ones that cannot be given."""
    return dict.fromkeys([*(name for view in views for name in names(view)), *more], why)


class _Timed(_WithFields):
    """What a task may be given at any time."""

    title: Title | None = None
    hub_id: Annotated[Id | None, To("hub")] = None
    start_time: Annotated[Instant | None, To("start")] = None
    end_time: Annotated[Instant | None, To("end")] = None
    assignee: Annotated[People | None, To("assignees")] = None

    @model_validator(mode="after")
    def _demand_a_schedule(self) -> Self:
        # Here too, so that a bulk in the background refuses such a task at once.
        try:
            checked_schedule(self.start_time, self.end_time, "")
        except Rejected as refusal:
            refuse(refusal.code, refusal.detail, f"{refusal.pointer}Time")
        return self


class NewChild(_Timed):
    """A step's task. Any other key is a field of the step's flow."""

    derived: ClassVar[dict[str, str]] = {
        **derived_from([Task], "is given by the service", "subId", "workflowId"),
        **dict.fromkeys(("flow", "flowId"), "is given by the workflow's step"),
    }


class NewTask(_Timed):
    """A task that stands alone. Any other key is a field of the flow."""

    derived = derived_from([Task], "is given by the service", "subId", "workflowId")

    flow: Flow = Field(..., min_length=1, description="The name of the flow, and the title by default")
    flow_id: Flow | None = None

    example: ClassVar[Json] = {"flow": "Visit", "assignee": ["driver@example.com"], **DAY, "customerName": "John Doe"}

    def data(self) -> Json:
        """Return the command's data, with the flow's name for a title that is left out."""
        data = super().data()
        data.setdefault("title", data["flow"])
        return data


class NewActivity(_WithFields):
    """An activity. Any other key is a field of its own."""

    derived = derived_from([Master], "follows from the tasks", "parentId")

    workflow_id: str
    hub_id: Annotated[Id | None, To("hub")] = Field(None, description="Inherited by tasks without one")
    title: Title | None = Field(None, description="The workflow's name by default")
    tasks: list[NewChild] = Field(..., description="One a step, in their order")

    # The page's own, word for word.
    example: ClassVar[Json] = {
        "workflowId": "68f2198aef526585c30e16d2",
        "hubId": HUB,
        "tasks": [
            {
                "customerName": "John Doe",
                "customerAddress": "Jl. Sudirman No. 1, Jakarta",
                "pickupCoordinate": "-6.2088,106.8456",
                "assignee": ["driver@example.com"],
                **DAY,
                "hubId": HUB,
                "createdFrom": "WEB",
            },
            {
                "recipientName": "Jane Smith",
                "recipientAddress": "Jl. Pajajaran No. 10, Bogor",
                "deliveryCoordinate": "-6.5950,106.8167",
                "assignee": [],
                **DAY,
                "hubId": HUB,
                "createdFrom": "WEB",
            },
        ],
    }


def _only_done(value: Any) -> Any:
    if value != DONE:
        refuse("derived", f"a status follows from what is done; only {DONE} is given, to complete")
    return value


class TaskChange(_Timed):
    """What is left out stays as it is. Any other key is a field, of a task's flow or of an activity's own.

    Null takes away what it stands for. An activity has no assignee, startTime, endTime and status of its own to change.
    """

    changes = True
    derived = NewTask.derived

    status: Annotated[Literal["DONE"], BeforeValidator(_only_done), To("complete", lambda _: True)] = Field(
        "DONE", description="Completes the task"
    )

    example: ClassVar[Json] = {"status": DONE, "receivedBy": "Jane Smith"}


def _always(value: Any) -> Any:
    if value is None:
        refuse("invalid", "an activity always has a title")
    return value


class ActivityChange(_WithFields):
    """What is left out stays as it is; null takes away a hub or a field."""

    changes = True
    derived = derived_from([Master], "of an activity follows from its workflow and its tasks", "parentId", "tasks")

    title: Annotated[Title, BeforeValidator(_always)] = ""
    hub_id: Annotated[Id | None, To("hub")] = None


def _of_a_size(tasks: list[Any]) -> list[Any]:
    if not 1 <= len(tasks) <= MAX_TASKS:
        refuse("bulk-size", f"a bulk request has from 1 to {MAX_TASKS} tasks")
    return tasks


# What is wrong with one task fails that task alone, so nothing is demanded of it here.
BulkTask = Annotated[
    Any,
    Field(
        description=f"As for POST /api/v3/task, with a `refId` of 1 to {MAX_REF} characters that is the request's own"
        " name for it and stays a field of the task"
    ),
]


class NewTasks(FieldRequest):
    """Tasks that stand alone, each created by itself."""

    background: bool = Field(False, description="Answer at once, with a receipt that tells of the rest")
    tasks: Annotated[list[BulkTask], AfterValidator(_of_a_size), Items(MAX_TASKS, 1)]

    example: ClassVar[Json] = {
        "tasks": [
            {"refId": "order-1", **NewTask.example},
            {"refId": "order-2", **NewTask.example, "endTime": "2025-10-30T00:00:00Z"},
        ]
    }
