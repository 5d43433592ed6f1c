"""Work on a task: starting, pausing, saving and completing it, and what a completed step hands on."""

from __future__ import annotations

from typing import Any

from domain import configuration, lifecycle
from domain.checks import demand_fits
from domain.decider import (
    Claim,
    Context,
    Decision,
    changes,
    instant,
)
from domain.directory import actor_kind, at_work
from domain.errors import Rejected
from domain.lifecycle import ACTIVE, OPEN, PAUSED, TERMINAL
from domain.people import known_person
from domain.task import (
    CompleteTask,
    PauseTask,
    PauseTracker,
    ProcessTask,
    Resolution,
    ResumeTracker,
    SaveTask,
    Task,
    TaskCompleted,
    TaskDataSaved,
    TaskFieldsChanged,
    TaskFieldsMapped,
    TaskPaused,
    TaskResumed,
    TaskStarted,
)
from domain.task.gating import demand_unblocked
from domain.task.recording import one, pause_of, permit, released, spoken_for


def process(command: ProcessTask, task: Task, context: Context) -> Decision:
    """Start a task, or go on with it."""
    lifecycle.transition("task.process", task.lifecycle)
    permit("task.process", task, context)
    if context.actor not in task.assignees:
        # What the runner and the start look at, in one round.
        people = task.assignees
        context.load([("member", member) for member in people], [Claim("running", member) for member in people])
    return start(task, _runner(task, context), context)


def _runner(task: Task, context: Context) -> str | None:
    """Return who works on the task from now on, None when nobody has it; refuses what only retired people have."""
    if context.actor in task.assignees:
        return context.actor
    if not task.assignees:
        return None
    able = at_work(context, task.assignees)
    if not able:
        raise Rejected("not-assignee", "whoever has the task was retired; reassign it first")
    return able[0]


def start(task: Task, runner: str | None, context: Context, new: bool = False) -> Decision:
    """Start or resume; a person has one running task, so another one of theirs is paused in the same transaction.

    `new` says that the command itself registers the person, who then has no other task and is not looked up.
    """
    if task.resolution in (Resolution.PENDING, Resolution.FAILED):
        raise Rejected("unresolved", "the task's targets are not resolved")
    demand_unblocked(task, context)
    event = TaskResumed if task.lifecycle is PAUSED else TaskStarted
    own = (context.stream("task", task.id), event(task.id, task.activity_id, runner))
    if runner is None:
        return Decision((own,))
    running = None if new else context.holder("running", runner)
    events: tuple[tuple[str, Any], ...] = (own,)
    if running is not None and running != task.id:
        other: Task | None = context.state("task", running)
        if other is not None and other.lifecycle is ACTIVE:
            pause = TaskPaused(other.id, other.activity_id, "other-task-started")
            events = ((context.stream("task", other.id), pause), own)
    return Decision(events, {Claim("running", runner): task.id})


def pause(command: PauseTask, task: Task, context: Context) -> Decision:
    """Pause a task."""
    lifecycle.transition("task.pause", task.lifecycle)
    permit("task.pause", task, context)
    return released(task, one(task, context, *pause_of(task, "asked")))


def save(command: SaveTask, task: Task, context: Context) -> Decision:
    """Keep a draft of a task's data."""
    lifecycle.transition("task.save", task.lifecycle)
    permit("task.save", task, context)
    old, new = changes(task.data, command.data)
    if new:
        joined(task.data, new, "/data")
    saved = [TaskDataSaved(task.id, task.activity_id, old, new)] if new else []
    return one(task, context, *saved, *taken_away(task, command.data))


def taken_away(task: Task, data: dict[str, Any]) -> list[TaskFieldsChanged]:
    """Return what nulls in a draft or an output do to the task's own fields of these names: they go away as well.

    What is shown is the fields with the draft over them, so a field that stayed would show again.
    """
    old, new = changes(task.fields, {name: None for name, value in data.items() if value is None})
    return [TaskFieldsChanged(task.id, task.activity_id, {"fields": old}, {"fields": new})] if new else []


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
        events.append(TaskStarted(task.id, task.activity_id, _runner(task, context)))
    events.append(TaskCompleted(task.id, task.activity_id, output, late))
    return fed(task, output, released(task, one(task, context, *events)), context)


def joined(data: dict[str, Any], more: dict[str, Any], pointer: str) -> dict[str, Any]:
    """Return a task's data with what a command adds to it; refuses what would be too large."""
    whole = {**data, **more}
    # What a command brings was measured when it came.
    if data:
        demand_fits(whole, "the task's data", pointer)
    return whole


def lateness(task: Task, context: Context) -> str | None:
    """Return what the tenant says of completing the task now that its end has passed; None when it has not."""
    if task.end is None or context.now <= instant(task.end, "/end"):
        return None
    policy = configuration.entry_fields(context, "policy", "late-completion")
    return "flag" if policy is None else str(policy["value"])


def fed(task: Task, output: dict[str, Any], decision: Decision, context: Context) -> Decision:
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
    return Decision((*decision.events, *events), decision.claims)


def is_blank(value: Any) -> bool:
    """Tell whether a field has nothing in it; zero and false are something."""
    return value is None or value in ("", [], {})


def track(command: PauseTracker | ResumeTracker, context: Context) -> Decision:
    """Pause or resume whatever a person has at hand; the tracker remembers what it paused last."""
    name = "tracker.pause" if isinstance(command, PauseTracker) else "tracker.resume"
    lifecycle.permit(name, actor_kind(context, (), None))
    member = known_person(context, spoken_for(command, context, "a tracker is one's own"), "/member")
    tracked = Claim("tracker", member)
    if isinstance(command, PauseTracker):
        running = context.holder("running", member)
        task: Task | None = context.state("task", running) if running is not None else None
        if task is None or task.runner != member:
            raise Rejected("not-processing", "this person is working on nothing")
        context.holder(*tracked)
        paused = released(task, one(task, context, *pause_of(task, "asked")))
        return Decision(paused.events, {**paused.claims, tracked: task.id})
    last = context.holder(*tracked)
    task = context.state("task", last) if last is not None else None
    if task is None or task.lifecycle is not PAUSED or member not in task.assignees:
        raise Rejected("not-paused", "the tracker has paused nothing that could go on")
    started = start(task, member, context)
    return Decision(started.events, {**started.claims, tracked: None})
