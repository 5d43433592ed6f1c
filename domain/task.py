"""What a task is: its commands, its events, and the state that they give; `task_decide` holds the decisions.

A task is one step of an activity, or a piece of work that stands alone. It stores four independent facts and no
status: lifecycle, assignees, resolution, dispatch. Every public status is a function of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from domain.decider import merged
from domain.directory import Eligibility
from domain.lifecycle import ACTIVE, CANCELED, COMPLETED, FAILED, OPEN, PAUSED, Lifecycle


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


# Commands. A person is a member id or an e-mail; times are RFC 3339 texts with an offset.


@dataclass(frozen=True, slots=True)
class Attribute:
    """A value that the caller provides, with one to fall back on."""

    key: str
    value: Any = None
    fallback: Any = None


@dataclass(frozen=True, slots=True)
class CreateTask:
    id: str | None = None
    title: str | None = None
    flow: str | None = None
    flow_id: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    assignees: tuple[str, ...] = ()
    start: str | None = None
    end: str | None = None
    hub: str | None = None
    project: str | None = None
    commerce: str | None = None
    route: str | None = None
    operator: str | None = None
    roles: tuple[str, ...] = ()
    whitelist: tuple[str, ...] = ()
    blacklist: tuple[str, ...] = ()
    attributes: tuple[Attribute, ...] = ()


@dataclass(frozen=True, slots=True)
class AssignTask:
    id: str
    assignees: tuple[str, ...]
    start: bool = False


@dataclass(frozen=True, slots=True)
class ClaimTask:
    """The actor takes the task; `member` names the person when `system` speaks for one."""

    id: str
    member: str | None = None
    start: bool = False


@dataclass(frozen=True, slots=True)
class ReassignTask:
    id: str
    assignees: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UnassignTask:
    id: str


@dataclass(frozen=True, slots=True)
class ProcessTask:
    """Start the task, or go on with it."""

    id: str


@dataclass(frozen=True, slots=True)
class PauseTask:
    id: str


@dataclass(frozen=True, slots=True)
class SaveTask:
    """Keep a draft of the task's data without completing it."""

    id: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ChangeTask:
    """What is left out stays as it is; a field set to null goes away."""

    id: str
    title: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    start: str | None = None
    end: str | None = None
    hub: str | None = None


@dataclass(frozen=True, slots=True)
class CompleteTask:
    id: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FailTask:
    id: str
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class CancelTask:
    id: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RetryTask:
    id: str


# Events. Those of a child carry its activity, so that a reader needs no look-up.


@dataclass(frozen=True, slots=True)
class TaskCreated:
    """`after` holds the earlier siblings that must be completed first, in a workflow with sequential gating."""

    id: str
    title: str | None = None
    activity_id: str | None = None
    step: int | None = None
    flow: str | None = None
    flow_id: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    start: str | None = None
    end: str | None = None
    hub: str | None = None
    project: str | None = None
    commerce: str | None = None
    route: str | None = None
    operator: str | None = None
    roles: tuple[str, ...] = ()
    whitelist: tuple[str, ...] = ()
    blacklist: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskAssigned:
    id: str
    activity_id: str | None
    assignees: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TaskReassigned:
    id: str
    activity_id: str | None
    old: tuple[str, ...]
    assignees: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TaskUnassigned:
    id: str
    activity_id: str | None
    old: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TaskStarted:
    """`runner` is the person at work, None when a system started a task of nobody's."""

    id: str
    activity_id: str | None
    runner: str | None


@dataclass(frozen=True, slots=True)
class TaskResumed:
    id: str
    activity_id: str | None
    runner: str | None


@dataclass(frozen=True, slots=True)
class TaskPaused:
    """`reason` is `asked`, `reassigned`, `unassigned` or `other-task-started`."""

    id: str
    activity_id: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class TaskDataSaved:
    id: str
    activity_id: str | None
    old: dict[str, Any]
    new: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TaskFieldsChanged:
    """Title, hub and fields; `old` and `new` hold just what differs."""

    id: str
    activity_id: str | None
    old: dict[str, Any]
    new: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TaskRescheduled:
    id: str
    activity_id: str | None
    old_start: str | None
    old_end: str | None
    start: str | None
    end: str | None


@dataclass(frozen=True, slots=True)
class TaskCompleted:
    id: str
    activity_id: str | None
    output: dict[str, Any]
    late: bool = False


@dataclass(frozen=True, slots=True)
class TaskFailed:
    id: str
    activity_id: str | None
    comment: str | None


@dataclass(frozen=True, slots=True)
class TaskCanceled:
    id: str
    activity_id: str | None
    reason: str | None
    assignees: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TaskRetried:
    id: str
    activity_id: str | None


@dataclass(frozen=True, slots=True)
class AttributesResolved:
    id: str
    activity_id: str | None
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TargetsResolved:
    id: str
    activity_id: str | None
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ResolutionFailed:
    id: str
    activity_id: str | None
    reason: str


EVENTS: dict[str, type] = {
    "task.created": TaskCreated,
    "task.assigned": TaskAssigned,
    "task.reassigned": TaskReassigned,
    "task.unassigned": TaskUnassigned,
    "task.started": TaskStarted,
    "task.resumed": TaskResumed,
    "task.paused": TaskPaused,
    "task.data-saved": TaskDataSaved,
    "task.fields-changed": TaskFieldsChanged,
    "task.rescheduled": TaskRescheduled,
    "task.completed": TaskCompleted,
    "task.failed": TaskFailed,
    "task.canceled": TaskCanceled,
    "task.retried": TaskRetried,
    "task.attributes-resolved": AttributesResolved,
    "task.targets-resolved": TargetsResolved,
    "task.resolution-failed": ResolutionFailed,
}


@dataclass(frozen=True, slots=True)
class Task:
    """A task's state. `runner` is the person at work while the lifecycle is ACTIVE."""

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
        case TaskPaused():
            return replace(state, lifecycle=PAUSED, runner=None)
        case TaskCompleted():
            return replace(state, lifecycle=COMPLETED, runner=None, data=event.output)
        case TaskFailed():
            return replace(state, lifecycle=FAILED, runner=None)
        case TaskCanceled():
            return replace(state, lifecycle=CANCELED, runner=None, assignees=())
        case TaskRetried():
            return replace(state, lifecycle=OPEN, dispatch=Dispatch.NONE)
        case TaskAssigned() | TaskReassigned():
            return replace(state, lifecycle=OPEN, runner=None, assignees=event.assignees)
        case TaskUnassigned():
            return replace(state, lifecycle=OPEN, runner=None, assignees=())
        case TaskDataSaved():
            return replace(state, data={**state.data, **event.new})
        case TaskFieldsChanged():
            new = dict(event.new)
            title, hub = new.pop("title", state.title), new.pop("hub", state.hub)
            return replace(state, title=title, hub=hub, fields=merged(state.fields, new.pop("fields", {})))
        case TaskRescheduled():
            return replace(state, start=event.start, end=event.end)
        case TargetsResolved():
            return replace(state, resolution=Resolution.RESOLVED)
        case ResolutionFailed():
            return replace(state, resolution=Resolution.FAILED)
    return state
