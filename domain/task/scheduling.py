"""When a task is due, and when it is next seen to by itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_never

from domain.decider import Context, instant, text_of
from domain.directory import settings
from domain.lifecycle import OPEN
from domain.task.state import TASK, Dispatch, Facts, Resolution, Task, TaskCreated

# Seconds until a failed resolution is tried again by itself; after the last one only when it is asked for.
RESOLUTION_WAITS = (60, 300, 1800, 7200, 43200)


@TASK.event("task.rescheduled")
@dataclass(frozen=True, slots=True)
class TaskRescheduled:
    id: str
    activity_id: str | None
    old_start: str | None
    old_end: str | None
    start: str | None
    end: str | None


@TASK.event("task.became-overdue")
@dataclass(frozen=True, slots=True)
class TaskBecameOverdue:
    """`end` is the time that passed, as the caller wrote it."""

    id: str
    activity_id: str | None
    end: str


@TASK.event("task.wake-set")
@dataclass(frozen=True, slots=True)
class TaskWakeSet:
    """When the task is next seen to by itself: `dispatch` or `resolution`. `at` None says that it is not."""

    id: str
    activity_id: str | None
    kind: str
    at: str | None


_Event = TaskRescheduled | TaskBecameOverdue | TaskWakeSet


@TASK.evolves(_Event)
def _evolve(task: Facts, event: _Event) -> None:
    match event:
        case TaskRescheduled():
            task.start = event.start
            task.end = event.end
            task.overdue = False
        case TaskBecameOverdue():
            task.overdue = True
        case TaskWakeSet():
            task.wake = None if event.at is None else (event.kind, event.at)
        case _:
            assert_never(event)


def dispatch_wake(
    created: TaskCreated, context: Context, *, again: bool = False, anyhow: bool = False
) -> TaskWakeSet | None:
    """Return when the task goes out by itself: as scheduled, if its channel has a provider by now.

    A time that has passed is due now when it goes out `again`; `anyhow` is for one that was never scheduled.
    """
    plan = created.plan
    if plan is None or (plan.scheduled_at is None and not anyhow):
        return None
    if settings.provider_of(context, plan.channel) is None:
        return None
    at = plan.scheduled_at
    if at is None or (again and instant(at, "/plan/scheduled_at") < context.now):
        at = text_of(context.now)
    return TaskWakeSet(created.id, created.activity_id, "dispatch", at)


def resolution_wake(task_id: str, activity_id: str | None, tries: int, context: Context) -> TaskWakeSet | None:
    """Return when failed targets are looked for again by itself; None when that was tried often enough."""
    if tries > len(RESOLUTION_WAITS):
        return None
    at = context.now + timedelta(seconds=RESOLUTION_WAITS[tries - 1])
    return TaskWakeSet(task_id, activity_id, "resolution", text_of(at))


def after_retry(task: Task, context: Context) -> list[Any]:
    """Return what follows a retry: a task with a plan is resolved, or goes out, again by itself."""
    if task.resolution is Resolution.PENDING:
        # Nobody is found by itself.
        return []
    if task.unresolved:
        return [TaskWakeSet(task.id, task.activity_id, "resolution", text_of(context.now))]
    wake = dispatch_wake(task.created, context, again=True)
    return [] if wake is None else [wake]


def back_in_line(task: Task, context: Context) -> list[Any]:
    """Return what follows when a task that somebody had begun is open again: a dispatch that was passed over is due."""
    waits = task.dispatch is Dispatch.NONE or (task.dispatch is Dispatch.REQUESTED and not task.in_flight)
    if task.lifecycle is OPEN or task.wake is not None or not waits or task.unresolved:
        return []
    wake = dispatch_wake(task.created, context, again=True, anyhow=task.dispatch is Dispatch.REQUESTED)
    return [] if wake is None else [wake]
