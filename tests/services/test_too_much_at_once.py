"""What takes longer than the statement time-out: fewer events at once, and of one event alone its entity held back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import pytest

from domain.recorded import Recorded
from projections.support import documents
from projections.support.documents import Documents
from projections.support.table import DOCUMENT, Table
from services.store import pace
from services.store.failures import lost, passes, systemic, timed_out
from services.store.follower import Follower
from services.store.follower_group import FollowerGroup
from services.store.held import Handle
from services.store.log import LogRow
from services.store.pace import Pace
from services.store.reader import Reader
from tests.eventually import eventually
from tests.services.following import NAME, add, following, noting, seen, state
from tests.services.harness import rows

Batch = Sequence[LogRow]
Connection = psycopg.Connection[Any]
Alone = Callable[[Handle], Reader]


pytestmark = pytest.mark.usefixtures("seen_table", "no_followers")


def alone(handle: Handle) -> Reader:
    return Follower(NAME, handle, batch=16, poll=0.05)


def together(handle: Handle) -> Reader:
    others = [Follower("other", noting("other"), batch=16), Follower("third", noting("third"), batch=16)]
    return FollowerGroup("all", [others[0], Follower(NAME, handle, batch=16), others[1]], batch=16, poll=0.05)


def too_slow(poison: int | None, tried: list[int]) -> Handle:
    """Return a handler whose statement times out, as the server says it, for a poison event or more than 3 events."""

    def handle(conn: Connection, batch: Batch) -> None:
        noting()(conn, batch)
        tried.append(len(batch))
        if len(batch) > 3 or any(row.position == poison for row in batch):
            with conn.transaction():
                conn.execute("SET LOCAL statement_timeout = 1")
                conn.execute("SELECT pg_sleep(20)")

    return handle


@pytest.mark.parametrize("reader", [alone, together])
def test_a_batch_that_times_out_is_halved_and_nothing_is_held_back(
    conn: Connection, migrated_url: str, reader: Alone
) -> None:
    add(migrated_url, 20)
    tried: list[int] = []
    with following(migrated_url, reader(too_slow(None, tried))):
        eventually(lambda: state(migrated_url) == (20, None, 0))
    assert seen(migrated_url, "one") == list(range(1, 21))
    assert rows(migrated_url, "SELECT * FROM held_entities") == []
    # The limit is remembered: what was too much is not tried again before each batch.
    assert sum(size > 3 for size in tried) <= 3


@pytest.mark.parametrize("reader", [alone, together])
def test_an_event_that_times_out_alone_holds_back_its_entity(
    conn: Connection, migrated_url: str, reader: Alone
) -> None:
    add(migrated_url, 20)
    running = reader(too_slow(7, []))
    with following(migrated_url, running):
        eventually(lambda: state(migrated_url) == (20, None, 0))
        if reader is together:
            eventually(lambda: seen(migrated_url, "other") == seen(migrated_url, "third") == list(range(1, 21)))
    assert seen(migrated_url, "one") == [position for position in range(1, 21) if position != 7]
    ((follower, position, error),) = rows(migrated_url, "SELECT follower, position, error FROM held_entities")
    assert (follower, position) == (NAME, 7)
    assert error.startswith("QueryCanceled")


def test_one_that_times_out_again_is_tried_again_after_the_longest_time(conn: Connection, migrated_url: str) -> None:
    add(migrated_url, 1)
    with following(migrated_url, alone(too_slow(1, []))):
        eventually(lambda: state(migrated_url) == (1, None, 0))
        conn.execute("UPDATE held_entities SET retry_at = now()")
        conn.execute("UPDATE followers SET held = held + 1")
        eventually(lambda: rows(migrated_url, "SELECT attempts FROM held_entities") == [(2,)])
    ((wait,),) = rows(migrated_url, "SELECT extract(epoch FROM retry_at - now())::float8 FROM held_entities")
    assert wait > 2000


@pytest.mark.parametrize("reader", [alone, together])
def test_a_connection_that_is_lost_at_the_same_place_makes_batches_smaller(
    conn: Connection, migrated_url: str, reader: Alone
) -> None:
    def ending(session: Connection, batch: Batch) -> None:
        noting()(session, batch)
        if len(batch) > 3:
            conn.execute("SELECT pg_terminate_backend(%s)", (session.info.backend_pid,))
            session.execute("SELECT 1")

    add(migrated_url, 20)
    with following(migrated_url, reader(ending)):
        eventually(lambda: state(migrated_url) == (20, None, 0))
    assert seen(migrated_url, "one") == list(range(1, 21))
    assert rows(migrated_url, "SELECT * FROM held_entities") == []


def test_a_wait_for_a_lock_is_not_the_fault_of_an_event(conn: Connection, migrated_url: str) -> None:
    conn.execute("CREATE TABLE others (id int)")
    waited: list[str] = []

    def waiting(session: Connection, batch: Batch) -> None:
        noting()(session, batch)
        try:
            session.execute("LOCK TABLE others")
        except psycopg.Error as error:
            waited.append(type(error).__name__)
            raise

    add(migrated_url, 2)
    follower = alone(waiting)
    with psycopg.connect(migrated_url) as other:
        other.execute("LOCK TABLE others")
        follower_run = follower.run
        follower.run = lambda url, *_: follower_run(url, 1.0)  # type: ignore[method-assign]
        with following(migrated_url, follower):
            eventually(lambda: len(waited) >= 2)
            other.rollback()
            eventually(lambda: state(migrated_url) == (2, None, 0))
    assert set(waited) == {"LockNotAvailable"}
    assert rows(migrated_url, "SELECT * FROM held_entities") == []


def test_what_a_cancelled_statement_says() -> None:
    ours = psycopg.errors.QueryCanceled("canceling statement due to statement timeout")
    theirs = psycopg.errors.QueryCanceled("canceling statement due to user request")
    assert (timed_out(ours), passes(ours), systemic(ours), lost(ours)) == (True, False, False, False)
    assert (timed_out(theirs), passes(theirs)) == (False, True)
    for error in (psycopg.errors.AdminShutdown(), psycopg.OperationalError("gone"), psycopg.InterfaceError()):
        assert (timed_out(error), passes(error), lost(error)) == (False, True, True)
    assert not lost(psycopg.errors.PipelineAborted())


def test_a_slow_batch_halves_the_next_and_a_limit_is_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    found = Pace(500)
    found.went(400, pace.SLOW + 1)
    assert found.limit == 200
    found.went(200, pace.SLOW + 1, own=False)
    assert found.limit == 400
    for _ in range(9):
        found.went(found.limit, pace.SLOW + 1)
    assert found.limit == 16
    found = Pace(500)
    found.too_much(400)
    found.went(200, 1.0)
    assert found.limit == 200
    clock[0] += 61
    found.went(200, 1.0)
    assert found.limit == 400


_DDL = f"""
CREATE TABLE wide_{{suffix}} (
    id text PRIMARY KEY,
    {DOCUMENT} text NOT NULL
)"""


def test_documents_are_read_and_written_in_parts(
    conn: Connection, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn.execute(_DDL.format(suffix="v1").encode())
    table = Table.of(_DDL, ("id",))
    conn.execute("INSERT INTO wide_v1 SELECT 'old' || n, repeat('x', 1000) FROM generate_series(0, 19) AS n")
    monkeypatch.setattr(documents, "MAX_STATEMENT_BYTES", 3500)

    def projection(keep: int) -> Documents[str]:
        return Documents(
            table,
            "v1",
            key_of=lambda event: (event.entity_id,),
            fold=lambda document, event: (document or "") + f"+{event.version}",
            decode=lambda text: text,
            row=lambda key, document: (*key, document),
            keep=keep,
        )

    class Counting:
        def __init__(self) -> None:
            self.statements: list[str] = []

        def execute(self, query: str, *given: Any, **options: Any) -> Any:
            self.statements.append(query.split()[0])
            return conn.execute(query.encode(), *given, **options)

    def an_event(key: str, version: int) -> Recorded:
        event: Any = type("Event", (), {"entity_id": key, "version": version})()
        return event  # type: ignore[no-any-return]

    batch = [an_event(f"old{n}", version) for version in (2, 3) for n in range(20)] + [an_event("new", 2)]
    counting, folding = Counting(), projection(2)
    folding.project(counting, batch)  # type: ignore[arg-type]
    # Of 1,000 bytes each, four are read and written at a time; the new one is no part of what is read.
    assert counting.statements == ["SELECT", "INSERT", "INSERT"] + ["SELECT", "INSERT"] * 4
    found = dict(rows(migrated_url, "SELECT id, doc FROM wide_v1"))
    assert found == {f"old{n}": "x" * 1000 + "+2+3" for n in range(20)} | {"new": "+2"}
    # What is kept is bounded too; what is kept is not read again.
    again = Counting()
    folding.project(again, [an_event("old19", 4)])  # type: ignore[arg-type]
    assert again.statements == ["INSERT"]
    assert rows(migrated_url, "SELECT doc FROM wide_v1 WHERE id = 'old19'")[0][0].endswith("+2+3+4")
