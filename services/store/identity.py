"""The identity of the log, by which a restored store is recognised: its id, its epoch, and where it was adopted last.

A backup restores the positions together with the log, so nothing in a restored database tells that events after the
backup were published and read before. But a dump is restored to other tables, in another database or on another server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

from services.store import log
from services.store.diagnosis import UnsuitableDatabase

_IDENTITY = "SELECT id::text, epoch, place FROM log_identity"
# Of an event, what `log_mark` is made of. A statement, because it is prepared: a function is planned in each call.
_MARK = """
SELECT l.id::text, l.epoch, e.originator_id, e.originator_version, e.recorded_at
FROM stored_events AS e, log_identity AS l WHERE e.notification_id = %s"""
_PLACE = (
    "SELECT concat_ws('/', %s::bigint, (SELECT oid FROM pg_database WHERE datname = current_database()),"
    " 'stored_events'::regclass::oid)"
)


Mark = tuple[Any, ...]


class LogRestored(UnsuitableDatabase):
    """The store is a copy, or was restored from a backup, and nobody has adopted it yet."""


@dataclass(frozen=True, slots=True)
class Identity:
    """`place` is None in a database that was never used where it is."""

    id: str
    epoch: int
    place: str | None


def identity(conn: psycopg.Connection[Any]) -> Identity:
    row: Any = conn.execute(_IDENTITY).fetchone()
    return Identity(*row)


def here(conn: psycopg.Connection[Any]) -> str:
    """Return the place of the log in this database: the server, the database and the table."""
    may: Any = conn.execute("SELECT has_function_privilege('pg_control_system()', 'EXECUTE')").fetchone()
    server: Any = (None,)
    if may[0]:
        server = conn.execute("SELECT system_identifier FROM pg_control_system()").fetchone()
    row: Any = conn.execute(_PLACE, (server[0],)).fetchone()
    return str(row[0])


def settle(conn: psycopg.Connection[Any]) -> None:
    """Note where the log is, unless that was noted before."""
    conn.execute("UPDATE log_identity SET place = %s WHERE place IS NULL", (here(conn),))


def copied(conn: psycopg.Connection[Any]) -> bool:
    """Whether the log is at another place than when it was made or adopted."""
    return identity(conn).place not in (None, here(conn))


def demand_own(conn: psycopg.Connection[Any]) -> None:
    """Raise `LogRestored` when the log is at another place than when it was made or adopted."""
    if copied(conn):
        raise LogRestored(f"the database is a copy, or was restored from a backup: {log.ADOPT}")


def ask_mark(conn: psycopg.Connection[Any], position: int) -> psycopg.Cursor[Any]:
    """Execute the query for what distinguishes the event at a position from any other that was ever there."""
    return conn.execute(_MARK, (position,), prepare=True)


@dataclass(slots=True)
class Memory:
    """What one process knows of the log: the last event that it saw, for which it asks at its next append.

    A process keeps the state of streams in memory, which is of no use after the log was replaced under it.
    """

    # The position of the event, and the row of `ask_mark`.
    last: tuple[int, Mark | None] = (0, None)
    checked: psycopg.Connection[Any] | None = None

    def check(self, conn: psycopg.Connection[Any]) -> None:
        """Raise `LogRestored` if the log is at another place than before; asked once on each connection."""
        if self.checked is not conn:
            demand_own(conn)
            self.checked = conn

    def compare(self, conn: psycopg.Connection[Any], last: tuple[int, Mark | None], found: Mark | None) -> None:
        """Raise `LogRestored` if the last event is not there any more; once the log was adopted, only the first time.

        `found` is what distinguishes the event that is at its position now.
        """
        position, mark = last
        if mark is None or found == mark:
            return
        known = identity(conn)
        if mark[:2] != (known.id, known.epoch):
            self.last = (0, None)
        raise LogRestored(f"the last event that was seen, at position {position}, is not in the log: {log.ADOPT}")
