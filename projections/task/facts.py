"""What every reader keeps of a task: the facts that the domain says an event changes, and the times of its life.

The tasks' own read model and the activities' children share it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from domain import rollup
from domain.lifecycle import TERMINAL, Lifecycle
from domain.recorded import Recorded
from domain.task.state import TASK, UNRESOLVED, Dispatch, Resolution, TaskCreated
from projections.support.time import elapsed

TASK_EVENTS = frozenset(TASK.events)
LIFECYCLES = {state.value.lower(): state for state in Lifecycle}
# The very text that is the default is left out of a document.
_STATUS = {state.value: sys.intern(status) for status, state in LIFECYCLES.items()}
_ENDED = frozenset(_STATUS[state.value] for state in TERMINAL)
_ARMS = TASK.arms


class _Unkept:
    """A fact of a task that a document does not keep: it always has this value, whatever it is set to."""

    def __init__(self, value: Any = None) -> None:
        self._value = value

    def __get__(self, document: object, kind: type) -> Any:
        return self._value

    def __set__(self, document: object, value: Any) -> None:
        pass


class TaskFacts(msgspec.Struct, omit_defaults=True, gc=False):
    """A task's facts. `worked_seconds` is the sum of the working periods that are closed."""

    id: str
    step: int | None = None
    title: str | None = None
    status: str = "open"
    assignees: tuple[str, ...] = ()
    resolution: str = Resolution.NONE
    dispatch: str = Dispatch.NONE
    start: str | None = None
    end: str | None = None
    overdue: bool = False
    created_at: str = ""
    started_at: str | None = None
    ended_at: str | None = None
    worked_seconds: float = 0.0
    working_since: str | None = None
    position: int = 0

    created = activity_id = hub = order_index = runner = wake = result = _Unkept()
    fields = data = attributes = _Unkept({})
    targets = released = _Unkept(())
    tries = attempt = first_attempt = _Unkept(0)
    in_flight = _Unkept(False)

    @property
    def lifecycle(self) -> Lifecycle:
        """The state, which is stored and shown as `status`."""
        return LIFECYCLES[self.status]

    @lifecycle.setter
    def lifecycle(self, lifecycle: Lifecycle) -> None:
        self.status = _STATUS[lifecycle._value_]


class Child(TaskFacts):
    """A task as its activity sees it. `label` is the sub-status that the activity has once the task is completed."""

    label: str | None = None


class ShownChild(Child, omit_defaults=False):
    """A child as it is shown: every key is there."""


def apply_facts(facts: TaskFacts, event: Recorded, at: str) -> None:
    """Change the facts by one event that happened `at`; an event that was applied before changes nothing."""
    if event.position > facts.position:
        take_over(facts, event.data, at)
        facts.position = event.position


def take_over(facts: Any, event: Any, at: str) -> None:
    """Let an event change the facts of a document, and the times that follow from the lifecycle."""
    before = facts.status
    _ARMS[type(event)](facts, event)
    status = facts.status
    if status == before:
        if type(event) is TaskCreated:
            facts.created_at = at
        return
    if status == "active":
        facts.working_since = at
        if facts.started_at is None:
            facts.started_at = at
        return
    if facts.working_since is not None:
        facts.worked_seconds = round(facts.worked_seconds + elapsed(facts.working_since, at), 3)
        facts.working_since = None
    facts.ended_at = at if status in _ENDED else None


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
        unresolved=child.resolution in UNRESOLVED,
        overdue=child.overdue,
        start=child.start,
        end=child.end,
        label=child.label,
        started_at=datetime.fromisoformat(started) if started is not None else None,
        ended_at=datetime.fromisoformat(ended) if ended is not None else None,
    )
