"""The dispatch dialect's activities: requests as commands, and tasks as they are shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, Field

from domain.limits import MAX_KEYS, Channel, Comment, Id, Instant, Items, Key, Label, Title, Value, Whole
from domain.plan import reason_of
from domain.task.results import Result
from services.http.core.members import Member
from services.http.core.models import From, Json, To, refuse
from services.http.dispatch.models import (
    Count,
    Criterion,
    Demanded,
    DispatchRequest,
    DispatchView,
    NewCriterion,
    Time,
    TimeOrNull,
    page_of,
)

TYPE = "TASK"
Status = Literal["READY", "UNRESOLVED", "DISPATCHED", "COMPLETED", "FAILED", "CANCELED"]
STATUSES = READY, UNRESOLVED, DISPATCHED, COMPLETED, FAILED, CANCELED = get_args(Status)
_ENDED = {"completed": COMPLETED, "failed": FAILED, "canceled": CANCELED}

# Requests.

# A key holds no control character; the rest of Unicode may stand in it.
_KEY = r"[^\x00-\x1f\x7f]{1,255}"


def _demand_key(key: str) -> str:
    if re.fullmatch(_KEY, key) is None:
        refuse("wrong-shape", "a key is a text of 1 to 255 characters without control characters")
    return key


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
    idempotency_key: Annotated[str, Demanded, AfterValidator(_demand_key), To(None)] = Field(
        ...,
        description="Unique per tenant",
        json_schema_extra={"minLength": 1, "maxLength": 255, "pattern": r"^[^\u0000-\u001f\u007f]+$"},
    )

    # The page's own, word for word.
    example: ClassVar[Json] = {
        "reason": "Monthly visit",
        "channel": "SALESMAN",
        "commerce_id": "880e8400-e29b-41d4-a716-446655440000",
        "idempotency_key": "task-2025-01-15-001",
        "assigned_route_id": "dd0e8400-e29b-41d4-a716-446655440000",
        "assigned_operator_id": "cc0e8400-e29b-41d4-a716-446655440000",
        "scheduled_at": "2025-01-16T09:00:00.000Z",
        "attribute_keys": ["commerce_info", "promotions"],
    }


class Cancellation(DispatchRequest):
    """Why an activity is cancelled."""

    reason: Comment | None = None

    example: ClassVar[Json] = {"reason": "The shop is closed"}


class TargetChoice(DispatchRequest):
    """Which user a target is."""

    outside_body = frozenset({"id", "target"})

    user_id: Annotated[Id, Demanded, To("user")] = Field(..., description="The user of the commerce that the target is")

    example: ClassVar[Json] = {"user_id": "u-7"}


# What is shown.


def status_of(lifecycle: str, resolution: str, dispatch: str) -> str:
    """Return the dialect's status of a task: a function of its facts, first match wins."""
    ended: str | None = _ENDED.get(lifecycle)
    if ended is not None:
        return ended
    if lifecycle == "open" and resolution == "FAILED":
        return str(UNRESOLVED)
    return str(DISPATCHED if dispatch == "DISPATCHED" else READY)


def shown_status(task: Mapping[str, Any], _: Any) -> str:
    return status_of(task["status"], task["resolution"], task["dispatch"])


def _operator(task: Mapping[str, Any], members: Mapping[str, Member]) -> str | None:
    """Return the operator of the person who has the task now, else the one that it was created with."""
    found = members.get(task["assignees"][0]) if task["assignees"] else None
    operator: str | None = task["operator"]
    return operator if found is None or found.operator_id is None else found.operator_id


def _planned(name: str, default: Any = None) -> From:
    def shown(plan: Mapping[str, Any] | None, _: Any) -> Any:
        value = plan.get(name) if plan else None
        return default if value is None else value

    return From("plan", shown)


class TaskDetails(DispatchView):
    """Who goes, and on which route."""

    assigned_route_id: Annotated[str | None, From("route")]
    assigned_operator_id: Annotated[str | None, From("", _operator)]


class NewActivity(DispatchView):
    """Created"""

    id: str
    type: Literal["TASK"]
    channel: Annotated[str | None, _planned("channel")]
    status: Annotated[Status, From("", shown_status)]
    task_details: Annotated[TaskDetails, From("")]

    example: ClassVar[Json] = {
        "id": "ee0e8400-e29b-41d4-a716-446655440000",
        "type": TYPE,
        "channel": "SALESMAN",
        "status": READY,
        "taskDetails": {
            "assignedRouteId": "dd0e8400-e29b-41d4-a716-446655440000",
            "assignedOperatorId": "cc0e8400-e29b-41d4-a716-446655440000",
        },
    }


class Activity(NewActivity):
    """The activity as it is now"""

    reason: Annotated[
        str | None, From("", lambda task, _: reason_of(task["title"], (task["plan"] or {}).get("reason")))
    ]
    commerce_id: Annotated[str | None, From("commerce")]
    scheduled_at: Annotated[TimeOrNull, _planned("scheduled_at")]
    suggested_execution_time: Annotated[TimeOrNull, _planned("suggested_at")]
    user_status: Annotated[str | None, _planned("user_status")]
    score: Annotated[int | None, _planned("score")]
    assignment_reason: Annotated[str | None, _planned("assignment_reason")]
    target_criteria: Annotated[list[Criterion] | None, _planned("criteria")]
    attribute_keys: Annotated[list[str], _planned("attribute_keys", [])]
    dispatch_attempts: Annotated[Count, From("attempt")]
    result: Result | None
    created_at: Time
    updated_at: Time

    example: ClassVar[Json] = {
        **NewActivity.example,
        "reason": "Monthly visit",
        "commerceId": "880e8400-e29b-41d4-a716-446655440000",
        "scheduledAt": "2025-01-16T09:00:00.000Z",
        "suggestedExecutionTime": None,
        "userStatus": None,
        "score": None,
        "assignmentReason": None,
        "targetCriteria": None,
        "attributeKeys": ["commerce_info", "promotions"],
        "dispatchAttempts": 0,
        "result": None,
        "createdAt": "2025-01-15T08:00:00.000Z",
        "updatedAt": "2025-01-15T08:00:00.000Z",
    }


ActivityPage = page_of(Activity)
