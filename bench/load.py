"""The load: an activity with three tasks, each started and completed: 7 commands and 10 events, for everyone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pamqp.commands import Basic

from bench.wire import encoded

TENANT = "bench"
TASKS, COMMANDS, EVENTS, CHANGES = 3, 7, 10, 2
# So many activities are under way at the same time.
WINDOW = 100
WORKFLOW = "bench-workflow"
# The beginning of every id of block 0; a copy of it under another number is another block.
MARK = 0x01970000


@dataclass(frozen=True, slots=True)
class Command:
    """One command; once it is handled, `entity` is at `version`."""

    name: str
    activity: str
    message_id: str
    entity: str
    version: int
    data: dict[str, Any]

    def message(self, exchange: str, key: str | None = None) -> bytes:
        """Return the frames that publish it, by default under the activity's id."""
        properties = Basic.Properties(
            content_type="application/json",
            delivery_mode=2,
            message_id=self.message_id,
            message_type=self.name,
            headers={"tenant": TENANT},
        )
        return encoded(exchange, self.activity if key is None else key, properties, json.dumps(self.data).encode())


def activity_id(block: int, index: int) -> str:
    """Return an activity's id; ids grow as those of UUID version 7 do, and end as if by chance."""
    return _id(block, index, 0)


def task_id(block: int, index: int, number: int) -> str:
    """Return the id of an activity's task, numbered from 1."""
    return _id(block, index, number)


def _id(block: int, index: int, part: int) -> str:
    chance = ((index << 8) + part + 1) * 0x9E3779B97F4B % (1 << 48)
    return f"{MARK + block:08x}-{index:04x}-7{part:03x}-8000-{chance:012x}"


def workflow() -> Command:
    """Return the command that defines the workflow, which only Foldwork needs."""
    steps = [
        {"name": f"Step {number}", "flow": f"Flow {number}", "flow_id": f"flow-{number}"}
        for number in range(1, TASKS + 1)
    ]
    data = {"id": WORKFLOW, "name": "Pickup to Delivery", "steps": steps}
    return Command("workflow.define", WORKFLOW, f"{MARK:08x}-define", WORKFLOW, 1, data)


def commands(block: int, count: int, window: int = WINDOW) -> Iterator[Command]:
    """Give the commands of so many activities in the order in which they are sent, a window's activities at a time."""
    for first in range(0, count, window):
        indexes = range(first, min(first + window, count))
        yield from (_create(block, index) for index in indexes)
        for number in range(1, TASKS + 1):
            yield from (_process(block, index, number) for index in indexes)
            yield from (_complete(block, index, number) for index in indexes)


def _create(block: int, index: int) -> Command:
    tasks = [
        {
            "id": task_id(block, index, number),
            "fields": {
                "customerName": f"Customer {index}",
                "customerAddress": f"Jl. Jenderal Sudirman No. {index}, Jakarta Pusat",
                "createdFrom": "WEB",
            },
            # Ahead of every clock: a task that became overdue would have an event more.
            "start": "2125-10-31T08:55:00.000+07:00",
            "end": "2125-11-01T08:55:00.000+07:00",
        }
        for number in range(1, TASKS + 1)
    ]
    own = activity_id(block, index)
    last = task_id(block, index, TASKS)
    data = {"id": own, "workflow_id": WORKFLOW, "title": f"Delivery {index}", "tasks": tasks}
    # The last of its events is the last task's first.
    return Command("activity.create", own, _message_id(block, index, 0), last, 1, data)


def _process(block: int, index: int, number: int) -> Command:
    task = task_id(block, index, number)
    message = _message_id(block, index, 2 * number - 1)
    return Command("task.process", activity_id(block, index), message, task, 2, {"id": task})


def _complete(block: int, index: int, number: int) -> Command:
    task = task_id(block, index, number)
    message = _message_id(block, index, 2 * number)
    data = {"id": task, "data": {"signature": "JD", "photo": f"proof/{task}.jpg"}}
    return Command("task.complete", activity_id(block, index), message, task, 3, data)


def _message_id(block: int, index: int, step: int) -> str:
    return _id(block, index, 0x800 + step)
