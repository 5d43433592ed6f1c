"""What every decision on a task does alike: rights, events on its own stream, and the one running task of a person."""

from __future__ import annotations

from typing import Any

from domain import lifecycle
from domain.decider import (
    Claim,
    Context,
    Decision,
)
from domain.directory import actor_kind
from domain.errors import Rejected
from domain.lifecycle import ACTIVE, ASSIGNEE
from domain.people import known_person
from domain.task import (
    ClaimTask,
    PauseTracker,
    ResumeTracker,
    Task,
    TaskPaused,
)


def permit(command: str, task: Task, context: Context) -> None:
    """Refuse an actor who may not give this command, or one with this part, to this task."""
    kind = actor_kind(context, task.assignees, task.created.project)
    if kind == ASSIGNEE and ASSIGNEE not in lifecycle.rights(command)[0]:
        # A manager who took the task still manages it.
        kind = actor_kind(context, (), task.created.project)
    lifecycle.permit(command, kind)


def one(task: Task, context: Context, *events: Any) -> Decision:
    """Return the decision that records these events on the task's own stream."""
    stream = context.stream("task", task.id)
    return Decision(tuple((stream, event) for event in events))


def released(task: Task, decision: Decision) -> Decision:
    """Add that the person at work has no running task any more."""
    if task.lifecycle is not ACTIVE or task.runner is None:
        return decision
    return Decision(decision.events, {Claim("running", task.runner): None, **decision.claims})


def spoken_for(command: ClaimTask | PauseTracker | ResumeTracker, context: Context, detail: str) -> str:
    """Return the reference to whom a command is for: the actor, or whomever the system names."""
    member = command.member if command.member is not None else context.actor
    if member == lifecycle.SYSTEM:
        raise Rejected("invalid", "name the member that the system speaks for", "/member")
    if context.actor not in (lifecycle.SYSTEM, member) and known_person(context, member, "/member") != context.actor:
        raise Rejected("forbidden", detail, "/member")
    return member


def pause_of(task: Task, reason: str) -> tuple[TaskPaused, ...]:
    """Return the pause of a task that is being worked on, and nothing for any other."""
    return (TaskPaused(task.id, task.activity_id, reason),) if task.lifecycle is ACTIVE else ()
