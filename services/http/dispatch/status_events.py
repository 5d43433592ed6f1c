"""What happened to an activity as a dispatch client sees it, straight from the task's own stream."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from domain.recorded import Recorded
from domain.streams import ID, stream_of
from domain.task import (
    EVENTS,
    DispatchFailed,
    ResolutionFailed,
    ResultRecorded,
    Task,
    TaskFailed,
    TaskReopened,
    evolve,
)
from projections.support.time import stamp
from services.http.core.errors import ApiError
from services.http.core.service import Service
from services.http.dispatch.shapes import status_of
from services.store import log
from services.store.log import LogRow

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
# What is work on a task and no step of its way out; shown only when it changes the status all the same.
_WORK = frozenset(
    {"task.assigned", "task.reassigned", "task.unassigned", "task.started", "task.paused", "task.resumed"}
)
NAMES: tuple[str, ...] = tuple(name for name in EVENTS if name not in _BESIDE)


def event_type(name: str) -> str:
    """Return the dialect's name of an event."""
    return name.partition(".")[2].replace("-", "_").upper()


TYPES: tuple[str, ...] = tuple(event_type(name) for name in NAMES)


async def status_events(service: Service, tenant: str, task_id: str) -> list[dict[str, Any]]:
    """Return the activity's status events, oldest first; refuses an id that nobody in the tenant has."""
    rows = []
    if ID.match(task_id):
        rows = await service.pool.fetch(*log.events_of_stream(stream_of(tenant, "task", task_id), NAMES))
    if not rows:
        raise ApiError("not-found", "there is no activity of this id")
    return shown(LogRow(*row).recorded() for row in rows)


def shown(events: Iterable[Recorded]) -> list[dict[str, Any]]:
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
                    "id": event.event_id,
                    "eventType": event_type(event.name),
                    "fromStatus": before,
                    "toStatus": after,
                    "errorCode": code,
                    "errorMessage": message,
                    "occurredAt": stamp(event.occurred_at),
                }
            )
        before = after
        if not isinstance(event.data, TaskReopened):
            previous = event.data
    return found


def status_of_task(task: Task | None) -> str | None:
    """Return the dialect's status of a task's state."""
    return None if task is None else status_of(task.lifecycle.value.lower(), task.resolution.value, task.dispatch.value)


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
