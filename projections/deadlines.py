"""What of a task falls due, and when? One row for each deadline that is current: an end, a wake, an attempt at sending.

The rows are a function of the log but for their marks (`todo`, `wake_at`, `sends`, `outcome`), which belong to those
who act on them: a row begins with fresh marks, and whoever builds the table anew carries the marks over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from domain.lifecycle import TERMINAL
from domain.recorded import Recorded
from domain.task.state import TaskCreated, changes_of
from projections.statement import Query
from projections.support import query
from projections.support.documents import Documents
from projections.support.rows import Rows
from projections.support.table import Key, Table

NAME = "deadlines"
VERSION = 1
VIEWS: tuple[str, ...] = ("deadlines", "deadline_tasks")
# A hint that new rows are there; never the only reason to look.
CHANNEL = "foldwork_deadlines"
# What is to be done with a row when it is due.
SEND, CALL = "send", "call"
OVERDUE, ATTEMPT = "overdue", "attempt"

_TASKS = """
CREATE TABLE deadline_tasks_{suffix} (
    tenant  text COLLATE "C" NOT NULL,
    task_id text COLLATE "C" NOT NULL,
    doc     text NOT NULL,
    PRIMARY KEY (tenant, task_id)
)"""
# `due_at` is what `wake_at` begins with, and only an operator who looks at postponed rows reads it. Dropping it takes
# another version, which does not take over the marks: everything due would be sent, and called, once more.
_DEADLINES = """
CREATE TABLE deadlines_{suffix} (
    tenant      text COLLATE "C" NOT NULL,
    task_id     text COLLATE "C" NOT NULL,
    kind        text COLLATE "C" NOT NULL,
    due         text NOT NULL,
    due_at      timestamptz NOT NULL,
    activity_id text COLLATE "C",
    position    bigint NOT NULL,
    todo        text COLLATE "C" NOT NULL,
    wake_at     timestamptz NOT NULL,
    sends       integer NOT NULL DEFAULT 0,
    outcome     text,
    PRIMARY KEY (tenant, task_id, kind)
)"""
TABLES = f"{_TASKS};{_DEADLINES}"
INDEXES = """
CREATE INDEX IF NOT EXISTS deadlines_{suffix}_wake_idx ON deadlines_{suffix} (todo, wake_at);
CREATE INDEX IF NOT EXISTS deadlines_{suffix}_tenant_idx ON deadlines_{suffix} (todo, tenant, wake_at)
"""
# A switch of tables must not let everything be sent, and called, once more.
MARKS = ("todo", "wake_at", "sends", "outcome")
CARRY = f"""
UPDATE deadlines_{{suffix}} AS new SET {", ".join(f"{mark} = old.{mark}" for mark in MARKS)}
FROM deadlines_{{old}} AS old
WHERE (new.tenant, new.task_id, new.kind, new.position) = (old.tenant, old.task_id, old.kind, old.position)
"""  # noqa: S608
_TABLE = Table.of(_TASKS, key=("tenant", "task_id"))
_ROWS = Table.of(_DEADLINES, key=("tenant", "task_id", "kind"))


class Remembered(msgspec.Struct, omit_defaults=True, gc=False):
    """What a task's deadlines are made of; a task that never had one is not remembered at all.

    `since` is the position of the event by which the end counts, so that one that comes back is another deadline.
    `wake` is (kind, time, position) and `attempt` (number, time of the request, position).
    """

    activity_id: str | None = None
    end: str | None = None
    since: int = 0
    overdue: bool = False
    ended: bool = False
    wake: tuple[str, str, int] | None = None
    attempt: tuple[int, str, int] | None = None
    position: int = 0


class Due(NamedTuple):
    """One deadline. `due` is the text by which the domain knows it: a time as it was written, an attempt's number."""

    due: str
    at: str
    position: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Remembered).decode


def due_of(task: Remembered | None) -> dict[str, Due]:
    """Return a task's current deadlines by kind."""
    if task is None or task.ended:
        return {}
    found = {}
    if task.end is not None and not task.overdue:
        found[OVERDUE] = Due(task.end, _instant(task.end), task.since)
    if task.wake is not None:
        kind, at, position = task.wake
        found[kind] = Due(at, _instant(at), position)
    if task.attempt is not None:
        number, requested_at, position = task.attempt
        found[ATTEMPT] = Due(str(number), requested_at, position)
    return found


# The rows of a task are made before and after its events, mostly of the same times.
@lru_cache(maxsize=4096)
def _instant(text: str) -> str:
    return datetime.fromisoformat(text).astimezone(UTC).isoformat()


# What a deadline is made of.
EVENTS = frozenset(
    {
        "task.created",
        "task.rescheduled",
        "task.became-overdue",
        "task.completed",
        "task.failed",
        "task.canceled",
        "task.retried",
        "task.reopened",
        "task.wake-set",
        "task.targets-resolved",
        "task.resolution-failed",
        "task.resolution-deferred",
        "task.dispatch-requested",
        "task.dispatch-succeeded",
        "task.dispatch-failed",
    }
)


def apply(task: Remembered | None, event: Recorded) -> Remembered | None:
    """Return what is remembered after one more event; one that was applied before changes nothing."""
    if task is not None and event.position <= task.position:
        return task
    changed = changes_of(event.data)
    if task is None:
        if not (changed.get("end") or changed.get("wake") or changed.get("in_flight")):
            return None
        task = Remembered(event.data.activity_id)
    if "end" in changed:
        task.end, task.since = changed["end"], event.position
    if "overdue" in changed or "end" in changed:
        task.overdue = changed.get("overdue", False)
    if "lifecycle" in changed:
        ended = changed["lifecycle"] in TERMINAL
        if task.ended and not ended:
            task.since = event.position
        task.ended = ended
    if "wake" in changed:
        task.wake = None if changed["wake"] is None else (*changed["wake"], event.position)
    if "in_flight" in changed:
        # By the database's clock, which is the one that says what is due.
        requested_at = event.recorded_at.astimezone(UTC).isoformat()
        task.attempt = (changed["attempt"], requested_at, event.position) if changed["in_flight"] else None
    task.position = event.position
    return task


def _rows(key: Key, task: Remembered) -> Iterator[Sequence[Any]]:
    for kind, (due, at, position) in due_of(task).items():
        yield (*key, kind, due, at, task.activity_id, position, CALL if kind == ATTEMPT else SEND, at, 0, None)


def _key_of(event: Recorded) -> Key | None:
    # Most tasks have no end and no plan: they are looked for when they end, and that is all.
    if event.category != "task" or (isinstance(event.data, TaskCreated) and event.data.end is None):
        return None
    return event.tenant, event.entity_id


def projection(suffix: str, keep: int = 0) -> Documents[Remembered]:
    """Return what folds the log into the tables of this suffix."""
    return Documents(
        _TABLE,
        suffix,
        key_of=_key_of,
        fold=apply,
        decode=_decode,
        row=lambda key, task: (*key, _encode(task).decode()),
        rows=Rows(_ROWS, suffix, _rows, CHANNEL),
        keep=0,
    )


def attempts(tenant: str, task_ids: Sequence[str]) -> Query:
    """Ask for the attempts of tasks that have no outcome yet: (position of the event that asked, when it is due)."""
    conditions = ["kind = %s", "task_id = ANY(%s::text[])"]
    return query.select("deadlines", "position, wake_at", tenant, conditions, [ATTEMPT, list(task_ids)])
