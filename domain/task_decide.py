"""The decisions on a task: each command against the lifecycle table, the rights table and what else it must respect."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from domain import lifecycle
from domain.decider import (
    Claim,
    Context,
    Decider,
    Decision,
    changes,
    checked_id,
    checked_schedule,
    instant,
    own_id,
)
from domain.directory import Eligibility, People, actor_kind, demand_eligible, known, known_hub
from domain.errors import Rejected
from domain.lifecycle import ACTIVE, ASSIGNEE, CANCELED, COMPLETED, FAILED, OPEN, PAUSED, TERMINAL
from domain.task import (
    EVENTS,
    AssignTask,
    AttributesResolved,
    CancelTask,
    ChangeTask,
    ClaimTask,
    CompleteTask,
    CreateTask,
    FailTask,
    PauseTask,
    ProcessTask,
    ReassignTask,
    Resolution,
    RetryTask,
    SaveTask,
    Task,
    TaskAssigned,
    TaskCanceled,
    TaskCompleted,
    TaskCreated,
    TaskDataSaved,
    TaskFailed,
    TaskFieldsChanged,
    TaskPaused,
    TaskReassigned,
    TaskRescheduled,
    TaskResumed,
    TaskRetried,
    TaskStarted,
    TaskUnassigned,
    UnassignTask,
    evolve,
)

MOST_ASSIGNEES = 50


def decide(command: Any, context: Context) -> Decision:
    """Decide a command on a task."""
    if isinstance(command, CreateTask):
        return _create(command, context)
    task: Task | None = context.state("task", checked_id(command.id, "/id"))
    if task is None:
        raise Rejected("not-found", f"there is no task {command.id}", "/id")
    return _DECISIONS[type(command)](command, task, context)


def _create(command: CreateTask, context: Context) -> Decision:
    lifecycle.permit("task.create", actor_kind(context, (), command.project))
    task_id = own_id(command.id, context)
    if command.id is not None and context.state("task", task_id) is not None:
        raise Rejected("taken", f"there is a task {task_id} already", "/id")
    checked_schedule(command.start, command.end, "")
    if command.hub is not None:
        known_hub(context, command.hub, "/hub")
    for kind in ("project", "commerce", "route", "operator"):
        reference = getattr(command, kind)
        if reference is not None:
            known(context, kind, reference, f"/{kind}")
    people = People(context)
    rule = Eligibility(command.project, command.roles, command.whitelist, command.blacklist)
    assignees = resolved_assignees(command.assignees, people, rule, context, "/assignees")
    created = TaskCreated(
        id=task_id,
        title=command.title,
        flow=command.flow,
        flow_id=command.flow_id,
        fields=command.fields,
        start=command.start,
        end=command.end,
        hub=command.hub,
        project=command.project,
        commerce=command.commerce,
        route=command.route,
        operator=command.operator,
        roles=command.roles,
        whitelist=command.whitelist,
        blacklist=command.blacklist,
    )
    stream = context.stream("task", task_id)
    events: list[tuple[str, Any]] = [*people.events, (stream, created)]
    if assignees:
        events.append((stream, TaskAssigned(task_id, None, assignees)))
    provided = {
        attribute.key: attribute.fallback if attribute.value is None else attribute.value
        for attribute in command.attributes
        if attribute.value is not None or attribute.fallback is not None
    }
    if provided:
        events.append((stream, AttributesResolved(task_id, None, provided)))
    return Decision(tuple(events), people.claims)


def resolved_assignees(
    references: Iterable[str], people: People, rule: Eligibility, context: Context, pointer: str
) -> tuple[str, ...]:
    """Return the member ids of people who may have the task, registering e-mails not known yet."""
    references = tuple(references)
    if len(references) > MOST_ASSIGNEES:
        raise Rejected("invalid", f"a task has at most {MOST_ASSIGNEES} assignees", pointer)
    members = people.resolve(references, pointer)
    demand_eligible(context, people, members, rule, pointer)
    return members


def _permit(command: str, task: Task, context: Context) -> None:
    kind = actor_kind(context, task.assignees, task.created.project)
    if kind == ASSIGNEE and ASSIGNEE not in lifecycle.RIGHTS[command][0]:
        # A manager who took the task still manages it.
        kind = actor_kind(context, (), task.created.project)
    lifecycle.permit(command, kind)


def _one(task: Task, context: Context, *events: Any) -> Decision:
    stream = context.stream("task", task.id)
    return Decision(tuple((stream, event) for event in events))


def _released(task: Task, decision: Decision) -> Decision:
    """Add that the person at work has no running task any more."""
    if task.lifecycle is not ACTIVE or task.runner is None:
        return decision
    return Decision(decision.events, {Claim("running", task.runner): None, **decision.claims})


def _assign(command: AssignTask, task: Task, context: Context) -> Decision:
    _permit("task.assign", task, context)
    if not command.assignees:
        raise Rejected("invalid", "name at least one assignee, or use task.unassign", "/assignees")
    return _given_to(command.assignees, command.start, "task.assign", "/assignees", task, context)


def _claim(command: ClaimTask, task: Task, context: Context) -> Decision:
    _permit("task.claim", task, context)
    if command.member is not None and context.actor not in (lifecycle.SYSTEM, command.member):
        raise Rejected("forbidden", "a claim is for oneself", "/member")
    member = command.member if command.member is not None else context.actor
    if member == lifecycle.SYSTEM:
        raise Rejected("invalid", "name the member that claims the task", "/member")
    try:
        return _given_to((member,), command.start, "task.claim", "/member", task, context)
    except Rejected as refusal:
        # The command names one person, not a list of them.
        raise Rejected(refusal.code, refusal.detail, refusal.pointer.removesuffix("/0")) from None


def _given_to(
    references: Iterable[str], start: bool, command: str, pointer: str, task: Task, context: Context
) -> Decision:
    if task.assignees and task.lifecycle not in TERMINAL:
        raise Rejected("already-assigned", f"the task is {', '.join(task.assignees)}'s")
    lifecycle.guard(command, task.lifecycle)
    people = People(context)
    members = resolved_assignees(references, people, task.eligibility, context, pointer)
    stream = context.stream("task", task.id)
    assigned = TaskAssigned(task.id, task.activity_id, members)
    decision = Decision((*people.events, (stream, assigned)), people.claims)
    if not start:
        return decision
    started = _start(task, members[0], context, people.is_new(members[0]))
    return Decision((*decision.events, *started.events), {**decision.claims, **started.claims})


def _reassign(command: ReassignTask, task: Task, context: Context) -> Decision:
    _permit("task.reassign", task, context)
    lifecycle.guard("task.reassign", task.lifecycle)
    if not task.assignees:
        raise Rejected("not-assigned", "the task is nobody's yet")
    if not command.assignees:
        raise Rejected("invalid", "name at least one assignee, or use task.unassign", "/assignees")
    people = People(context)
    members = resolved_assignees(command.assignees, people, task.eligibility, context, "/assignees")
    if set(members) == set(task.assignees):
        raise Rejected("same-assignee", "the task is theirs already", "/assignees")
    event = TaskReassigned(task.id, task.activity_id, task.assignees, members)
    decision = _one(task, context, *_paused(task, "reassigned"), event)
    return _released(task, Decision((*people.events, *decision.events), people.claims))


def _unassign(command: UnassignTask, task: Task, context: Context) -> Decision:
    _permit("task.unassign", task, context)
    lifecycle.guard("task.unassign", task.lifecycle)
    if not task.assignees:
        raise Rejected("not-assigned", "the task is nobody's")
    event = TaskUnassigned(task.id, task.activity_id, task.assignees)
    return _released(task, _one(task, context, *_paused(task, "unassigned"), event))


def _paused(task: Task, reason: str) -> tuple[TaskPaused, ...]:
    return (TaskPaused(task.id, task.activity_id, reason),) if task.lifecycle is ACTIVE else ()


def _process(command: ProcessTask, task: Task, context: Context) -> Decision:
    lifecycle.guard("task.process", task.lifecycle)
    _permit("task.process", task, context)
    return _start(task, _runner(task, context), context)


def _runner(task: Task, context: Context) -> str | None:
    if context.actor in task.assignees:
        return context.actor
    return task.assignees[0] if task.assignees else None


def _start(task: Task, runner: str | None, context: Context, new: bool = False) -> Decision:
    """Start or resume; a person has one running task, so another one of theirs is paused in the same transaction.

    `new` says that the command itself registers the person, who then has no other task and is not looked up.
    """
    if task.resolution is Resolution.FAILED:
        raise Rejected("unresolved", "the task's targets are not resolved")
    _demand_unblocked(task, context)
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


def _demand_unblocked(task: Task, context: Context) -> None:
    if not task.created.after:
        return
    for earlier in context.all_states("task", task.created.after):
        # A cancelled step is one that will not happen; what follows it must not wait for ever.
        if earlier is None or earlier.lifecycle not in (COMPLETED, CANCELED):
            raise Rejected("blocked", "an earlier step is not done with")


def _pause(command: PauseTask, task: Task, context: Context) -> Decision:
    lifecycle.guard("task.pause", task.lifecycle)
    _permit("task.pause", task, context)
    return _released(task, _one(task, context, *_paused(task, "asked")))


def _save(command: SaveTask, task: Task, context: Context) -> Decision:
    lifecycle.guard("task.save", task.lifecycle)
    _permit("task.save", task, context)
    old, new = changes(task.data, command.data)
    if not new:
        return Decision()
    return _one(task, context, TaskDataSaved(task.id, task.activity_id, old, new))


def _change(command: ChangeTask, task: Task, context: Context) -> Decision:
    _permit("task.change", task, context)
    lifecycle.guard("task.change", task.lifecycle)
    start = command.start if command.start is not None else task.start
    end = command.end if command.end is not None else task.end
    checked_schedule(start, end, "")
    if command.hub is not None:
        known_hub(context, command.hub, "/hub")
    old, new = changed_fields(task.title, task.hub, task.fields, command)
    events: list[Any] = []
    if new:
        events.append(TaskFieldsChanged(task.id, task.activity_id, old, new))
    if (start, end) != (task.start, task.end):
        events.append(TaskRescheduled(task.id, task.activity_id, task.start, task.end, start, end))
    return _one(task, context, *events)


def changed_fields(
    title: str | None, hub: str | None, fields: dict[str, Any], command: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (old, new) of title, hub and fields, holding just what the command changes."""
    wanted = {key: value for key, value in (("title", command.title), ("hub", command.hub)) if value is not None}
    old, new = changes({"title": title, "hub": hub}, wanted)
    old_fields, new_fields = changes(fields, command.fields)
    if new_fields:
        old["fields"], new["fields"] = old_fields, new_fields
    return old, new


def _complete(command: CompleteTask, task: Task, context: Context) -> Decision:
    lifecycle.guard("task.complete", task.lifecycle)
    _permit("task.complete", task, context)
    _demand_unblocked(task, context)
    late = False
    if task.end is not None and context.now > instant(task.end, "/end"):
        policy = context.state("policy", "late-completion")
        rule = "flag" if policy is None or policy.retired else policy.fields["value"]
        if rule == "reject":
            raise Rejected("late", f"the task was due by {task.end}")
        late = rule == "flag"
    events: tuple[Any, ...] = (TaskCompleted(task.id, task.activity_id, {**task.data, **command.data}, late),)
    if task.lifecycle is OPEN:
        if not task.assignees:
            raise Rejected("not-assignee", "a task that nobody has cannot be completed; assign or start it first")
        events = (TaskStarted(task.id, task.activity_id, _runner(task, context)), *events)
    return _released(task, _one(task, context, *events))


def _fail(command: FailTask, task: Task, context: Context) -> Decision:
    _permit("task.error", task, context)
    lifecycle.guard("task.error", task.lifecycle)
    return _released(task, _one(task, context, TaskFailed(task.id, task.activity_id, command.comment)))


def _cancel(command: CancelTask, task: Task, context: Context) -> Decision:
    _permit("task.cancel", task, context)
    if task.lifecycle is not FAILED or not _activity_canceled(task, context):
        lifecycle.guard("task.cancel", task.lifecycle)
    return canceled(task, command.reason, context)


def canceled(task: Task, reason: str | None, context: Context) -> Decision:
    """Cancel a task that may be cancelled: its people are free of it, and the event remembers them."""
    event = TaskCanceled(task.id, task.activity_id, reason, task.assignees)
    return _released(task, _one(task, context, event))


def _retry(command: RetryTask, task: Task, context: Context) -> Decision:
    _permit("task.retry", task, context)
    lifecycle.guard("task.retry", task.lifecycle)
    if _activity_canceled(task, context):
        raise Rejected("activity-canceled", "its activity was cancelled")
    return _one(task, context, TaskRetried(task.id, task.activity_id))


def _activity_canceled(task: Task, context: Context) -> bool:
    if task.activity_id is None:
        return False
    activity = context.state("activity", task.activity_id)
    return activity is not None and activity.canceled


_DECISIONS: dict[type, Callable[[Any, Task, Context], Decision]] = {
    AssignTask: _assign,
    ClaimTask: _claim,
    ReassignTask: _reassign,
    UnassignTask: _unassign,
    ProcessTask: _process,
    PauseTask: _pause,
    SaveTask: _save,
    ChangeTask: _change,
    CompleteTask: _complete,
    FailTask: _fail,
    CancelTask: _cancel,
    RetryTask: _retry,
}


def reads(command: Any) -> Iterable[tuple[str, str]]:
    """Name the task's own stream."""
    return () if command.id is None else (("task", command.id),)


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
    },
    events=EVENTS,
    decide=decide,
    evolve=evolve,
    reads=reads,
)
