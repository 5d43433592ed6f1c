"""A change of several things of a task in one command, all of it or nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from domain import lifecycle
from domain.checks import demand_fits
from domain.decider import Context, Decision, changes, checked_schedule, given, merged
from domain.directory.lookup import known_hub
from domain.errors import Rejected
from domain.left_out import LEFT_OUT, left_out
from domain.limits import MAX_KEPT, Assignees, Fields, Id, Instant, Items, Key, Order, Title
from domain.task.assigning import AssignTask, ReassignTask, UnassignTask, assign, reassign, unassign
from domain.task.ending import CompleteTask, complete
from domain.task.recording import decides, permit, record
from domain.task.scheduling import TaskRescheduled
from domain.task.state import TASK, Task, evolve
from domain.task.working import TaskDataSaved, TaskFieldsChanged, joined


@TASK.command("task.change")
@dataclass(frozen=True, slots=True)
class ChangeTask:
    """What is left out stays as it is, what is null goes away; no people, as null or a list, takes the task from them.

    `complete` completes the task with all else that the command changes, or nothing of it is done. With `keeping`, the
    task has just `fields` from then on, and those of its fields that have one of these names.
    """

    id: Id
    title: Title | None = left_out()
    fields: Fields = field(default_factory=dict)
    start: Instant | None = left_out()
    end: Instant | None = left_out()
    hub: Id | None = left_out()
    assignees: Assignees | None = left_out()
    complete: bool = False
    order_index: Order | None = left_out()
    keeping: Annotated[tuple[Key, ...], Items(MAX_KEPT)] = left_out()


@decides(ChangeTask)
def _change(command: ChangeTask, task: Task, context: Context) -> Decision:
    permit("task.change", task, context)
    lifecycle.transition("task.change", task.lifecycle)
    schedule = {"start": task.start, "end": task.end, **given(command, "start", "end")}
    start, end = schedule["start"], schedule["end"]
    checked_schedule(start, end, "")
    wanted = given(command, "title", "hub", "order_index")
    if wanted.get("hub") is not None:
        known_hub(context, wanted["hub"], "/hub")
    fields = _fields_of(command, task)
    old, new = changed_fields(task, wanted, fields)
    events: list[Any] = []
    if new:
        events.append(TaskFieldsChanged(task.id, task.activity_id, old, new))
    # Shown together, a draft's value stands before the field's own: what is written last must show.
    drafted = {name: value for name, value in fields.items() if name in task.data}
    before, after = changes(task.data, drafted)
    if after:
        joined(task.data, after, "/fields")
        events.append(TaskDataSaved(task.id, task.activity_id, before, after))
    if (start, end) != (task.start, task.end):
        events.append(TaskRescheduled(task.id, task.activity_id, task.start, task.end, start, end))
    decision = record(task, context, *events)
    assignees = task.assignees if command.assignees is LEFT_OUT else command.assignees or ()
    if set(assignees) != set(task.assignees):
        decision = _then(decision, task, context, lambda now: _reassigned(now, assignees, context))
    if command.complete:
        decision = _then(decision, task, context, lambda now: complete(CompleteTask(now.id), now, context))
    return decision


def _fields_of(command: ChangeTask, task: Task) -> dict[str, Any]:
    """Return the fields that a command changes, with null for those that are to go."""
    if command.keeping is LEFT_OUT:
        return command.fields
    stay = {*command.fields, *command.keeping}
    return {**{name: None for name in {**task.fields, **task.data} if name not in stay}, **command.fields}


def _reassigned(task: Task, wanted: tuple[str, ...], context: Context) -> Decision:
    if not wanted:
        return unassign(UnassignTask(task.id), task, context)
    if task.assignees:
        return reassign(ReassignTask(task.id, wanted), task, context)
    return assign(AssignTask(task.id, wanted), task, context)


def _then(decision: Decision, task: Task, context: Context, decide: Callable[[Task], Decision]) -> Decision:
    """Add what a further decision on the task gives once the decision so far has taken effect."""
    own = context.stream("task", task.id)
    now: Task | None = task
    for stream, event in decision.events:
        if stream == own:
            now = evolve(now, event)
    assert now is not None  # noqa: S101
    try:
        more = decide(now)
    except Rejected as refusal:
        if refusal.code == "same-assignee":
            # Named another way, by e-mail perhaps: nothing is to be changed.
            return decision
        raise
    return Decision((*decision.events, *more.events), {**decision.unique_keys, **more.unique_keys})


def changed_fields(
    before: Any, wanted: dict[str, Any], fields: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (old, new) of the wanted values and the fields of a task or an activity, holding just what differs."""
    old, new = changes({name: getattr(before, name) for name in wanted}, wanted)
    old_fields, new_fields = changes(before.fields, fields)
    if new_fields:
        if before.fields:
            demand_fits(merged(before.fields, new_fields), "it", "/fields")
        old["fields"], new["fields"] = old_fields, new_fields
    return old, new
