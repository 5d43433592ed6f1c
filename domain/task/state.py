"""A task's state, and what each event makes of it; it stores four independent facts and no status.

The facts are lifecycle, assignees, resolution and dispatch. Every public status is a function of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from domain.decider import merged
from domain.directory import Eligibility
from domain.lifecycle import ACTIVE, CANCELED, COMPLETED, FAILED, OPEN, PAUSED, Lifecycle
from domain.plan import Target
from domain.task.events import (
    AttributesResolved,
    DispatchFailed,
    DispatchRequested,
    DispatchSucceeded,
    ResolutionFailed,
    ResultRecorded,
    TargetsResolved,
    TaskAssigned,
    TaskBecameOverdue,
    TaskCanceled,
    TaskCompleted,
    TaskCreated,
    TaskDataSaved,
    TaskFailed,
    TaskFieldsChanged,
    TaskFieldsMapped,
    TaskPaused,
    TaskReassigned,
    TaskReopened,
    TaskRescheduled,
    TaskResumed,
    TaskRetried,
    TaskStarted,
    TaskUnassigned,
    TaskWakeSet,
)


class Resolution(StrEnum):
    NONE = "NONE"
    PENDING = "PENDING"
    RESOLVED = "RESOLVED"
    FAILED = "FAILED"


class Dispatch(StrEnum):
    NONE = "NONE"
    REQUESTED = "REQUESTED"
    DISPATCHED = "DISPATCHED"
    GAVE_UP = "GAVE_UP"


@dataclass(frozen=True, slots=True)
class Task:
    """A task's state. `runner` is the person at work while the lifecycle is ACTIVE.

    `attempt` counts the attempts at dispatch of its whole life, `first_attempt` those before the last retry, and
    `in_flight` says that the outcome of one is still to come; `tries` counts the failed resolutions in a row. `wake` is
    (kind, time): when the task is next seen to by itself. `released` are those who had the task when it was cancelled.
    """

    id: str
    activity_id: str | None
    created: TaskCreated
    title: str | None
    fields: dict[str, Any]
    start: str | None
    end: str | None
    hub: str | None
    lifecycle: Lifecycle = OPEN
    assignees: tuple[str, ...] = ()
    resolution: Resolution = Resolution.NONE
    dispatch: Dispatch = Dispatch.NONE
    runner: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    overdue: bool = False
    targets: tuple[Target, ...] = ()
    tries: int = 0
    attributes: dict[str, Any] = field(default_factory=dict)
    attempt: int = 0
    first_attempt: int = 0
    in_flight: bool = False
    wake: tuple[str, str] | None = None
    released: tuple[str, ...] = ()
    result: str | None = None

    @property
    def eligibility(self) -> Eligibility:
        """Return who may have the task."""
        made = self.created
        return Eligibility(made.project, made.roles, made.whitelist, made.blacklist)


def evolve(state: Task | None, event: Any) -> Task | None:
    """Return the task after one more event."""
    if isinstance(event, TaskCreated):
        return Task(event.id, event.activity_id, event, event.title, event.fields, event.start, event.end, event.hub)
    return None if state is None else _evolved(state, event)


def _evolved(state: Task, event: Any) -> Task:
    match event:
        case TaskStarted() | TaskResumed():
            return replace(state, lifecycle=ACTIVE, runner=event.runner)
        case TaskCompleted():
            return replace(state, lifecycle=COMPLETED, runner=None, data=event.output, wake=None, overdue=False)
        case TaskPaused():
            return replace(state, lifecycle=PAUSED, runner=None)
        case TaskFailed():
            return replace(state, lifecycle=FAILED, runner=None, wake=None, overdue=False)
        case TaskCanceled():
            state = replace(state, lifecycle=CANCELED, runner=None, assignees=(), released=event.assignees)
            return replace(state, wake=None, overdue=False)
        case TaskRetried():
            state = replace(state, lifecycle=OPEN, dispatch=Dispatch.NONE, in_flight=False, wake=None)
            return replace(state, first_attempt=state.attempt, result=None)
        case TaskReopened():
            return replace(state, lifecycle=OPEN)
        case TaskAssigned() | TaskReassigned():
            return replace(state, lifecycle=OPEN, runner=None, assignees=event.assignees)
        case TaskUnassigned():
            return replace(state, lifecycle=OPEN, runner=None, assignees=())
        case TaskDataSaved():
            return replace(state, data=merged(state.data, event.new))
        case TaskFieldsChanged():
            new = dict(event.new)
            title, hub = new.pop("title", state.title), new.pop("hub", state.hub)
            return replace(state, title=title, hub=hub, fields=merged(state.fields, new.pop("fields", {})))
        case TaskFieldsMapped():
            return replace(state, fields=merged(state.fields, event.new))
        case TaskRescheduled():
            return replace(state, start=event.start, end=event.end, overdue=False)
        case TaskBecameOverdue():
            return replace(state, overdue=True)
        case TaskWakeSet():
            return replace(state, wake=None if event.at is None else (event.kind, event.at))
    return _sent(state, event)


def _sent(state: Task, event: Any) -> Task:
    match event:
        case AttributesResolved():
            return replace(state, attributes={**state.attributes, **event.attributes})
        case TargetsResolved():
            return replace(state, resolution=Resolution.RESOLVED, targets=event.targets, tries=0, wake=None)
        case ResolutionFailed():
            return replace(state, resolution=Resolution.FAILED, targets=event.targets, tries=event.tries, wake=None)
        case DispatchRequested():
            return replace(state, dispatch=Dispatch.REQUESTED, attempt=event.attempt, in_flight=True, wake=None)
        case DispatchSucceeded():
            return replace(state, dispatch=Dispatch.DISPATCHED, in_flight=False)
        case DispatchFailed():
            dispatch = Dispatch.GAVE_UP if event.final else Dispatch.REQUESTED
            return replace(state, dispatch=dispatch, in_flight=False)
        case ResultRecorded():
            return replace(state, result=event.result)
    return state
