"""A task's document: all that readers are told of a task, from the task's own events alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime
from operator import attrgetter
from typing import Any

import msgspec

from domain.plan import MESSAGE, WORK, DispatchPlan, Report, Target
from domain.recorded import Recorded
from domain.task.dispatching import AttributesResolved, DispatchSucceeded
from domain.task.ending import TaskCanceled, TaskCompleted, TaskFailed, TaskRetried
from domain.task.results import ResultRecorded, TaskReopened
from domain.task.state import Facts, TaskCreated
from domain.task.targeting import TargetsResolved
from projections.support.documents import MissingDocument
from projections.support.time import stamp
from projections.task.facts import TaskFacts, take_over


class Task(TaskFacts):
    """A task's document: what is stored of it, without what has its default.

    `wake` is what the task is next seen to for by itself, at `wake_at`; `in_flight` says that the outcome of a dispatch
    is still to come. `valued_at` says when each attribute got its value, `fallbacks` which are ones to fall back on.
    `assigned_by` is who gave the task to those who have it, `done_by` who was at work on it when it was completed.
    """

    activity_id: str | None = None
    workflow_id: str | None = None
    flow: str | None = None
    flow_id: str | None = None
    fields: dict[str, Any] = msgspec.field(default_factory=dict)
    hub: str | None = None
    order_index: int | float | None = None
    project: str | None = None
    commerce: str | None = None
    route: str | None = None
    operator: str | None = None
    roles: tuple[str, ...] = ()
    whitelist: tuple[str, ...] = ()
    blacklist: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    runner: str | None = None
    data: dict[str, Any] = msgspec.field(default_factory=dict)
    output: dict[str, Any] | None = None
    plan: DispatchPlan | None = None
    type: str = WORK
    attributes: dict[str, Any] = msgspec.field(default_factory=dict)
    fallbacks: tuple[str, ...] = ()
    valued_at: dict[str, str] = msgspec.field(default_factory=dict)
    targets: tuple[Target, ...] = ()
    resolved_at: str | None = None
    dispatched_at: str | None = None
    attempt: int = 0
    in_flight: bool = False
    wake_kind: str | None = msgspec.field(default=None, name="wake")
    wake_at: str | None = None
    reference: str | None = None
    result: str | None = None
    report: Report | None = None
    late: bool = False
    comment: str | None = None
    reason: str | None = None
    assigned_by: str | None = None
    assigned_at: str | None = None
    done_by: str | None = None
    created_by: str = ""
    updated_by: str = ""
    updated_at: str = ""
    version: int = 0

    @property
    def wake(self) -> tuple[str, str] | None:
        """What the task is next seen to for by itself, and when."""
        return None if self.wake_kind is None or self.wake_at is None else (self.wake_kind, self.wake_at)

    @wake.setter
    def wake(self, wake: tuple[str, str] | None) -> None:
        self.wake_kind, self.wake_at = (None, None) if wake is None else wake

    @property
    def dispatchable(self) -> bool:
        """Tell whether the task has a channel, and no dispatch that succeeded, was given up or is under way."""
        return self.plan is not None and self.dispatch in ("NONE", "REQUESTED") and not self.in_flight

    @property
    def assignable(self) -> bool:
        """Tell whether somebody can have the task."""
        return self.type != MESSAGE


class Shown(Task, omit_defaults=False):
    """The document as it is shown: every key is there, and the three periods at the time of reading."""

    working_seconds: float = 0.0
    live_seconds: float = 0.0
    pipeline_seconds: float = 0.0


def placed(order_index: float | None, created_at: str) -> float:
    """Return a task's place among others: its own, or else that of its creation, so that the newest comes last."""
    return order_index if order_index is not None else int(datetime.fromisoformat(created_at).timestamp() * 100_000)


def shown_values(fields: Mapping[str, Any], data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields of a task with what was saved or completed over them; a null there is what was taken away."""
    if not data:
        return fields
    values = {**fields, **data}
    if None in data.values():
        return {name: value for name, value in values.items() if value is not None or name not in data}
    return values


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Task).decode
decode_shown = msgspec.json.Decoder(Shown).decode


def apply(task: Task | None, event: Recorded) -> Task:
    """Return the task after one more of its events; one that was applied before changes nothing."""
    if task is not None and event.position <= task.position:
        return task
    data = event.data
    at = stamp(event.occurred_at)
    if isinstance(data, TaskCreated):
        task = Task(**dict(zip(_OF_CREATION, _values_of(data), strict=True)), created_by=event.actor)
    elif task is None:
        raise MissingDocument(f"task {event.entity_id} of {event.tenant} is not there at position {event.position}")
    people, runner = task.assignees, task.runner
    take_over(task, data, at)
    if task.assignees != people:
        task.assigned_by, task.assigned_at = (event.actor, at) if task.assignees else (None, None)
    if task.status != "completed":
        task.done_by = None
    elif task.done_by is None:
        # Whoever reports it when nobody is at work did it.
        task.done_by = event.actor if runner is None else runner
    remember = _REMEMBERED.get(type(data))
    if remember is not None:
        remember(task, data, at)
    task.position, task.version, task.updated_at, task.updated_by = event.position, event.version, at, event.actor
    return task


# What a new task is told of that no event changes.
_OF_CREATION = tuple(
    name
    for name in Task.__struct_fields__
    if name in {field.name for field in fields(TaskCreated)} and (name == "id" or name not in Facts.__annotations__)
)
_values_of = attrgetter(*_OF_CREATION)


# How the task went out and how it ended, which only readers want to know.


def _sent(task: Task, event: DispatchSucceeded, at: str) -> None:
    task.reference, task.dispatched_at = event.reference, at


def _found(task: Task, event: TargetsResolved, at: str) -> None:
    task.resolved_at = at


def _valued(task: Task, event: AttributesResolved, at: str) -> None:
    kept = [key for key in task.fallbacks if key not in event.attributes]
    task.fallbacks = (*kept, *event.fallbacks)
    task.valued_at = {**task.valued_at, **dict.fromkeys(event.attributes, at)}


def _reported(task: Task, event: ResultRecorded, at: str) -> None:
    task.report = event.report


def _completed(task: Task, event: TaskCompleted, at: str) -> None:
    task.output, task.late = event.output, event.late


def _failed(task: Task, event: TaskFailed, at: str) -> None:
    task.comment = event.comment


def _canceled(task: Task, event: TaskCanceled, at: str) -> None:
    task.reason = event.reason


def _retried(task: Task, event: TaskRetried, at: str) -> None:
    task.comment = task.report = None


def _reopened(task: Task, event: TaskReopened, at: str) -> None:
    # What it ended with is not true of it any more; what was saved at work stays.
    task.output = task.comment = task.reason = None
    task.late = False


_REMEMBERED: dict[type, Callable[[Task, Any, str], None]] = {
    AttributesResolved: _valued,
    TargetsResolved: _found,
    DispatchSucceeded: _sent,
    ResultRecorded: _reported,
    TaskCompleted: _completed,
    TaskFailed: _failed,
    TaskCanceled: _canceled,
    TaskRetried: _retried,
    TaskReopened: _reopened,
}
