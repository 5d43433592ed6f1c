"""Whose a task is: assigned, claimed, reassigned or given back, only to those who may have it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from domain import lifecycle
from domain.decider import Context, Decision
from domain.directory.eligibility import Eligibility
from domain.directory.members import MemberResolver, demand_eligible
from domain.errors import Rejected
from domain.lifecycle import OPEN, TERMINAL
from domain.limits import Id, NewAssignees, Person
from domain.task.recording import decides, permit, record, released, spoken_for
from domain.task.scheduling import back_in_line
from domain.task.state import TASK, Facts, Task
from domain.task.working import pause_of, start


@TASK.command("task.assign")
@dataclass(frozen=True, slots=True)
class AssignTask:
    id: Id
    assignees: NewAssignees
    start: bool = False


@TASK.command("task.claim")
@dataclass(frozen=True, slots=True)
class ClaimTask:
    """The actor takes the task; `member` names the person when `system` speaks for one."""

    id: Id
    member: Person | None = None
    start: bool = False


@TASK.command("task.reassign")
@dataclass(frozen=True, slots=True)
class ReassignTask:
    id: Id
    assignees: NewAssignees


@TASK.command("task.unassign")
@dataclass(frozen=True, slots=True)
class UnassignTask:
    id: Id


@TASK.event("task.assigned")
@dataclass(frozen=True, slots=True)
class TaskAssigned:
    id: str
    activity_id: str | None
    assignees: tuple[str, ...]


@TASK.event("task.reassigned")
@dataclass(frozen=True, slots=True)
class TaskReassigned:
    id: str
    activity_id: str | None
    old: tuple[str, ...]
    assignees: tuple[str, ...]


@TASK.event("task.unassigned")
@dataclass(frozen=True, slots=True)
class TaskUnassigned:
    id: str
    activity_id: str | None
    old: tuple[str, ...]


_Event = TaskAssigned | TaskReassigned | TaskUnassigned


@TASK.evolves(_Event)
def _evolve(task: Facts, event: _Event) -> None:
    match event:
        case TaskAssigned() | TaskReassigned():
            task.lifecycle = OPEN
            task.runner = None
            task.assignees = event.assignees
        case TaskUnassigned():
            task.lifecycle = OPEN
            task.runner = None
            task.assignees = ()
        case _:
            assert_never(event)


@decides(AssignTask)
def assign(command: AssignTask, task: Task, context: Context) -> Decision:
    """Assign an unassigned task."""
    permit("task.assign", task, context)
    return _assign(command.assignees, command.start, "task.assign", "/assignees", task, context)


@decides(ClaimTask)
def claim(command: ClaimTask, task: Task, context: Context) -> Decision:
    """Assign an unassigned task to the person who claims it."""
    permit("task.claim", task, context)
    member = spoken_for(command.member, context, "a claim is for oneself")
    try:
        return _assign((member,), command.start, "task.claim", "/member", task, context)
    except Rejected as refusal:
        # The command names one person, not a list of them.
        raise Rejected(refusal.code, refusal.detail, refusal.pointer.removesuffix("/0")) from None


def _assign(
    references: Iterable[str], begin: bool, command: str, pointer: str, task: Task, context: Context
) -> Decision:
    if task.assignees and task.lifecycle not in TERMINAL:
        raise Rejected("already-assigned", f"the task is {', '.join(task.assignees)}'s")
    lifecycle.transition(command, task.lifecycle)
    if task.is_message:
        raise Rejected("not-eligible", "nobody can have a message", pointer)
    resolver = MemberResolver(context)
    members = resolved_assignees(references, resolver, task.eligibility, context, pointer)
    stream = context.stream("task", task.id)
    assigned = TaskAssigned(task.id, task.activity_id, members)
    decision = Decision((*resolver.events, (stream, assigned)), resolver.unique_keys)
    if not begin:
        return decision
    started = start(task, members[0], context, resolver.is_new(members[0]))
    return Decision((*decision.events, *started.events), {**decision.unique_keys, **started.unique_keys})


@decides(ReassignTask)
def reassign(command: ReassignTask, task: Task, context: Context) -> Decision:
    """Assign a task to other people; work on it pauses."""
    permit("task.reassign", task, context)
    lifecycle.transition("task.reassign", task.lifecycle)
    if not task.assignees:
        raise Rejected("not-assigned", "the task is nobody's yet")
    resolver = MemberResolver(context)
    members = resolved_assignees(command.assignees, resolver, task.eligibility, context, "/assignees", task.assignees)
    if set(members) == set(task.assignees):
        raise Rejected("same-assignee", "the task is theirs already", "/assignees")
    event = TaskReassigned(task.id, task.activity_id, task.assignees, members)
    events = (*pause_of(task, "reassigned"), event, *back_in_line(task, context))
    decision = record(task, context, *events)
    return released(task, Decision((*resolver.events, *decision.events), resolver.unique_keys))


@decides(UnassignTask)
def unassign(command: UnassignTask, task: Task, context: Context) -> Decision:
    """Take a task from its people; work on it pauses."""
    permit("task.unassign", task, context)
    lifecycle.transition("task.unassign", task.lifecycle)
    if not task.assignees:
        raise Rejected("not-assigned", "the task is nobody's")
    event = TaskUnassigned(task.id, task.activity_id, task.assignees)
    events = (*pause_of(task, "unassigned"), event, *back_in_line(task, context))
    return released(task, record(task, context, *events))


def resolved_assignees(
    references: Iterable[str],
    resolver: MemberResolver,
    rule: Eligibility,
    context: Context,
    pointer: str,
    standing: Iterable[str] = (),
) -> tuple[str, ...]:
    """Return the member ids of people who may have the task, registering e-mails not known yet.

    Who has it by now, `standing`, and was retired may be named again.
    """
    members = resolver.resolve(references, pointer, standing)
    demand_eligible(context, resolver, members, rule, pointer)
    return members
