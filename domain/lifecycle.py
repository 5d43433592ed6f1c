"""The life of a task as one table, state by command; guards, allowed actions, the diagram and the tests read it.

A cell holds the state that the command leads to, or the code of the refusal. Three commands depend on more than the
state, and say so at their own place: `task.assign` with `start` leads on to ACTIVE, `task.cancel` reaches a FAILED task
when its activity was cancelled, and `task.submit-result` ends a task as its result says, one that has ended only by
a hard override.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from domain.errors import Rejected


class Lifecycle(StrEnum):
    OPEN = "OPEN"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


OPEN, ACTIVE, PAUSED, COMPLETED, FAILED, CANCELED = Lifecycle
TERMINAL = frozenset({COMPLETED, FAILED, CANCELED})

Cell = Lifecycle | str


def _row(
    opened: Cell, active: Cell, paused: Cell, completed: Cell, failed: Cell, canceled: Cell
) -> Mapping[Lifecycle, Cell]:
    return {OPEN: opened, ACTIVE: active, PAUSED: paused, COMPLETED: completed, FAILED: failed, CANCELED: canceled}


_T, _R = "terminal", "result-final"
TABLE: Mapping[str, Mapping[Lifecycle, Cell]] = {
    # command:             OPEN              ACTIVE                PAUSED                COMPLETED, FAILED, CANCELED
    "task.assign": _row(OPEN, "already-processing", "already-processing", _T, _T, _T),
    "task.claim": _row(OPEN, "already-processing", "already-processing", _T, _T, _T),
    "task.reassign": _row(OPEN, OPEN, OPEN, _T, _T, _T),
    "task.unassign": _row(OPEN, OPEN, OPEN, _T, _T, _T),
    "task.process": _row(ACTIVE, "already-processing", ACTIVE, _T, _T, _T),
    "task.pause": _row(
        "not-processing", PAUSED, "not-processing", "not-processing", "not-processing", "not-processing"
    ),
    "task.save": _row(OPEN, ACTIVE, PAUSED, _T, _T, _T),
    "task.change": _row(OPEN, ACTIVE, PAUSED, _T, _T, _T),
    "task.complete": _row(COMPLETED, COMPLETED, COMPLETED, _T, _T, _T),
    "task.error": _row(FAILED, FAILED, FAILED, _T, _T, _T),
    "task.cancel": _row(CANCELED, CANCELED, CANCELED, _T, _T, _T),
    "task.retry": _row("not-failed", "not-failed", "not-failed", "not-failed", OPEN, "not-failed"),
    "task.retry-resolution": _row(OPEN, ACTIVE, PAUSED, _T, _T, _T),
    "task.resolve-target": _row(OPEN, ACTIVE, PAUSED, _T, _T, _T),
    "task.dispatch": _row(OPEN, "not-ready", "not-ready", "not-ready", "not-ready", "not-ready"),
    "task.submit-result": _row(COMPLETED, COMPLETED, COMPLETED, _R, _R, _R),
}

_DETAIL = {
    "terminal": "the task has ended",
    "already-processing": "the task is being worked on already",
    "not-processing": "the task is not being worked on",
    "not-failed": "only a failed task is tried again",
    "not-ready": "only an open task is dispatched",
    "result-final": "the task has ended; only a hard override gives it another result",
}

# Who may give a command: the kinds of actor, and the code that anyone else is refused with.
ASSIGNEE, MANAGER, SYSTEM, OTHER = "assignee", "manager", "system", "other"
_ANYONE = frozenset({ASSIGNEE, MANAGER, SYSTEM, OTHER})
_WORKER = frozenset({ASSIGNEE, SYSTEM})
_LEAD = frozenset({MANAGER, SYSTEM})
_INVOLVED = frozenset({ASSIGNEE, MANAGER, SYSTEM})
_SERVICE = frozenset({SYSTEM})
RIGHTS: Mapping[str, tuple[frozenset[str], str]] = {
    "task.create": (_ANYONE, "forbidden"),
    "task.assign": (_LEAD, "forbidden"),
    "task.claim": (_ANYONE, "forbidden"),
    "task.reassign": (_INVOLVED, "forbidden"),
    "task.unassign": (_INVOLVED, "forbidden"),
    "task.process": (_WORKER, "not-assignee"),
    "task.pause": (_WORKER, "not-assignee"),
    "task.save": (_WORKER, "not-assignee"),
    "task.change": (_INVOLVED, "forbidden"),
    "task.complete": (_WORKER, "not-assignee"),
    "task.error": (_INVOLVED, "forbidden"),
    "task.cancel": (_LEAD, "forbidden"),
    "task.retry": (_LEAD, "forbidden"),
    "task.retry-resolution": (_LEAD, "forbidden"),
    "task.resolve-target": (_LEAD, "forbidden"),
    "task.dispatch": (_LEAD, "forbidden"),
    "task.submit-result": (_INVOLVED, "forbidden"),
    "task.report-dispatch": (_SERVICE, "forbidden"),
    "task.wake": (_SERVICE, "forbidden"),
    "tracker.pause": (_ANYONE, "forbidden"),
    "tracker.resume": (_ANYONE, "forbidden"),
    "activity.create": (_ANYONE, "forbidden"),
    "activity.change": (_LEAD, "forbidden"),
    "activity.cancel": (_LEAD, "forbidden"),
    "workflow.define": (_LEAD, "forbidden"),
    "workflow.change": (_LEAD, "forbidden"),
    "workflow.retire": (_LEAD, "forbidden"),
    "directory.register": (_LEAD, "forbidden"),
    "directory.change": (_LEAD, "forbidden"),
    "directory.retire": (_LEAD, "forbidden"),
}
# What a command may hold that needs a right of its own beside the command's: a result that fails or cancels a task
# needs the right of the command that does the same, and only who leads may undo how a task ended or pass over the
# steps before it. That the work is done may be said by whoever may submit a result.
PARTS: Mapping[str, tuple[frozenset[str], str]] = {
    "task.submit-result CANCELED": RIGHTS["task.cancel"],
    "task.submit-result NOT_EXECUTED": RIGHTS["task.error"],
    "task.submit-result hard_override": (_LEAD, "forbidden"),
}
# Who may register, change and retire an entry of each kind; what the whole tenant works by is for the system alone.
# For a project its own manager counts, for a member the managers of the projects that are touched, else any project's;
# a member who is there and in no project is the system's to change, retire and bring back.
ENTRY_RIGHTS: Mapping[str, frozenset[str]] = {
    "hub": _LEAD,
    "project": _LEAD,
    "member": _LEAD,
    "commerce": _LEAD,
    "route": _LEAD,
    "operator": _LEAD,
    "policy": _SERVICE,
    "attribute": _SERVICE,
    "targeting": _SERVICE,
    "dispatch": _SERVICE,
}


def guard(command: str, current: Lifecycle) -> Lifecycle:
    """Return the state that the command leads to, or refuse it with the table's code."""
    cell = TABLE[command][current]
    if isinstance(cell, Lifecycle):
        return cell
    raise Rejected(cell, _DETAIL[cell])


def rights(command: str) -> tuple[frozenset[str], str]:
    """Return who may give a command, or one with this part, and the code that anyone else is refused with."""
    return RIGHTS[command] if command in RIGHTS else PARTS[command]


def permit(command: str, kind: str) -> None:
    """Refuse an actor whose kind may not give this command, or one with this part."""
    allowed, code = rights(command)
    if kind not in allowed:
        detail = "only an assignee may do this" if code == "not-assignee" else f"{command} is not for this actor"
        raise Rejected(code, detail)


def allowed_actions(
    current: Lifecycle, assigned: bool, kind: str, *, resolution: str = "NONE", dispatchable: bool = False
) -> tuple[str, ...]:
    """Return the commands that this kind of actor can give to a task in this state, in the table's order.

    `dispatchable` says that the task has a channel and no dispatch that succeeded or is under way.
    """
    unresolved = resolution in ("PENDING", "FAILED")
    return tuple(
        command
        for command, row in TABLE.items()
        if isinstance(row[current], Lifecycle)
        and kind in RIGHTS[command][0]
        and not (assigned and command in ("task.assign", "task.claim"))
        and not (not assigned and command in ("task.reassign", "task.unassign"))
        and not (not assigned and command == "task.complete" and current is OPEN)
        and not (unresolved and command in ("task.process", "task.dispatch"))
        and not (not unresolved and command in ("task.retry-resolution", "task.resolve-target"))
        and not (not dispatchable and command == "task.dispatch")
    )


def mermaid() -> str:
    """Return the table as a Mermaid state diagram; commands that stay in a state are left out."""
    arrows = [
        f"    {state} --> {target}: {command}"
        for command, row in TABLE.items()
        for state, target in row.items()
        if isinstance(target, Lifecycle) and target is not state
    ]
    arrows.append(f"    {OPEN} --> {ACTIVE}: task.assign with start")
    arrows.append(f"    {FAILED} --> {CANCELED}: task.cancel once the activity is cancelled")
    arrows += [
        f"    {state} --> {target}: task.submit-result"
        for state in (OPEN, ACTIVE, PAUSED)
        for target in (FAILED, CANCELED)
    ]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {OPEN}: task.create, activity.create", *sorted(arrows)])
