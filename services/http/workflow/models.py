"""The workflow dialect's models: requests as commands, and a task as an activity with what stands beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from domain.limits import MAX_ACCOUNT, Comment, Fields
from domain.references import is_account
from domain.task.state import UNRESOLVED
from projections.support.table import instant
from projections.task.document import shown_values
from services.http.core.members import Member
from services.http.core.models import LEFT_OUT, From, Json, Request, To, View, refuse
from services.http.core.shown import MaybeTime, Time
from services.http.workflow.errors import Body, only

# Requests. A value of the wrong shape is refused at its own place.


DIGITS = re.compile(r"[1-9][0-9]{0,14}\Z")


def _whole(value: Any) -> Any:
    # JSON has one kind of number, so 7.0 is as whole as 7; clients that keep numbers as texts send "7".
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(value, str) and DIGITS.match(value):
        number = int(value)
    if not is_account(number):
        refuse("wrong-shape", f"account_id is a whole number from 1 to {MAX_ACCOUNT}")
    return number


def _with_comment(value: Any) -> Any:
    if not isinstance(value, dict) or set(value) != {"comment"}:
        refuse("wrong-shape", "data is an object with a comment")
    return value


Account = Annotated[
    int,
    BeforeValidator(_whole),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_ACCOUNT},
                {"type": "string", "pattern": DIGITS.pattern.replace("\\Z", "$")},
            ]
        }
    ),
]
_Assignee = Annotated[Account, To("assignees", lambda number: [f"account:{number}"]), Field(examples=[42])]
MemberOf = Annotated[Account, To("member", lambda number: f"account:{number}")]


class Nothing(Body):
    """Nothing needs to be said."""


class Save(Body):
    """A draft."""

    values: Annotated[Fields, only(dict, "data is an object"), To("data")] = Field(
        alias="data", description="Any object; its keys are the activity's own", examples=[{"customerName": "Jane"}]
    )


class Complete(Save):
    """What the activity is completed with."""


class Assign(Body):
    """Who is to have the activity."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"required": ["self_assigning"], "properties": {"self_assigning": {"const": True}}},
            "else": {"required": ["account_id"]},
        }
    )

    account_id: _Assignee = Field(0, description="A member's number")
    start_working: Annotated[bool, only(bool, "start_working is true or false"), To("start")] = Field(
        description="Whether work begins at once"
    )
    self_assigning: Annotated[bool, only(bool, "self_assigning is true or false"), To(None)] = Field(
        False, description="Whether the caller takes it"
    )

    example: ClassVar[Json] = {"account_id": 42, "start_working": True}

    @model_validator(mode="after")
    def _demand_somebody(self) -> Self:
        if not self.self_assigning and "account_id" not in self.model_fields_set:
            refuse("wrong-shape", "name an account_id, unless you are self_assigning", "/account_id")
        return self


class Claim(Assign):
    """The caller takes the activity; who one is need not be said, and who says it is held to it."""

    account_id: MemberOf = 0


class Reassign(Body):
    """Who is to have the activity."""

    account_id: _Assignee = Field(description="A member's number")


class ErrorData(Request):
    """What went wrong."""

    comment: Annotated[Comment, only(str, "comment is a text")]


class MarkErrored(Body):
    """What went wrong, if anything is said of it."""

    error: Annotated[ErrorData, BeforeValidator(_with_comment), To(None)] = Field(LEFT_OUT, alias="data")

    example: ClassVar[Json] = {"data": {"comment": "nobody at home"}}

    def data(self) -> Json:
        """Return the command's data."""
        return self.error.data() if self.error else {}

    @classmethod
    def pointer(cls, place: str) -> str:
        """Return a place in the command's data as one in the request."""
        return f"/data{place}" if place.startswith("/comment") else super().pointer(place)


# What is shown.

Status = Literal["pending", "in-progress", "paused", "completed", "errored", "canceled"]
STATUSES: Mapping[str, str] = dict(
    zip(("open", "active", "paused", "completed", "failed", "canceled"), get_args(Status), strict=True)
)
StatusOf = Annotated[Status, From("status", lambda status, _: STATUSES[status])]
Seconds = Annotated[float, Field(ge=0)]
CompletedAt = Annotated[
    MaybeTime, From("", lambda found, _: found["ended_at"] if found["status"] == "completed" else None)
]
IdOf = Annotated[str, Field(examples=["0199f1c2-7a10-7000-8000-000000000001"])]
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


def account_of(member: str, people: People) -> int | None:
    found = people.get(member)
    return None if found is None else found.account_id


def _accounts(members: Sequence[str], people: People) -> list[int | str]:
    """Return account numbers; a list may name somebody who is not registered, and then by id."""
    return [member if (number := account_of(member, people)) is None else number for member in members]


_Accounts = Annotated[list[int | str], Field(description="Account numbers; whoever has none is named by id")]


def _any_left_out(schema: Json) -> None:
    del schema["required"]


class Attributes(View):
    # `fields` may leave any attribute out.
    model_config = ConfigDict(json_schema_extra=_any_left_out)


class Indicators(View):
    overdue: bool
    late: bool
    unresolved: Annotated[bool, From("resolution", lambda found, _: found in UNRESOLVED)]
    dispatched: Annotated[bool, From("dispatch", lambda found, _: found == "DISPATCHED")]


class ActivityAttributes(Attributes):
    id: IdOf
    assigned_account_id: Annotated[
        int | None, From("assignees", lambda found, people: account_of(found[0], people) if found else None)
    ]
    name: Annotated[str | None, From("title")] = Field(examples=["Pickup"])
    status: StatusOf
    started_at: MaybeTime
    completed_at: CompletedAt
    try_resolve_at: Annotated[MaybeTime, From("wake_at", lambda at, _: None if at is None else instant(at))]
    actor_roles: Annotated[list[str], From("roles")]
    whitelisted_ids: Annotated[_Accounts, From("whitelist", _accounts)]
    blacklisted_ids: Annotated[_Accounts, From("blacklist", _accounts)]
    working_seconds: Seconds
    live_seconds: Seconds
    pipeline_seconds: Seconds
    data: Annotated[dict[str, Any], From("", lambda task, _: shown_values(task["fields"], task["data"]))]
    output: dict[str, Any] | None
    indicators: Annotated[Indicators, From("")]
    created_at: Time


class Identifier(View):
    type: Literal[
        "workflow/projects", "workflow/work_units", "workflow/nodes", "workflow/activities", "workflow/project/members"
    ]
    id: str


class Related(View):
    data: Identifier | None


class RelatedMany(View):
    data: list[Identifier]


def related_to(kind: str, entity_id: str | None) -> Json:
    return {"data": None if entity_id is None else {"type": kind, "id": entity_id}}


def related_to_all(kind: str, ids: Iterable[str]) -> Json:
    return {"data": [{"type": kind, "id": entity_id} for entity_id in ids]}


class Relationships(View):
    project: Annotated[Related, From("project", lambda found, _: related_to("workflow/projects", found))]
    work_unit: Annotated[Related, From("activity_id", lambda found, _: related_to("workflow/work_units", found))]
    node: Annotated[Related, From("", lambda task, _: related_to("workflow/nodes", node_id(task)))]


class Activity(View):
    """A task."""

    type: Literal["workflow/activities"]
    id: IdOf
    attributes: Annotated[ActivityAttributes, From("")]
    relationships: Annotated[Relationships, From("")]


class Changed(View):
    """As it is now"""

    data: Annotated[Activity, From("")]
