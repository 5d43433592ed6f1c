"""The event store: it records events only while everything that the decisions read is unchanged.

This is the only module that imports `eventsourcing`. Its recorder is replaced in three places: appends are serialised
by an advisory lock, positions are assigned under that lock without gaps, and rows travel as plain arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
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

from domain import DECIDER_OF_CATEGORY
from domain.decider import ANYBODY, UniqueKey
from domain.streams import split_stream
from services.store import append as appending
from services.store import codec, log
from services.store.append import APPEND_LOCK, HELD, Append, CommandKey, LedgerRow, TenantUniqueKey
from services.store.connect import IDLE_SHARE, Session, conninfo, prepare
from services.store.identity import Memory, ask_mark
from services.store.unavailable import AWAY, StoreUnavailable, unavailable

# The pool doubles its own waits between attempts to connect for five minutes; a new request makes it try at once.
CONNECT_SECONDS = 3.0

_log = structlog.get_logger("store")

# Of the states that one statement reads; those after the one that reaches it are NULL.
LOAD_BYTES = 8 << 20
_STREAMS = """
SELECT originator_id, originator_version, topic, CASE WHEN sum(octet_length(state)) OVER (
    ORDER BY originator_id, originator_version ROWS UNBOUNDED PRECEDING) - octet_length(state) < %b THEN state END
FROM stored_events WHERE originator_id = ANY(%b::text[]){} ORDER BY originator_id, originator_version"""
_SELECT_STREAMS = _STREAMS.format("")
_SELECT_MORE = _STREAMS.format(" AND (originator_id, originator_version) >= (%b, %b)")


class _Mapper(Mapper[str]):
    """Maps events by the registry of names in `codec`, not by module paths."""

    def to_stored_event(self, domain_event: Any) -> StoredEvent:
        return StoredEvent(domain_event.stream, domain_event.version, domain_event.name, domain_event.state)

    def to_domain_event(self, stored_event: StoredEvent) -> Any:
        return codec.decode(stored_event.topic, stored_event.state)


class _Datastore(PostgresDatastore):
    """The library's pool, with connections set up like all others."""

    def __init__(self, statement_timeout: float, **given: Any) -> None:
        self._statement_timeout = statement_timeout
        super().__init__(**given)

    def after_connect_func(self) -> Callable[[psycopg.Connection[Any]], None]:
        statement_timeout = self._statement_timeout

        def after_connect(conn: psycopg.Connection[Any]) -> None:
            conn.autocommit = True
            prepare(cast("Session", conn), statement_timeout)

        return after_connect


class Recorder(PostgresApplicationRecorder):
    """The library's recorder with Foldwork's lock, its positions, and the check of everything that was read."""

    def __init__(self, datastore: PostgresDatastore) -> None:
        super().__init__(datastore)
        self._memory = Memory()

    # Not retried: after a lost connection the worker tells by the ledger whether the transaction was committed.
    def insert_events(
        self, stored_events: Sequence[StoredEvent], append: Append | None = None, **_: Any
    ) -> Sequence[int] | None:
        recorded = Append() if append is None else append
        rows = [(each.originator_id, each.originator_version, each.topic, each.state) for each in stored_events]
        with self.datastore.get_connection() as conn:
            plain = cast("psycopg.Connection[Any]", conn)
            before, plain.row_factory = plain.row_factory, tuple_row
            try:
                with plain.transaction():
                    appending.lock(plain)
                    self._memory.check(plain)
                    head = appending.verify_reads(plain, recorded, self._memory)
                    # One round trip. The answer is awaited for as long as that of one statement.
                    with plain.pipeline():
                        recorded.positions = positions = appending.insert_events(plain, rows, head)
                        appending.record_decisions(plain, recorded, head)
                        mark = ask_mark(plain, positions[-1]) if positions else None
                # Only what was committed.
                if mark is not None:
                    self._memory.last = (positions[-1], mark.fetchone())
            except psycopg.errors.UniqueViolation as error:
                raise IntegrityError(str(error)) from error
            finally:
                plain.row_factory = before
        # The library makes an object for each position that it is given, which `EventStore.append` does not need.
        return positions if append is None else None

    def _lock_table(self, curs: Any) -> None:
        appending.lock(curs)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise unavailable(error) from error
    except InternalError as error:
        if isinstance(error.__cause__, AWAY):
            # No fault of the command, although the library calls it internal.
            raise unavailable(error) from error
        raise


class EventStore:
    """One worker's connection to the log, the ledger and the unique keys. It belongs to one thread."""

    def __init__(self, database_url: str, role: str = "commands", statement_timeout: float = 30.0) -> None:
        """Connect; raises `StoreUnavailable` when the database cannot be reached."""
        self._statement_timeout = statement_timeout
        given = conninfo_to_dict(conninfo(database_url, role))
        named = {name: str(given.pop(name, "")) for name in ("dbname", "host", "port", "user", "password")}
        # Created without the library's factory, which would merge the whole environment into the settings, and without
        # pool_open_timeout: after that time-out the library closes the pool for good, so that the store would not
        # recover from a longer outage.
        self._datastore = _Datastore(
            statement_timeout,
            **named,
            pool_size=1,
            originator_id_type="text",
            connect_timeout=CONNECT_SECONDS,
        )
        self._datastore.pool.connection_class = cast("Any", Session)
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
        self.recorder = recorder
        self._events: LibraryStore[str] = LibraryStore(_Mapper(JSONTranscoder()), recorder)

    def close(self) -> None:
        self._datastore.close()

    def load(self, streams: Iterable[str]) -> dict[str, tuple[int, Any]]:
        """Return (version, state) of many streams by one query; (0, None) for an empty one.

        The state of a stream with an unreadable event, of a newer version or damaged, is a `NewerStream`.
        """
        found: dict[str, tuple[int, Any]] = dict.fromkeys(streams, (0, None))
        for stream, version, name, state in self._events_of(list(found)):
            before = found[stream][1]
            if isinstance(before, codec.NewerStream):
                continue
            try:
                decider = DECIDER_OF_CATEGORY[split_stream(stream)[1]]
                after = decider.evolve(before, codec.decode(name, state))
            except Exception as error:
                _log.warning("event cannot be decoded", stream=stream, version=version, type=name, error=str(error))
                after = codec.NewerStream(name, version)
            found[stream] = (version, after)
        return found

    def _events_of(self, streams: list[str]) -> Iterator[tuple[str, int, str, bytes]]:
        """Read (stream, version, name, state) of all events of these streams in order, so many bytes at a time."""
        rows = self.fetch(_SELECT_STREAMS, (LOAD_BYTES, streams))
        while True:
            left = next((number for number, row in enumerate(rows) if row[3] is None), len(rows))
            following = rows[left] if left < len(rows) else None
            del rows[left:]
            yield from rows
            if following is None:
                return
            rows = self.fetch(_SELECT_MORE, (LOAD_BYTES, streams, *following[:2]))

    def holders(self, unique_keys: Iterable[tuple[str, UniqueKey]]) -> dict[TenantUniqueKey, str | None]:
        """Return the holder of each unique key, None for a free one."""
        found: dict[TenantUniqueKey, str | None] = {
            (tenant, unique.kind, unique.key): None for tenant, unique in unique_keys
        }
        for tenant, kind, key, holder in self.fetch(appending.UNIQUE_KEYS, appending.columns(found, 3)):
            found[tenant, kind, key] = holder
        asked = appending.kinds_asked(found)
        for tenant, kind in self.fetch(appending.ANY_UNIQUE_KEY, appending.columns(asked, 2)) if asked else ():
            found[tenant, ANYBODY, kind] = HELD
        return found

    def ledger(self, commands: Iterable[CommandKey]) -> dict[CommandKey, LedgerRow]:
        """Return the rows of those commands that were decided."""
        rows = self.fetch(appending.LEDGER, appending.columns(commands, 2))
        return {(row[0], row[1]): LedgerRow(*row) for row in rows}

    def summaries(self, first: int, last: int) -> list[tuple[int, str, str, int]]:
        """Return (position, name, stream, version) of the events from position `first` to `last`, both included."""
        return self.fetch(*log.summaries_between(first, last))

    def append(self, append: Append) -> tuple[int, list[int]]:
        """Record one transaction; return (head, positions of its events). A `ConcurrencyConflict` records nothing."""
        with _translated():
            self._events.put(cast("Any", append.events), append=append)
        positions = append.positions
        return (positions[-1] if positions else self.head()), positions

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the append lock of the session while the block reads and appends.

        The lock outlives a transaction, so the server also ends the session if it is idle outside of one.
        """
        idle = str(int(self._statement_timeout * IDLE_SHARE * 1000))
        self.fetch("SELECT pg_advisory_lock(%s), set_config('idle_session_timeout', %s, false)", (APPEND_LOCK, idle))
        try:
            yield
        finally:
            with suppress(StoreUnavailable):
                self.fetch(
                    "SELECT pg_advisory_unlock(%s), set_config('idle_session_timeout', '0', false)", (APPEND_LOCK,)
                )

    def prune(self, older_than_days: int, most: int = 5000) -> int:
        """Delete a batch of old receipts, and old attempts and bulks; return the number of receipts deleted.

        A bulk is deleted before the receipts of its parts; otherwise a part without a receipt would be sent again. One
        that was previewed may have very many, so there is one at a time.
        """
        rows = self.fetch(
            "WITH gone AS (DELETE FROM ledger WHERE ctid = ANY(ARRAY(SELECT ctid FROM ledger"
            " WHERE recorded_at < now() - make_interval(days => %s) LIMIT %s)) RETURNING 1),"
            " old AS (DELETE FROM attempts WHERE last_at < now() - make_interval(days => %s)),"
            " bulk AS (DELETE FROM bulks WHERE sent_at IS NOT NULL AND created_at < now() - make_interval(days => %s)),"
            " action AS (DELETE FROM bulk_actions WHERE ctid = ANY(ARRAY(SELECT ctid FROM bulk_actions"
            " WHERE state <> 'running' AND created_at < now() - make_interval(days => %s) LIMIT 1)))"
            " SELECT count(*) FROM gone",
            (older_than_days, most, older_than_days, older_than_days, older_than_days),
        )
        return int(rows[0][0])

    def head(self) -> int:
        return int(self.fetch(log.HEAD, ())[0][0])

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Any]]:
        """Run the block's statements as one transaction."""
        with _translated(), self._datastore.get_connection() as conn:
            plain = cast("psycopg.Connection[Any]", conn)
            with plain.transaction():
                yield plain

    def fetch(self, query: str, params: Sequence[Any]) -> list[Any]:
        with _translated(), self._datastore.get_connection() as conn:
            return cast("psycopg.Connection[Any]", conn).execute(query, params, prepare=True, binary=True).fetchall()
