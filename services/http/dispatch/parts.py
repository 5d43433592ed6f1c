"""The parts of an activity that have an address of their own: attributes, targets, and what happened to it.

What a status means is asked of the function that shows a task.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field

from domain.plan import CriterionType
from domain.recorded import Recorded
from domain.streams import ID, stream_of
from domain.task import EVENTS, DispatchFailed, ResolutionFailed, ResultRecorded, Task, TaskFailed, TaskReopened, evolve
from projections.support.time import stamp
from services.http.core.call import Call
from services.http.core.errors import ApiError
from services.http.core.list_view import ListView
from services.http.core.models import From
from services.http.core.parameters import MinPosition, settled
from services.http.core.shown import CamelView, Time
from services.http.dispatch.models import READY, Status, status_of
from services.store import log
from services.store.log import LogRow


class Attribute(CamelView):
    """An attribute with its value."""

    key: str = Field(..., examples=["promotions"])
    value: Any = Field(..., examples=[["2 for 1"]])


class Attributes(ListView):
    """The attributes, in the order in which they were resolved"""

    root: list[Attribute]


class TargetUser(CamelView):
    """A user that an activity is meant for, or the place of one that was not found."""

    id: str = Field(..., examples=["t1"])
    criterion: CriterionType
    status: Literal["PENDING", "RESOLVED", "FAILED", "LOCKED"] = Field(..., examples=["RESOLVED"])
    user_id: Annotated[str | None, From("user")] = Field(..., examples=["u-7"])
    reason: str | None


class TargetUsers(ListView):
    """The targets"""

    root: list[TargetUser]


# What happened to one activity, as a dispatch client sees it, straight from the task's own stream.

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
# What is work on a task and no step of its way out; shown only when it changes the status all the same.
_WORK = frozenset(
    {"task.assigned", "task.reassigned", "task.unassigned", "task.started", "task.paused", "task.resumed"}
)


def _type_of(name: str, _: Any = None) -> str:
    """Return the dialect's name of an event."""
    return name.partition(".")[2].replace("-", "_").upper()


class StatusEvent(CamelView):
    """What happened to an activity."""

    id: Annotated[str, From("event_id")] = Field(..., examples=["0199a1f0-0000-7000-8000-000000000001"])
    event_type: Annotated[str, From("name", _type_of)] = Field(
        ..., json_schema_extra={"enum": [_type_of(name) for name in EVENT_NAMES]}, examples=["DISPATCH_FAILED"]
    )
    from_status: Status | None = Field(..., examples=[READY])
    to_status: Status
    error_code: str | None = Field(..., examples=["http-503"])
    error_message: str | None = Field(..., examples=["the provider answered 503"])
    occurred_at: Annotated[Time, From("occurred_at", lambda moment, _: stamp(moment))]


class StatusEvents(ListView):
    """The events"""

    root: list[StatusEvent]


async def status_events(call: Call) -> list[dict[str, Any]]:
    """Return the activity's status events, oldest first; refuses an id that nobody in the tenant has."""
    # The log itself is never late, so there is nothing to wait for.
    await settled(call, MinPosition.read(call))
    rows = []
    if ID.match(call.id):
        stream = stream_of(call.caller.tenant, "task", call.id)
        rows = await call.service.pool.fetch(*log.events_of_stream(stream, EVENT_NAMES))
    if not rows:
        raise ApiError("not-found", "there is no activity of this id")
    return _told(LogRow(*row).recorded() for row in rows)


def _told(events: Iterable[Recorded]) -> list[dict[str, Any]]:
    """Return what a dispatch client is told of a task's events: every change of status, and every attempt."""
    found = []
    task: Task | None = None
    before: str | None = None
    previous: Any = None
    for event in events:
        code, message = _failure(event.data, previous)
        task = evolve(task, event.data)
        after = status_of_task(task)
        if after != before or event.name not in _WORK:
            found.append(
                {
                    "event_id": event.event_id,
                    "name": event.name,
                    "from_status": before,
                    "to_status": after,
                    "error_code": code,
                    "error_message": message,
                    "occurred_at": event.occurred_at,
                }
            )
        before = after
        if not isinstance(event.data, TaskReopened):
            previous = event.data
    return found


def status_of_task(task: Task | None) -> str | None:
    """Return the dialect's status of a task's state."""
    if task is None:
        return None
    facts = {"status": task.lifecycle.value.lower(), "resolution": task.resolution.value}
    return status_of({**facts, "dispatch": task.dispatch.value})


def _failure(event: Any, previous: Any) -> tuple[str | None, str | None]:
    """Return the code and the words for what an event says went wrong; its cause is recorded right before it."""
    match event:
        case DispatchFailed():
            return event.code, event.message
        case ResolutionFailed():
            return "resolution-failed", event.reason
        case TaskFailed() if isinstance(previous, ResultRecorded):
            return "not-executed", event.comment
        case TaskFailed() if isinstance(previous, DispatchFailed) and previous.final:
            return "dispatch-failed", event.comment
        case TaskFailed():
            return "failed", event.comment
    return None, None
