"""The decisions on a task: each command against the lifecycle table, the rights table and what else it must respect."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from domain import lifecycle
from domain.checks import demand_fits
from domain.decider import (
    Context,
    Decider,
    Decision,
    changes,
    checked_schedule,
    given,
    merged,
    streams_of_id,
)
from domain.directory import known_hub
from domain.errors import Rejected
from domain.left_out import LEFT_OUT
from domain.lifecycle import TERMINAL
from domain.task import (
    EVENTS,
    AssignTask,
    CancelTask,
    ChangeTask,
    ClaimTask,
    CompleteTask,
    CreateTask,
    DispatchTask,
    FailTask,
    PauseTask,
    PauseTracker,
    ProcessTask,
    ReassignTask,
    ReportDispatch,
    ResolveTarget,
    ResumeTracker,
    RetryResolution,
    RetryTask,
    SaveTask,
    SubmitResult,
    Task,
    TaskBecameOverdue,
    TaskDataSaved,
    TaskFieldsChanged,
    TaskRescheduled,
    UnassignTask,
    WakeTask,
    evolve,
    sending,
)
from domain.task.assignment import assign, claim, reassign, unassign
from domain.task.creation import create
from domain.task.ending import cancel, fail, result, retry
from domain.task.recording import one, permit
from domain.task.targets import demand_unresolved
from domain.task.work import complete, joined, pause, process, save, track


def decide(command: Any, context: Context) -> Decision:
    """Decide a command on a task."""
    if isinstance(command, CreateTask):
        return create(command, context)
    if isinstance(command, (PauseTracker, ResumeTracker)):
        return track(command, context)
    task: Task | None = context.state("task", command.id)
    if task is None:
        raise Rejected("not-found", f"there is no task {command.id}", "/id")
    return _DECISIONS[type(command)](command, task, context)


def _change(command: ChangeTask, task: Task, context: Context) -> Decision:
    permit("task.change", task, context)
    lifecycle.transition("task.change", task.lifecycle)
    schedule = {"start": task.start, "end": task.end, **given(command, "start", "end")}
    start, end = schedule["start"], schedule["end"]
    checked_schedule(start, end, "")
    wanted = given(command, "title", "hub")
    if wanted.get("hub") is not None:
        known_hub(context, wanted["hub"], "/hub")
    old, new = changed_fields(task, wanted, command.fields)
    events: list[Any] = []
    if new:
        events.append(TaskFieldsChanged(task.id, task.activity_id, old, new))
    # Shown together, a draft's value stands before the field's own: what is written last must show.
    drafted = {name: value for name, value in command.fields.items() if name in task.data}
    before, after = changes(task.data, drafted)
    if after:
        joined(task.data, after, "/fields")
        events.append(TaskDataSaved(task.id, task.activity_id, before, after))
    if (start, end) != (task.start, task.end):
        events.append(TaskRescheduled(task.id, task.activity_id, task.start, task.end, start, end))
    decision = one(task, context, *events)
    assignees = task.assignees if command.assignees is LEFT_OUT else command.assignees or ()
    if set(assignees) != set(task.assignees):
        decision = _then(decision, task, context, _people_command(command.id, assignees, task))
    return _then(decision, task, context, CompleteTask(command.id)) if command.complete else decision


def _people_command(task_id: str, wanted: tuple[str, ...], task: Task) -> Any:
    if not wanted:
        return UnassignTask(task_id)
    return ReassignTask(task_id, wanted) if task.assignees else AssignTask(task_id, wanted)


def _then(decision: Decision, task: Task, context: Context, command: Any) -> Decision:
    """Add what another command on the same task does once the decision so far has taken effect."""
    own = context.stream("task", task.id)
    now: Task | None = task
    for stream, event in decision.events:
        if stream == own:
            now = evolve(now, event)
    assert now is not None  # noqa: S101
    try:
        more = _DECISIONS[type(command)](command, now, context)
    except Rejected as refusal:
        if refusal.code == "same-assignee":
            # Named another way, by e-mail perhaps: nothing is to be changed.
            return decision
        raise
    return Decision((*decision.events, *more.events), {**decision.claims, **more.claims})


def changed_fields(
    before: Any, wanted: dict[str, Any], fields: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (old, new) of title, hub and fields of a task or an activity, holding just what differs."""
    old, new = changes({"title": before.title, "hub": before.hub}, wanted)
    old_fields, new_fields = changes(before.fields, fields)
    if new_fields:
        if before.fields:
            demand_fits(merged(before.fields, new_fields), "it", "/fields")
        old["fields"], new["fields"] = old_fields, new_fields
    return old, new


def _retry_resolution(command: RetryResolution, task: Task, context: Context) -> Decision:
    permit("task.retry-resolution", task, context)
    lifecycle.transition("task.retry-resolution", task.lifecycle)
    demand_unresolved(task)
    return one(task, context, *sending.retry_resolution(task, context))


def _resolve_target(command: ResolveTarget, task: Task, context: Context) -> Decision:
    permit("task.resolve-target", task, context)
    lifecycle.transition("task.resolve-target", task.lifecycle)
    return one(task, context, *sending.resolve_target(task, command.target, command.user, context))


def _dispatch(command: DispatchTask, task: Task, context: Context) -> Decision:
    permit("task.dispatch", task, context)
    return one(task, context, *sending.request_dispatch(task, context))


def _report(command: ReportDispatch, task: Task, context: Context) -> Decision:
    sending.permit_system("task.report-dispatch", context)
    return sending.report(command, task, context)


def _wake(command: WakeTask, task: Task, context: Context) -> Decision:
    sending.permit_system("task.wake", context)
    if task.lifecycle in TERMINAL:
        return Decision()
    if command.kind == "overdue":
        current = task.end == command.due and not task.overdue
        return one(task, context, TaskBecameOverdue(task.id, task.activity_id, command.due)) if current else Decision()
    if task.wake != (command.kind, command.due):
        return Decision()
    if sending.comes_later(command.kind, task, context):
        return Decision()
    answer = sending.retry_resolution if command.kind == "resolution" else sending.wake_dispatch
    return one(task, context, *answer(task, context))


_DECISIONS: dict[type, Callable[[Any, Task, Context], Decision]] = {
    AssignTask: assign,
    ClaimTask: claim,
    ReassignTask: reassign,
    UnassignTask: unassign,
    ProcessTask: process,
    PauseTask: pause,
    SaveTask: save,
    ChangeTask: _change,
    CompleteTask: complete,
    FailTask: fail,
    CancelTask: cancel,
    RetryTask: retry,
    RetryResolution: _retry_resolution,
    ResolveTarget: _resolve_target,
    DispatchTask: _dispatch,
    ReportDispatch: _report,
    SubmitResult: result,
    WakeTask: _wake,
}


def reads(command: Any) -> Iterable[tuple[str, str]]:
    """Name the streams that the command is sure to look at, the task's own first."""
    if isinstance(command, CreateTask):
        return (*streams_of_id(command.id, "task"), *sending.reads(command))
    task_id = getattr(command, "id", None)
    return () if task_id is None else (("task", task_id),)


DECIDER = Decider(
    category="task",
    commands={
        "task.create": CreateTask,
        "task.assign": AssignTask,
        "task.claim": ClaimTask,
        "task.reassign": ReassignTask,
        "task.unassign": UnassignTask,
        "task.process": ProcessTask,
        "task.pause": PauseTask,
        "task.save": SaveTask,
        "task.change": ChangeTask,
        "task.complete": CompleteTask,
        "task.error": FailTask,
        "task.cancel": CancelTask,
        "task.retry": RetryTask,
        "task.retry-resolution": RetryResolution,
        "task.resolve-target": ResolveTarget,
        "task.dispatch": DispatchTask,
        "task.report-dispatch": ReportDispatch,
        "task.submit-result": SubmitResult,
        "task.wake": WakeTask,
        "tracker.pause": PauseTracker,
        "tracker.resume": ResumeTracker,
    },
    events=EVENTS,
    decide=decide,
    evolve=evolve,
    reads=reads,
)
