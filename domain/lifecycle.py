"""One row for each command: its purpose, who may give it, and, for a task, the state that it leads to.

Transitions, allowed actions, summaries, the diagram and the tests read it. A cell holds the next state, or the code of
the refusal. Three commands depend on more than the state: `task.assign` with `start` leads on to ACTIVE, `task.cancel`
reaches a FAILED task when its activity was cancelled, and `task.submit-result` ends a task as its result says, one that
has ended only by a hard override.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from domain.errors import Rejected


class Lifecycle(StrEnum):
    # Faster than that of an enumeration.
    __hash__ = str.__hash__

    OPEN = "OPEN"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


OPEN, ACTIVE, PAUSED, COMPLETED, FAILED, CANCELED = Lifecycle
TERMINAL = frozenset({COMPLETED, FAILED, CANCELED})

Cell = Lifecycle | str
Cells = Mapping[Lifecycle, Cell]
# Who may give a command: the kinds of actor, and the code that anyone else is refused with.
Right = tuple[frozenset[str], str]
KINDS = ASSIGNEE, MANAGER, ADMIN, SYSTEM, OTHER = "assignee", "manager", "tenant-admin", "system", "other"
_ANYONE: Right = (frozenset(KINDS), "forbidden")
_WORKER: Right = (frozenset({ASSIGNEE, SYSTEM}), "not-assignee")
_LEAD: Right = (frozenset({MANAGER, ADMIN, SYSTEM}), "forbidden")
_INVOLVED: Right = (frozenset({ASSIGNEE, MANAGER, ADMIN, SYSTEM}), "forbidden")
_WHOLE: Right = (frozenset({ADMIN, SYSTEM}), "forbidden")
_SERVICE: Right = (frozenset({SYSTEM}), "forbidden")


class MissingPart(Exception):
    """A command or an event lacks something that it needs; the message names both."""


@dataclass(frozen=True, slots=True)
class Row:
    """A command's name, its purpose in one sentence, who may give it, and its cells in the table of states."""

    name: str
    summary: str
    right: Right
    cells: Cells | None


def row(name: str, summary: str = "", right: Right | None = None, cells: Cells | None = None) -> Row:
    """Return a command's row. Only a command that is decided by the state of one task has cells."""
    if not summary:
        raise MissingPart(f"command {name}: its row in domain/lifecycle.py has no summary")
    if right is None:
        raise MissingPart(f"command {name}: its row in domain/lifecycle.py does not say who may give it")
    return Row(name, summary, right, cells)


def _cells(opened: Cell, active: Cell, paused: Cell, completed: Cell, failed: Cell, canceled: Cell) -> Cells:
    return {OPEN: opened, ACTIVE: active, PAUSED: paused, COMPLETED: completed, FAILED: failed, CANCELED: canceled}


_ENDED, _FINAL, _BUSY = "terminal", "result-final", "already-processing"
_IDLE, _UNREADY, _SOUND = "not-processing", "not-ready", "not-failed"
_STAYS = _cells(OPEN, ACTIVE, PAUSED, _ENDED, _ENDED, _ENDED)
_ROWS = (
    row("workflow.define", "Define a workflow: a name and its ordered steps.", _LEAD),
    row(
        "workflow.change", "Change a workflow; activities that were made from it keep what they were made from.", _LEAD
    ),
    row("workflow.retire", "Retire a workflow that no activity was made from.", _LEAD),
    row("activity.create", "Create an activity with a task for each step of its workflow.", _ANYONE),
    row("activity.change", "Change an activity's title, hub and own fields.", _LEAD),
    row("activity.cancel", "Cancel an activity and those of its tasks that are open or failed.", _LEAD),
    row("task.create", "Create a task that stands alone.", _ANYONE),
    row(
        "task.assign",
        "Give a task that nobody has to members, and start it if asked.",
        _LEAD,
        _cells(OPEN, _BUSY, _BUSY, _ENDED, _ENDED, _ENDED),
    ),
    row("task.claim", "Take a task that nobody has.", _ANYONE, _cells(OPEN, _BUSY, _BUSY, _ENDED, _ENDED, _ENDED)),
    row("task.reassign", "Give a task to other members.", _INVOLVED, _cells(OPEN, OPEN, OPEN, _ENDED, _ENDED, _ENDED)),
    row("task.unassign", "Take a task from its members.", _INVOLVED, _cells(OPEN, OPEN, OPEN, _ENDED, _ENDED, _ENDED)),
    row(
        "task.process",
        "Start a task, or go on with it.",
        _WORKER,
        _cells(ACTIVE, _BUSY, ACTIVE, _ENDED, _ENDED, _ENDED),
    ),
    row(
        "task.pause",
        "Pause a task that is being worked on.",
        _WORKER,
        _cells(_IDLE, PAUSED, _IDLE, _IDLE, _IDLE, _IDLE),
    ),
    row("task.save", "Keep a draft of a task's data.", _WORKER, _STAYS),
    row(
        "task.change",
        "Change a task's title, fields, times, hub and people, and complete it if asked.",
        _INVOLVED,
        _STAYS,
    ),
    row(
        "task.complete",
        "Complete a task with its output.",
        _WORKER,
        _cells(COMPLETED, COMPLETED, COMPLETED, _ENDED, _ENDED, _ENDED),
    ),
    row("task.error", "Say that a task failed.", _INVOLVED, _cells(FAILED, FAILED, FAILED, _ENDED, _ENDED, _ENDED)),
    row("task.cancel", "Cancel a task.", _LEAD, _cells(CANCELED, CANCELED, CANCELED, _ENDED, _ENDED, _ENDED)),
    row("task.retry", "Open a failed task again.", _LEAD, _cells(_SOUND, _SOUND, _SOUND, _SOUND, OPEN, _SOUND)),
    row("task.retry-resolution", "Look for a task's targets again.", _LEAD, _STAYS),
    row("task.resolve-target", "Say which user one of a task's targets is.", _LEAD, _STAYS),
    row(
        "task.dispatch",
        "Send a task out over its channel now.",
        _LEAD,
        _cells(OPEN, _UNREADY, _UNREADY, _UNREADY, _UNREADY, _UNREADY),
    ),
    row("task.report-dispatch", "Say what came of an attempt to send a task out.", _SERVICE),
    row(
        "task.submit-result",
        "Say how a task ended where it was sent to.",
        _INVOLVED,
        _cells(COMPLETED, COMPLETED, COMPLETED, _FINAL, _FINAL, _FINAL),
    ),
    row("task.wake", "Say that a task's deadline came due.", _SERVICE),
    row("tracker.pause", "Pause whatever a person is working on.", _ANYONE),
    row("tracker.resume", "Go on with what the tracker paused last.", _ANYONE),
    row("directory.register", "Register an entry of the directory; registering the same again changes nothing.", _LEAD),
    row("directory.change", "Change fields of an entry.", _LEAD),
    row("directory.put", "Register an entry, or replace all of its fields.", _LEAD),
    row("directory.retire", "Retire an entry.", _LEAD),
)
# The one list of commands, by name: a command is this row, and its class and its decision in a file of the domain.
ROWS: Mapping[str, Row] = {each.name: each for each in _ROWS}
TABLE: Mapping[str, Cells] = {each.name: each.cells for each in _ROWS if each.cells is not None}
RIGHTS: Mapping[str, Right] = {each.name: each.right for each in _ROWS}

_DETAIL = {
    "terminal": "the task has ended",
    "already-processing": "the task is being worked on already",
    "not-processing": "the task is not being worked on",
    "not-failed": "only a failed task is tried again",
    "not-ready": "only an open task is dispatched",
    "result-final": "the task has ended; only a hard override gives it another result",
}

# What a command may hold that needs a right of its own beside the command's: a result that fails or cancels a task
# needs the right of the command that does the same. An override undoes how a task ended and passes over the steps
# before it. That the work is done may be said by whoever may submit a result.
PARTS: Mapping[str, Right] = {
    "task.submit-result CANCELED": RIGHTS["task.cancel"],
    "task.submit-result NOT_EXECUTED": RIGHTS["task.error"],
    "task.submit-result hard_override": _WHOLE,
}
# Who may register, change and retire an entry of each kind. A manager only has a part in projects of his own and their
# members, as `domain/directory/rights.py` says; all else is of the whole tenant.
ENTRY_RIGHTS: Mapping[str, frozenset[str]] = {
    "project": _LEAD[0],
    "member": _LEAD[0],
    "hub": _WHOLE[0],
    "commerce": _WHOLE[0],
    "route": _WHOLE[0],
    "operator": _WHOLE[0],
    "policy": _WHOLE[0],
    "attribute": _WHOLE[0],
    "targeting": _WHOLE[0],
    "dispatch": _WHOLE[0],
    "outcome": _WHOLE[0],
    "retention": _WHOLE[0],
}


def transition(command: str, current: Lifecycle) -> Lifecycle:
    """Return the state that the command leads to, or refuse it with the table's code."""
    if command not in TABLE:
        raise MissingPart(f"command {command}: its row in domain/lifecycle.py has no cells")
    cell = TABLE[command][current]
    if isinstance(cell, Lifecycle):
        return cell
    raise Rejected(cell, _DETAIL[cell])


def rights(command: str) -> Right:
    """Return who may give a command, or one with this part, and the code that anyone else is refused with."""
    return RIGHTS[command] if command in RIGHTS else PARTS[command]


def permit(command: str, kind: str) -> None:
    """Refuse an actor whose kind may not give this command, or one with this part."""
    allowed, code = rights(command)
    if kind not in allowed:
        detail = "only an assignee may do this" if code == "not-assignee" else f"{command} is not for this actor"
        raise Rejected(code, detail)


def allowed_actions(
    current: Lifecycle,
    assigned: bool,
    kind: str,
    *,
    resolution: str = "NONE",
    dispatchable: bool = False,
    assignable: bool = True,
) -> tuple[str, ...]:
    """Return the commands that this kind of actor can give to a task in this state, in the table's order.

    `dispatchable` says that the task has a channel and no dispatch that succeeded or is under way, `assignable` that
    somebody can have it.
    """
    unresolved = resolution in ("PENDING", "FAILED")
    # Of targets that are found at the dispatch, one may be named before.
    nameable = unresolved or resolution == "DEFERRED"
    return tuple(
        command
        for command, row in TABLE.items()
        if isinstance(row[current], Lifecycle)
        and kind in RIGHTS[command][0]
        and not ((assigned or not assignable) and command in ("task.assign", "task.claim"))
        and not (not assigned and command in ("task.reassign", "task.unassign"))
        and not (not assigned and command == "task.complete" and current is OPEN)
        and not (unresolved and command in ("task.process", "task.dispatch"))
        and not (not unresolved and command == "task.retry-resolution")
        and not (not nameable and command == "task.resolve-target")
        and not (not dispatchable and command == "task.dispatch")
    )


def activity_actions(current: Lifecycle, kind: str) -> tuple[str, ...]:
    """Return the commands that this kind of actor can give to an activity in this state."""
    names = () if current is CANCELED else ("activity.change",)
    if current not in TERMINAL or current is FAILED:
        names = (*names, "activity.cancel")
    return tuple(name for name in names if kind in RIGHTS[name][0])


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
