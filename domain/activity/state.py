"""An activity's events and state, without its status, which is rolled up from its tasks.

The activity keeps the snapshot of the workflow that it was made from, so no later change reaches it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, assert_never

from domain.aggregate import Aggregate
from domain.decider import merged
from domain.steps import Step

ACTIVITY = Aggregate("activity")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One of a step's default people who could not have its task any more, and why."""

    step: int
    member: str
    reason: str


@ACTIVITY.event("activity.created")
@dataclass(frozen=True, slots=True)
class ActivityCreated:
    """`children` are the tasks' ids in the order of `steps`; both never change."""

    id: str
    title: str
    workflow_id: str
    workflow_version: int
    workflow_name: str
    steps: tuple[Step, ...]
    gating: str
    failure: str
    children: tuple[str, ...]
    hub: str | None = None
    project: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()


@ACTIVITY.event("activity.fields-changed")
@dataclass(frozen=True, slots=True)
class ActivityFieldsChanged:
    """Title, hub and fields; `old` and `new` hold just what differs."""

    id: str
    old: dict[str, Any]
    new: dict[str, Any]


@ACTIVITY.event("activity.canceled")
@dataclass(frozen=True, slots=True)
class ActivityCanceled:
    id: str
    reason: str | None


Event = ActivityCreated | ActivityFieldsChanged | ActivityCanceled


@dataclass(frozen=True, slots=True)
class Activity:
    """An activity's state."""

    id: str
    title: str
    children: tuple[str, ...]
    hub: str | None
    project: str | None
    fields: dict[str, Any]
    workflow_id: str
    failure: str
    canceled: bool = False


@ACTIVITY.evolves(Event)
def evolve(state: Activity | None, event: Event) -> Activity | None:
    """Return the activity after one more event."""
    if isinstance(event, ActivityCreated):
        return Activity(
            event.id,
            event.title,
            event.children,
            event.hub,
            event.project,
            event.fields,
            event.workflow_id,
            event.failure,
        )
    if state is None:
        return None
    match event:
        case ActivityFieldsChanged():
            new = event.new
            title, hub = new.get("title", state.title), new.get("hub", state.hub)
            return replace(state, title=title, hub=hub, fields=merged(state.fields, new.get("fields", {})))
        case ActivityCanceled():
            return replace(state, canceled=True)
        case _:
            assert_never(event)
