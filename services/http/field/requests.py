"""The field dialect's requests for tasks and activities.

Nothing that a caller sends is dropped: a key that the dialect does not know is a field of the task's flow.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from domain.decider import checked_schedule
from domain.errors import Rejected
from domain.limits import INSTANT, INSTANT_DETAIL, MAX_ASSIGNEES, Flow, Id, Items, Order, Person, Text, Title
from services.http.core.models import Json, To, View, names, refuse
from services.http.core.shown import CamelRequest
from services.http.field.models import DAY, DONE, DRIVER, HUB, OURS, WORKFLOW_ID, Master, Task

_SENT = {**DAY, "hubId": HUB, "createdFrom": "WEB"}
_OF_STEP = dict.fromkeys(("flow", "flowId"), "is given by the workflow's step")
REFERENCES = "E-mails, member ids, `account:<number>` or `operator:<id>`"
PEOPLE = f"{REFERENCES}, also as one text with commas between; an e-mail not known yet becomes a member"
_Hub = Annotated[Id | None, To("hub")]
_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
_ZONELESS = re.compile(rf"{_DATE}[T ]{_TIME}\Z")


def with_zone(value: Any) -> Any:
    """Return a time without a zone as one in UTC, in the form that the dialect shows."""
    if isinstance(value, str) and _ZONELESS.match(value):
        return f"{value[:10]}T{value[11:]}+00:00"
    return value


_Moment = Annotated[
    Annotated[str, Text(19, 35, rf"({INSTANT}|{_DATE}[T ]{_TIME})", INSTANT_DETAIL)] | None,
    BeforeValidator(with_zone),
    Field(description="RFC 3339, or a time without a zone, such as `2025-10-31 08:55:00`, which is one in UTC"),
]


def listed(value: Any) -> Any:
    """Return people that are written as one text, with commas between, as a list."""
    return [each for part in value.split(",") if (each := part.strip())] if isinstance(value, str) else value


def also_text(schema: Json) -> None:
    """Add to the schema of a field that its value may be one text."""
    said = {"description", "title", "default", "examples"}
    own = {name: schema.pop(name) for name in [*schema] if name not in said}
    first, *others = own.pop("anyOf", [{}])
    schema["anyOf"] = [{**first, **own}, *others, {"type": "string"}]


_PEOPLE = (Items(MAX_ASSIGNEES), To("assignees"), BeforeValidator(listed))


class _WithFields(CamelRequest):
    """A request whose other keys are fields."""

    model_config = ConfigDict(extra="allow")
    free = "fields"


def _derived(view: type[View], why: str, *more: str) -> dict[str, str]:
    """Return the keys of a view as ones that cannot be given; a task's flow may have fields of the names of `OURS`."""
    return {key: why for key in [*names(view), *more] if view is not Task or key not in OURS}


class _Timed(_WithFields):
    """What a task may be given at any time."""

    derived = _derived(Task, "is given by the service", "subId")

    title: Title | None = None
    hub_id: _Hub = None
    start_time: Annotated[_Moment, To("start")] = None
    end_time: Annotated[_Moment, To("end")] = None
    order_index: Order | None = Field(None, description="The place among other tasks; by default that of the creation")
    assignee: Annotated[list[Person] | None, *_PEOPLE] = Field(None, description=PEOPLE, json_schema_extra=also_text)

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

    derived: ClassVar[dict[str, str]] = {**_Timed.derived, **_OF_STEP}


class NewTask(_Timed):
    """A task that stands alone. Any other key is a field of the flow."""

    flow: Flow = Field(..., min_length=1, description="The name of the flow, and the title by default")
    flow_id: Flow | None = None

    example: ClassVar[Json] = {"flow": "Visit", "assignee": [DRIVER], **DAY, "customerName": "John Doe"}

    def data(self) -> Json:
        """Return the command's data, with the flow's name for a title that is left out."""
        return {"title": self.flow, **super().data()}


class NewActivity(_WithFields):
    """An activity. Any other key is a field of its own."""

    derived = _derived(Master, "follows from the tasks", "parentId")

    workflow_id: str
    hub_id: _Hub = Field(None, description="Inherited by tasks without one")
    title: Title | None = Field(None, description="The workflow's name by default")
    tasks: list[NewChild] = Field(..., description="One a step, in their order")

    # The page's own, word for word.
    example: ClassVar[Json] = {
        "workflowId": WORKFLOW_ID,
        "hubId": HUB,
        "tasks": [
            {
                "customerName": "John Doe",
                "customerAddress": "Jl. Sudirman No. 1, Jakarta",
                "pickupCoordinate": "-6.2088,106.8456",
                "assignee": [DRIVER],
                **_SENT,
            },
            {
                "recipientName": "Jane Smith",
                "recipientAddress": "Jl. Pajajaran No. 10, Bogor",
                "deliveryCoordinate": "-6.5950,106.8167",
                "assignee": [],
                **_SENT,
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
    derived = _derived(Master, "of an activity follows from its workflow and its tasks", "parentId", "tasks")

    title: Annotated[Title, BeforeValidator(_always)] = ""
    hub_id: _Hub = None


class Assignment(CamelRequest):
    """Who has the task from now on; nobody with an empty list."""

    assignee: Annotated[list[Person], *_PEOPLE] = Field(..., description=PEOPLE, json_schema_extra=also_text)

    example: ClassVar[Json] = {"assignee": [DRIVER]}


class Move(CamelRequest):
    """The hub that a task or an activity belongs to from now on."""

    hub_id: Annotated[Id, To("hub")]

    example: ClassVar[Json] = {"hubId": HUB}
