"""The parts of an activity that have an address of their own: attributes, targets, and what happened to it.

What a status means is asked of the function that shows a task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from domain.directory.settings import CALLER_PROVIDED, ON_DISPATCH
from domain.plan import CriterionType, TargetStrategy, TaskType
from domain.recorded import Recorded
from domain.streams import ID, stream_of
from domain.task import (
    EVENTS,
    DispatchFailed,
    ResolutionFailed,
    ResultRecorded,
    TargetsResolved,
    Task,
    TaskFailed,
    TaskReopened,
    evolve,
)
from projections import directory
from projections.support.time import stamp
from services.http.core.call import Call
from services.http.core.errors import ApiError
from services.http.core.list_view import ListView
from services.http.core.models import From
from services.http.core.parameters import MinPosition, settled
from services.http.core.shown import CamelView, MaybeTime, Time
from services.http.dispatch.models import EXAMPLE_ACTIVITY, READY, Status, status_of
from services.store import log
from services.store.log import LogRow


class Attribute(CamelView):
    """An attribute that an activity was asked to carry."""

    id: str = Field(..., examples=[f"{EXAMPLE_ACTIVITY}-promotions"])
    activity_id: str = Field(..., examples=[EXAMPLE_ACTIVITY])
    attribute_key_id: Annotated[str, From("key")] = Field(..., examples=["promotions"])
    key: str = Field(..., examples=["promotions"])
    value: Any = Field(..., examples=[["2 for 1"]])
    resolution_status: Literal["PENDING", "RESOLVED", "FAILED", "FALLBACK"] = Field(..., examples=["RESOLVED"])
    resolver_type: Literal["INTERNAL_SERVICE", "CALLER_PROVIDED"] | None
    resolved_at: MaybeTime
    error_message: str | None
    created_at: Time
    updated_at: Time


class Attributes(ListView):
    """The attributes, in the order in which they were asked for"""

    root: list[Attribute]


async def attributes_of(call: Call, task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each attribute of a task, with a value or without; how one is resolved its policy says."""
    values, times = task["attributes"], task["valued_at"]
    keys: list[str] = list(dict.fromkeys((*((task["plan"] or {}).get("attribute_keys") or ()), *values)))
    rows = await call.entries(directory.get_many(call.caller.tenant, "attribute", keys), keys)
    policies: dict[Any, Any] = {
        found["id"]: found["fields"] for found in map(directory.resource, rows) if not found["retired"]
    }
    return [_attribute(key, policies.get(key), values, times.get(key), task) for key in keys]


def _attribute(
    key: str, policy: Mapping[str, Any] | None, values: Mapping[str, Any], at: str | None, task: Mapping[str, Any]
) -> dict[str, Any]:
    strategy = CALLER_PROVIDED if policy is None else policy["strategy"]
    if key in values:
        status = "FALLBACK" if key in task["fallbacks"] else "RESOLVED"
    else:
        status = "PENDING" if strategy == ON_DISPATCH and not task["attempt"] else "FAILED"
    resolver = CALLER_PROVIDED if strategy == CALLER_PROVIDED else "INTERNAL_SERVICE"
    return {
        "id": f"{task['id']}-{key}",
        "activity_id": task["id"],
        "key": key,
        "value": values.get(key),
        "resolution_status": status,
        "resolver_type": None if status == "PENDING" else resolver,
        "resolved_at": at,
        "error_message": "no value was found" if status == "FAILED" else None,
        "created_at": task["created_at"],
        "updated_at": at or task["created_at"],
    }


def _text(value: Any, _: Any) -> str | None:
    return value if isinstance(value, str) else None


class CommerceUser(CamelView):
    """Whom of the commerce a target is."""

    first_name: Annotated[str | None, From("first_name", _text, default=None)]
    last_name: Annotated[str | None, From("last_name", _text, default=None)]


class TargetUser(CamelView):
    """A user that an activity is meant for, or the place of one that was not found."""

    id: str = Field(..., examples=["t1"])
    commerce_user_id: Annotated[str | None, From("user")] = Field(..., examples=["u-7"])
    resolution_status: Literal["PENDING", "RESOLVED", "FAILED", "LOCKED"] = Field(..., examples=["RESOLVED"])
    resolution_strategy: Annotated[TargetStrategy, From("strategy")] = Field(..., examples=["ON_CREATION"])
    lock_reason: str | None = Field(
        ..., examples=["CRITERIA_MATCH"], description="CRITERIA_MATCH, MANUAL_ASSIGNMENT, or FALLBACK_ and the role"
    )
    resolved_at: MaybeTime
    locked_at: MaybeTime
    commerce_user: CommerceUser | None
    criterion: CriterionType | Literal["MANUAL"] = Field(..., examples=["ROLE_MATCH"])
    reason: str | None


class TargetUsers(ListView):
    """The targets"""

    root: list[TargetUser]


def _objects(listed: Any) -> list[dict[str, Any]]:
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


async def targets_of(call: Call, task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each target of a task, with the user's name as the commerce has it now."""
    users: dict[Any, Any] = {}
    if task["targets"] and task["commerce"] is not None:
        rows = await call.service.pool.fetch(*directory.get(call.caller.tenant, "commerce", task["commerce"]))
        for found in map(directory.resource, rows):
            listed = found["fields"].get("users")
            # An entry from before users were checked may hold anything in their place.
            users = {str(user.get("id")): user for user in _objects(listed)}
    return [_target(target, users, task) for target in task["targets"]]


def _target(target: Mapping[str, Any], users: Mapping[Any, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    status = target["status"]
    found, sent = status == "RESOLVED", task["dispatch"] == "DISPATCHED"
    lock = None
    if found:
        by, role = target.get("by"), target.get("role") or target["criterion"]
        locks: dict[Any, str] = {"manual": "MANUAL_ASSIGNMENT", "fallback": f"FALLBACK_{role.upper()}"}
        lock = locks.get(by, "CRITERIA_MATCH")
    return {
        **target,
        # Who must not be contacted is no target that was found.
        "resolution_status": "LOCKED" if found and sent else "FAILED" if status == "LOCKED" else status,
        "lock_reason": lock,
        "resolved_at": task["resolved_at"] if found else None,
        "locked_at": task["dispatched_at"] if found and sent else None,
        "commerce_user": users.get(target["user"]),
    }


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


_RETRIED = RETRY_SUCCESS, RETRY_FAILED = "RESOLUTION_RETRY_SUCCESS", "RESOLUTION_RETRY_FAILED"
_NAMED = {"task.dispatch-succeeded": "DISPATCH_SUCCESS"}


def _plain(name: str) -> str:
    """Return the dialect's name of an event that has one name only."""
    return _NAMED.get(name) or name.partition(".")[2].replace("-", "_").upper()


def _type_of(event: Recorded, task: Task | None) -> str:
    """Return the dialect's name of an event; `task` is the state before it."""
    if task is not None and task.unresolved:
        match event.data:
            case ResolutionFailed():
                return RETRY_FAILED
            case TargetsResolved(targets=targets):
                named = any(each.by == "manual" and each not in task.targets for each in targets)
                return _plain(event.name) if named else RETRY_SUCCESS
    return _plain(event.name)


class StatusEvent(CamelView):
    """What happened to an activity."""

    id: Annotated[str, From("event_id")] = Field(..., examples=["0199a1f0-0000-7000-8000-000000000001"])
    event_type: str = Field(
        ...,
        json_schema_extra={"enum": [*(_plain(name) for name in EVENT_NAMES), *_RETRIED]},
        examples=["DISPATCH_FAILED"],
    )
    from_status: Status | None = Field(..., examples=[READY])
    to_status: Status
    error_code: str | None = Field(..., examples=["http-503"])
    error_message: str | None = Field(..., examples=["the provider answered 503"])
    activity_type: TaskType
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
        kind = _type_of(event, task)
        task = evolve(task, event.data)
        after = status_of_task(task)
        if after != before or event.name not in _WORK:
            found.append(
                {
                    "event_id": event.event_id,
                    "event_type": kind,
                    "from_status": before,
                    "to_status": after,
                    "error_code": code,
                    "error_message": message,
                    "activity_type": task.created.type if task is not None else None,
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
