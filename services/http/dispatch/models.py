"""The dispatch dialect's models: requests in snake_case as commands, and what is shown in camelCase."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import ConfigDict, Field, SkipValidation

from domain.directory.fields import MAX_CRITERIA, MAX_URL, ProviderKind, Strategy
from domain.directory.settings import MAX_SECONDS, MAX_TIMEOUT, SOURCES
from domain.limits import (
    MAX_KEYS,
    Channel,
    Comment,
    Fields,
    Flow,
    Id,
    Instant,
    Items,
    Key,
    Label,
    Role,
    Text,
    Title,
    Value,
    Whole,
)
from domain.plan import CriterionType, reason_of
from domain.task.results import Result
from services.http.core.members import Member
from services.http.core.models import LEFT_OUT, From, Json, To
from services.http.core.shown import CamelView, Count, MaybeTime, Time
from services.http.dispatch.errors import Demanded, DispatchRequest

Status = Literal["READY", "UNRESOLVED", "DISPATCHED", "COMPLETED", "FAILED", "CANCELED"]
STATUSES = READY, UNRESOLVED, DISPATCHED, COMPLETED, FAILED, CANCELED = get_args(Status)
_ENDED = {"completed": COMPLETED, "failed": FAILED, "canceled": CANCELED}
_TASK, _ROUTE = "ee0e8400-e29b-41d4-a716-446655440000", "dd0e8400-e29b-41d4-a716-446655440000"
_OPERATOR, _COMMERCE = "cc0e8400-e29b-41d4-a716-446655440000", "880e8400-e29b-41d4-a716-446655440000"


class NewCriterion(DispatchRequest):
    """How a user of the commerce is found."""

    type: CriterionType
    priority: Whole = Field(0, description="The lowest is tried first")
    role: Role | None = Field(None, description="Required by ROLE_MATCH")


class NewAttribute(DispatchRequest):
    """A value that the caller provides, with one to fall back on."""

    key: Key
    value: Value = None
    fallback: Value = None


class NewTask(DispatchRequest):
    """A task that goes out over a channel."""

    channel: Annotated[Channel, Demanded, To("plan/channel")] = Field(
        ..., description="SALESMAN, CALLCENTER, WHATSAPP, EMAIL, SMS, PUSH, or one of the tenant's own"
    )
    scheduled_at: Annotated[Instant, Demanded, To("plan/scheduled_at")] = Field(
        ..., description="Scheduled execution time, with an offset"
    )
    suggested_execution_time: Annotated[Instant | None, To("plan/suggested_at")] = Field(
        None, description="Suggested time for execution"
    )
    user_status: Annotated[Label | None, To("plan/user_status")] = Field(None, description="User status context")
    score: Annotated[Whole | None, To("plan/score")] = Field(None, description="Priority score")
    assignment_reason: Annotated[Comment | None, To("plan/assignment_reason")] = Field(
        None, description="Reason for the assignment"
    )
    target_criteria: Annotated[list[NewCriterion] | None, Items(MAX_KEYS), To("plan/criteria")] = Field(
        None, description="Instead of the tenant's own; none: no targets"
    )
    attribute_keys: Annotated[list[Id] | None, Items(MAX_KEYS), To("plan/attribute_keys")] = Field(
        None, description="Attributes to resolve via policies"
    )
    reason: Annotated[Title, Demanded, To("title")] = Field(
        ..., min_length=1, description="Reason for creating the task; its title in the other dialects"
    )
    commerce_id: Annotated[Id, Demanded, To("commerce")] = Field(..., description="Target commerce")
    assigned_route_id: Annotated[Id, Demanded, To("route")] = Field(..., description="Assigned route")
    assigned_operator_id: Annotated[Id, Demanded, To("operator")] = Field(..., description="Assigned operator")
    attributes: Annotated[list[NewAttribute] | None, Items(MAX_KEYS)] = Field(
        None, description="Values that the caller provides"
    )
    idempotency_key: Annotated[str, Demanded, To(None)] = Field(
        ..., min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$", description="Unique per tenant"
    )

    # The page's own, word for word.
    example: ClassVar[Json] = {
        "reason": "Monthly visit",
        "channel": "SALESMAN",
        "commerce_id": _COMMERCE,
        "idempotency_key": "task-2025-01-15-001",
        "assigned_route_id": _ROUTE,
        "assigned_operator_id": _OPERATOR,
        "scheduled_at": "2025-01-16T09:00:00.000Z",
        "attribute_keys": ["commerce_info", "promotions"],
    }


class Cancellation(DispatchRequest):
    """Why an activity is cancelled."""

    reason: Comment | None = None

    example: ClassVar[Json] = {"reason": "The shop is closed"}


class TargetChoice(DispatchRequest):
    """Which user a target is."""

    user_id: Annotated[Id, Demanded, To("user")] = Field(
        ..., description="The user of the commerce that the target is", examples=["u-7"]
    )


class NewResult(DispatchRequest):
    """How an activity ended."""

    activity_id: Annotated[str, Demanded, To(None)] = Field(
        ..., min_length=1, description="The activity that the result is of"
    )
    result: Annotated[Result, Demanded]
    hard_override: bool | None = Field(False, description="Replace a result that is final")
    data_: Annotated[Fields | None, To("data")] = Field(
        None, alias="data", description="What came of it; becomes part of the task's output"
    )
    comment: Comment | None = None

    example: ClassVar[Json] = {"activity_id": _TASK, "result": "COMPLETED", "data": {"sold": 3}}


# Activities as they are shown.


def status_of(task: Mapping[str, Any], _: Any = None) -> str:
    """Return the dialect's status of a task: a function of its facts, first match wins."""
    if task["status"] in _ENDED:
        return str(_ENDED[task["status"]])
    if task["status"] == "open" and task["resolution"] == "FAILED":
        return str(UNRESOLVED)
    return str(DISPATCHED if task["dispatch"] == "DISPATCHED" else READY)


def _operator(task: Mapping[str, Any], members: Mapping[str, Member]) -> str | None:
    """Return the operator of the person who has the task now, else the one that it was created with."""
    found = members.get(task["assignees"][0]) if task["assignees"] else None
    operator: str | None = task["operator"]
    return operator if found is None or found.operator_id is None else found.operator_id


def _planned(name: str, default: Any = None) -> From:
    return From("plan", lambda plan, _: default if not plan or plan.get(name) is None else plan[name])


class Criterion(CamelView):
    """How a user of the commerce is found."""

    type: CriterionType
    priority: Annotated[int, From("priority", default=0)]
    role: Annotated[str | None, From("role", default=None)]


class TaskDetails(CamelView):
    """Who goes, and on which route."""

    assigned_route_id: Annotated[str | None, From("route")] = Field(..., examples=[_ROUTE])
    assigned_operator_id: Annotated[str | None, From("", _operator)] = Field(..., examples=[_OPERATOR])


class NewActivity(CamelView):
    """Created"""

    id: str = Field(..., examples=[_TASK])
    type: Literal["TASK"]
    channel: Annotated[str | None, _planned("channel")] = Field(..., examples=["SALESMAN"])
    status: Annotated[Status, From("", status_of)]
    task_details: Annotated[TaskDetails, From("")]


class Activity(NewActivity):
    """The activity as it is now"""

    reason: Annotated[
        str | None, From("", lambda task, _: reason_of(task["title"], (task["plan"] or {}).get("reason")))
    ]
    commerce_id: Annotated[str | None, From("commerce")] = Field(..., examples=[_COMMERCE])
    scheduled_at: Annotated[MaybeTime, _planned("scheduled_at")]
    suggested_execution_time: Annotated[MaybeTime, _planned("suggested_at")]
    user_status: Annotated[str | None, _planned("user_status")]
    score: Annotated[int | None, _planned("score")]
    assignment_reason: Annotated[str | None, _planned("assignment_reason")]
    target_criteria: Annotated[list[Criterion] | None, _planned("criteria")]
    attribute_keys: Annotated[list[str], _planned("attribute_keys", [])]
    dispatch_attempts: Annotated[Count, From("attempt")]
    result: Result | None
    created_at: Time
    updated_at: Time


class ResultRecorded(CamelView):
    """The result, and the status that the activity has now"""

    activity_id: Annotated[str, From("task/id")] = Field(..., examples=[_TASK])
    result: Annotated[Result, From("given/result")] = Field(..., examples=["COMPLETED"])
    hard_override: Annotated[bool, From("given/hard_override", default=False)]
    data: Annotated[dict[str, Any], From("given/data", default={})] = Field(..., examples=[{"sold": 3}])
    comment: Annotated[str | None, From("given/comment", default=None)]
    status: Annotated[Status, From("task", status_of)] = Field(..., examples=[COMPLETED])


# What a tenant configures: directory entries, each with its key or its channel as its id. What may stand in one is the
# domain's to say, so these values are described here and passed on as they came.

_Source = Annotated[Flow, Field(json_schema_extra={"pattern": f"^({'|'.join(SOURCES)})(\\..*)?$"})]


class _Entry(DispatchRequest):
    def data(self) -> Json:
        """Return the command's data, which has fields even if they are none."""
        return {"fields": {}, **super().data()}

    @classmethod
    def pointer(cls, place: str) -> str:
        """Return a place in the request; an id that is taken is told without one, as the answer names it."""
        return "" if place == "/id" else super().pointer(place)


class NewAttributePolicy(_Entry):
    """A policy for an attribute."""

    model_config = ConfigDict(json_schema_extra={"required": ["key", "strategy"]})

    key: Annotated[Id, Demanded, To("id")]
    strategy: Annotated[SkipValidation[Strategy], To("fields/strategy")] = LEFT_OUT
    source: Annotated[SkipValidation[_Source | None], To("fields/source")] = Field(
        None, description="Where the value comes from, such as commerce.name; CALLER_PROVIDED does without"
    )
    fallback: Annotated[Any, To("fields/fallback")] = Field(None, description="The value when there is no other")

    example: ClassVar[Json] = {"key": "commerce_info", "strategy": "UPFRONT", "source": "commerce", "fallback": {}}


class NewTargetResolutionPolicy(_Entry):
    """A policy for target resolution."""

    model_config = ConfigDict(json_schema_extra={"required": ["channel", "criteria"]})

    channel: Annotated[Id, Demanded, To("id")]
    criteria: Annotated[SkipValidation[list[NewCriterion]], Items(MAX_CRITERIA, 1), To("fields/criteria")] = LEFT_OUT
    fallbacks: Annotated[SkipValidation[list[NewCriterion] | None], Items(MAX_CRITERIA), To("fields/fallbacks")] = (
        Field(None, description="Tried when no criterion fits anybody")
    )

    example: ClassVar[Json] = {
        "channel": "SALESMAN",
        "criteria": [{"type": "LAST_CONTACTED_SAME_CHANNEL", "priority": 1, "role": None}],
        "fallbacks": [{"type": "ROLE_MATCH", "priority": 0, "role": "OWNER"}],
    }


class NewDispatchConfiguration(_Entry):
    """A dispatch configuration."""

    model_config = ConfigDict(json_schema_extra={"required": ["channel", "provider"]})

    channel: Annotated[Id, Demanded, To("id")]
    provider: Annotated[SkipValidation[ProviderKind], To("fields/provider")] = LEFT_OUT
    url: Annotated[SkipValidation[Annotated[str, Text(1, MAX_URL)] | None], To("fields/url")] = Field(
        None, description="Required by http; no user, query or fragment"
    )
    secret: Annotated[SkipValidation[Id | None], To("fields/secret")] = Field(
        None, description="The name of a secret of the service, never a secret itself"
    )
    timeout_seconds: Annotated[
        SkipValidation[Annotated[float, Field(gt=0, le=MAX_TIMEOUT)] | None], To("fields/timeout_seconds")
    ] = Field(None, description="5 by default")
    backoff_seconds: Annotated[
        SkipValidation[Annotated[float, Field(gt=0, le=MAX_SECONDS)] | None], To("fields/backoff_seconds")
    ] = Field(None, description="30 by default")

    example: ClassVar[Json] = {
        "channel": "SALESMAN",
        "provider": "http",
        "url": "https://dispatch.example.com/tasks",
        "secret": "main",
        "timeout_seconds": 5,
        "backoff_seconds": 30,
    }
