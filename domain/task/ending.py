"""How a task ends, what a completed step hands on, and how one that failed begins anew."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, assert_never

from domain import lifecycle
from domain.checks import demand_fits
from domain.decider import Context, Decision, changes, instant, merged
from domain.directory import settings
from domain.directory.lookup import at_work
from domain.errors import Rejected
from domain.lifecycle import CANCELED, COMPLETED, FAILED, OPEN, TERMINAL
from domain.limits import Comment, Fields, Id
from domain.task.assigning import TaskReassigned, TaskUnassigned
from domain.task.gating import demand_unblocked
from domain.task.recording import decides, permit, record, released
from domain.task.scheduling import after_retry
from domain.task.state import TASK, Dispatch, Facts, Task
from domain.task.working import TaskStarted, joined, runner_of, taken_away


@TASK.command("task.complete")
@dataclass(frozen=True, slots=True)
class CompleteTask:
    id: Id
    data: Fields = field(default_factory=dict)


@TASK.command("task.error")
@dataclass(frozen=True, slots=True)
class FailTask:
    id: Id
    comment: Comment | None = None


@TASK.command("task.cancel")
@dataclass(frozen=True, slots=True)
class CancelTask:
    id: Id
    reason: Comment | None = None


@TASK.command("task.retry")
@dataclass(frozen=True, slots=True)
class RetryTask:
    id: Id


@TASK.event("task.completed")
@dataclass(frozen=True, slots=True)
class TaskCompleted:
    id: str
    activity_id: str | None
    output: dict[str, Any]
    late: bool = False


@TASK.event("task.fields-mapped")
@dataclass(frozen=True, slots=True)
class TaskFieldsMapped:
    """Blank fields that a completed earlier step filled; `source` is its task."""

    id: str
    activity_id: str | None
    source: str
    old: dict[str, Any]
    new: dict[str, Any]


@TASK.event("task.failed")
@dataclass(frozen=True, slots=True)
class TaskFailed:
    id: str
    activity_id: str | None
    comment: str | None


@TASK.event("task.canceled")
@dataclass(frozen=True, slots=True)
class TaskCanceled:
    id: str
    activity_id: str | None
    reason: str | None
    assignees: tuple[str, ...]


@TASK.event("task.retried")
@dataclass(frozen=True, slots=True)
class TaskRetried:
    id: str
    activity_id: str | None


_Event = TaskCompleted | TaskFieldsMapped | TaskFailed | TaskCanceled | TaskRetried


@TASK.evolves(_Event)
def _evolve(task: Facts, event: _Event) -> None:
    match event:
        case TaskCompleted():
            task.lifecycle = COMPLETED
            task.runner = None
            task.data = event.output
            task.wake = None
            task.overdue = False
        case TaskFieldsMapped():
            task.fields = merged(task.fields, event.new)
        case TaskFailed():
            task.lifecycle = FAILED
            task.runner = None
            task.wake = None
            task.overdue = False
        case TaskCanceled():
            task.lifecycle = CANCELED
            task.runner = None
            task.assignees = ()
            task.released = event.assignees
            task.wake = None
            task.overdue = False
        case TaskRetried():
            task.lifecycle = OPEN
            task.dispatch = Dispatch.NONE
            task.in_flight = False
            task.wake = None
            task.first_attempt = task.attempt
            task.result = None
        case _:
            assert_never(event)


@decides(CompleteTask)
def complete(command: CompleteTask, task: Task, context: Context) -> Decision:
    """Complete a task; one that was never started is started first, so that its times stay true."""
    lifecycle.transition("task.complete", task.lifecycle)
    permit("task.complete", task, context)
    demand_unblocked(task, context)
    rule = lateness(task, context)
    if rule == "reject":
        raise Rejected("late", f"the task was due by {task.end}")
    late = rule == "flag"
    output = joined(task.data, command.data, "/data")
    events: list[Any] = taken_away(task, command.data)
    if task.lifecycle is OPEN:
        if not task.assignees:
            raise Rejected("not-assignee", "a task that nobody has cannot be completed; assign or start it first")
        events.append(TaskStarted(task.id, task.activity_id, runner_of(task, context)))
    events.append(TaskCompleted(task.id, task.activity_id, output, late))
    return hand_on(task, output, released(task, record(task, context, *events)), context)


def lateness(task: Task, context: Context) -> str | None:
    """Return what the tenant says of completing the task now that its end has passed; None when it has not."""
    if task.end is None or context.now <= instant(task.end, "/end"):
        return None
    policy = settings.entry_fields(context, "policy", "late-completion")
    return "flag" if policy is None else str(policy["value"])


def hand_on(task: Task, output: dict[str, Any], decision: Decision, context: Context) -> Decision:
    """Add what later steps take over from a step that is completed: into their blank fields, and nowhere else."""
    feeds = task.created.feeds
    if not feeds:
        return decision
    values = {**task.fields, **output}
    names = dict.fromkeys(feed.task for feed in feeds)
    events = []
    for later in context.all_states("task", names):
        if later is None or later.lifecycle in TERMINAL:
            continue
        wanted = {
            feed.to_field: values[feed.from_field]
            for feed in feeds
            if feed.task == later.id
            and not is_blank(values.get(feed.from_field))
            and is_blank(later.fields.get(feed.to_field))
        }
        if wanted:
            old, new = changes(later.fields, wanted)
            demand_fits({**later.fields, **wanted}, f"the fields of task {later.id}", "")
            mapped = TaskFieldsMapped(later.id, later.activity_id, task.id, old, new)
            events.append((context.stream("task", later.id), mapped))
    return Decision((*decision.events, *events), decision.unique_keys)


def is_blank(value: Any) -> bool:
    """Tell whether a field has nothing in it; zero and false are something."""
    return value is None or value in ("", [], {})


@decides(FailTask)
def fail(command: FailTask, task: Task, context: Context) -> Decision:
    """Record that a task failed."""
    permit("task.error", task, context)
    lifecycle.transition("task.error", task.lifecycle)
    return released(task, record(task, context, TaskFailed(task.id, task.activity_id, command.comment)))


@decides(CancelTask)
def cancel(command: CancelTask, task: Task, context: Context) -> Decision:
    """Cancel a task."""
    permit("task.cancel", task, context)
    if task.lifecycle is not FAILED or not activity_canceled(task, context):
        lifecycle.transition("task.cancel", task.lifecycle)
    return canceled(task, command.reason, context)


def canceled(task: Task, reason: str | None, context: Context) -> Decision:
    """Cancel a task that may be cancelled: its people are free of it, and the event remembers them."""
    event = TaskCanceled(task.id, task.activity_id, reason, task.assignees)
    return released(task, record(task, context, event))


@decides(RetryTask)
def retry(command: RetryTask, task: Task, context: Context) -> Decision:
    """Open a failed task again, for those of its people who were not retired."""
    permit("task.retry", task, context)
    lifecycle.transition("task.retry", task.lifecycle)
    if activity_canceled(task, context):
        raise Rejected("activity-canceled", "its activity was cancelled")
    events: list[Any] = [TaskRetried(task.id, task.activity_id)]
    members = at_work(context, task.assignees)
    if members != task.assignees:
        parted = TaskReassigned(task.id, task.activity_id, task.assignees, members)
        events.append(parted if members else TaskUnassigned(task.id, task.activity_id, task.assignees))
    return record(task, context, *events, *after_retry(task, context))


def activity_canceled(task: Task, context: Context) -> bool:
    if task.activity_id is None:
        return False
    activity = context.state("activity", task.activity_id)
    return activity is not None and activity.canceled
