"""How a task ended where it was sent to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, assert_never

from domain import lifecycle
from domain.decider import Context, Decision, instant
from domain.directory import settings
from domain.directory.lookup import at_work
from domain.errors import Rejected
from domain.lifecycle import OPEN, TERMINAL
from domain.limits import Comment, Fields, Id, Label
from domain.plan import Report
from domain.task.assigning import TaskAssigned
from domain.task.ending import TaskCanceled, TaskCompleted, TaskFailed, activity_canceled, hand_on, lateness
from domain.task.gating import demand_unblocked
from domain.task.recording import decides, permit, record, released
from domain.task.state import TASK, Facts, Task
from domain.task.working import joined, taken_away

Result = Literal["PENDING", "COMPLETED", "TRANSFERRED", "NOT_EXECUTED", "CANCELED", "EFFECTIVE", "NOT_EFFECTIVE"]
# What says that the task was carried out, whether or not it achieved what it was for.
DONE_RESULTS = ("COMPLETED", "TRANSFERRED", "EFFECTIVE", "NOT_EFFECTIVE")


@TASK.command("task.submit-result")
@dataclass(frozen=True, slots=True)
class SubmitResult:
    """Say how the task ended where it was sent to. A result is final once, unless `hard_override`."""

    id: Id
    result: Result
    hard_override: bool = False
    data: Fields = field(default_factory=dict)
    comment: Comment | None = None
    report: Report | None = None
    # The task's commerce, by its id or by the `external_id` that it is registered with; any other is refused.
    commerce: Label | None = None


@TASK.event("task.result-recorded")
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
    report: Report | None = None


@TASK.event("task.reopened")
@dataclass(frozen=True, slots=True)
class TaskReopened:
    """A hard override takes the task out of the state in which it had ended."""

    id: str
    activity_id: str | None


_Event = ResultRecorded | TaskReopened


@TASK.evolves(_Event)
def _evolve(task: Facts, event: _Event) -> None:
    match event:
        case ResultRecorded():
            task.result = event.result
        case TaskReopened():
            task.lifecycle = OPEN
        case _:
            assert_never(event)


def parts(result: str, hard_override: bool) -> tuple[str, ...]:
    """Return what of a result needs a right of its own, by its name in the table of rights."""
    named = (f"task.submit-result {result}", *(("task.submit-result hard_override",) if hard_override else ()))
    return tuple(part for part in named if part in lifecycle.PARTS)


@decides(SubmitResult)
def result(command: SubmitResult, task: Task, context: Context) -> Decision:
    """Record how a task ended where it was sent to."""
    permit("task.submit-result", task, context)
    for part in parts(command.result, command.hard_override):
        permit(part, task, context)
    _demand_truth(command, task, context)
    ended = task.lifecycle in TERMINAL
    if ended and not command.hard_override:
        lifecycle.transition("task.submit-result", task.lifecycle)
    if command.result == "PENDING":
        return Decision()
    done = command.result in DONE_RESULTS
    if done and not command.hard_override:
        demand_unblocked(task, context)
    if ended and activity_canceled(task, context):
        raise Rejected("activity-canceled", "its activity was cancelled")
    recorded = ResultRecorded(
        task.id,
        task.activity_id,
        command.result,
        task.result,
        command.hard_override,
        command.data,
        command.comment,
        command.report,
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
        return hand_on(task, output, released(task, record(task, context, *events)), context)
    if command.result == "NOT_EXECUTED":
        events.append(TaskFailed(task.id, task.activity_id, command.comment))
    else:
        events.append(TaskCanceled(task.id, task.activity_id, command.comment, assignees))
    return released(task, record(task, context, *events))


def _demand_truth(command: SubmitResult, task: Task, context: Context) -> None:
    """Refuse a result whose times are none, or that was meant for another commerce."""
    for name in ("occurred_at", "follow_up_at"):
        said = getattr(command.report, name, None)
        if said is not None:
            instant(said, f"/report/{name}")
    if command.report is not None:
        settings.demand_outcome(context, command.report.outcome, command.report.follow_up_at, "/report")
    if command.commerce is None:
        return
    commerce = task.created.commerce
    fields = settings.entry_fields(context, "commerce", commerce) if commerce is not None else None
    if command.commerce not in (commerce, (fields or {}).get("external_id")):
        raise Rejected("not-found", f"the task is of no commerce {command.commerce}", "/commerce")
