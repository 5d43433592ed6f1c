"""What happened, who did it, and by which command? One row for each event, found by its activity or its own entity.

Rows are only ever added, and a row is its event's: reading an event again changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg

from domain import EVENTS as ALL_EVENTS
from domain.activity import STATUS_CATEGORY
from domain.recorded import Recorded
from projections.statement import Query
from projections.support import query
from projections.support.query import BadQuery
from projections.support.table import Table
from projections.support.time import stamp

NAME = "history"
VERSION = 1
VIEWS: tuple[str, ...] = ("history",)
EVENTS = frozenset(ALL_EVENTS)
AS_STORED = True

TABLES = """
CREATE TABLE history_{suffix} (
    position    bigint NOT NULL,
    tenant      text COLLATE "C" NOT NULL,
    activity_id text COLLATE "C",
    category    text COLLATE "C" NOT NULL,
    entity_id   text COLLATE "C" NOT NULL,
    doc         text NOT NULL,
    PRIMARY KEY (position)
)
"""
INDEXES = """
CREATE INDEX IF NOT EXISTS history_{suffix}_entity_idx ON history_{suffix} (tenant, category, entity_id, position);
CREATE INDEX IF NOT EXISTS history_{suffix}_activity_idx ON history_{suffix} (tenant, activity_id, position)
    WHERE activity_id IS NOT NULL
"""
_TABLE = Table.of(TABLES, key=("position",))


class Entry(msgspec.Struct, frozen=True):
    """One event as it is shown: what (`type`, `data`), to whom, when, by whom, and what led to it."""

    position: int
    event_id: str
    type: str
    category: str
    entity_id: str
    activity_id: str | None
    version: int
    occurred_at: str
    recorded_at: str
    actor: str
    command_id: str
    correlation_id: str
    causation_id: str
    data: Any


class _Child(msgspec.Struct):
    """What an event's own JSON says of the activity that it belongs to."""

    activity_id: str | None = None


_encode = msgspec.json.Encoder().encode
_decode_child = msgspec.json.Decoder(_Child).decode


def activity_of(event: Recorded) -> str | None:
    """Return the activity whose history an event belongs to: its own, its children's, and its changes of status."""
    if event.category in ("activity", STATUS_CATEGORY):
        return event.entity_id
    data = event.data
    activity_id: str | None = getattr(_decode_child(data) if type(data) is msgspec.Raw else data, "activity_id", None)
    return activity_id


def entry(event: Recorded) -> Entry:
    """Return an event as it is shown."""
    return Entry(
        event.position,
        event.event_id,
        event.name,
        event.category,
        event.entity_id,
        activity_of(event),
        event.version,
        stamp(event.occurred_at),
        stamp(event.recorded_at),
        event.actor,
        event.command_id,
        event.correlation_id,
        event.causation_id,
        event.data,
    )


class History:
    """Adds events to one table. Their data may be decoded, or JSON that is passed on as it is."""

    def __init__(self, suffix: str) -> None:
        self._upsert = _TABLE.upsert(suffix)

    def forget(self) -> None:
        """Nothing is kept in memory."""

    def project(self, conn: psycopg.Connection[Any], batch: Sequence[Recorded]) -> None:
        """Add a batch in the caller's transaction; repeating a batch changes nothing."""
        if batch:
            conn.execute(self._upsert, _TABLE.arrays([_row(event) for event in batch]), prepare=True)


def projection(suffix: str, keep: int = 0) -> History:
    """Return what adds the log's events to the tables of this suffix."""
    return History(suffix)


def _row(event: Recorded) -> Sequence[Any]:
    shown = entry(event)
    doc = _encode(shown).decode()
    return event.position, event.tenant, shown.activity_id, event.category, event.entity_id, doc


# Questions. Every one gives rows of (doc, position), the oldest first unless the newest are asked for.


def of_activity(
    tenant: str, activity_id: str, after: int | None = None, limit: int = 100, *, newest: bool = False
) -> Query:
    """Ask for the history of an activity and its children; `after` is the position of the last row seen.

    `newest`: the newest rows first, and then those before the last row seen.
    """
    return _page(tenant, ["activity_id = %s"], [activity_id], after, limit, newest)


def of_task(tenant: str, task_id: str, after: int | None = None, limit: int = 100, *, newest: bool = False) -> Query:
    """Ask for the history of one task, as `of_activity` does for an activity."""
    return _page(tenant, ["category = 'task'", "entity_id = %s"], [task_id], after, limit, newest)


def _page(tenant: str, conditions: list[str], values: list[Any], after: int | None, limit: int, newest: bool) -> Query:
    if not 1 <= limit <= query.MAX_ROWS:
        raise BadQuery("bad-limit", f"a page has 1 to {query.MAX_ROWS} rows", "limit")
    if any("\0" in value for value in values):
        raise BadQuery("bad-filter", "an id holds no NUL", "id")
    if after is not None:
        if not 0 <= after < 2**63:
            raise BadQuery("bad-cursor", "a position is a whole number from 0", "after")
        conditions.append("position < %s" if newest else "position > %s")
        values.append(after)
    tail = f" ORDER BY position{' DESC' if newest else ''} LIMIT {limit:d}"
    return query.select("history", "doc, position", tenant, conditions, values, tail)


def resource_bytes(row: Sequence[Any]) -> bytes:
    """Return a row's event as JSON."""
    doc: str = row[0]
    return doc.encode()
