"""What of an activity has an address of its own: its attributes, its targets, its status events and its result."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from domain.limits import Comment, Fields
from domain.plan import CriterionType
from domain.task import EVENTS
from domain.task.results import Result
from projections.support.time import stamp
from services.http.core.list_view import ListView
from services.http.core.models import From, Json, To
from services.http.dispatch.models import Demanded, DispatchRequest, DispatchView, Time
from services.http.dispatch.models_activities import COMPLETED, READY, Status, shown_status


class Attribute(DispatchView):
    """An attribute with its value."""

    key: str = Field(..., examples=["promotions"])
    value: Any = Field(..., examples=[["2 for 1"]])


class Attributes(ListView):
    """The attributes, in the order in which they were resolved"""

    root: list[Attribute]


class TargetUser(DispatchView):
    """A user that an activity is meant for, or the place of one that was not found."""

    id: str = Field(..., examples=["t1"])
    criterion: CriterionType = Field(..., examples=["ROLE_MATCH"])
    status: Literal["PENDING", "RESOLVED", "FAILED", "LOCKED"] = Field(..., examples=["RESOLVED"])
    user_id: Annotated[str | None, From("user")] = Field(..., examples=["u-7"])
    reason: str | None = Field(..., examples=[None])


class TargetUsers(ListView):
    """The targets"""

    root: list[TargetUser]


# What touches none of the facts that a status is made of; a task that is often saved has thousands of them.
_BESIDE = frozenset(
    {
        "task.attributes-resolved",
        "task.became-overdue",
        "task.data-saved",
        "task.fields-changed",
        "task.fields-mapped",
        "task.rescheduled",
        "task.wake-set",
    }
)
EVENT_NAMES: tuple[str, ...] = tuple(name for name in EVENTS if name not in _BESIDE)


def _type_of(name: str, _: Any = None) -> str:
    """Return the dialect's name of an event."""
    return name.partition(".")[2].replace("-", "_").upper()


class StatusEvent(DispatchView):
    """What happened to an activity."""

    id: str
    event_type: Annotated[str, From("name", _type_of)] = Field(
        ..., json_schema_extra={"enum": [_type_of(name) for name in EVENT_NAMES]}
    )
    from_status: Status | None
    to_status: Status
    error_code: str | None
    error_message: str | None
    occurred_at: Annotated[Time, From("occurred_at", lambda moment, _: stamp(moment))]

    example: ClassVar[Json] = {
        "id": "0199a1f0-0000-7000-8000-000000000001",
        "eventType": "DISPATCH_FAILED",
        "fromStatus": READY,
        "toStatus": READY,
        "errorCode": "http-503",
        "errorMessage": "the provider answered 503",
        "occurredAt": "2025-01-16T09:00:01.000Z",
    }


class StatusEvents(ListView):
    """The events"""

    root: list[StatusEvent]


# Results.


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

    example: ClassVar[Json] = {
        "activity_id": "ee0e8400-e29b-41d4-a716-446655440000",
        "result": "COMPLETED",
        "data": {"sold": 3},
    }


class ResultRecorded(DispatchView):
    """The result, and the status that the activity has now"""

    activity_id: Annotated[str, From("task/id")]
    result: Annotated[Result, From("given/result")]
    hard_override: Annotated[bool, From("given/hard_override", default=False)]
    data: Annotated[dict[str, Any], From("given/data", default={})]
    comment: Annotated[str | None, From("given/comment", default=None)]
    status: Annotated[Status, From("task", shown_status)]

    example: ClassVar[Json] = {
        "activityId": "ee0e8400-e29b-41d4-a716-446655440000",
        "result": "COMPLETED",
        "hardOverride": False,
        "data": {"sold": 3},
        "comment": None,
        "status": COMPLETED,
    }
