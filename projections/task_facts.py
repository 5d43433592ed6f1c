"""What every reader takes from a task's events: life, people, schedule, working time; a fold that asks nobody else.

The tasks' own read model, the activities' children and the roll-up policy fold with it, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

import msgspec

from domain import rollup
from domain.lifecycle import Lifecycle
from domain.recorded import Recorded
from domain.task import (
    EVENTS,
    DispatchFailed,
    DispatchRequested,
    DispatchSucceeded,
    ResolutionFailed,
    TargetsResolved,
    TaskAssigned,
    TaskBecameOverdue,
    TaskCanceled,
    TaskCompleted,
    TaskCreated,
    TaskFailed,
    TaskFieldsChanged,
    TaskPaused,
    TaskReassigned,
    TaskReopened,
    TaskRescheduled,
    TaskResumed,
    TaskRetried,
    TaskStarted,
    TaskUnassigned,
)

TASK_EVENTS = frozenset(EVENTS)
LIFECYCLES = {state.value.lower(): state for state in Lifecycle}


class TaskFacts(msgspec.Struct, omit_defaults=True, gc=False):
    """A task's facts. `worked_seconds` is the sum of the working periods that are closed."""

    id: str
    step: int | None = None
    title: str | None = None
    status: str = "open"
    assignees: tuple[str, ...] = ()
    resolution: str = "NONE"
    dispatch: str = "NONE"
    start: str | None = None
    end: str | None = None
    overdue: bool = False
    created_at: str = ""
    started_at: str | None = None
    ended_at: str | None = None
    worked_seconds: float = 0.0
    working_since: str | None = None
    position: int = 0


class Child(TaskFacts):
    """A task as its activity sees it. `label` is the sub-status that the activity has once the task is completed."""

    label: str | None = None


class ShownChild(Child, omit_defaults=False):
    """A child as it is shown: every key is there."""


def stamp(moment: datetime) -> str:
    """Return an instant as it is stored and shown: UTC with milliseconds."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds")[:23] + "Z"


def elapsed(since: str, until: str) -> float:
    """Return the seconds between two stamps, never below zero: clocks of two workers may differ."""
    return max(0.0, round((datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds(), 3))


def fold_facts(facts: TaskFacts, event: Recorded, at: str) -> None:
    """Change the facts by one event that happened `at`; an event that was folded before changes nothing."""
    if event.position <= facts.position:
        return
    change = _CHANGES.get(type(event.data))
    if change is not None:
        change(facts, event.data, at)
    facts.position = event.position


def _created(facts: TaskFacts, event: TaskCreated, at: str) -> None:
    facts.step, facts.title, facts.start, facts.end = event.step, event.title, event.start, event.end
    facts.created_at = at


def _assigned(facts: TaskFacts, event: TaskAssigned | TaskReassigned, at: str) -> None:
    _stop(facts, at)
    facts.status = "open"
    facts.assignees = event.assignees


def _unassigned(facts: TaskFacts, event: TaskUnassigned, at: str) -> None:
    _stop(facts, at)
    facts.status = "open"
    facts.assignees = ()


def _working(facts: TaskFacts, event: TaskStarted | TaskResumed, at: str) -> None:
    facts.status = "active"
    facts.working_since = at
    if facts.started_at is None:
        facts.started_at = at


def _paused(facts: TaskFacts, event: TaskPaused, at: str) -> None:
    _stop(facts, at)
    facts.status = "paused"


def _completed(facts: TaskFacts, event: TaskCompleted, at: str) -> None:
    _end(facts, "completed", at)


def _failed(facts: TaskFacts, event: TaskFailed, at: str) -> None:
    _end(facts, "failed", at)


def _canceled(facts: TaskFacts, event: TaskCanceled, at: str) -> None:
    _end(facts, "canceled", at)
    facts.assignees = ()


def _retried(facts: TaskFacts, event: TaskRetried, at: str) -> None:
    facts.status = "open"
    facts.dispatch = "NONE"
    facts.ended_at = None


def _reopened(facts: TaskFacts, event: TaskReopened, at: str) -> None:
    facts.status = "open"
    facts.ended_at = None


def _overdue(facts: TaskFacts, event: TaskBecameOverdue, at: str) -> None:
    facts.overdue = True


def _requested(facts: TaskFacts, event: DispatchRequested, at: str) -> None:
    facts.dispatch = "REQUESTED"


def _dispatched(facts: TaskFacts, event: DispatchSucceeded, at: str) -> None:
    facts.dispatch = "DISPATCHED"


def _not_dispatched(facts: TaskFacts, event: DispatchFailed, at: str) -> None:
    facts.dispatch = "GAVE_UP" if event.final else "REQUESTED"


def _changed(facts: TaskFacts, event: TaskFieldsChanged, at: str) -> None:
    if "title" in event.new:
        facts.title = event.new["title"]


def _rescheduled(facts: TaskFacts, event: TaskRescheduled, at: str) -> None:
    facts.start, facts.end = event.start, event.end
    facts.overdue = False


def _resolved(facts: TaskFacts, event: TargetsResolved, at: str) -> None:
    facts.resolution = "RESOLVED"


def _unresolved(facts: TaskFacts, event: ResolutionFailed, at: str) -> None:
    facts.resolution = "FAILED"


def _stop(facts: TaskFacts, at: str) -> None:
    if facts.working_since is not None:
        facts.worked_seconds = round(facts.worked_seconds + elapsed(facts.working_since, at), 3)
        facts.working_since = None


def _end(facts: TaskFacts, status: str, at: str) -> None:
    _stop(facts, at)
    facts.status = status
    facts.ended_at = at
    facts.overdue = False


_CHANGES: dict[type, Callable[[Any, Any, str], None]] = {
    TaskCreated: _created,
    TaskAssigned: _assigned,
    TaskReassigned: _assigned,
    TaskUnassigned: _unassigned,
    TaskStarted: _working,
    TaskResumed: _working,
    TaskPaused: _paused,
    TaskCompleted: _completed,
    TaskFailed: _failed,
    TaskCanceled: _canceled,
    TaskRetried: _retried,
    TaskFieldsChanged: _changed,
    TaskRescheduled: _rescheduled,
    TargetsResolved: _resolved,
    ResolutionFailed: _unresolved,
    DispatchRequested: _requested,
    DispatchSucceeded: _dispatched,
    DispatchFailed: _not_dispatched,
    TaskReopened: _reopened,
    TaskBecameOverdue: _overdue,
}


def placeholders(children: Iterable[str], labels: Iterable[str | None], at: str) -> list[Child]:
    """Return an activity's children as they are before their own first events, which follow in its transaction."""
    pairs = zip(children, labels, strict=True)
    return [Child(child, step, created_at=at, label=label) for step, (child, label) in enumerate(pairs)]


def as_rollup(child: Child) -> rollup.Child:
    """Return the child as the roll-up takes it."""
    started, ended = child.started_at, child.ended_at
    return rollup.Child(
        step=child.step or 0,
        lifecycle=LIFECYCLES[child.status],
        assignees=child.assignees,
        dispatched=child.dispatch == "DISPATCHED",
        unresolved=child.resolution == "FAILED",
        overdue=child.overdue,
        start=child.start,
        end=child.end,
        label=child.label,
        started_at=datetime.fromisoformat(started) if started is not None else None,
        ended_at=datetime.fromisoformat(ended) if ended is not None else None,
    )


class Timed(Protocol):
    """What has a life in time."""

    created_at: str
    started_at: str | None
    ended_at: str | None


class Seconds(NamedTuple):
    """The three periods as they stand at one instant: at work, since the start, since the creation."""

    working: float
    live: float
    pipeline: float


def seconds(timed: Timed, work: Iterable[tuple[float, str | None]], now: str) -> Seconds:
    """Return the periods at the stamp `now`; `work` holds closed sums with the beginning of an open period."""
    until = timed.ended_at if timed.ended_at is not None else now
    working = sum(closed + (elapsed(since, now) if since is not None else 0.0) for closed, since in work)
    live = elapsed(timed.started_at, until) if timed.started_at is not None else 0.0
    return Seconds(round(working, 3), live, elapsed(timed.created_at, until))
