"""Reading the log in order of position; positions have no gaps, and a reader that sees one stops."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import psycopg

from domain.recorded import Recorded
from services.store import codec

# Sent with every append; a hint to look, never the only reason to.
CHANNEL = "foldwork_log"

_COLUMNS = "notification_id, originator_id, originator_version, topic, state, recorded_at"
_READ = f"SELECT {_COLUMNS} FROM stored_events WHERE notification_id > %s ORDER BY notification_id LIMIT %s"  # noqa: S608
_RANGE = f"SELECT {_COLUMNS} FROM stored_events WHERE notification_id BETWEEN %s AND %s ORDER BY notification_id"  # noqa: S608
HEAD = "SELECT coalesce(max(notification_id), 0) FROM stored_events"


class LogGap(Exception):
    """A position is missing, so an event would be skipped for good."""


class LogRow(NamedTuple):
    """A stored event as it lies in the table."""

    position: int
    stream: str
    version: int
    name: str
    state: bytes
    recorded_at: datetime

    def recorded(self) -> Recorded:
        """Return the decoded event; raises `UnknownEvent` for a name that is not registered."""
        return codec.recorded(self.stream, self.version, self.name, self.state, self.position, self.recorded_at)


def read(conn: psycopg.Connection[Any], after: int, limit: int) -> list[LogRow]:
    """Return up to `limit` events that follow position `after`."""
    rows = [LogRow(*row) for row in conn.execute(_READ, (after, limit), prepare=True, binary=True).fetchall()]
    if rows and rows[-1].position != after + len(rows):
        raise LogGap(f"after position {after} the log holds {len(rows)} events up to {rows[-1].position}")
    return rows


def between(conn: psycopg.Connection[Any], first: int, last: int) -> list[LogRow]:
    """Return the events from position `first` to `last`, both included."""
    return [LogRow(*row) for row in conn.execute(_RANGE, (first, last), prepare=True, binary=True).fetchall()]


def head(conn: psycopg.Connection[Any]) -> int:
    """Return the last position, 0 for an empty log."""
    row: Sequence[Any] | None = conn.execute(HEAD, prepare=True).fetchone()
    return int(row[0]) if row is not None else 0
