"""The dispatch dialect's models: requests in snake_case as commands, and what is shown in camelCase."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self, get_args

from pydantic import Field, model_validator

from domain.limits import MAX_KEYS, Channel, Comment, Id, Instant, Items, Key, Label, Role, Title, Value, Whole
from domain.plan import MESSAGE, Contact, CriterionType, TaskType, reason_of
from domain.task.results import Result
from domain.task.state import UNRESOLVED as UNRESOLVED_TARGETS
from services.http.core.lookups import Needs
from services.http.core.members import Member
from services.http.core.models import From, Json, To, refuse
from services.http.core.shown import CamelView, Count, MaybeTime, Time
from services.http.dispatch.errors import Demanded, DispatchRequest

Status = Literal["READY", "UNRESOLVED", "DISPATCHED", "COMPLETED", "FAILED", "CANCELED"]
STATUSES = READY, UNRESOLVED, DISPATCHED, COMPLETED, FAILED, CANCELED = get_args(Status)
_ENDED = {"completed": COMPLETED, "failed": FAILED, "canceled": CANCELED}
EXAMPLE_ACTIVITY, _ROUTE = "ee0e8400-e29b-41d4-a716-446655440000", "dd0e8400-e29b-41d4-a716-446655440000"
_OPERATOR, _COMMERCE = "cc0e8400-e29b-41d4-a716-446655440000", "880e8400-e29b-41d4-a716-446655440000"


class NewCriterion(DispatchRequest):
    """How a user of the commerce is found."""

    type: CriterionType
    priority: Whole = Field(0, description="The lowest is tried first")
    role: Role | None = Field(None, description="Required by ROLE_MATCH")


class CriterionConfig(DispatchRequest):
    """What a criterion looks for."""

    role: Role | None = Field(None, description="Required by ROLE_MATCH")


class NewTargetCriterion(NewCriterion):
    """How a user of the commerce is found."""

    config: Annotated[CriterionConfig | None, To(None)] = Field(None, description="Where the role may also stand")

    @model_validator(mode="after")
    def _demand_one_role(self) -> Self:
        if self.role is not None and self.config is not None and self.config.role is not None:
            refuse("invalid", "the role is given twice", "/role")
        return self

    def data(self) -> Json:
        """Return the command's data."""
        found = super().data()
        return found if self.config is None else {**found, **self.config.data()}


class NewAttribute(DispatchRequest):
    """A value that the caller provides, with one to fall back on."""

    key: Key
    value: Value = None
    fallback: Value = None


class _Planned(DispatchRequest):
    """What goes out over a channel."""

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
    target_criteria: Annotated[list[NewTargetCriterion] | None, Items(MAX_KEYS), To("plan/criteria")] = Field(
        None, description="Instead of the tenant's own; none: no targets"
    )
    attribute_keys: Annotated[list[Id] | None, Items(MAX_KEYS), To("plan/attribute_keys")] = Field(
        None, description="Attributes to resolve via policies"
    )
    reason: Annotated[Title, Demanded, To("title")] = Field(
        ..., min_length=1, description="Reason for creating the task; its title in the other dialects"
    )
    commerce_id: Annotated[Id, Demanded, To("commerce")] = Field(..., description="Target commerce")
    attributes: Annotated[list[NewAttribute] | None, Items(MAX_KEYS)] = Field(
        None, description="Values that the caller provides"
    )
    idempotency_key: Annotated[str, Demanded, To(None)] = Field(
        ..., min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$", description="Unique per tenant"
    )


class NewTask(_Planned):
    """A task that goes out over a channel."""

    assigned_route_id: Annotated[Id, Demanded, To("route")] = Field(..., description="Assigned route")
    assigned_operator_id: Annotated[Id, Demanded, To("operator")] = Field(..., description="Assigned operator")

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


class NewOfType(_Planned):
    """A task or a message that goes out over a channel."""

    type: TaskType = Field(..., description="A TASK has no route and nobody yet, a MESSAGE never")

    # The page's own, word for word.
    example: ClassVar[Json] = {
        "type": "MESSAGE",
        "reason": "Monthly promotion",
        "channel": "WHATSAPP",
        "commerce_id": _COMMERCE,
        "idempotency_key": "msg-2025-01-15-001",
        "scheduled_at": "2025-01-16T09:00:00.000Z",
        "attribute_keys": ["commerce_info"],
    }


class Cancellation(DispatchRequest):
    """Why an activity is cancelled."""

    reason: Comment | None = None

    example: ClassVar[Json] = {"reason": "The shop is closed"}


class TargetChoice(DispatchRequest):
    """Which user a target is."""

    renamed = {"commerce_user_id": "user_id"}  # noqa: RUF012

    user_id: Annotated[Id, Demanded, To("user")] = Field(
        ..., description="The user of the commerce that the target is", examples=["u-7"]
    )


# Activities as they are shown.


def status_of(task: Mapping[str, Any], _: Any = None) -> str:
    """Return the dialect's status of a task: a function of its facts, first match wins."""
    if task["status"] in _ENDED:
        return str(_ENDED[task["status"]])
    if task["status"] == "open" and task["resolution"] in UNRESOLVED_TARGETS:
        return str(UNRESOLVED)
    return str(DISPATCHED if task["dispatch"] == "DISPATCHED" else READY)


class ShownWith(Protocol):
    """What activities are shown with."""

    @property
    def members(self) -> Mapping[str, Member]: ...
    @property
    def commerces(self) -> Mapping[str, Mapping[str, Any]]: ...
    @property
    def operators(self) -> Mapping[str, Mapping[str, Any]]: ...


def _operator(task: Mapping[str, Any], context: ShownWith) -> str | None:
    """Return the operator of the person who has the task now, else the one that it was created with."""
    found = context.members.get(task["assignees"][0]) if task["assignees"] else None
    operator: str | None = task["operator"]
    return operator if found is None or found.operator_id is None else found.operator_id


def planned(name: str, default: Any = None) -> From:
    """Return where a view's field comes from that shows a part of the plan."""
    return From("plan", lambda plan, _: default if not plan or plan.get(name) is None else plan[name])


class Criterion(CamelView):
    """How a user of the commerce is found."""

    type: CriterionType
    priority: Annotated[int, From("priority", default=0)]
    role: Annotated[str | None, From("role", default=None)]


class TaskDetails(CamelView):
    """Who goes, and on which route."""

    assigned_route_id: Annotated[str | None, From("route")] = Field(..., examples=[_ROUTE])
    assigned_operator_id: Annotated[str | None, From("", _operator), Needs("members")] = Field(
        ..., examples=[_OPERATOR]
    )


class TaskResult(CamelView):
    """What whoever carried an activity out reported beside its result."""

    result: Annotated[str | None, From("outcome")]
    operator_external_id: Annotated[str | None, From("operator")]
    future_scheduled_at: Annotated[MaybeTime, From("follow_up_at")]
    contact_type: Annotated[Contact | None, From("contact")]
    occurred_at: MaybeTime
    external_status: str | None

    @classmethod
    def of(cls, report: Mapping[str, Any] | None) -> Json | None:
        """Return what is shown of a report, if there is one; what it does not say is null."""
        if not report:
            return None
        names = ("outcome", "operator", "follow_up_at", "contact", "occurred_at", "external_status")
        return cls.show({name: report.get(name) for name in names})


class Commerce(CamelView):
    """A commerce by its name."""

    name: str | None = Field(..., examples=["Main Street Store"])


class CommerceAssignment(CamelView):
    """The commerce that an activity is for."""

    commerce_id: str = Field(..., examples=[_COMMERCE])
    commerce: Commerce


def _commerce(task: Mapping[str, Any], context: ShownWith) -> Json | None:
    commerce = task["commerce"]
    if commerce is None:
        return None
    name = context.commerces.get(commerce, {}).get("name")
    return CommerceAssignment.show({"commerce_id": commerce, "commerce": {"name": name}})


def _details(task: Mapping[str, Any], context: ShownWith) -> Json | None:
    return None if task["type"] == MESSAGE else TaskDetails.show(task, context)


class NewActivity(CamelView):
    """Created"""

    id: str = Field(..., examples=[EXAMPLE_ACTIVITY])
    type: TaskType
    channel: Annotated[str | None, planned("channel")] = Field(..., examples=["SALESMAN"])
    status: Annotated[Status, From("", status_of)]
    task_details: Annotated[TaskDetails | None, From("", _details)] = Field(..., description="A message has none")


class Activity(NewActivity):
    """The activity as it is now"""

    reason: Annotated[
        str | None, From("", lambda task, _: reason_of(task["title"], (task["plan"] or {}).get("reason")))
    ]
    commerce_id: Annotated[str | None, From("commerce")] = Field(..., examples=[_COMMERCE])
    commerce_assignment: Annotated[CommerceAssignment | None, From("", _commerce), Needs("commerces")]
    scheduled_at: Annotated[MaybeTime, planned("scheduled_at")]
    suggested_execution_time: Annotated[MaybeTime, planned("suggested_at")]
    user_status: Annotated[str | None, planned("user_status")]
    score: Annotated[int | None, planned("score")]
    assignment_reason: Annotated[str | None, planned("assignment_reason")]
    target_criteria: Annotated[list[Criterion] | None, planned("criteria")]
    attribute_keys: Annotated[list[str], planned("attribute_keys", [])]
    dispatch_attempts: Annotated[Count, From("attempt")]
    provider_activity_id: Annotated[str | None, From("reference")]
    result: Result | None
    task_result: Annotated[TaskResult | None, From("report", lambda report, _: TaskResult.of(report))]
    created_at: Time
    updated_at: Time
