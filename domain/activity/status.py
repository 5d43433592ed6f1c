"""The status of an activity: recorded with the command that changes it, in the same transaction.

Whatever a decision does to tasks, `rolled_up` adds what follows for their activities: the status, the end of the
siblings of a failed task in a `fail_fast` workflow, and the unique key on the workflow, which an activity holds until
it has ended. The siblings are read like all else, so a concurrent change of one makes the decision anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from domain.activity.state import ACTIVITY, Activity
from domain.activity.state import evolve as evolve_activity
from domain.aggregate import Aggregate
from domain.decider import Context, Decider, Decision, UniqueKey
from domain.lifecycle import FAILED, OPEN, TERMINAL, Lifecycle
from domain.rollup import UNTOUCHED, Part, Status, part_of, status_of
from domain.task.ending import canceled
from domain.task.state import TASK, Task
from domain.task.state import evolve as evolve_task
from domain.workflow import use_of

# A category of its own, so that no id of an activity can name its stream.
STATUS_CATEGORY = "activity_status"
_FAIL_FAST = "fail_fast"
_STATUS = Aggregate(STATUS_CATEGORY)


@_STATUS.event("activity.status-changed")
@dataclass(frozen=True, slots=True)
class ActivityStatusChanged:
    """What the roll-up gives after a command; `progress` counts the tasks by their states."""

    id: str
    old: str
    new: str
    rule: str
    progress: dict[str, int]


@_STATUS.evolves(ActivityStatusChanged)
def evolve_status(_: Lifecycle | None, event: ActivityStatusChanged) -> Lifecycle:
    """Return the status after one more event; None is that of an activity whose status never changed."""
    return Lifecycle(event.new)


# No command is about a status alone.
STATUS_DECIDER = _STATUS.decider(evolve_status, lambda _: ())


def rolled_up(decider: Decider) -> Decider:
    """Return the decider with decisions that include what follows for activities."""

    def decide(command: Any, context: Context) -> Decision:
        return with_status(decider.decide(command, context), context)

    return replace(decider, decide=decide)


def with_status(decision: Decision, context: Context) -> Decision:
    """Add what follows for the activities whose tasks a decision changes."""
    if not decision.events:
        return decision
    touched = _touched(decision, context)
    for activity_id, each in touched.items():
        if each.matters:
            decision = _concluded(decision, activity_id, each, context)
    if not touched:
        return decision
    states = {stream: each.tasks[stream] for each in touched.values() for stream in each.before}
    return Decision(decision.events, decision.unique_keys, states)


@dataclass(slots=True)
class _Touched:
    """An activity that a decision has events of, or of its tasks: what they leave, and what they found."""

    activity: Activity | None = None
    is_new: bool = False
    is_canceled: bool = False
    # By the names of their streams; `before` has those that the decision has events of.
    tasks: dict[str, Task | None] = field(default_factory=dict)
    before: dict[str, Task | None] = field(default_factory=dict)

    @property
    def matters(self) -> bool:
        """Whether the status may be another one than before."""
        for name, before in self.before.items():
            if _part(before) != _part(self.tasks[name]):
                return True
        return self.is_canceled

    @property
    def has_failure(self) -> bool:
        """Whether a task failed."""
        return any(_failed(self.tasks[name]) and not _failed(before) for name, before in self.before.items())


def _touched(decision: Decision, context: Context) -> dict[str, _Touched]:
    touched: dict[str, _Touched] = {}
    for stream, event in decision.events:
        if type(event) in TASK.arms:
            if event.activity_id is None:
                continue
            each = touched.get(event.activity_id)
            if each is None:
                each = touched[event.activity_id] = _Touched()
            if stream not in each.tasks:
                each.before[stream] = each.tasks[stream] = context.states.get(stream)
            each.tasks[stream] = evolve_task(each.tasks[stream], event)
        elif type(event) in ACTIVITY.arms:
            each = touched.setdefault(event.id, _Touched())
            before = each.activity if each.activity is not None else context.states.get(stream)
            each.activity = evolve_activity(before, event)
            each.is_new = each.is_new or before is None
            each.is_canceled = each.activity is not None and each.activity.canceled
    return touched


def _concluded(decision: Decision, activity_id: str, touched: _Touched, context: Context) -> Decision:
    stream, recorded, activity = context.stream(STATUS_CATEGORY, activity_id), None, touched.activity
    if not touched.is_new:
        found, recorded = context.read((context.stream("activity", activity_id), stream))
        activity = activity or found
    if activity is None:
        return decision
    recorded, tasks = recorded or OPEN, touched.tasks
    named = context.stream("task", "")
    children = [named + child for child in activity.children]
    others = [child for child in children if child not in tasks]
    if others:
        tasks |= zip(others, context.read(others), strict=True)
    status = status_from(activity, [tasks[child] for child in children])
    # Where the recorded status lacks the failure, so may the end of the siblings.
    if status.rule == "U4" and (touched.has_failure or status.lifecycle is not recorded):
        ended = canceled_siblings([tasks[child] for child in children], context)
        for child, event in ended.events:
            touched.before.setdefault(child, tasks[child])
            tasks[child] = evolve_task(tasks[child], event)
        decision = joined(decision, ended)
        status = status_from(activity, [tasks[child] for child in children])
    if status.lifecycle is recorded:
        return decision
    changed = ActivityStatusChanged(
        activity.id, recorded.value, status.lifecycle.value, status.rule, dict(status.progress)
    )
    use = workflow_use(activity, changed)
    for unique, holder in use.items():
        if holder is not None:
            context.holder(*unique)
    return joined(decision, Decision(((stream, changed),), use))


def status_from(activity: Activity, tasks: Iterable[Task | None]) -> Status:
    """Return the status of an activity with these tasks."""
    return status_of(tuple(map(_part, tasks)), activity.canceled, activity.failure == _FAIL_FAST)


def canceled_siblings(tasks: Iterable[Task | None], context: Context) -> Decision:
    """Return the end of those tasks that have not ended."""
    return joined(*(canceled(task, "sibling-failed", context) for task in tasks if task and not _ended(task.lifecycle)))


def workflow_use(activity: Activity, change: ActivityStatusChanged) -> dict[UniqueKey, str | None]:
    """Return the change of the unique key on the workflow: given up when the activity ends, taken when it goes on."""
    ended = _ended(Lifecycle(change.new))
    if ended == _ended(Lifecycle(change.old)):
        return {}
    return {UniqueKey(use_of(activity.workflow_id), activity.id): None if ended else activity.id}


def joined(*decisions: Decision) -> Decision:
    """Return several decisions as one."""
    return Decision(
        tuple(event for each in decisions for event in each.events),
        {unique: holder for each in decisions for unique, holder in each.unique_keys.items()},
    )


def _part(task: Task | None) -> Part:
    return UNTOUCHED if task is None else part_of(task)


def _failed(task: Task | None) -> bool:
    return task is not None and task.lifecycle is FAILED


def _ended(lifecycle: Lifecycle) -> bool:
    return lifecycle in TERMINAL
