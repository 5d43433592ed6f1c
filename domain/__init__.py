"""The pure domain: standard library only, no clock, no ids of its own, no I/O; here is the one list of aggregates."""

from __future__ import annotations

from domain import activity, directory, task, workflow
from domain.aggregate import in_order_of_rows
from domain.decider import Decider
from domain.streams import ENTRY_KINDS

AGGREGATES: tuple[Decider, ...] = (workflow.DECIDER, activity.DECIDER, task.DECIDER, directory.DECIDER)
# Command and event names are the contract of wire and store, and never get a second meaning.
COMMANDS: dict[str, type] = in_order_of_rows(AGGREGATES)
EVENTS: dict[str, type] = {name: kind for decider in AGGREGATES for name, kind in decider.events.items()}
EVENT_NAMES: dict[type, str] = {kind: name for name, kind in EVENTS.items()}
DECIDER_OF_COMMAND: dict[str, Decider] = {name: decider for decider in AGGREGATES for name in decider.commands}
# The roll-up policy's own stream; a category of its own, so that no id of an activity can name it.
STATUS_CATEGORY = "activity_status"
DECIDER_OF_CATEGORY: dict[str, Decider] = {
    "workflow": workflow.DECIDER,
    "activity": activity.DECIDER,
    "task": task.DECIDER,
    **dict.fromkeys(ENTRY_KINDS, directory.DECIDER),
}
