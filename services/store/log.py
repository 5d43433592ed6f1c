"""Reading the log in order of position; positions have no gaps, and a reader that sees one stops."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import psycopg

from domain.recorded import Recorded
from services.store import codec

# Sent with every append; a hint to look, never the only reason to.
CHANNEL = "foldwork_log"

COLUMNS = "notification_id, originator_id, originator_version, topic, state, recorded_at"
_READ = f"SELECT {COLUMNS} FROM stored_events WHERE notification_id > %s ORDER BY notification_id LIMIT %s"  # noqa: S608
_RANGE = f"SELECT {COLUMNS} FROM stored_events WHERE notification_id BETWEEN %s AND %s ORDER BY notification_id"  # noqa: S608
HEAD = "SELECT coalesce(max(notification_id), 0) FROM stored_events"


class LogGap(Exception):
    """A position is missing, so an event would be skipped for good."""


class LogRow(msgspec.Struct, gc=False):
    """A stored event as it lies in the table; it is decoded once, however many ask."""

    position: int
    stream: str
    version: int
    name: str
    state: bytes
    recorded_at: datetime
    _stored: codec.StoredState | None = None
    _recorded: Recorded | None = None

    def recorded(self) -> Recorded:
        """Return the decoded event; raises `UnknownEvent` for a name that is not registered."""
        if self._recorded is None:
            self._recorded = codec.recorded(
                self.stream, self.version, self.name, self._split(), self.position, self.recorded_at
            )
        return self._recorded

    def passed_on(self) -> Recorded:
        """Return the event with its data still JSON, for those who only pass it on; as strict about its name."""
        return codec.passed_on(self.stream, self.version, self.name, self._split(), self.position, self.recorded_at)

    def _split(self) -> codec.StoredState:
        if self._stored is None:
            self._stored = codec.split(self.state)
        return self._stored


def ask(conn: psycopg.Connection[Any], after: int, limit: int) -> psycopg.Cursor[Any]:
    """Ask for up to `limit` events that follow position `after`, which `taken` gives."""
    return conn.execute(_READ, (after, limit), prepare=True, binary=True)


def taken(asked: psycopg.Cursor[Any], after: int) -> list[LogRow]:
    """Return the events that were asked for."""
    rows = [LogRow(*row) for row in asked.fetchall()]
    if rows and rows[-1].position != after + len(rows):
        raise LogGap(f"after position {after} the log holds {len(rows)} events up to {rows[-1].position}")
    return rows


def read(conn: psycopg.Connection[Any], after: int, limit: int) -> list[LogRow]:
    """Return up to `limit` events that follow position `after`."""
    return taken(ask(conn, after, limit), after)


def between(conn: psycopg.Connection[Any], first: int, last: int) -> list[LogRow]:
    """Return the events from position `first` to `last`, both included."""
    return [LogRow(*row) for row in conn.execute(_RANGE, (first, last), prepare=True, binary=True).fetchall()]


def head(conn: psycopg.Connection[Any]) -> int:
    """Return the last position, 0 for an empty log."""
    row: Sequence[Any] | None = conn.execute(HEAD, prepare=True).fetchone()
    return int(row[0]) if row is not None else 0


def demand_reaches(conn: psycopg.Connection[Any], position: int, name: str) -> None:
    """Raise `LogGap` when a follower stands beyond the end of the log."""
    end = head(conn)
    if position > end:
        raise LogGap(f"{name} is at {position}, but the log ends at {end}: the store is an older one")
