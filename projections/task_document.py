"""A task's document and its fold: all that readers are told of a task, from the task's own events alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from domain.decider import merged
from domain.plan import DispatchPlan, Target
from domain.recorded import Recorded
from domain.task import (
    AttributesResolved,
    DispatchFailed,
    DispatchRequested,
    DispatchSucceeded,
    ResolutionFailed,
    ResultRecorded,
    TargetsResolved,
    TaskCanceled,
    TaskCompleted,
    TaskCreated,
    TaskDataSaved,
    TaskFailed,
    TaskFieldsChanged,
    TaskFieldsMapped,
    TaskReopened,
    TaskResumed,
    TaskRetried,
    TaskStarted,
    TaskWakeSet,
)
from projections.documents import MissingDocument
from projections.task_facts import TaskFacts, fold_facts, stamp


class Task(TaskFacts):
    """A task's document: what is stored of it, without what has its default.

    `wake` is what the task is next seen to for by itself, at `wake_at`; `in_flight` says that the outcome of a dispatch
    is still to come.
    """

    activity_id: str | None = None
    workflow_id: str | None = None
    flow: str | None = None
    flow_id: str | None = None
    fields: dict[str, Any] = msgspec.field(default_factory=dict)
    hub: str | None = None
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
    attributes: dict[str, Any] = msgspec.field(default_factory=dict)
    targets: tuple[Target, ...] = ()
    attempt: int = 0
    in_flight: bool = False
    wake: str | None = None
    wake_at: str | None = None
    result: str | None = None
    late: bool = False
    comment: str | None = None
    reason: str | None = None
    created_by: str = ""
    updated_at: str = ""
    version: int = 0

    @property
    def dispatchable(self) -> bool:
        """Tell whether the task has a channel, and no dispatch that succeeded, was given up or is under way."""
        return self.plan is not None and self.dispatch in ("NONE", "REQUESTED") and not self.in_flight


class Shown(Task, omit_defaults=False):
    """The document as it is shown: every key is there, and the three periods at the time of reading."""

    working_seconds: float = 0.0
    live_seconds: float = 0.0
    pipeline_seconds: float = 0.0


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


def fold(task: Task | None, event: Recorded) -> Task | None:
    """Return the task after one more of its events; one that was folded before changes nothing."""
    if task is not None and event.position <= task.position:
        return task
    at = stamp(event.occurred_at)
    if isinstance(event.data, TaskCreated):
        task = _new(event.data, event.actor)
    elif task is None:
        raise MissingDocument(f"task {event.entity_id} of {event.tenant} is not there at position {event.position}")
    fold_facts(task, event, at)
    change = _CHANGES.get(type(event.data))
    if change is not None:
        change(task, event.data)
    if task.status != "active":
        task.runner = None
    task.version = event.version
    task.updated_at = at
    return task


def _new(created: TaskCreated, actor: str) -> Task:
    return Task(
        id=created.id,
        activity_id=created.activity_id,
        workflow_id=created.workflow_id,
        flow=created.flow,
        flow_id=created.flow_id,
        fields=created.fields,
        hub=created.hub,
        project=created.project,
        commerce=created.commerce,
        route=created.route,
        operator=created.operator,
        roles=created.roles,
        whitelist=created.whitelist,
        blacklist=created.blacklist,
        after=created.after,
        plan=created.plan,
        created_by=actor,
    )


def _runs(task: Task, event: TaskStarted | TaskResumed) -> None:
    task.runner = event.runner


def _saved(task: Task, event: TaskDataSaved) -> None:
    task.data = merged(task.data, event.new)


def _changed(task: Task, event: TaskFieldsChanged) -> None:
    task.hub = event.new.get("hub", task.hub)
    task.fields = merged(task.fields, event.new.get("fields", {}))


def _mapped(task: Task, event: TaskFieldsMapped) -> None:
    task.fields = merged(task.fields, event.new)


def _completed(task: Task, event: TaskCompleted) -> None:
    task.data = task.output = event.output
    task.late = event.late
    task.wake = task.wake_at = None


def _failed(task: Task, event: TaskFailed) -> None:
    task.comment = event.comment
    task.wake = task.wake_at = None


def _canceled(task: Task, event: TaskCanceled) -> None:
    task.reason = event.reason
    task.wake = task.wake_at = None


def _retried(task: Task, event: TaskRetried) -> None:
    task.comment = task.result = task.wake = task.wake_at = None
    task.in_flight = False


def _reopened(task: Task, event: TaskReopened) -> None:
    # What it ended with is not true of it any more; what was saved at work stays.
    task.output = task.comment = task.reason = None
    task.late = False


def _attributes(task: Task, event: AttributesResolved) -> None:
    task.attributes = {**task.attributes, **event.attributes}


def _targets(task: Task, event: TargetsResolved | ResolutionFailed) -> None:
    task.targets = event.targets
    task.wake = task.wake_at = None


def _requested(task: Task, event: DispatchRequested) -> None:
    task.attempt = event.attempt
    task.in_flight = True
    task.wake = task.wake_at = None


def _reported(task: Task, event: DispatchSucceeded | DispatchFailed) -> None:
    task.in_flight = False


def _result(task: Task, event: ResultRecorded) -> None:
    task.result = event.result


def _wakes(task: Task, event: TaskWakeSet) -> None:
    task.wake, task.wake_at = (None, None) if event.at is None else (event.kind, event.at)


_CHANGES: dict[type, Callable[[Any, Any], None]] = {
    TaskStarted: _runs,
    TaskResumed: _runs,
    TaskDataSaved: _saved,
    TaskFieldsChanged: _changed,
    TaskFieldsMapped: _mapped,
    TaskCompleted: _completed,
    TaskFailed: _failed,
    TaskCanceled: _canceled,
    TaskRetried: _retried,
    TaskReopened: _reopened,
    AttributesResolved: _attributes,
    TargetsResolved: _targets,
    ResolutionFailed: _targets,
    DispatchRequested: _requested,
    DispatchSucceeded: _reported,
    DispatchFailed: _reported,
    ResultRecorded: _result,
    TaskWakeSet: _wakes,
}
