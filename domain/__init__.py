"""The pure domain: standard library only, no clock, no ids of its own, no I/O; here is the one list of aggregates."""

from __future__ import annotations

from domain import activity, directory, operations, task, workflow
from domain.activity.status import rolled_up
from domain.aggregate import in_order_of_rows
from domain.decider import Decider
from domain.streams import ENTRY_KINDS

# Every command is decided by one of these, so that no change of a task goes without the status that follows from it.
AGGREGATES: tuple[Decider, ...] = tuple(
    rolled_up(each)
    for each in (workflow.DECIDER, activity.DECIDER, activity.STATUS_DECIDER, task.DECIDER, directory.DECIDER)
)
# Command and event names are the contract of wire and store, and never get a second meaning.
# `EVENTS` are those that commands record and that are published; the log has those of operators as well.
COMMANDS: dict[str, type] = in_order_of_rows(AGGREGATES)
EVENTS: dict[str, type] = {name: kind for decider in AGGREGATES for name, kind in decider.events.items()}
STORED_EVENTS: dict[str, type] = {**EVENTS, **operations.EVENTS}
EVENT_NAMES: dict[type, str] = {kind: name for name, kind in STORED_EVENTS.items()}
DECIDER_OF_COMMAND: dict[str, Decider] = {name: decider for decider in AGGREGATES for name in decider.commands}
DECIDER_OF_CATEGORY: dict[str, Decider] = {
    **{decider.category: decider for decider in AGGREGATES},
    **dict.fromkeys(ENTRY_KINDS, directory.DECIDER),
}
