"""Reading the record of operators' acts, the newest first.

A page is read from the end of one stream, by its versions, so there is no read model of it. Filters are compared with
the events themselves, as many as `WINDOW` for one page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from domain.operations import CATEGORY, EVENTS, NO_TENANT, STREAM_ID, OperationRecorded
from domain.streams import stream_of
from projections.statement import Query
from projections.support.time import stamp
from services.store.log import LogRow

# How many events one statement looks at; a page may have fewer of them than its limit, or none.
WINDOW = 10_000
# Most events of a page; one has at most 12 KiB.
MAX_PAGE = 500
_VERSION = """
SELECT coalesce((SELECT originator_version FROM stored_events WHERE originator_id = %s
                 ORDER BY originator_version DESC LIMIT 1), 0)"""
_PAGE = """
SELECT notification_id, originator_id, originator_version, topic, state, recorded_at FROM stored_events
WHERE originator_id = %s AND originator_version < %s AND originator_version >= %s AND topic = ANY(%s::text[]){}
ORDER BY originator_version DESC LIMIT %s"""
_JSON = "convert_from(state, 'UTF8')::jsonb"
_CONDITIONS = {
    "act": f" AND {_JSON} -> 'data' ->> 'act' = %s",
    "actor": f" AND {_JSON} -> 'meta' ->> 'actor' = %s",
    "target": f" AND starts_with({_JSON} -> 'data' ->> 'target', %s)",
    "outcome": f" AND {_JSON} -> 'data' ->> 'outcome' = %s",
    "since": " AND recorded_at >= %s",
    "until": " AND recorded_at < %s",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which acts are asked for; None is any. `target` is how the target begins, `until` is not included."""

    act: str | None = None
    actor: str | None = None
    target: str | None = None
    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class Entry(msgspec.Struct, frozen=True):
    """An act of an operator as it is shown; the start of an act and its outcome have the same `operation_id`."""

    position: int
    event_id: str
    operation_id: str
    act: str
    target: str
    outcome: str
    reason: str | None
    actor: str
    key_id: str | None
    recorded_at: str
    details: dict[str, Any]


def version(tenant: str | None) -> Query:
    """The version of a tenant's record, or of that of no tenant: (version), 0 if it is empty."""
    return Query(_VERSION, (_stream(tenant),))


def page(tenant: str | None, wanted: Wanted, before: int, limit: int) -> Query:
    """The newest acts before a version of the record; rows are arguments of `LogRow`."""
    given = [(name, value) for name in _CONDITIONS if (value := getattr(wanted, name)) is not None]
    conditions = "".join(_CONDITIONS[name] for name, _ in given)
    first = (_stream(tenant), before, before - WINDOW, list(EVENTS))
    return Query(_PAGE.format(conditions), (*first, *(value for _, value in given), limit))


def following(rows: Sequence[tuple[Any, ...]], before: int, limit: int) -> int | None:
    """Return the version before which the next page begins, None after the last one."""
    last = int(rows[-1][2]) if len(rows) == limit else before - WINDOW
    return last if last > 1 else None


def entry(row: Sequence[Any]) -> Entry:
    """Return a row of a page as it is shown."""
    event = LogRow(*row).recorded()
    said: OperationRecorded = event.data
    return Entry(
        event.position,
        event.event_id,
        event.correlation_id,
        said.act,
        said.target,
        said.outcome,
        said.reason,
        event.actor,
        said.key_id,
        stamp(event.recorded_at),
        said.details,
    )


def _stream(tenant: str | None) -> str:
    return stream_of(tenant or NO_TENANT, CATEGORY, STREAM_ID)
