"""What every decision on a task does alike: the task itself, rights, and events on its own stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from domain import lifecycle
from domain.decider import Context, Decision, UniqueKey
from domain.directory.eligibility import actor_kind
from domain.directory.members import known_person
from domain.errors import Rejected
from domain.lifecycle import ACTIVE, ASSIGNEE
from domain.task.state import TASK, Task


class _OnTask(Protocol):
    @property
    def id(self) -> str: ...


_Command = TypeVar("_Command", bound=_OnTask)
_Decide = Callable[[_Command, Task, Context], Decision]


def decides(kind: type[_Command]) -> Callable[[_Decide[_Command]], _Decide[_Command]]:
    """Mark the function that decides a class of commands on a task that is there."""

    def mark(decide: _Decide[_Command]) -> _Decide[_Command]:
        @TASK.decides(kind)
        def on_task(command: _Command, context: Context) -> Decision:
            task: Task | None = context.state("task", command.id)
            if task is None:
                raise Rejected("not-found", f"there is no task {command.id}", "/id")
            return decide(command, task, context)

        return decide

    return mark


def permit(command: str, task: Task, context: Context) -> None:
    """Refuse an actor who may not give this command, or one with this part, to this task."""
    kind = actor_kind(context, task.assignees, task.created.project)
    if kind == ASSIGNEE and ASSIGNEE not in lifecycle.rights(command)[0]:
        # A manager who took the task still manages it.
        kind = actor_kind(context, (), task.created.project)
    lifecycle.permit(command, kind)


def record(task: Task, context: Context, *events: Any) -> Decision:
    """Return the decision that records these events on the task's own stream."""
    stream = context.stream("task", task.id)
    return Decision(tuple((stream, event) for event in events))


def released(task: Task, decision: Decision) -> Decision:
    """Add that the person at work has no running task any more."""
    if task.lifecycle is not ACTIVE or task.runner is None:
        return decision
    return Decision(decision.events, {UniqueKey("running", task.runner): None, **decision.unique_keys})


def person_of(named: str | None, context: Context) -> str:
    """Return the reference to whom a command is for: the actor, or whomever it names, whoever may do that."""
    member = named if named is not None else context.actor
    if member == lifecycle.SYSTEM:
        raise Rejected("invalid", "name the member that the system speaks for", "/member")
    return member


def spoken_for(named: str | None, context: Context, detail: str) -> str:
    """Return the reference to whom a command is for: the actor, or whomever the system names."""
    member = person_of(named, context)
    if context.actor not in (lifecycle.SYSTEM, member) and known_person(context, member, "/member") != context.actor:
        raise Rejected("forbidden", detail, "/member")
    return member


def permit_system(command: str, context: Context) -> None:
    """Refuse everybody but the service itself."""
    lifecycle.permit(command, lifecycle.SYSTEM if context.actor == lifecycle.SYSTEM else lifecycle.OTHER)
