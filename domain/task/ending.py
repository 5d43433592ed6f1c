"""How a task ends otherwise than by its own completion, and how one that failed begins anew."""

from __future__ import annotations

from typing import Any

from domain import lifecycle
from domain.decider import (
    Context,
    Decision,
)
from domain.directory import at_work
from domain.errors import Rejected
from domain.lifecycle import FAILED, TERMINAL
from domain.task import (
    CancelTask,
    FailTask,
    ResultRecorded,
    RetryTask,
    SubmitResult,
    Task,
    TaskAssigned,
    TaskCanceled,
    TaskCompleted,
    TaskFailed,
    TaskReassigned,
    TaskReopened,
    TaskRetried,
    TaskUnassigned,
    sending,
)
from domain.task.gating import demand_unblocked
from domain.task.recording import one, permit, released
from domain.task.work import fed, joined, lateness, taken_away

DONE_RESULTS = ("COMPLETED", "TRANSFERRED")


def fail(command: FailTask, task: Task, context: Context) -> Decision:
    """Record that a task failed."""
    permit("task.error", task, context)
    lifecycle.transition("task.error", task.lifecycle)
    return released(task, one(task, context, TaskFailed(task.id, task.activity_id, command.comment)))


def cancel(command: CancelTask, task: Task, context: Context) -> Decision:
    """Cancel a task."""
    permit("task.cancel", task, context)
    if task.lifecycle is not FAILED or not _activity_canceled(task, context):
        lifecycle.transition("task.cancel", task.lifecycle)
    return canceled(task, command.reason, context)


def canceled(task: Task, reason: str | None, context: Context) -> Decision:
    """Cancel a task that may be cancelled: its people are free of it, and the event remembers them."""
    event = TaskCanceled(task.id, task.activity_id, reason, task.assignees)
    return released(task, one(task, context, event))


def retry(command: RetryTask, task: Task, context: Context) -> Decision:
    """Open a failed task again, for those of its people who were not retired."""
    permit("task.retry", task, context)
    lifecycle.transition("task.retry", task.lifecycle)
    if _activity_canceled(task, context):
        raise Rejected("activity-canceled", "its activity was cancelled")
    events: list[Any] = [TaskRetried(task.id, task.activity_id)]
    members = at_work(context, task.assignees)
    if members != task.assignees:
        parted = TaskReassigned(task.id, task.activity_id, task.assignees, members)
        events.append(parted if members else TaskUnassigned(task.id, task.activity_id, task.assignees))
    return one(task, context, *events, *sending.retried(task, context))


def result(command: SubmitResult, task: Task, context: Context) -> Decision:
    """Record how a task ended where it was sent to."""
    permit("task.submit-result", task, context)
    for part in (command.result, "hard_override" if command.hard_override else ""):
        if f"task.submit-result {part}" in lifecycle.PARTS:
            permit(f"task.submit-result {part}", task, context)
    ended = task.lifecycle in TERMINAL
    if ended and not command.hard_override:
        lifecycle.transition("task.submit-result", task.lifecycle)
    if command.result == "PENDING":
        return Decision()
    done = command.result in DONE_RESULTS
    if done and not command.hard_override:
        demand_unblocked(task, context)
    if ended and _activity_canceled(task, context):
        raise Rejected("activity-canceled", "its activity was cancelled")
    recorded = ResultRecorded(
        task.id,
        task.activity_id,
        command.result,
        task.result,
        command.hard_override,
        command.data,
        command.comment,
    )
    events: list[Any] = [recorded, *taken_away(task, command.data if done else {})]
    if ended:
        events.append(TaskReopened(task.id, task.activity_id))
    assignees = task.assignees or at_work(context, task.released)
    if assignees != task.assignees:
        # What is not cancelled any more is theirs again, or nobody would have done it; not theirs who were retired.
        events.append(TaskAssigned(task.id, task.activity_id, assignees))
    if done:
        output = joined(task.data, command.data, "/data")
        # What has happened outside has happened, so even a tenant that refuses to complete late is only told.
        late = lateness(task, context) in ("flag", "reject")
        events.append(TaskCompleted(task.id, task.activity_id, output, late))
        return fed(task, output, released(task, one(task, context, *events)), context)
    if command.result == "NOT_EXECUTED":
        events.append(TaskFailed(task.id, task.activity_id, command.comment))
    else:
        events.append(TaskCanceled(task.id, task.activity_id, command.comment, assignees))
    return released(task, one(task, context, *events))


def _activity_canceled(task: Task, context: Context) -> bool:
    if task.activity_id is None:
        return False
    activity = context.state("activity", task.activity_id)
    return activity is not None and activity.canceled
