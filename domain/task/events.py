"""What can have happened to a task; those of a child carry its activity, so that a reader needs no look-up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from domain.plan import DispatchPlan, Feed, Provider, Target


@dataclass(frozen=True, slots=True)
class TaskCreated:
    """`after` holds the earlier siblings that must be done with first, in a workflow with sequential gating.

    `feeds` says which fields go on to later siblings when this task is completed.
    """

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
    workflow_id: str | None = None
    feeds: tuple[Feed, ...] = ()
    plan: DispatchPlan | None = None


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
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class ResolutionFailed:
    """`tries` counts the attempts so far that failed in a row, from 1."""

    id: str
    activity_id: str | None
    reason: str
    targets: tuple[Target, ...] = ()
    tries: int = 1


@dataclass(frozen=True, slots=True)
class DispatchRequested:
    """`attempt` counts all attempts of the task's life, from 1."""

    id: str
    activity_id: str | None
    attempt: int
    channel: str
    provider: Provider


@dataclass(frozen=True, slots=True)
class DispatchSucceeded:
    """`reference` is the provider's own word for what it took."""

    id: str
    activity_id: str | None
    attempt: int
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class DispatchFailed:
    """`final` says that no attempt follows."""

    id: str
    activity_id: str | None
    attempt: int
    code: str
    message: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class ResultRecorded:
    """`previous` is the result before, which only a hard override replaces."""

    id: str
    activity_id: str | None
    result: str
    previous: str | None = None
    hard_override: bool = False
    data: dict[str, Any] = field(default_factory=dict)
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class TaskReopened:
    """A hard override takes the task out of the state in which it had ended."""

    id: str
    activity_id: str | None


@dataclass(frozen=True, slots=True)
class TaskFieldsMapped:
    """Blank fields that a completed earlier step filled; `source` is its task."""

    id: str
    activity_id: str | None
    source: str
    old: dict[str, Any]
    new: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TaskBecameOverdue:
    """`end` is the time that passed, as the caller wrote it."""

    id: str
    activity_id: str | None
    end: str


@dataclass(frozen=True, slots=True)
class TaskWakeSet:
    """When the task is next seen to by itself: `dispatch` or `resolution`. `at` None says that it is not."""

    id: str
    activity_id: str | None
    kind: str
    at: str | None


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
    "task.dispatch-requested": DispatchRequested,
    "task.dispatch-succeeded": DispatchSucceeded,
    "task.dispatch-failed": DispatchFailed,
    "task.result-recorded": ResultRecorded,
    "task.reopened": TaskReopened,
    "task.fields-mapped": TaskFieldsMapped,
    "task.became-overdue": TaskBecameOverdue,
    "task.wake-set": TaskWakeSet,
}
