"""Who worked on which task, from when to when? One row for each period of work.

A period begins when a task is started or resumed, and ends with the next event that takes the task out of work; one
that still goes on has no end. Its id is that of the task with the version that the event that began it has.

Nothing is read to fold an event: what begins is inserted, and what ends is found by its task. So a task that nobody
has worked on has no row, and the events of its creation and its changes are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg

from domain.recorded import Recorded
from domain.task.working import TaskResumed, TaskStarted
from projections.statement import Query
from projections.support.conditions import (
    EQUAL,
    IN,
    SCALAR,
    TEXT,
    Asked,
    Conditions,
    Where,
    asked_of,
    parts_of,
    scalar,
    texts,
)
from projections.support.ordering import ordered
from projections.support.people import person
from projections.support.query import demand_text, select, time_of
from projections.support.table import Key, Table, array, plain_array
from projections.support.time import stamp

NAME = "periods"
VERSION = 1
VIEWS: tuple[str, ...] = ("work_periods",)
# Work that goes to others pauses first.
EVENTS = frozenset({"task.started", "task.resumed", "task.paused", "task.completed", "task.failed", "task.canceled"})

TABLES = """
CREATE TABLE work_periods_{suffix} (
    tenant     text COLLATE "C" NOT NULL,
    task_id    text COLLATE "C" NOT NULL,
    version    bigint NOT NULL,
    begun      bigint NOT NULL,
    member     text COLLATE "C",
    started_at timestamptz NOT NULL,
    ended_at   timestamptz,
    position   bigint NOT NULL,
    PRIMARY KEY (tenant, task_id, version)
)
"""
INDEXES = """
CREATE INDEX IF NOT EXISTS work_periods_{suffix}_member_idx ON work_periods_{suffix} (tenant, member, begun)
    WHERE member IS NOT NULL;
CREATE INDEX IF NOT EXISTS work_periods_{suffix}_started_idx ON work_periods_{suffix} (tenant, started_at, begun);
CREATE INDEX IF NOT EXISTS work_periods_{suffix}_ended_idx ON work_periods_{suffix} (tenant, ended_at, begun)
"""
_TABLE = Table.of(TABLES, key=("tenant", "task_id", "version"))
# An event that is read again finds a period that began after it, or one that has ended already.
_END = """
UPDATE work_periods_{suffix} AS p SET ended_at = greatest(p.started_at, e.at), position = e.position
FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::timestamptz[]) AS e (tenant, task_id, position, at)
WHERE (p.tenant, p.task_id) = (e.tenant, e.task_id) AND p.begun < e.position AND p.ended_at IS NULL
"""


class Periods:
    """Folds events into one table; clocks of two workers may differ, but no period ends before it begins."""

    def __init__(self, suffix: str) -> None:
        self._upsert = _TABLE.upsert(suffix)
        self._end = _END.replace("{suffix}", suffix)

    def forget(self) -> None:
        """Nothing is kept in memory."""

    def project(self, conn: psycopg.Connection[Any], batch: Sequence[Recorded]) -> None:
        """Fold a batch in the caller's transaction; repeating a batch changes nothing."""
        begun: list[list[Any]] = []
        working: dict[Key, list[Any]] = {}
        ends: dict[Key, tuple[str, str, int, str]] = {}
        for event in batch:
            key, at = (event.tenant, event.entity_id), stamp(event.occurred_at)
            if isinstance(event.data, (TaskStarted, TaskResumed)):
                position = event.position
                working[key] = [*key, event.version, position, event.data.runner, at, None, position]
                begun.append(working[key])
            elif (period := working.pop(key, None)) is not None:
                period[6:] = [max(period[5], at), event.position]
            else:
                ends.setdefault(key, (*key, event.position, at))
        if begun:
            conn.execute(self._upsert, _TABLE.arrays(begun), prepare=True)
        if ends:
            tenants, tasks, positions, times = zip(*ends.values(), strict=True)
            values = [array(tenants), array(tasks), plain_array(positions), array(times)]
            # Not prepared: a plan made for a small table would be kept while the table grows.
            conn.execute(self._end, values, prepare=False)


def projection(suffix: str, keep: int = 0) -> Periods:
    """Return what folds the log into the tables of this suffix."""
    return Periods(suffix)


# The id of a period, as it is shown and asked for.
ID = re.compile(r"([A-Za-z0-9_-]{1,64}):([1-9][0-9]{0,17})\Z", re.ASCII)

# Questions. Every one gives rows of (task_id, version, member, started_at, ended_at, project), which `resource` takes.

# A task never changes its project.
_VIEW = (
    "(SELECT p.*, t.project FROM work_periods AS p"
    " LEFT JOIN tasks AS t ON t.tenant = p.tenant AND t.id = p.task_id) AS periods"
)
_COLUMNS = "task_id, version, member, started_at, ended_at, project"
_ACCOUNT = (
    "(SELECT account_id FROM entries AS e WHERE e.tenant = periods.tenant AND e.kind = 'member' AND e.id = member)"
)


def _ids(asked: Asked) -> Where:
    found = [match for value in asked.several() if (match := ID.match(demand_text(value, asked.parameter)))]
    tasks, versions = [match[1] for match in found], [int(match[2]) for match in found]
    return Where("(task_id, version) IN (SELECT * FROM unnest(%s::text[], %s::bigint[]))", (tasks, versions))


def _time(asked: Asked, value: Any) -> datetime:
    return time_of(value, asked.parameter)


_CONDITIONS: Conditions = {
    "id": (frozenset({EQUAL, IN}), _ids),
    "task_id": (TEXT, texts("task_id", "FALSE")),
    "project": (TEXT, texts("project", "project IS NULL")),
    "member": (SCALAR, person("member")),
    "started_at": (SCALAR, scalar("started_at", "timestamptz", _time, "FALSE")),
    "ended_at": (SCALAR, scalar("ended_at", "timestamptz", _time, "ended_at IS NULL")),
}
SORTS: Mapping[str, str] = {
    "id": "task_id, version",
    "task_id": "task_id",
    "project": "project",
    "member": _ACCOUNT,
    "started_at": "started_at",
    "ended_at": "ended_at",
    "begun": "begun",
}


def where(asked: Asked) -> Where:
    """Return the condition of a filter; raises `BadQuery`."""
    return asked_of(_CONDITIONS, asked)


def page(tenant: str, conditions: Iterable[Where], by: Sequence[tuple[str, bool]], limit: int, offset: int) -> Query:
    """Ask for a page; `by` has names of `SORTS`, each with whether it descends. By default the last come first."""
    asked = [*(by or [("started_at", True)]), ("begun", by[-1][1] if by else True)]
    return select(_VIEW, _COLUMNS, tenant, *parts_of(conditions), ordered(SORTS, asked, limit, offset))


def count(tenant: str, conditions: Iterable[Where]) -> Query:
    """Ask how many there are; gives one row with one number."""
    return select(_VIEW, "count(*)", tenant, *parts_of(conditions))


def get(tenant: str, period_id: str) -> Query:
    """Ask for one by its id."""
    return page(tenant, [_ids(Asked(tenant, "id", EQUAL, period_id, "id"))], (), 1, 0)


def last(tenant: str, member: str) -> Query:
    """Ask for the last period of a member, which may still go on."""
    return page(tenant, [Where("member = %s", (member,))], [("begun", True)], 1, 0)


def resource(row: Sequence[Any]) -> dict[str, Any]:
    """Return a row as a period."""
    task_id, version, member, started_at, ended_at, project = row
    return {
        "id": f"{task_id}:{version}",
        "task_id": task_id,
        "member": member,
        "started_at": stamp(started_at),
        "ended_at": stamp(ended_at) if ended_at is not None else None,
        "project": project,
    }
