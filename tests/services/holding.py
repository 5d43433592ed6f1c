"""Followers whose handler refuses some events, and the log that they follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import pytest

from domain.task import TaskCreated, TaskFieldsChanged
from services.store import codec, standing
from services.store.append import NewEvent, append_in
from services.store.follower import Follower
from services.store.follower_group import FollowerGroup
from services.store.held import Handle
from services.store.log import LogRow
from services.store.reader import Reader, Step
from tests.services.following import an_event, noting
from tests.services.harness import rows

Batch = Sequence[LogRow]
Connection = psycopg.Connection[Any]
NAME = "seen"


class Log:
    """Appends events by the names of their tasks, `tenant/task`, a task's first by its creation."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._versions: dict[str, int] = {}
        self.positions: dict[str, list[int]] = {}
        self.end = 0

    def add(self, *tasks: str) -> None:
        events = []
        for task in tasks:
            tenant, _, task_id = task.partition("/")
            version = self._versions[task] = self._versions.get(task, 0) + 1
            event: Any = TaskCreated(task_id) if version == 1 else TaskFieldsChanged(task_id, None, {}, {"title": "x"})
            name, metadata = codec.name_of(event), an_event().metadata
            events.append(NewEvent(f"{tenant}/task-{task_id}", version, name, event, metadata))
            self.end += 1
            self.positions.setdefault(task, []).append(self.end)
        with psycopg.connect(self._url) as conn:
            append_in(conn, events)

    def of(self, *tasks: str) -> list[int]:
        return sorted(position for task in tasks for position in self.positions[task])


class Picky:
    """A handler that notes what it takes, and takes no event of some tasks from a position on."""

    def __init__(self, *refused: str, by: str = NAME, first: int = 0) -> None:
        self.refused = set(refused)
        self.error: Callable[[], Exception] = lambda: ValueError("this one is bad")
        self.calls: list[list[int]] = []
        self.first = first
        self._note = noting(by)

    def __call__(self, conn: Connection, batch: Batch) -> None:
        self.calls.append([row.position for row in batch])
        self._note(conn, batch)
        for row in batch:
            if row.stream.replace("task-", "") in self.refused and row.position >= self.first:
                raise self.error()


def alone(handle: Handle, name: str = NAME, **given: Any) -> Follower:
    return Follower(name, handle, **given)


def together(handle: Handle, name: str = NAME, **given: Any) -> FollowerGroup:
    return FollowerGroup("all", [Follower(name, handle, **given), Follower("other", lambda *_: None, **given)], **given)


BOTH = pytest.mark.parametrize("make", [alone, together])
Make = Callable[..., Reader]


def drain(conn: Connection, reader: Reader) -> Step:
    reader.enlist(conn)
    while (step := reader.step(conn)) is Step.WORKED:
        pass
    return step


def state(url: str, name: str = NAME) -> tuple[int, int | None, dict[str, tuple[int, int]]]:
    """Return where a follower is, where it is halted, and what it holds back: from which position, and how much."""
    line = next((line for line in standing.status(url) if line.name == name), None)
    assert line is not None, "not enlisted yet"
    return line.position, line.halted_at, {each.entity: (each.position, each.waiting) for each in line.held}


def order_noted(url: str, by: str = NAME) -> list[int]:
    """Return the positions in the order in which they were noted."""
    return [row[0] for row in rows(url, "SELECT position FROM seen WHERE by = %s ORDER BY ctid", by)]
