"""A task: one step of an activity, or a piece of work that stands alone; a file for each theme of its life.

A theme holds its commands and events, what each event changes, and how its commands are decided. Each theme is imported
here, so that its commands are known, and its commands and events are found here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from domain.decider import streams_of_id
from domain.task.assigning import (
    AssignTask,
    ClaimTask,
    ReassignTask,
    TaskAssigned,
    TaskReassigned,
    TaskUnassigned,
    UnassignTask,
)
from domain.task.changing import ChangeTask
from domain.task.creating import CreateTask, streams_of_new
from domain.task.dispatching import (
    AttributesResolved,
    DispatchFailed,
    DispatchRequested,
    DispatchSucceeded,
    DispatchTask,
    ReportDispatch,
)
from domain.task.ending import (
    CancelTask,
    CompleteTask,
    FailTask,
    RetryTask,
    TaskCanceled,
    TaskCompleted,
    TaskFailed,
    TaskFieldsMapped,
    TaskRetried,
)
from domain.task.results import ResultRecorded, SubmitResult, TaskReopened
from domain.task.scheduling import TaskBecameOverdue, TaskRescheduled, TaskWakeSet
from domain.task.state import TASK, Dispatch, Resolution, Task, TaskCreated, evolve
from domain.task.targeting import (
    ResolutionDeferred,
    ResolutionFailed,
    ResolveTarget,
    RetryResolution,
    TargetsResolved,
)
from domain.task.waking import WakeTask
from domain.task.working import (
    PauseTask,
    PauseTracker,
    ProcessTask,
    ResumeTracker,
    SaveTask,
    TaskDataSaved,
    TaskFieldsChanged,
    TaskPaused,
    TaskResumed,
    TaskStarted,
)

__all__ = [
    "DECIDER",
    "EVENTS",
    "AssignTask",
    "AttributesResolved",
    "CancelTask",
    "ChangeTask",
    "ClaimTask",
    "CompleteTask",
    "CreateTask",
    "Dispatch",
    "DispatchFailed",
    "DispatchRequested",
    "DispatchSucceeded",
    "DispatchTask",
    "FailTask",
    "PauseTask",
    "PauseTracker",
    "ProcessTask",
    "ReassignTask",
    "ReportDispatch",
    "Resolution",
    "ResolutionDeferred",
    "ResolutionFailed",
    "ResolveTarget",
    "ResultRecorded",
    "ResumeTracker",
    "RetryResolution",
    "RetryTask",
    "SaveTask",
    "SubmitResult",
    "TargetsResolved",
    "Task",
    "TaskAssigned",
    "TaskBecameOverdue",
    "TaskCanceled",
    "TaskCompleted",
    "TaskCreated",
    "TaskDataSaved",
    "TaskFailed",
    "TaskFieldsChanged",
    "TaskFieldsMapped",
    "TaskPaused",
    "TaskReassigned",
    "TaskReopened",
    "TaskRescheduled",
    "TaskResumed",
    "TaskRetried",
    "TaskStarted",
    "TaskUnassigned",
    "TaskWakeSet",
    "UnassignTask",
    "WakeTask",
    "evolve",
]


def reads(command: Any) -> Iterable[tuple[str, str]]:
    """Name the streams that the command is sure to look at, the task's own first."""
    if isinstance(command, CreateTask):
        return (*streams_of_id(command.id, "task"), *streams_of_new(command))
    task_id = getattr(command, "id", None)
    return () if task_id is None else (("task", task_id),)


DECIDER = TASK.decider(evolve, reads)
EVENTS = TASK.events
