"""The event store: what a decision read must still hold when its events are recorded, or nothing of it is recorded.

This is the one module that knows `eventsourcing`. Its recorder is replaced in three places: appends are serialised by
an advisory lock (a table lock waits for VACUUM, and appends with it), positions are given out under that lock without
gaps, and rows travel as plain arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import psycopg
import structlog
from eventsourcing.persistence import EventStore as LibraryStore
from eventsourcing.persistence import (
    IntegrityError,
    InterfaceError,
    InternalError,
    JSONTranscoder,
    Mapper,
    OperationalError,
    StoredEvent,
)
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import tuple_row
from psycopg_pool import PoolTimeout

from domain import DECIDER_OF_CATEGORY
from domain.decider import ANYBODY, Claim
from domain.streams import split_stream
from services.store import codec, log
from services.store.connect import conninfo, prepare

# Any constant does, as long as every appender to this database takes the same.
APPEND_LOCK = 4_012_000
# The pool's own waits between attempts to connect double for five minutes; whoever asks anew makes it try at once.
CONNECT_SECONDS = 3.0

_log = structlog.get_logger("store")

ClaimKey = tuple[str, str, str]
CommandKey = tuple[str, str]
# Who holds a claim of the kind `ANYBODY`, when somebody holds one of the kind that is asked about.
HELD = "held"


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to be recorded as `version` of its stream; `state` is its stored form, encoded once."""

    stream: str
    version: int
    name: str
    event: Any
    metadata: codec.Metadata
    state: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", codec.encode(self.metadata, self.event))


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What was decided on a command: a refusal's code, or the positions of its events (None when it recorded none)."""

    tenant: str
    command_id: str
    fingerprint: bytes
    code: str | None = None
    detail: str | None = None
    pointer: str | None = None
    first_position: int | None = None
    last_position: int | None = None


@dataclass(slots=True)
class Append:
    """One transaction: the events, what the decisions read, the claims that they take or give up, and the ledger.

    Positions are not known before the lock is held, so a ledger row counts the batch's own events as -1, -2 and on,
    and `@head` in a claim's holder stands for the log's end before them. `given_up` are claims that a decision gave up
    without a look at them, since a stream that it read says whose they are: whoever takes one of them in the same
    transaction need not find it free.
    """

    events: list[NewEvent] = field(default_factory=list)
    streams_read: dict[str, int] = field(default_factory=dict)
    claims_read: dict[ClaimKey, str | None] = field(default_factory=dict)
    claims: dict[ClaimKey, str | None] = field(default_factory=dict)
    given_up: set[ClaimKey] = field(default_factory=set)
    ledger: list[LedgerRow] = field(default_factory=list)
    attempts_done: list[CommandKey] = field(default_factory=list)


class StoreUnavailable(Exception):
    """The database cannot be reached, or did not answer; whether a transaction was recorded, the ledger knows.

    `outage` tells that the server itself said that it cannot work for now, although it may answer a plain query.
    """

    outage = False


class SessionLost(StoreUnavailable):
    """The connection ended in the middle of something: an outage, or what was being done ended it."""


class StatementFailed(StoreUnavailable):
    """The database is there and ended a statement as too large or too slow; a smaller batch may be recorded."""


class ConcurrencyConflict(Exception):
    """What some decisions read has changed; nothing was recorded, and those decisions are to be made again."""

    def __init__(self, streams: set[str], claims: set[ClaimKey], commands: set[CommandKey]) -> None:
        super().__init__(f"{len(streams)} streams, {len(claims)} claims, {len(commands)} commands have moved")
        self.streams = streams
        self.claims = claims
        self.commands = commands


# SQLSTATEs of a server that only reads, lacks resources, has a lock that others hold, stops or starts.
_OUTAGES = ("25006", "53", "55P03", "57P")
_LOCK = "SELECT pg_advisory_xact_lock(%s)"
_VERSIONS = """
SELECT wanted.stream, coalesce((SELECT originator_version FROM stored_events WHERE originator_id = wanted.stream
                                ORDER BY originator_version DESC LIMIT 1), 0)
FROM unnest(%b::text[]) AS wanted(stream)"""
_CLAIMS = """
SELECT tenant, kind, key, holder FROM claims
JOIN unnest(%b::text[], %b::text[], %b::text[]) AS wanted(tenant, kind, key) USING (tenant, kind, key)"""
_ANYBODY = """
SELECT wanted.tenant, wanted.kind FROM unnest(%b::text[], %b::text[]) AS wanted(tenant, kind)
WHERE EXISTS (SELECT FROM claims WHERE claims.tenant = wanted.tenant AND claims.kind = wanted.kind)"""
_LEDGER = """
SELECT tenant, command_id, fingerprint, code, detail, pointer, first_position, last_position FROM ledger
JOIN unnest(%b::text[], %b::text[]) AS wanted(tenant, command_id) USING (tenant, command_id)"""
_INSERT_EVENTS = """
INSERT INTO stored_events (originator_id, originator_version, topic, state, notification_id)
SELECT * FROM unnest(%b::text[], %b::bigint[], %b::text[], %b::bytea[], %b::bigint[])"""
_INSERT_LEDGER = """
INSERT INTO ledger (tenant, command_id, fingerprint, code, detail, pointer, first_position, last_position)
SELECT * FROM unnest(%b::text[], %b::text[], %b::bytea[], %b::text[], %b::text[], %b::text[],
                     %b::bigint[], %b::bigint[])"""
_TAKE_CLAIMS = """
INSERT INTO claims (tenant, kind, key, holder) SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[])
ON CONFLICT (tenant, kind, key) DO UPDATE SET holder = excluded.holder"""
_DROP_CLAIMS = """
DELETE FROM claims USING unnest(%b::text[], %b::text[], %b::text[]) AS given_up(tenant, kind, key)
WHERE (claims.tenant, claims.kind, claims.key) = (given_up.tenant, given_up.kind, given_up.key)"""
_DROP_ATTEMPTS = """
DELETE FROM attempts USING unnest(%b::text[], %b::text[]) AS done(tenant, message_id)
WHERE (attempts.tenant, attempts.message_id) = (done.tenant, done.message_id)"""
_SELECT_STREAMS = """
SELECT originator_id, originator_version, topic, state FROM stored_events
WHERE originator_id = ANY(%b::text[]) ORDER BY originator_id, originator_version"""


def append_in(conn: psycopg.Connection[Any], events: Sequence[NewEvent]) -> list[int]:
    """Append in the caller's transaction, under the lock; a version that is taken raises `psycopg` UniqueViolation."""
    conn.execute(_LOCK, (APPEND_LOCK,), prepare=True)
    return _insert(conn, [_stored(event) for event in events], log.head(conn))


def _insert(conn: psycopg.Connection[Any], events: Sequence[StoredEvent], head: int) -> list[int]:
    if not events:
        return []
    positions = list(range(head + 1, head + 1 + len(events)))
    columns = (
        [event.originator_id for event in events],
        [event.originator_version for event in events],
        [event.topic for event in events],
        [event.state for event in events],
        positions,
    )
    conn.execute(_INSERT_EVENTS, columns, prepare=True)
    conn.execute(f"NOTIFY {log.CHANNEL}")
    return positions


def _stored(event: NewEvent) -> StoredEvent:
    return StoredEvent(event.stream, event.version, event.name, event.state)


class _Mapper(Mapper[str]):
    """Maps by the registry of names in `codec`, never by a module's path."""

    def to_stored_event(self, domain_event: Any) -> StoredEvent:
        return _stored(domain_event)

    def to_domain_event(self, stored_event: StoredEvent) -> Any:
        return codec.decode(stored_event.topic, stored_event.state)


class _Datastore(PostgresDatastore):
    """The library's pool, of connections that are set up as all others are."""

    def __init__(self, statement_timeout: float, **given: Any) -> None:
        self._statement_timeout = statement_timeout
        super().__init__(**given)

    def after_connect_func(self) -> Callable[[psycopg.Connection[Any]], None]:
        statement_timeout = self._statement_timeout

        def after_connect(conn: psycopg.Connection[Any]) -> None:
            conn.autocommit = True
            prepare(conn, statement_timeout)

        return after_connect


class Recorder(PostgresApplicationRecorder):
    """The library's recorder with our lock, our positions, and the check of all that was read."""

    def insert_events(  # not retried here: the worker knows whether a lost connection had committed, by the ledger
        self, stored_events: Sequence[StoredEvent], append: Append | None = None, **_: Any
    ) -> Sequence[int] | None:
        with self.datastore.get_connection() as conn:
            plain = cast("psycopg.Connection[Any]", conn)
            before, plain.row_factory = plain.row_factory, tuple_row
            try:
                with plain.transaction():
                    plain.execute(_LOCK, (APPEND_LOCK,), prepare=True)
                    head = _demand_unmoved(plain, append) if append is not None else log.head(plain)
                    positions = _insert(plain, stored_events, head)
                    if append is not None:
                        _record(plain, append, head)
            except psycopg.errors.UniqueViolation as error:
                raise IntegrityError(str(error)) from error
            finally:
                plain.row_factory = before
        return positions

    def _lock_table(self, curs: Any) -> None:
        curs.execute(_LOCK, (APPEND_LOCK,), prepare=True)


def _demand_unmoved(conn: psycopg.Connection[Any], append: Append) -> int:
    """Compare everything that was read, under the lock, and return the log's head; raises `ConcurrencyConflict`."""
    with conn.pipeline():
        versions = conn.execute(_VERSIONS, (list(append.streams_read),), prepare=True, binary=True)
        wanted = {**append.claims_read, **append.claims}
        claims = conn.execute(_CLAIMS, _columns(wanted, 3), prepare=True)
        commands = [(row.tenant, row.command_id) for row in append.ledger]
        ledger = conn.execute(_LEDGER, _columns(commands, 2), prepare=True)
        last = conn.execute(log.HEAD, prepare=True)
        asked = _asked_of_anybody(append.claims_read)
        anybody = conn.execute(_ANYBODY, _columns(asked, 2)) if asked else None
        moved = {stream for stream, version in versions.fetchall() if version != append.streams_read[stream]}
        holders = {(t, k, key): holder for t, k, key, holder in claims.fetchall()}
        if anybody is not None:
            holders |= {(tenant, ANYBODY, kind): HELD for tenant, kind in anybody.fetchall()}
        decided = {(row[0], row[1]) for row in ledger.fetchall()}
        head = int(cast("tuple[int]", last.fetchone())[0])
    lost = {key for key, holder in append.claims_read.items() if holders.get(key) != holder}
    # A claim that is taken unread (an id just made) must be free.
    lost |= {
        key
        for key, holder in append.claims.items()
        if holder and key in holders and key not in append.claims_read and key not in append.given_up
    }
    if moved or lost or decided:
        raise ConcurrencyConflict(moved, lost, decided)
    return head


def _record(conn: psycopg.Connection[Any], append: Append, head: int) -> None:
    if append.ledger:
        rows = [
            (
                row.tenant,
                row.command_id,
                row.fingerprint,
                row.code,
                row.detail,
                row.pointer,
                _position(row.first_position, head),
                _position(row.last_position, head),
            )
            for row in append.ledger
        ]
        conn.execute(_INSERT_LEDGER, _columns(rows, 8), prepare=True)
    write_claims(
        conn,
        {key: holder.replace("@head", str(head)) if holder else None for key, holder in append.claims.items()},
    )
    if append.attempts_done:
        conn.execute(_DROP_ATTEMPTS, _columns(append.attempts_done, 2), prepare=True)


def write_claims(conn: psycopg.Connection[Any], claims: Mapping[ClaimKey, str | None]) -> None:
    """Take claims, or give up those whose holder is None, in the caller's transaction, which holds the append lock."""
    taken = [(*key, holder) for key, holder in claims.items() if holder]
    if taken:
        conn.execute(_TAKE_CLAIMS, _columns(taken, 4), prepare=True)
    given_up = [key for key, holder in claims.items() if not holder]
    if given_up:
        conn.execute(_DROP_CLAIMS, _columns(given_up, 3), prepare=True)


def _asked_of_anybody(claims: Iterable[ClaimKey]) -> list[tuple[str, str]]:
    """Return (tenant, kind) of the claims that ask whether there are any of a kind."""
    return [(tenant, asked) for tenant, kind, asked in claims if kind == ANYBODY]


def _position(position: int | None, head: int) -> int | None:
    return head - position if position is not None and position < 0 else position


def _columns(rows: Iterable[tuple[Any, ...]], width: int) -> tuple[list[Any], ...]:
    columns = tuple(list(column) for column in zip(*rows, strict=True))
    return columns or tuple([] for _ in range(width))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise _unavailable(error) from error
    except InternalError as error:
        if isinstance(error.__cause__, psycopg.errors.ReadOnlySqlTransaction):
            # A standby, or a server being moved: not the command's doing.
            raise _unavailable(error) from error
        raise


def _unavailable(error: Exception) -> StoreUnavailable:
    cause = error.__cause__
    found = _kind(cause)(str(error))
    found.outage = isinstance(cause, PoolTimeout) or (getattr(cause, "sqlstate", None) or "").startswith(_OUTAGES)
    return found


def _kind(cause: BaseException | None) -> type[StoreUnavailable]:
    state = getattr(cause, "sqlstate", None)
    if state is None:
        # The pool's time-out says that no connection could be made; else there was one.
        return StoreUnavailable if isinstance(cause, PoolTimeout) else SessionLost
    # Program limits, and a statement that was canceled; one that waits for a lock ends as 55P03 before that.
    return StatementFailed if state.startswith("54") or state == "57014" else StoreUnavailable


class EventStore:
    """One worker's connection to the log, the ledger and the claims. Not thread-safe: it belongs to one thread."""

    def __init__(self, database_url: str, role: str = "commands", statement_timeout: float = 30.0) -> None:
        """Connect; raises `StoreUnavailable` when the database cannot be reached."""
        given = conninfo_to_dict(conninfo(database_url, role))
        named = {name: str(given.pop(name, "")) for name in ("dbname", "host", "port", "user", "password")}
        # The datastore is made by hand: its factory would merge the process's whole environment into the settings.
        # Without pool_open_timeout: it waits for the pool at each use, and when it has waited in vain it closes the
        # pool for good, so that an outage longer than that was never got over.
        self._datastore = _Datastore(
            statement_timeout,
            **named,
            pool_size=1,
            originator_id_type="text",
            connect_timeout=CONNECT_SECONDS,
        )
        self._datastore.pool.reconnect_timeout = CONNECT_SECONDS
        pool_arguments = cast("dict[str, Any]", self._datastore.pool.kwargs)
        pool_arguments.update(given, row_factory=tuple_row)
        for name in [name for name in named if not named[name]]:
            pool_arguments.pop(name)
        try:
            with _translated():
                recorder = Recorder(self._datastore)
        except BaseException:
            self._datastore.close()
            raise
        self._events: LibraryStore[str] = LibraryStore(_Mapper(JSONTranscoder()), recorder)

    def close(self) -> None:
        """Close the connection."""
        self._datastore.close()

    def load(self, streams: Iterable[str]) -> dict[str, tuple[int, Any]]:
        """Return (version, state) of many streams by one query; (0, None) of an empty one.

        The state of a stream with an event that cannot be read, of a newer version or damaged, is a `NewerStream`.
        """
        found: dict[str, tuple[int, Any]] = dict.fromkeys(streams, (0, None))
        for stream, version, name, state in self._fetch(_SELECT_STREAMS, (list(found),)):
            before = found[stream][1]
            if isinstance(before, codec.NewerStream):
                continue
            try:
                decider = DECIDER_OF_CATEGORY[split_stream(stream)[1]]
                after = decider.evolve(before, codec.decode(name, state))
            except Exception as error:
                _log.warning("an event cannot be read", stream=stream, version=version, type=name, error=str(error))
                after = codec.NewerStream(name, version)
            found[stream] = (version, after)
        return found

    def holders(self, claims: Iterable[tuple[str, Claim]]) -> dict[ClaimKey, str | None]:
        """Return who holds each of the claims, by one query."""
        found: dict[ClaimKey, str | None] = {(tenant, claim.kind, claim.key): None for tenant, claim in claims}
        for tenant, kind, key, holder in self._fetch(_CLAIMS, _columns(found, 3)):
            found[tenant, kind, key] = holder
        asked = _asked_of_anybody(found)
        for tenant, kind in self._fetch(_ANYBODY, _columns(asked, 2)) if asked else ():
            found[tenant, ANYBODY, kind] = HELD
        return found

    def ledger(self, commands: Iterable[CommandKey]) -> dict[CommandKey, LedgerRow]:
        """Return what was decided on those of the commands that were decided."""
        rows = self._fetch(_LEDGER, _columns(commands, 2))
        return {(row[0], row[1]): LedgerRow(*row) for row in rows}

    def events(self, first: int, last: int) -> list[log.LogRow]:
        """Return the stored events from one position to another, both included."""
        with _translated(), self._datastore.get_connection() as conn:
            return log.between(cast("psycopg.Connection[Any]", conn), first, last)

    def append(self, append: Append) -> tuple[int, list[int]]:
        """Record one transaction; return (head, positions of its events). A `ConcurrencyConflict` records nothing."""
        with _translated():
            recordings = self._events.put(cast("Any", append.events), append=append)
        positions = [recording.notification.id for recording in recordings]
        return (positions[-1] if positions else self.head()), positions

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other appender out while the block reads and appends; the connection's end ends it as well."""
        self._fetch("SELECT pg_advisory_lock(%s)", (APPEND_LOCK,))
        try:
            yield
        finally:
            with suppress(StoreUnavailable):
                self._fetch("SELECT pg_advisory_unlock(%s)", (APPEND_LOCK,))

    def count_attempt(self, tenant: str, message_id: str) -> int:
        """Count one more attempt at a redelivered command, durably, and return how many there were."""
        rows = self._fetch(
            "INSERT INTO attempts AS a (tenant, message_id, attempts) VALUES (%s, %s, 1)"
            " ON CONFLICT (tenant, message_id) DO UPDATE SET attempts = a.attempts + 1, last_at = now()"
            " RETURNING attempts",
            (tenant, message_id),
        )
        return int(rows[0][0])

    def forget_attempts(self, tenant: str, message_id: str) -> None:
        """Drop the count of a command that is done with."""
        self._fetch(
            "DELETE FROM attempts WHERE tenant = %s AND message_id = %s RETURNING attempts", (tenant, message_id)
        )

    def prune(self, older_than_days: int, most: int = 5000) -> int:
        """Drop a batch of old receipts, and old attempts and bulks, and return how many receipts went.

        A bulk goes before the receipts of its parts, so none of these is sent again because its receipt is gone.
        """
        rows = self._fetch(
            "WITH gone AS (DELETE FROM ledger WHERE ctid = ANY(ARRAY(SELECT ctid FROM ledger"
            " WHERE recorded_at < now() - make_interval(days => %s) LIMIT %s)) RETURNING 1),"
            " old AS (DELETE FROM attempts WHERE last_at < now() - make_interval(days => %s)),"
            " bulk AS (DELETE FROM bulks WHERE sent_at IS NOT NULL AND created_at < now() - make_interval(days => %s))"
            " SELECT count(*) FROM gone",
            (older_than_days, most, older_than_days, older_than_days),
        )
        return int(rows[0][0])

    def head(self) -> int:
        """Return the log's last position."""
        return int(self._fetch(log.HEAD, ())[0][0])

    def _fetch(self, query: str, params: Sequence[Any]) -> list[Any]:
        with _translated(), self._datastore.get_connection() as conn:
            return cast("psycopg.Connection[Any]", conn).execute(query, params, prepare=True, binary=True).fetchall()
