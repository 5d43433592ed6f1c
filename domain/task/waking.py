"""A deadline of a task that came due, as the service itself tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from domain.decider import Context, Decision
from domain.lifecycle import TERMINAL
from domain.limits import Due, Id
from domain.task.dispatching import comes_later, wake_dispatch
from domain.task.recording import decides, permit_system, record
from domain.task.scheduling import TaskBecameOverdue
from domain.task.state import TASK, Task
from domain.task.targeting import retry_resolution

Deadline = Literal["overdue", "dispatch", "resolution"]


@TASK.command("task.wake")
@dataclass(frozen=True, slots=True)
class WakeTask:
    """Say that a deadline came due. One that is no longer the task's own, by its kind and text, changes nothing."""

    id: Id
    kind: Deadline
    due: Due


@decides(WakeTask)
def _wake(command: WakeTask, task: Task, context: Context) -> Decision:
    permit_system("task.wake", context)
    if task.lifecycle in TERMINAL:
        return Decision()
    if command.kind == "overdue":
        current = task.end == command.due and not task.overdue
        return (
            record(task, context, TaskBecameOverdue(task.id, task.activity_id, command.due)) if current else Decision()
        )
    if task.wake != (command.kind, command.due):
        return Decision()
    if comes_later(command.kind, task, context):
        return Decision()
    answer = retry_resolution if command.kind == "resolution" else wake_dispatch
    return record(task, context, *answer(task, context))
