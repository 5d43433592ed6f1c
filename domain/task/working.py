"""Work on a task: starting and pausing it, and its data and fields meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_never

from domain import lifecycle
from domain.checks import demand_fits
from domain.decider import Context, Decision, UniqueKey, changes, merged
from domain.directory.eligibility import actor_kind
from domain.directory.lookup import at_work
from domain.directory.members import known_person
from domain.errors import Rejected
from domain.lifecycle import ACTIVE, ADMIN, MANAGER, PAUSED, SYSTEM
from domain.limits import Fields, Id, Person
from domain.task.gating import demand_unblocked
from domain.task.recording import decides, permit, person_of, record, released, spoken_for
from domain.task.state import TASK, Facts, Task


@TASK.command("task.process")
@dataclass(frozen=True, slots=True)
class ProcessTask:
    """Start the task, or go on with it."""

    id: Id


@TASK.command("task.pause")
@dataclass(frozen=True, slots=True)
class PauseTask:
    id: Id


@TASK.command("task.save")
@dataclass(frozen=True, slots=True)
class SaveTask:
    """What is left out stays as it is, what is null goes away; the task is not completed."""

    id: Id
    data: Fields


@TASK.command("tracker.pause")
@dataclass(frozen=True, slots=True)
class PauseTracker:
    """Pause the task that a person is working on; `member` names the person for whom the system or a manager speaks."""

    member: Person | None = None


@TASK.command("tracker.resume")
@dataclass(frozen=True, slots=True)
class ResumeTracker:
    """Go on with the task that the tracker paused last."""

    member: Person | None = None


@TASK.event("task.started")
@dataclass(frozen=True, slots=True)
class TaskStarted:
    """`runner` is the person at work, None when a system started a task of nobody's."""

    id: str
    activity_id: str | None
    runner: str | None


@TASK.event("task.resumed")
@dataclass(frozen=True, slots=True)
class TaskResumed:
    id: str
    activity_id: str | None
    runner: str | None


@TASK.event("task.paused")
@dataclass(frozen=True, slots=True)
class TaskPaused:
    """`reason` is `asked`, `reassigned`, `unassigned` or `other-task-started`."""

    id: str
    activity_id: str | None
    reason: str


@TASK.event("task.data-saved")
@dataclass(frozen=True, slots=True)
class TaskDataSaved:
    id: str
    activity_id: str | None
    old: dict[str, Any]
    new: dict[str, Any]


@TASK.event("task.fields-changed")
@dataclass(frozen=True, slots=True)
class TaskFieldsChanged:
    """Title, hub, order index and fields; `old` and `new` hold just what differs."""

    id: str
    activity_id: str | None
    old: dict[str, Any]
    new: dict[str, Any]


_Event = TaskStarted | TaskResumed | TaskPaused | TaskDataSaved | TaskFieldsChanged


@TASK.evolves(_Event)
def _evolve(task: Facts, event: _Event) -> None:
    match event:
        case TaskStarted() | TaskResumed():
            task.lifecycle = ACTIVE
            task.runner = event.runner
        case TaskPaused():
            task.lifecycle = PAUSED
            task.runner = None
        case TaskDataSaved():
            task.data = merged(task.data, event.new)
        case TaskFieldsChanged():
            task.fields = merged(task.fields, event.new.get("fields", {}))
            if "title" in event.new:
                task.title = event.new["title"]
            if "hub" in event.new:
                task.hub = event.new["hub"]
            if "order_index" in event.new:
                task.order_index = event.new["order_index"]
        case _:
            assert_never(event)


@decides(ProcessTask)
def process(command: ProcessTask, task: Task, context: Context) -> Decision:
    """Start a task, or go on with it."""
    lifecycle.transition("task.process", task.lifecycle)
    permit("task.process", task, context)
    if context.actor not in task.assignees:
        # What the runner and the start look at, in one round.
        people = task.assignees
        context.load([("member", member) for member in people], [UniqueKey("running", member) for member in people])
    return start(task, runner_of(task, context), context)


def runner_of(task: Task, context: Context) -> str | None:
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
    if task.unresolved:
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
    return Decision(events, {UniqueKey("running", runner): task.id})


@decides(PauseTask)
def pause(command: PauseTask, task: Task, context: Context) -> Decision:
    """Pause a task."""
    lifecycle.transition("task.pause", task.lifecycle)
    permit("task.pause", task, context)
    return released(task, record(task, context, *pause_of(task, "asked")))


def pause_of(task: Task, reason: str) -> tuple[TaskPaused, ...]:
    """Return the pause of a task that is being worked on, and nothing for any other."""
    return (TaskPaused(task.id, task.activity_id, reason),) if task.lifecycle is ACTIVE else ()


@decides(SaveTask)
def save(command: SaveTask, task: Task, context: Context) -> Decision:
    """Keep a draft of a task's data."""
    lifecycle.transition("task.save", task.lifecycle)
    permit("task.save", task, context)
    old, new = changes(task.data, command.data)
    if new:
        joined(task.data, new, "/data")
    saved = [TaskDataSaved(task.id, task.activity_id, old, new)] if new else []
    return record(task, context, *saved, *taken_away(task, command.data))


def taken_away(task: Task, data: dict[str, Any]) -> list[TaskFieldsChanged]:
    """Return what nulls in a draft or an output do to the task's own fields of these names: they go away as well.

    What is shown is the fields with the draft over them, so a field that stayed would show again.
    """
    old, new = changes(task.fields, {name: None for name, value in data.items() if value is None})
    return [TaskFieldsChanged(task.id, task.activity_id, {"fields": old}, {"fields": new})] if new else []


def joined(data: dict[str, Any], more: dict[str, Any], pointer: str) -> dict[str, Any]:
    """Return a task's data with what a command adds to it; refuses what would be too large."""
    whole = {**data, **more}
    # What a command brings was measured when it came.
    if data:
        demand_fits(whole, "the task's data", pointer)
    return whole


@TASK.decides(PauseTracker)
def pause_tracker(command: PauseTracker, context: Context) -> Decision:
    """Pause whatever a person has at hand; the tracker remembers what it paused last."""
    lifecycle.permit("tracker.pause", actor_kind(context, (), None))
    member = known_person(context, person_of(command.member, context), "/member")
    running = context.holder("running", member)
    task: Task | None = context.state("task", running) if running is not None else None
    if member != context.actor:
        project = task.created.project if task is not None else None
        if actor_kind(context, (), project) not in (MANAGER, ADMIN, SYSTEM):
            raise Rejected("forbidden", "only a manager of the project may pause another's work", "/member")
    if task is None or task.runner != member:
        raise Rejected("not-processing", "this person is working on nothing")
    tracked = UniqueKey("tracker", member)
    context.holder(*tracked)
    paused = released(task, record(task, context, *pause_of(task, "asked")))
    return Decision(paused.events, {**paused.unique_keys, tracked: task.id})


@TASK.decides(ResumeTracker)
def resume_tracker(command: ResumeTracker, context: Context) -> Decision:
    """Go on with what the tracker paused last."""
    member = _tracked("tracker.resume", command.member, context)
    tracked = UniqueKey("tracker", member)
    last = context.holder(*tracked)
    task: Task | None = context.state("task", last) if last is not None else None
    if task is None or task.lifecycle is not PAUSED or member not in task.assignees:
        raise Rejected("not-paused", "the tracker has paused nothing that could go on")
    started = start(task, member, context)
    return Decision(started.events, {**started.unique_keys, tracked: None})


def _tracked(command: str, member: str | None, context: Context) -> str:
    lifecycle.permit(command, actor_kind(context, (), None))
    return known_person(context, spoken_for(member, context, "a tracker is one's own"), "/member")
