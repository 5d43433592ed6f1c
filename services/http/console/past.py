"""What changed, and when: old and new values in a history, and the stretches of tasks on a time axis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

# The state that a task is in after an event, as far as it shows on the axis.
_AFTER = {
    "task.started": "working",
    "task.resumed": "working",
    "task.paused": "paused",
    "task.completed": "ended",
    "task.failed": "failed",
    "task.canceled": "ended",
    "task.result-recorded": "ended",
    "task.assigned": "waiting",
    "task.reassigned": "waiting",
    "task.unassigned": "waiting",
    "task.retried": "waiting",
    "task.reopened": "waiting",
}
_ENDED = ("ended", "failed")
# The same by its status.
_BY_STATUS = {
    "open": "waiting",
    "active": "working",
    "paused": "paused",
    "completed": "ended",
    "canceled": "ended",
    "failed": "failed",
}


def with_changes(events: Sequence[Mapping[str, Any]], before: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return events, each with the fields that it changed: name, value before, value after.

    `before` are the values of entities before the first event, by their ids; the event that creates one changes none.
    """
    known = {entity: _flat(values) for entity, values in before.items()}
    shown = []
    for event in events:
        entity, data = str(event["entity_id"]), _flat(event["data"])
        values = known.setdefault(entity, {})
        changes = [
            (name, values.get(name), value)
            for name, value in data.items()
            if values and name in values and values[name] != value
        ]
        values.update(data)
        shown.append({**event, "changes": changes})
    return shown


def _flat(values: Mapping[str, Any], start: str = "") -> dict[str, Any]:
    """Return the values of maps in maps by their paths, so that a change of one is not a change of all."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{start}{name}.")
        else:
            found[f"{start}{name}"] = value
    return found


def changed_ids(now: Iterable[Mapping[str, Any]], before: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return what differs between two states of some resources: the names of fields, by id."""
    old = {each["id"]: each for each in before}
    apart = ("position", "version", "updated_at", "updated_by", "allowed_actions")
    return {
        each["id"]: [
            name
            for name, value in each.items()
            if name not in apart and not name.endswith("_seconds") and value != old.get(each["id"], {}).get(name)
        ]
        for each in now
        if each["id"] not in old or old[each["id"]]["version"] != each["version"]
    }


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a lane: its state, and where it is, from 0 to 1000."""

    state: str
    start: float
    length: float
    text: str


@dataclass(frozen=True, slots=True)
class Lane:
    """A task on the time axis."""

    task: Mapping[str, Any]
    stretches: tuple[Stretch, ...]


@dataclass(frozen=True, slots=True)
class Lanes:
    """Tasks by step on one time axis, and where it begins and ends."""

    lanes: tuple[Lane, ...]
    start: str
    end: str


def lanes(
    tasks: Sequence[Mapping[str, Any]],
    events: Sequence[Mapping[str, Any]],
    now: datetime,
    before: Iterable[Mapping[str, Any]] = (),
) -> Lanes | None:
    """Return the tasks of an activity on a time axis; None if there are none.

    If the events are not those from the beginning on, `before` are the tasks before them, and the axis begins there.
    """
    if not tasks:
        return None
    statuses = {each["id"]: _BY_STATUS[each["status"]] for each in before}
    begins = {
        task["id"]: _moment(events[0]["occurred_at"] if task["id"] in statuses else task["created_at"])
        for task in tasks
    }
    begin = min(begins.values())
    marks: dict[str, list[tuple[datetime, str]]] = {
        own: [(moment, statuses.get(own, "waiting"))] for own, moment in begins.items()
    }
    for event in events:
        state = _AFTER.get(event["type"])
        if state is not None and event["entity_id"] in marks:
            marks[event["entity_id"]].append((_moment(event["occurred_at"]), state))
    last = max(moment for each in marks.values() for moment, _ in each)
    going = any(each[-1][1] not in _ENDED for each in marks.values())
    end = max(now, last) if going else last
    whole = max((end - begin).total_seconds(), 1.0)

    def stretch(state: str, start: datetime, until: datetime) -> Stretch:
        length = max((until - start).total_seconds() / whole * 1000, 3.0)
        return Stretch(state, (start - begin).total_seconds() / whole * 1000, length, state)

    made = []
    for task in sorted(tasks, key=lambda task: (task["step"] is None, task["step"], task["created_at"])):
        its = marks[task["id"]]
        ends = [moment for moment, _ in its[1:]] + [end]
        parts = [
            stretch(state, moment, moment if state in _ENDED else until)
            for (moment, state), until in zip(its, ends, strict=True)
        ]
        made.append(Lane(task, tuple(parts)))
    return Lanes(tuple(made), begin.isoformat(), end.isoformat())


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
