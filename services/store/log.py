"""Reading the log in order of position; positions have no gaps, and a reader that sees one stops."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from domain import operations
from domain.limits import MAX_WHOLE
from domain.recorded import Recorded
from domain.streams import stream_of
from projections.statement import Query
from projections.support.weight import weight
from services.store import codec

if TYPE_CHECKING:
    import psycopg

_OF_OPERATORS = f"{operations.CATEGORY}-"
# Notified with every append; only a hint, since readers also poll.
CHANNEL = "foldwork_log"

_COLUMNS = "notification_id, originator_id, originator_version, topic, state, recorded_at"
# A batch ends with the event that reaches this size in memory, unless the caller has another limit.
BATCH_BYTES = 8 * 1024 * 1024
# Larger events are read in a second query, as far as they fit; the first one returns only their size.
_SMALL = 16 * 1024
_SPARING = f"""
SELECT {_COLUMNS.replace(" state", f" CASE WHEN octet_length(state) <= {_SMALL} THEN state END")},
    CASE WHEN octet_length(state) > {_SMALL} THEN octet_length(state) END
FROM stored_events"""  # noqa: S608
_READ = f"{_SPARING} WHERE notification_id > %s ORDER BY notification_id LIMIT %s"
_AT = f"{_SPARING} WHERE notification_id = ANY(%s) ORDER BY notification_id"
_STATES = "SELECT notification_id, state FROM stored_events WHERE notification_id = ANY(%s)"
_EVENTS = f"SELECT {_COLUMNS} FROM stored_events"  # noqa: S608
_RANGE = f"{_EVENTS} WHERE notification_id BETWEEN %s AND %s ORDER BY notification_id"
_FIRST = f"{_EVENTS} WHERE originator_id = ANY(%s::text[]) AND originator_version = 1"
_OF_STREAM = f"{_EVENTS} WHERE originator_id = %s AND topic = ANY(%s::text[]) ORDER BY originator_version"
# Sorted by an expression: the index in this order would be read from end to end, however few of the events are wanted.
_ALL_OF = (
    f"{_EVENTS} WHERE originator_id = ANY(%s::text[]) AND notification_id > %s AND notification_id <= %s"
    " ORDER BY notification_id + 0 LIMIT %s"
)
_OF_TENANT = (
    f"{_EVENTS} WHERE notification_id > %s AND notification_id <= %s AND originator_id >= %s AND originator_id < %s"
    " AND NOT starts_with(originator_id, %s)"
    " AND (%s::text[] IS NULL OR topic = ANY(%s::text[])) ORDER BY notification_id LIMIT %s"
)
_SUMMARIES = (
    "SELECT notification_id, topic, originator_id, originator_version FROM stored_events"
    " WHERE notification_id BETWEEN %s AND %s ORDER BY notification_id"
)
_OF_STREAMS = (
    "SELECT originator_id, topic, state FROM stored_events WHERE originator_id = ANY(%s)"
    " ORDER BY originator_id, originator_version"
)
_LAST_OF_NAME = (
    "SELECT recorded_at, originator_version ="
    " (SELECT max(originator_version) FROM stored_events WHERE originator_id = %s)"
    " FROM stored_events WHERE originator_id = %s AND topic = %s ORDER BY originator_version DESC LIMIT 1"
)
# Of a follower, whether the event at its position is the one that it handled there.
SAME = "mark IS NOT DISTINCT FROM log_mark(position)"
# What an operator does about a store that was restored from a backup.
ADOPT = "`foldwork db adopt` tells what continues where, and does it with --force"
_RESTORED = f"the log or the follower was restored from a backup; {ADOPT}"
HEAD = "SELECT coalesce(max(notification_id), 0) FROM stored_events"
# An event's time is that of the beginning of its transaction, which may have waited so long for the append lock.
_LONGEST_WAIT = timedelta(seconds=60)
# The position before the first event whose time is at least, or beyond, a given one. The position is halved as long as
# no event before it can be that one; what is left is read.
_BEFORE = f"""
WITH RECURSIVE halved (low, high) AS (
    SELECT 0::bigint, ({HEAD})
    UNION ALL
    SELECT CASE WHEN e.recorded_at < %s::timestamptz - %s::interval THEN e.notification_id ELSE h.low END,
        CASE WHEN e.recorded_at < %s::timestamptz - %s::interval THEN h.high ELSE e.notification_id - 1 END
    FROM halved AS h JOIN stored_events AS e ON e.notification_id = (h.low + h.high + 1) / 2 WHERE h.low < h.high)
SELECT coalesce((
    SELECT notification_id - 1 FROM stored_events
    WHERE notification_id > (SELECT max(low) FROM halved) AND recorded_at {{}} %s::timestamptz
    ORDER BY notification_id LIMIT 1), ({HEAD})), %s::timestamptz > clock_timestamp()"""  # noqa: S608
_BEFORE_TIME, _UP_TO_TIME = _BEFORE.format(">="), _BEFORE.format(">")
_TIME_OF = f"SELECT ({HEAD}), (SELECT recorded_at FROM stored_events WHERE notification_id = %s)"  # noqa: S608


class LogGap(Exception):
    """A position is missing, so an event would be skipped."""


class LogReplaced(LogGap):
    """The log is not the one that was read before."""


class LogRow(msgspec.Struct, gc=False):
    """A row of `stored_events`; it is decoded once for all readers."""

    position: int
    stream: str
    version: int
    name: str
    state: bytes
    recorded_at: datetime
    # An estimate of its size in memory when it is decoded, in rows that were read for a batch.
    weight: int = 0
    _stored: codec.StoredState | None = None
    _recorded: Recorded | None = None

    def recorded(self) -> Recorded:
        """Return the decoded event; raises `UnknownEvent`."""
        if self._recorded is None:
            self._recorded = codec.recorded(
                self.stream, self.version, self.name, self._split(), self.position, self.recorded_at
            )
        return self._recorded

    def passed_on(self) -> Recorded:
        """Return the event with its data as JSON; raises `UnknownEvent`."""
        return codec.passed_on(self.stream, self.version, self.name, self._split(), self.position, self.recorded_at)

    @property
    def is_published(self) -> bool:
        """Whether the event is for consumers; those of operators are for the audit alone."""
        return not self.stream.partition("/")[2].startswith(_OF_OPERATORS)

    @property
    def meta(self) -> codec.Metadata:
        """The metadata; raises `msgspec.MsgspecError` if it cannot be read."""
        return self._split().meta

    @property
    def command(self) -> str | None:
        """The id of the command that recorded the event, None if it cannot be read."""
        try:
            return self.meta.command
        except msgspec.MsgspecError:
            return None

    def _split(self) -> codec.StoredState:
        if self._stored is None:
            self._stored = codec.split(self.state)
        return self._stored


def ask(conn: psycopg.Connection[Any], after: int, limit: int) -> psycopg.Cursor[Any]:
    """Execute the query for up to `limit` events after a position; `taken` fetches them."""
    return conn.execute(_READ, (after, limit), prepare=True, binary=True)


def taken(asked: psycopg.Cursor[Any], after: int, size: int = BATCH_BYTES) -> list[LogRow]:
    """Fetch the events of `ask`, up to the one that reaches a size; raises `LogGap`."""
    found = asked.fetchall()
    if found and found[-1][0] != after + len(found):
        raise LogGap(f"after position {after} the log holds {len(found)} events up to {found[-1][0]}")
    return _rows(asked.connection, found, size)


def _rows(conn: psycopg.Connection[Any], found: list[Any], size: int) -> list[LogRow]:
    # Of a large event only the length is known yet; in memory it is at least as large.
    found = found[: _count((row[6] or weight(row[4]) for row in found), size)]
    large = [row[0] for row in found if row[6] is not None]
    states: dict[int, bytes] = {}
    if large:
        states = dict(conn.execute(_STATES, (large,), binary=True).fetchall())
    rows = []
    for row in found:
        state = row[4] if row[6] is None else states[row[0]]
        rows.append(LogRow(row[0], row[1], row[2], row[3], state, row[5], weight(state)))
    return rows[: _count((row.weight for row in rows), size)] if large else rows


def _count(sizes: Iterable[int], most: int) -> int:
    """Return how many of the sizes there are up to the one with which their sum reaches a limit."""
    total = count = 0
    for size in sizes:
        count += 1
        total += size
        if total >= most:
            break
    return count


def read(conn: psycopg.Connection[Any], after: int, limit: int, size: int = BATCH_BYTES) -> list[LogRow]:
    """Return up to `limit` events after a position, fewer if they are large."""
    return taken(ask(conn, after, limit), after, size)


def heavy(rows: Sequence[LogRow], limit: int, size: int = BATCH_BYTES) -> bool:
    """Whether a batch ended by its size."""
    return len(rows) < limit and sum(row.weight for row in rows) >= size


def at(conn: psycopg.Connection[Any], positions: Sequence[int]) -> list[LogRow]:
    """Return the events at these positions in order, fewer if they are large."""
    asked = conn.execute(_AT, (list(positions),), prepare=True, binary=True)
    return _rows(conn, asked.fetchall(), BATCH_BYTES)


def events_between(first: int, last: int) -> Query:
    """The events from position `first` to `last`, both included; rows are arguments of `LogRow`."""
    return Query(_RANGE, (first, last))


def first_events(streams: Sequence[str]) -> Query:
    """The first event of each stream; rows are arguments of `LogRow`."""
    return Query(_FIRST, (list(streams),))


def all_events(streams: Sequence[str], after: int = 0, last: int = MAX_WHOLE, limit: int | None = None) -> Query:
    """The events of these streams after one position and up to another, in order; rows are arguments of `LogRow`."""
    return Query(_ALL_OF, (list(streams), after, last, limit))


def events_of_stream(stream: str, names: Sequence[str]) -> Query:
    """The events of a stream that have one of the names, in order; rows are arguments of `LogRow`."""
    return Query(_OF_STREAM, (stream, list(names)))


def events_of_tenant(tenant: str, after: int, last: int, names: Sequence[str] | None, limit: int) -> Query:
    """A tenant's published events after one position and up to another; rows are arguments of `LogRow`."""
    # A tenant's streams begin with its name and a slash; `0` is the character that follows the slash.
    wanted = None if names is None else list(names)
    acts = stream_of(tenant, operations.CATEGORY, "")
    return Query(_OF_TENANT, (after, last, f"{tenant}/", f"{tenant}0", acts, wanted, wanted, limit))


def summaries_between(first: int, last: int) -> Query:
    """(position, name, stream, version) of the events from position `first` to `last`."""
    return Query(_SUMMARIES, (first, last))


def events_of_streams(streams: Sequence[str]) -> Query:
    """(stream, name, state) of all events of these streams, each stream in order."""
    return Query(_OF_STREAMS, (list(streams),))


def last_event_named(stream: str, name: str) -> Query:
    """The last event of this name in a stream: (when it was recorded, whether it is the stream's last)."""
    return Query(_LAST_OF_NAME, (stream, stream, name))


def head(conn: psycopg.Connection[Any]) -> int:
    """Return the last position, 0 for an empty log."""
    row: Sequence[Any] | None = conn.execute(HEAD, prepare=True).fetchone()
    return int(row[0]) if row is not None else 0


def position_before(conn: psycopg.Connection[Any], instant: datetime) -> int:
    """Return the position before the first event that was recorded at a time or later, the end if there is none."""
    row: Sequence[Any] | None = conn.execute(_BEFORE_TIME, _timed(instant)).fetchone()
    assert row is not None  # noqa: S101
    return int(row[0])


def position_at(instant: datetime) -> Query:
    """The position before the first event that was recorded after a time, and whether the time is still to come."""
    return Query(_UP_TO_TIME, _timed(instant))


def time_of(position: int) -> Query:
    """The end of the log, and when the event at a position was recorded, NULL without one."""
    return Query(_TIME_OF, (position,))


def _timed(instant: datetime) -> tuple[Any, ...]:
    return (instant, _LONGEST_WAIT, instant, _LONGEST_WAIT, instant, instant)


def demand_reaches(conn: psycopg.Connection[Any], position: int, name: str) -> None:
    """Raise `LogReplaced` when a follower's position is beyond the end of the log."""
    end = head(conn)
    if position > end:
        raise LogReplaced(f"{name} is at position {position}, but the log ends at {end}: {_RESTORED}")


def demand_same(same: bool, position: int, name: str) -> None:
    """Raise `LogReplaced` when the event at a follower's position is not the one that it handled."""
    if not same:
        raise LogReplaced(f"the event that {name} handled last, at position {position}, is not in the log: {_RESTORED}")
