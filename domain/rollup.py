"""The roll-up: children to master, by the first of rules U1 to U10 that fits, as one pure function.

It recomputes from all children and never counts up or down, so neither order nor repetition of events can matter.
A cancelled child counts in U1, U3 and U6 alone; every other rule reads the children that are not cancelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple, Protocol

from domain.lifecycle import ACTIVE, CANCELED, COMPLETED, FAILED, OPEN, PAUSED, TERMINAL, Lifecycle

RULES: Mapping[str, str] = {
    "U1": "the activity was cancelled",
    "U2": "every task is completed",
    "U3": "every task is cancelled",
    "U4": "a task failed, and the workflow fails fast",
    "U5": "every task has ended, and some failed",
    "U6": "every task has ended, some completed and some cancelled",
    "U7": "a task failed while others go on",
    "U8": "a task that is not cancelled is assigned, dispatched, started, paused or completed",
    "U9": "the targets of a task that is not cancelled could not be resolved",
    "U10": "nothing has happened yet on any task that is not cancelled",
}


_NAMES: Mapping[Lifecycle, str] = {state: state.value.lower() for state in Lifecycle}
_MOVING = frozenset({ACTIVE, PAUSED, COMPLETED})
_NONE: Mapping[str, int] = dict.fromkeys(_NAMES.values(), 0)


class Child(NamedTuple):
    """What the roll-up sees of a task. Times are instants in UTC; `label` is the step's sub-status once completed."""

    step: int
    lifecycle: Lifecycle = OPEN
    assignees: tuple[str, ...] = ()
    dispatched: bool = False
    unresolved: bool = False
    overdue: bool = False
    start: str | None = None
    end: str | None = None
    label: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


class Facts(Protocol):
    """What the status depends on of a task."""

    @property
    def lifecycle(self) -> Lifecycle: ...
    @property
    def assignees(self) -> tuple[str, ...]: ...
    @property
    def dispatched(self) -> bool: ...
    @property
    def unresolved(self) -> bool: ...


# A task's part in the status: lifecycle, whether it has begun, whether its targets are missing. As long as it stays the
# same, so does the status.
Part = tuple[Lifecycle, bool, bool]
UNTOUCHED: Part = (OPEN, False, False)


class Status(NamedTuple):
    """The master's status, the rule that it follows from, and how many of its tasks are in each state."""

    lifecycle: Lifecycle
    rule: str
    progress: Mapping[str, int]


class Rollup(NamedTuple):
    """The master as its children make it. `start` and `end` are the winning child's own texts."""

    lifecycle: Lifecycle
    rule: str
    partial: bool
    attention: bool
    unresolved: bool
    overdue: bool
    assignees: tuple[str, ...]
    start: str | None
    end: str | None
    started_at: datetime | None
    ended_at: datetime | None
    sub_status: str | None
    current_step: int | None
    progress: dict[str, int]


def rollup(children: Iterable[Child], canceled: bool = False, fail_fast: bool = False) -> Rollup:
    """Return the master's state; the children may come in any order."""
    tasks = sorted(children, key=lambda child: child.step)
    status, rule, progress = status_of(tuple(map(part_of, tasks)), canceled, fail_fast)
    left = [task for task in tasks if task.lifecycle is not CANCELED] or tasks
    begins = [(datetime.fromisoformat(task.start), task.step, task.start) for task in left if task.start is not None]
    ends = [(datetime.fromisoformat(task.end), -task.step, task.end) for task in left if task.end is not None]
    starts = [task.started_at for task in left if task.started_at is not None]
    labels = [task.label for task in tasks if task.lifecycle is COMPLETED and task.label is not None]
    open_steps = [task.step for task in tasks if task.lifecycle not in TERMINAL]
    closed = status in TERMINAL
    closings = [task.ended_at for task in tasks if task.ended_at is not None]
    return Rollup(
        lifecycle=status,
        rule=rule,
        partial=rule == "U6",
        attention=rule == "U7",
        unresolved=any(task.unresolved for task in tasks if task.lifecycle not in TERMINAL),
        overdue=any(task.overdue for task in tasks if task.lifecycle not in TERMINAL),
        assignees=tuple(dict.fromkeys(member for task in tasks for member in task.assignees)),
        start=min(begins)[2] if begins else None,
        end=max(ends)[2] if ends else None,
        started_at=min(starts) if starts else None,
        ended_at=max(closings) if closed and closings else None,
        sub_status=labels[-1] if labels else None,
        current_step=open_steps[0] if open_steps and not closed else None,
        progress=dict(progress),
    )


_GONE: Part = (CANCELED, False, False)


def part_of(task: Facts) -> Part:
    """Return a task's part in the status."""
    lifecycle = task.lifecycle
    if lifecycle is CANCELED:
        return _GONE
    return lifecycle, lifecycle in _MOVING or task.dispatched or bool(task.assignees), task.unresolved


# The same few combinations come again and again.
@lru_cache(4096)
def status_of(parts: tuple[Part, ...], canceled: bool, fail_fast: bool) -> Status:
    """Return the master's status; the parts may come in any order."""
    status, rule = _status(parts, canceled, fail_fast)
    return Status(status, rule, _progress(lifecycle for lifecycle, _, _ in parts))


def _status(parts: tuple[Part, ...], canceled: bool, fail_fast: bool) -> tuple[Lifecycle, str]:
    seen = {lifecycle for lifecycle, _, _ in parts}
    ended = seen <= TERMINAL
    if canceled:
        return CANCELED, "U1"
    if seen == {COMPLETED}:
        return COMPLETED, "U2"
    if seen == {CANCELED}:
        return CANCELED, "U3"
    if fail_fast and FAILED in seen:
        return FAILED, "U4"
    if seen and ended:
        return (FAILED, "U5") if FAILED in seen else (COMPLETED, "U6")
    if FAILED in seen:
        return ACTIVE, "U7"
    if any(begun for _, begun, _ in parts):
        return (PAUSED if seen - TERMINAL == {PAUSED} else ACTIVE), "U8"
    return OPEN, ("U9" if any(unresolved for _, _, unresolved in parts) else "U10")


def decides(rule: str, child: Child) -> bool:
    """Tell whether a child is one of those that make a rule fit."""
    match rule:
        case "U1":
            return False
        case "U4" | "U5" | "U7":
            return child.lifecycle is FAILED
        case "U8":
            return part_of(child)[1]
        case "U9":
            return part_of(child)[2]
        case "U10":
            return child.lifecycle is not CANCELED
    return True


def _progress(states: Iterable[Lifecycle]) -> dict[str, int]:
    counted = {"total": 0, **_NONE}
    for state in states:
        counted["total"] += 1
        counted[_NAMES[state]] += 1
    due = counted["total"] - counted["canceled"]
    counted["percent"] = 100 * counted["completed"] // due if due else 0
    return counted
