"""The event store: what the library demands of a recorder, and what followers rely on: no gap, and no late arrival."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import msgspec
import psycopg
import pytest
from eventsourcing.persistence import StoredEvent

import projections
from domain import STORED_EVENTS
from domain.decider import UniqueKey
from domain.streams import stream_of
from domain.task import TaskCreated, TaskFieldsChanged
from services import cloud_events
from services.store import attempts, codec, event_store, log, migrate
from services.store.append import APPEND_LOCK, Append, ConcurrencyConflict, LedgerRow, NewEvent, append_in
from services.store.event_store import EventStore
from services.store.follower import Follower
from services.store.migrate import SchemaMismatch
from services.store.reader import Step
from services.store.unavailable import SessionLost, StatementFailed, StoreUnavailable
from tests.eventually import PATIENCE, eventually
from tests.services.harness import TENANT, rows, stored
from tests.services.proxy import database_proxy

AT = datetime(2025, 10, 31, 8, 0, tzinfo=UTC)


def event(task_id: str, version: int = 1) -> NewEvent:
    metadata = codec.Metadata(uuid.uuid4().hex, "c", "c", "c", "system", AT)
    return NewEvent(stream_of(TENANT, "task", task_id), version, "task.created", TaskCreated(task_id), metadata)


@pytest.fixture
def store(migrated_url: str) -> Iterator[EventStore]:
    made = EventStore(migrated_url)
    yield made
    made.close()


def test_a_batch_is_one_transaction_with_its_ledger_and_unique_keys(store: EventStore, migrated_url: str) -> None:
    unique = (TENANT, "name", "x")
    batch = Append(
        events=[event("a"), event("b")],
        streams_read={"acme/task-a": 0, "acme/task-b": 0},
        unique_keys_read={unique: None},
        unique_keys={unique: "a @head 1"},
        ledger=[LedgerRow(TENANT, "c", b"f", first_position=-1, last_position=-2), LedgerRow(TENANT, "d", b"f", "no")],
    )
    assert store.append(batch) == (2, [1, 2])
    assert store.holders([(TENANT, UniqueKey("name", "x"))]) == {unique: "a 0 1"}
    assert store.ledger([(TENANT, "c")])[TENANT, "c"].last_position == 2
    assert store.load(["acme/task-a", "acme/task-none"])["acme/task-none"] == (0, None)
    with pytest.raises(ConcurrencyConflict) as moved:
        store.append(
            Append(
                events=[event("c"), event("a", 2)],
                streams_read={"acme/task-c": 0, "acme/task-a": 0},
                unique_keys_read={unique: None},
                ledger=[LedgerRow(TENANT, "c", b"f"), LedgerRow(TENANT, "e", b"f")],
            )
        )
    assert moved.value.streams == {"acme/task-a"}
    assert moved.value.unique_keys == {unique}
    assert moved.value.commands == {(TENANT, "c")}
    with pytest.raises(ConcurrencyConflict):
        store.append(Append(unique_keys={unique: "taken unread"}))
    assert len(stored(migrated_url)) == 2
    assert len(rows(migrated_url, "SELECT 1 FROM ledger")) == 2
    assert store.append(Append(unique_keys={unique: None}, unique_keys_read={unique: "a 0 1"})) == (2, [])
    assert rows(migrated_url, "SELECT 1 FROM claims") == []


def test_positions_have_no_gap_though_transactions_fail(store: EventStore, migrated_url: str) -> None:
    store.append(Append(events=[event("a")]))
    with psycopg.connect(migrated_url) as failing:
        assert append_in(failing, [event("x"), event("y")]) == [2, 3]
        failing.rollback()
    with psycopg.connect(migrated_url) as failing, pytest.raises(psycopg.errors.UniqueViolation):
        append_in(failing, [event("z"), event("a")])
    assert store.append(Append(events=[event("b")])) == (2, [2])
    assert [stream for stream, _, _ in stored(migrated_url)] == ["acme/task-a", "acme/task-b"]


def test_a_live_reader_never_meets_a_position_that_it_has_passed(migrated_url: str) -> None:
    writers, each = 8, 25
    done = threading.Event()
    met: list[int] = []

    def read() -> None:
        with psycopg.connect(migrated_url, autocommit=True) as conn:
            last = False
            while not last:
                last = done.is_set()
                # A gap, or a row that came late, would raise here: the rows must follow upon each other.
                met.extend(row.position for row in log.read(conn, met[-1] if met else 0, 100))
                last = last and len(met) == 2 * writers * each

    def write(number: int) -> None:
        own = EventStore(migrated_url)
        try:
            for turn in range(each):
                own.append(Append(events=[event(f"{number}-{turn}-{part}") for part in range(2)]))
        finally:
            own.close()

    with ThreadPoolExecutor(writers + 1) as threads:
        reading = threads.submit(read)
        for writing in [threads.submit(write, number) for number in range(writers)]:
            writing.result(PATIENCE)
        done.set()
        reading.result(PATIENCE)
    assert met == list(range(1, 2 * writers * each + 1))


def test_vacuum_and_its_lock_do_not_hold_up_appends(store: EventStore, migrated_url: str) -> None:
    for number in range(20):
        store.append(Append(events=[event(f"a{number}-{part}") for part in range(50)]))
    stop = threading.Event()

    def vacuum() -> int:
        count = 0
        with psycopg.connect(migrated_url, autocommit=True) as conn:
            while not stop.is_set():
                conn.execute("VACUUM (FREEZE) stored_events")
                count += 1
        return count

    with ThreadPoolExecutor(1) as threads, psycopg.connect(migrated_url, autocommit=True) as timed:
        # Held for as long as VACUUM would on a table of any size.
        timed.execute("BEGIN")
        timed.execute("LOCK TABLE stored_events IN SHARE UPDATE EXCLUSIVE MODE")
        with psycopg.connect(migrated_url, autocommit=True) as writer:
            writer.execute("SET lock_timeout = '2s'")
            for number in range(20):
                with writer.transaction():
                    append_in(writer, [event(f"b{number}")])
        store.append(Append(events=[event("c")]))
        timed.execute("COMMIT")
        vacuuming = threads.submit(vacuum)
        for number in range(50):
            store.append(Append(events=[event(f"d{number}")]))
        stop.set()
        assert vacuuming.result(PATIENCE) > 0
    assert len(stored(migrated_url)) == 1071


def test_a_row_with_an_unknown_name_is_refused_by_every_reader(
    store: EventStore, conn: psycopg.Connection[Any], migrated_url: str
) -> None:
    conn.execute("INSERT INTO stored_events VALUES ('acme/task-a', 1, 'os.system', %s, 1)", (codec.encode(
        event("a").metadata, TaskCreated("a")),))  # fmt: skip
    conn.execute("INSERT INTO stored_events VALUES ('acme/task-b', 1, 'task.created', %s, 2)", (codec.encode(
        event("b").metadata, TaskCreated("b")),))  # fmt: skip
    found = store.load(["acme/task-a", "acme/task-b"])
    assert found["acme/task-a"] == (1, codec.NewerStream("os.system", 1))
    assert found["acme/task-b"][1].id == "b"
    row, _ = log.read(conn, 0, 10)
    with pytest.raises(codec.UnknownEvent):
        row.recorded()
    with pytest.raises(KeyError):
        codec.name_of(object())


def test_an_older_shape_reaches_every_reader_as_todays(
    store: EventStore, conn: psycopg.Connection[Any], migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state a worker loads, and the event a read model, a policy or the relay gets, come through the upcaster."""
    upcasters = {"task.created": lambda data: {"title": data.pop("name"), **data}}
    monkeypatch.setattr(codec, "UPCASTERS", MappingProxyType(upcasters))
    meta = msgspec.json.encode(event("a").metadata).decode()
    old = f'{{"meta": {meta}, "data": {{"id": "a", "name": "Old"}}}}'.encode()
    conn.execute("INSERT INTO stored_events VALUES ('acme/task-a', 1, 'task.created', %s, 1)", (old,))
    assert store.load(["acme/task-a"])["acme/task-a"][1].title == "Old"
    (row,) = log.read(conn, 0, 10)
    assert row.recorded().data == TaskCreated("a", "Old")
    published = cloud_events.cloud_event(row)
    assert b'"title":"Old"' in published
    assert b'"name"' not in published


def test_a_database_that_goes_away_comes_back_however_long_it_was_gone(
    migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_store, "CONNECT_SECONDS", 0.4)
    with database_proxy(migrated_url) as (proxy, url):
        store = EventStore(url)
        try:
            store.append(Append(events=[event("a")]))
            proxy.down()
            with pytest.raises(StoreUnavailable):
                store.append(Append(events=[event("b")]))
            for _ in range(3):
                with pytest.raises(StoreUnavailable):
                    store.head()
            proxy.up()
            eventually(lambda: _reached(store))
            assert store.append(Append(events=[event("b")], streams_read={"acme/task-b": 0})) == (2, [2])
        finally:
            store.close()
    with database_proxy(migrated_url) as (proxy, url):
        proxy.down()
        with pytest.raises(StoreUnavailable):
            EventStore(url)


def _reached(store: EventStore) -> bool:
    try:
        return store.head() > 0
    except StoreUnavailable:
        return False


def test_a_lost_answer_to_a_commit_is_an_error_and_the_commit_stands(migrated_url: str) -> None:
    with database_proxy(migrated_url) as (proxy, url):
        store = EventStore(url)
        try:
            store.append(Append(events=[event("a")]))
            proxy.forget_after = b"COMMIT"
            ledger = [LedgerRow(TENANT, "c", b"f", first_position=-1, last_position=-1)]
            with pytest.raises(StoreUnavailable):
                store.append(Append(events=[event("b")], ledger=ledger))
            assert eventually(lambda: _ledger(store))[TENANT, "c"].first_position == 2
        finally:
            store.close()
    assert len(stored(migrated_url)) == 2


def _ledger(store: EventStore) -> Any:
    try:
        return store.ledger([(TENANT, "c")])
    except StoreUnavailable:
        return None


def test_a_server_that_only_reads_is_one_that_cannot_be_reached(store: EventStore, migrated_url: str) -> None:
    (name,) = rows(migrated_url, "SELECT current_database()")[0]
    with psycopg.connect(migrated_url, autocommit=True) as conn:
        conn.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    readonly = EventStore(migrated_url)
    try:
        with pytest.raises(StoreUnavailable, match="read-only"):
            readonly.append(Append(events=[event("a")]))
        with pytest.raises(StoreUnavailable, match="read-only"):
            attempts.count(readonly, [(TENANT, "c")])
    finally:
        readonly.close()


def test_long_streams_are_loaded_a_few_bytes_at_a_time(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = [f"acme/task-{name}" for name in "abc"]
    for name in "abc":
        events = [event(name)]
        for version in range(2, 12):
            change: Any = TaskFieldsChanged(name, None, {}, {"title": f"{version}{'x' * 10_000}"})
            events.append(NewEvent(f"acme/task-{name}", version, "task.fields-changed", change, events[0].metadata))
        store.append(Append(events=events))
    whole = store.load([*streams, "acme/task-none"])
    assert [(version, getattr(state, "title", "")[:2]) for version, state in whole.values()] == [
        *[(11, "11")] * 3,
        (0, ""),
    ]
    fetch, read = store.fetch, list[int]()

    def measured(query: str, parameters: Sequence[Any]) -> list[Any]:
        found = fetch(query, parameters)
        read.append(sum(len(row[3] or b"") for row in found))
        return found

    monkeypatch.setattr(store, "fetch", measured)
    for most in (1, 25_000, 110_000):
        monkeypatch.setattr(event_store, "LOAD_BYTES", most)
        read.clear()
        assert store.load([*streams, "acme/task-none"]) == whole
        # The event that reaches the limit is the last.
        assert max(read) < most + 11_000
        assert len(read) > 1


def test_whoever_is_alone_can_append_and_nobody_else(store: EventStore, migrated_url: str) -> None:
    with psycopg.connect(migrated_url) as other:
        with store.alone():
            store.append(Append(events=[event("a")]))
            other.execute("SET lock_timeout = '50ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                append_in(other, [event("b")])
            other.rollback()
        other.execute("SELECT pg_advisory_xact_lock(%s)", (APPEND_LOCK,))
        append_in(other, [event("b")])
    assert len(stored(migrated_url)) == 2


def test_attempts_are_counted_and_forgotten_and_old_receipts_go(store: EventStore, migrated_url: str) -> None:
    both = [(TENANT, "c"), ("other", "c")]
    attempts.count(store, [*both, *both])
    attempts.count(store, both[:1])
    assert attempts.counts(store, [*both, (TENANT, "d")]) == {both[0]: 2, both[1]: 1}
    attempts.undo(store, both[:1])
    assert attempts.counts(store, both) == {both[0]: 1, both[1]: 1}
    store.append(Append(attempts_done=both[1:]))
    attempts.forget(store, both[:1])
    assert rows(migrated_url, "SELECT 1 FROM attempts") == []
    store.append(Append(ledger=[LedgerRow(TENANT, f"c{number}", b"f") for number in range(7)]))
    assert store.prune(1) == 0
    with psycopg.connect(migrated_url) as conn:
        conn.execute("UPDATE ledger SET recorded_at = now() - interval '2 days'")
    assert [store.prune(1, most=5) for _ in range(3)] == [5, 2, 0]


def test_bulks_go_with_the_receipts_once_they_are_sent(migrated_url: str, store: EventStore) -> None:
    """Also those of which a part was never decided; and never later than the receipts of their parts."""
    with psycopg.connect(migrated_url) as conn:
        for name, commands, sent, days in (
            ("decided", None, True, 2),
            ("undecided", b"[]", True, 2),
            ("waits", b"[]", False, 2),
            ("new", None, True, 0),
        ):
            conn.execute(
                "INSERT INTO bulks (tenant, id, command, actor, items, commands, sent_at, created_at)"
                " VALUES (%s, %s, 'task.create', 'system', '[]', %s, CASE WHEN %s THEN now() END,"
                " now() - make_interval(days => %s))",
                (TENANT, name, commands, sent, days),
            )
    store.prune(1)
    assert rows(migrated_url, "SELECT id FROM bulks ORDER BY id") == [("new",), ("waits",)]


def test_migrations_run_once_however_often_and_at_once(fresh_database: Callable[[], str]) -> None:
    url = fresh_database()
    names = [migration.name for migration in migrate.migrations()]
    assert migrate.standing(url).pending == names
    with psycopg.connect(url) as conn, pytest.raises(SchemaMismatch, match="foldwork db upgrade"):
        migrate.demand_current(conn)
    with ThreadPoolExecutor(2) as threads:
        done = [running.result(PATIENCE) for running in [threads.submit(migrate.upgrade, url) for _ in range(2)]]
    assert sorted(done, key=len) == [[], names + [f"read model {model.NAME}" for model in projections.READ_MODELS]]
    assert migrate.upgrade(url) == []
    assert migrate.standing(url).pending == []
    with psycopg.connect(url) as conn:
        migrate.demand_current(conn)
        conn.execute("INSERT INTO migrations (number, name) VALUES (9999, 'of tomorrow')")
        with pytest.raises(SchemaMismatch, match="newer"):
            migrate.demand_current(conn)
        conn.execute("DELETE FROM migrations")
        with pytest.raises(SchemaMismatch, match="lacks"):
            migrate.demand_current(conn)


def test_every_registered_name_can_be_read_and_written() -> None:
    assert set(codec.DECODERS) == set(STORED_EVENTS)


def test_library_rows_and_our_readers_agree(store: EventStore, conn: psycopg.Connection[Any]) -> None:
    """What the library's recorder writes is what a follower reads, in the same order."""
    recorder: Any = store.recorder
    new = event("a")
    recorder.insert_events([StoredEvent(new.stream, 1, new.name, codec.encode(new.metadata, new.event))])
    seen: list[str] = []
    follower = Follower("f", lambda _, batch: seen.extend(row.recorded().entity_id for row in batch))
    follower.enlist(conn)
    assert follower.step(conn) is Step.WORKED
    assert seen == ["a"]


def test_a_statement_that_is_too_slow_or_too_large_is_told_from_a_lock_and_from_an_outage(migrated_url: str) -> None:
    store = EventStore(migrated_url, statement_timeout=0.5)
    try:
        with pytest.raises(StatementFailed):
            store.fetch("SELECT pg_sleep(30)", ())
        with pytest.raises(StatementFailed):
            # More columns than a query can return: program_limit_exceeded's class.
            store.fetch("SELECT " + ", ".join("1" for _ in range(1700)), ())
        with psycopg.connect(migrated_url) as other:
            other.execute("SELECT pg_advisory_xact_lock(%s)", (APPEND_LOCK,))
            with pytest.raises(StoreUnavailable) as waited:
                store.append(Append(events=[event("a")]))
        assert (type(waited.value), waited.value.outage) == (StoreUnavailable, True)
        store.append(Append(events=[event("a")]))
    finally:
        store.close()
    with database_proxy(migrated_url) as (proxy, through):
        store = EventStore(through)
        try:
            store.head()
            proxy.cut()
            with pytest.raises(SessionLost):
                eventually(lambda: store.head() < 0)
        finally:
            store.close()
