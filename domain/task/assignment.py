"""Whose a task is: assigned, claimed, reassigned or given back, only to those who may have it."""

from __future__ import annotations

from collections.abc import Iterable

from domain import lifecycle
from domain.decider import (
    Context,
    Decision,
)
from domain.errors import Rejected
from domain.lifecycle import TERMINAL
from domain.people import People
from domain.task import (
    AssignTask,
    ClaimTask,
    ReassignTask,
    Task,
    TaskAssigned,
    TaskReassigned,
    TaskUnassigned,
    UnassignTask,
    sending,
    work,
)
from domain.task.creation import resolved_assignees
from domain.task.recording import one, pause_of, permit, released, spoken_for


def assign(command: AssignTask, task: Task, context: Context) -> Decision:
    """Give a task of nobody's to people."""
    permit("task.assign", task, context)
    return _given_to(command.assignees, command.start, "task.assign", "/assignees", task, context)


def claim(command: ClaimTask, task: Task, context: Context) -> Decision:
    """Give a task of nobody's to the one who takes it."""
    permit("task.claim", task, context)
    member = spoken_for(command, context, "a claim is for oneself")
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
    lifecycle.transition(command, task.lifecycle)
    people = People(context)
    members = resolved_assignees(references, people, task.eligibility, context, pointer)
    stream = context.stream("task", task.id)
    assigned = TaskAssigned(task.id, task.activity_id, members)
    decision = Decision((*people.events, (stream, assigned)), people.claims)
    if not start:
        return decision
    started = work.start(task, members[0], context, people.is_new(members[0]))
    return Decision((*decision.events, *started.events), {**decision.claims, **started.claims})


def reassign(command: ReassignTask, task: Task, context: Context) -> Decision:
    """Give a task to other people; work on it pauses."""
    permit("task.reassign", task, context)
    lifecycle.transition("task.reassign", task.lifecycle)
    if not task.assignees:
        raise Rejected("not-assigned", "the task is nobody's yet")
    people = People(context)
    members = resolved_assignees(command.assignees, people, task.eligibility, context, "/assignees", task.assignees)
    if set(members) == set(task.assignees):
        raise Rejected("same-assignee", "the task is theirs already", "/assignees")
    event = TaskReassigned(task.id, task.activity_id, task.assignees, members)
    events = (*pause_of(task, "reassigned"), event, *sending.back_in_line(task, context))
    decision = one(task, context, *events)
    return released(task, Decision((*people.events, *decision.events), people.claims))


def unassign(command: UnassignTask, task: Task, context: Context) -> Decision:
    """Take a task from its people; work on it pauses."""
    permit("task.unassign", task, context)
    lifecycle.transition("task.unassign", task.lifecycle)
    if not task.assignees:
        raise Rejected("not-assigned", "the task is nobody's")
    event = TaskUnassigned(task.id, task.activity_id, task.assignees)
    events = (*pause_of(task, "unassigned"), event, *sending.back_in_line(task, context))
    return released(task, one(task, context, *events))
