"""A task's state, and what each event makes of it; it stores four independent facts and no status.

The facts are lifecycle, assignees, resolution and dispatch. Every public status is a function of them. What an event
changes stands with the event, once: the state and every reader of the log take it from there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from domain.aggregate import Aggregate
from domain.directory.eligibility import Eligibility
from domain.lifecycle import OPEN, Lifecycle
from domain.plan import MESSAGE, WORK, DispatchPlan, Target, TaskFieldMapping

TASK = Aggregate("task")


class Resolution(StrEnum):
    """PENDING: somebody must name a target. DEFERRED: the targets are found when the task is dispatched."""

    __hash__ = str.__hash__

    NONE = "NONE"
    PENDING = "PENDING"
    DEFERRED = "DEFERRED"
    RESOLVED = "RESOLVED"
    FAILED = "FAILED"


# The targets are missing, and the task cannot go on without them: somebody must name one, or none was found.
UNRESOLVED = frozenset({Resolution.PENDING, Resolution.FAILED})


class Dispatch(StrEnum):
    NONE = "NONE"
    REQUESTED = "REQUESTED"
    DISPATCHED = "DISPATCHED"
    GAVE_UP = "GAVE_UP"


@TASK.event("task.created")
@dataclass(frozen=True, slots=True)
class TaskCreated:
    """`after` holds the earlier siblings that must be done with first, in a workflow with sequential gating.

    `feeds` says which fields go on to later siblings when this task is completed.
    """

    id: str
    title: str | None = None
    activity_id: str | None = None
    step: int | None = None
    flow: str | None = None
    flow_id: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    start: str | None = None
    end: str | None = None
    hub: str | None = None
    project: str | None = None
    commerce: str | None = None
    route: str | None = None
    operator: str | None = None
    roles: tuple[str, ...] = ()
    whitelist: tuple[str, ...] = ()
    blacklist: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    workflow_id: str | None = None
    feeds: tuple[TaskFieldMapping, ...] = ()
    plan: DispatchPlan | None = None
    order_index: int | float | None = None
    type: str = WORK


class Task(NamedTuple):
    """A task's state. `runner` is the person at work while the lifecycle is ACTIVE.

    `attempt` counts the attempts at dispatch of its whole life, `first_attempt` those before the last retry, and
    `in_flight` says that the outcome of one is still to come; `tries` counts the failed resolutions in a row. `wake` is
    (kind, time): when the task is next seen to by itself. `released` are those who had the task when it was cancelled.

    A named tuple, since a frozen data class with so many fields takes several times as long to make.
    """

    id: str
    activity_id: str | None
    created: TaskCreated
    title: str | None
    fields: dict[str, Any]
    start: str | None
    end: str | None
    hub: str | None
    data: dict[str, Any]
    attributes: dict[str, Any]
    order_index: int | float | None = None
    lifecycle: Lifecycle = OPEN
    assignees: tuple[str, ...] = ()
    resolution: Resolution = Resolution.NONE
    dispatch: Dispatch = Dispatch.NONE
    runner: str | None = None
    overdue: bool = False
    targets: tuple[Target, ...] = ()
    tries: int = 0
    attempt: int = 0
    first_attempt: int = 0
    in_flight: bool = False
    wake: tuple[str, str] | None = None
    released: tuple[str, ...] = ()
    result: str | None = None

    @property
    def is_message(self) -> bool:
        """Tell whether the task is a message, which nobody can have."""
        return self.created.type == MESSAGE

    @property
    def unresolved(self) -> bool:
        """Tell whether the task's targets are missing, so that it cannot go on."""
        return self.resolution in UNRESOLVED

    @property
    def dispatched(self) -> bool:
        """Tell whether the task is out."""
        return self.dispatch is Dispatch.DISPATCHED

    @property
    def eligibility(self) -> Eligibility:
        """Return who may have the task."""
        made = self.created
        return Eligibility(made.project, made.roles, made.whitelist, made.blacklist)


class Facts:
    """The facts of a task that an event can change; the names are those of `Task`.

    What an event does to a task is written once, as a function that sets these. It is given a new one of this class to
    make the next state, and a document by readers that keep one.
    """

    # What the next value of a fact depends on; the others are just set.
    fields: dict[str, Any] = {}  # noqa: RUF012
    data: dict[str, Any] = {}  # noqa: RUF012
    attributes: dict[str, Any] = {}  # noqa: RUF012
    attempt: int = 0
    id: str
    activity_id: str | None
    created: TaskCreated
    title: str | None
    start: str | None
    end: str | None
    hub: str | None
    order_index: int | float | None
    lifecycle: Lifecycle
    assignees: tuple[str, ...]
    resolution: Resolution
    dispatch: Dispatch
    runner: str | None
    overdue: bool
    targets: tuple[Target, ...]
    tries: int
    first_attempt: int
    in_flight: bool
    wake: tuple[str, str] | None
    released: tuple[str, ...]
    result: str | None


def evolve(state: Task | None, event: Any) -> Task | None:
    """Return the task after one more event."""
    if state is None:
        return Task(**{"data": {}, "attributes": {}, **changes_of(event)}) if isinstance(event, TaskCreated) else None
    facts = Facts()
    facts.fields, facts.data, facts.attributes = state.fields, state.data, state.attributes
    facts.attempt = state.attempt
    TASK.arms[type(event)](facts, event)
    return state._replace(**vars(facts))


def changes_of(event: Any) -> dict[str, Any]:
    """Return the facts that an event sets whatever they were before."""
    facts = Facts()
    TASK.arms[type(event)](facts, event)
    return vars(facts)
