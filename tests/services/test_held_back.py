"""What a follower cannot take holds back its own entity, in order, and nothing else; what is no event's fault halts."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from services.store import held, standing
from services.store.failures import OutsideUnavailable
from services.store.reader import Step
from tests.eventually import eventually
from tests.services.following import connections, following, noting, seen
from tests.services.harness import rows
from tests.services.holding import (
    BOTH,
    NAME,
    Batch,
    Connection,
    Log,
    Make,
    Picky,
    alone,
    drain,
    order_noted,
    state,
)

pytestmark = pytest.mark.usefixtures("seen_table", "no_followers")


@pytest.fixture
def log(conn: Connection, migrated_url: str) -> Log:
    return Log(migrated_url)


@BOTH
def test_only_the_entity_waits_and_what_waits_is_taken_in_order_after_a_restart(
    conn: Connection, migrated_url: str, log: Log, make: Make
) -> None:
    log.add("acme/a", "acme/b", "other/a", "acme/bad", "acme/b", "acme/bad", "other/a")
    picky = Picky("acme/bad", first=6)
    assert drain(conn, make(picky)) is Step.IDLE
    log.add("acme/bad", "acme/a", "other/bad", "acme/bad")
    reader = make(picky)
    assert drain(conn, reader) is Step.IDLE
    assert state(migrated_url) == (11, None, {"acme/task-bad": (6, 3)})
    # What it took before is not taken again, and what another tenant calls by the same name is none of it.
    assert seen(migrated_url) == [1, 2, 3, 4, 5, 7, 9, 10]
    # By itself it is not tried again before its time.
    assert drain(conn, reader) is Step.IDLE
    calls = len(picky.calls)
    assert drain(conn, reader) is Step.IDLE
    assert len(picky.calls) == calls
    picky.refused.clear()
    assert drain(conn, make(picky)) is Step.IDLE
    assert state(migrated_url) == (11, None, {})
    assert seen(migrated_url) == list(range(1, 12))
    assert [position for position in order_noted(migrated_url) if position in log.of("acme/bad")] == [4, 6, 8, 11]
    log.add("acme/bad")
    drain(conn, make(picky))
    assert seen(migrated_url)[-1] == 12


@BOTH
def test_an_entity_that_fails_again_waits_from_there_and_longer_each_time(
    conn: Connection, migrated_url: str, log: Log, make: Make
) -> None:
    log.add("acme/bad", "acme/bad", "acme/bad", "acme/good")
    picky = Picky("acme/bad")
    drain(conn, make(picky))
    assert state(migrated_url)[2] == {"acme/task-bad": (1, 3)}
    waits = []
    for picky.first in (2, 3, 3):
        drain(conn, make(picky))
        ((wait,),) = rows(migrated_url, "SELECT extract(epoch FROM retry_at - now())::int FROM held_entities")
        waits.append(round(wait / 10) * 10)
    assert state(migrated_url) == (4, None, {"acme/task-bad": (3, 1)})
    assert seen(migrated_url) == [1, 2, 4]
    assert waits == [120, 240, 480]
    (line,) = [line for line in standing.status(migrated_url) if line.name == NAME]
    assert (line.held[0].attempts, line.held[0].error) == (4, "ValueError: this one is bad")


@BOTH
def test_a_follower_that_runs_tries_again_when_it_is_told_to(
    conn: Connection, migrated_url: str, log: Log, make: Make
) -> None:
    picky = Picky("acme/bad")
    log.add("acme/bad", "acme/good", "acme/bad")
    with following(migrated_url, make(picky, poll=0.05)):
        eventually(lambda: state(migrated_url) == (3, None, {"acme/task-bad": (1, 2)}))
        picky.refused.clear()
        assert standing.retry(migrated_url, NAME) == 1
        eventually(lambda: state(migrated_url) == (3, None, {}))
    assert seen(migrated_url) == [1, 2, 3]
    assert standing.retry(migrated_url) == 0
    with pytest.raises(standing.UnknownFollower, match="seen"):
        standing.retry(migrated_url, "nothing")


def test_the_event_is_found_in_few_attempts(conn: Connection, migrated_url: str, log: Log) -> None:
    log.add(*(f"acme/t{number}" for number in range(1000)))
    picky = Picky("acme/t300", "acme/t777")
    assert drain(conn, alone(picky, batch=500)) is Step.IDLE
    assert state(migrated_url) == (1000, None, {"acme/task-t300": (301, 1), "acme/task-t777": (778, 1)})
    assert len(seen(migrated_url)) == 998
    assert len(picky.calls) < 50


def test_a_bad_event_after_another_costs_an_attempt_each(conn: Connection, migrated_url: str, log: Log) -> None:
    log.add(*(f"acme/t{number}" for number in range(90)))
    picky = Picky(*(f"acme/t{number}" for number in range(30, 80)))
    assert drain(conn, alone(picky)) is Step.IDLE
    assert state(migrated_url)[0] == 90
    assert len(state(migrated_url)[2]) == 50
    assert len(picky.calls) < 50 + 20


@BOTH
def test_a_tenant_with_too_much_held_back_waits_as_a_whole_and_no_other_does(
    conn: Connection, migrated_url: str, log: Log, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "MAX_HELD_OF_TENANT", 2)
    log.add("acme/b1", "acme/good", "acme/b2", "acme/good", "acme/b3", "acme/good", "other/good", "acme/b1", "acme/b4")
    picky = Picky("acme/b1", "acme/b2", "acme/b3", "acme/b4")
    assert drain(conn, make(picky)) is Step.IDLE
    first = {"acme/task-b1": (1, 2), "acme/task-b2": (3, 1), "acme/*": (5, 3)}
    assert state(migrated_url) == (9, None, first)
    assert seen(migrated_url) == [2, 4, 7]
    # Of what waits for the whole tenant, what belongs behind an entity of its own goes there.
    picky.refused = {"acme/b1", "acme/b4"}
    drain(conn, make(picky))
    assert state(migrated_url)[2] == {"acme/task-b1": (1, 2), "acme/*": (9, 1)}
    assert seen(migrated_url) == [2, 3, 4, 5, 6, 7]
    picky.refused.clear()
    drain(conn, make(picky))
    assert state(migrated_url) == (9, None, {})
    assert seen(migrated_url) == list(range(1, 10))


@BOTH
def test_a_follower_that_can_take_nothing_halts(
    conn: Connection, migrated_url: str, log: Log, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "MAX_HELD", 5)
    log.add(*(f"tenant-{number}/t" for number in range(8)))
    picky = Picky(*(f"tenant-{number}/t" for number in range(8)))
    assert drain(conn, make(picky)) is Step.HALTED
    position, halted_at, entities = state(migrated_url)
    assert (position, halted_at, len(entities)) == (5, 6, 5)
    ((error,),) = rows(migrated_url, "SELECT error FROM followers WHERE name = %s", NAME)
    assert error == "TooMuchHeld: 5 entities are held back already, and another one fails: ValueError: this one is bad"
    picky.refused.clear()
    drain(conn, make(picky))
    drain(conn, make(picky))
    assert state(migrated_url) == (8, None, {})
    assert seen(migrated_url) == list(range(1, 9))


def test_the_limit_of_a_tenant_is_far_below_that_of_all() -> None:
    assert 1 < held.MAX_HELD_OF_TENANT * 5 <= held.MAX_HELD


@pytest.mark.parametrize(
    "error",
    [
        psycopg.errors.UndefinedTable("x"),
        psycopg.errors.UndefinedColumn("x"),
        psycopg.errors.InsufficientPrivilege("x"),
        psycopg.errors.IndexCorrupted("x"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
@BOTH
def test_what_is_no_events_fault_halts_and_holds_nothing_back(
    conn: Connection, migrated_url: str, log: Log, make: Make, error: Exception
) -> None:
    log.add("acme/a", "acme/bad", "acme/c")
    picky = Picky("acme/bad")
    picky.error = lambda: error
    drain(conn, make(picky))
    assert state(migrated_url) == (1, 2, {})
    picky.refused.clear()
    drain(conn, make(picky))
    drain(conn, make(picky))
    assert state(migrated_url) == (3, None, {})


@pytest.mark.parametrize(
    "error",
    [
        psycopg.errors.DiskFull("x"),
        psycopg.errors.ReadOnlySqlTransaction("x"),
        psycopg.errors.AdminShutdown("x"),
        OutsideUnavailable("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_passes_neither_halts_nor_holds_back(
    conn: Connection, migrated_url: str, log: Log, error: Exception
) -> None:
    log.add("acme/a", "acme/bad")
    picky = Picky("acme/bad")
    picky.error = lambda: error
    with pytest.raises(type(error)):
        drain(conn, alone(picky))
    assert state(migrated_url) == (0, None, {})


@pytest.mark.parametrize(
    "error",
    [
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
        KeyError("nul \0 and \ud800"),
        RecursionError("maximum recursion depth exceeded"),
        psycopg.errors.ProgramLimitExceeded("index row size 2800 exceeds maximum"),
        psycopg.errors.UniqueViolation("x"),
        psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"),
        ValueError("x" * 100_000),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_an_event_causes_can_be_written_down(
    conn: Connection, migrated_url: str, log: Log, error: Exception
) -> None:
    log.add("acme/a", "acme/bad", "acme/c")
    picky = Picky("acme/bad")
    picky.error = lambda: error
    assert drain(conn, alone(picky)) is Step.IDLE
    assert state(migrated_url) == (3, None, {"acme/task-bad": (2, 1)})
    (line,) = [line for line in standing.status(migrated_url) if line.name == NAME]
    assert line.held[0].error.startswith(type(error).__name__)


def test_what_another_process_holds_back_is_known_at_once(conn: Connection, migrated_url: str, log: Log) -> None:
    picky = Picky("acme/bad")
    here, there = alone(picky), alone(picky)
    log.add("acme/a")
    drain(conn, here)
    log.add("acme/bad", "acme/a")
    drain(conn, there)
    log.add("acme/bad", "acme/b")
    picky.refused.clear()
    # Were it not known, the second event of the entity would overtake the first.
    here.step(conn)
    assert order_noted(migrated_url) == [1, 3, 5]
    assert state(migrated_url) == (5, None, {"acme/task-bad": (2, 2)})
    drain(conn, alone(picky))
    log.add("acme/bad")
    there.step(conn)
    here.step(conn)
    assert seen(migrated_url) == [1, 2, 3, 4, 5, 6]
    assert state(migrated_url) == (6, None, {})


@BOTH
def test_two_at_once_whose_connections_die_take_each_event_once_and_in_order(
    conn: Connection, migrated_url: str, log: Log, make: Make
) -> None:
    picky = Picky("acme/bad")
    name = NAME if make is alone else "all"
    with following(migrated_url, *(make(picky, batch=3, poll=0.05) for _ in range(2))):
        for number in range(15):
            log.add("acme/a", "acme/bad", f"other/t{number}", "acme/a")
            if number % 5 == 4:
                for pid in connections(migrated_url, name):
                    conn.execute("SELECT pg_terminate_backend(%s)", pid)
                standing.retry(migrated_url)
        eventually(lambda: state(migrated_url) == (60, None, {"acme/task-bad": (2, 15)}))
        picky.refused.clear()
        for pid in connections(migrated_url, name):
            conn.execute("SELECT pg_terminate_backend(%s)", pid)
        log.add("acme/bad", "acme/a")
        standing.retry(migrated_url)
        eventually(lambda: state(migrated_url) == (62, None, {}))
    assert seen(migrated_url) == list(range(1, 63))
    order = order_noted(migrated_url)
    for task in log.positions:
        assert [position for position in order if position in log.of(task)] == log.of(task)


@pytest.mark.parametrize("when", ["while an entity is held back", "while it is tried again"])
def test_a_connection_that_ends_takes_all_of_it_back(conn: Connection, migrated_url: str, log: Log, when: str) -> None:
    ending = threading.Event()
    picky = Picky("acme/bad")

    def handle(session: Connection, batch: Batch) -> None:
        picky(session, batch)
        if ending.is_set():
            ending.clear()
            conn.execute("SELECT pg_terminate_backend(%s)", (session.info.backend_pid,))

    def refuse() -> Exception:
        if ending.is_set():
            ending.clear()
            conn.execute("SELECT pg_terminate_backend(%s)", (victim.info.backend_pid,))
        return ValueError("this one is bad")

    log.add("acme/a", "acme/bad", "acme/c", "acme/bad")
    with psycopg.connect(migrated_url, autocommit=True) as victim:
        if when == "while it is tried again":
            drain(conn, alone(picky))
            picky.refused.clear()
        picky.error = refuse
        ending.set()
        with pytest.raises(psycopg.OperationalError):
            drain(victim, alone(handle, batch=1) if when == "while it is tried again" else alone(picky, batch=1))
    assert len(seen(migrated_url)) == (2 if when == "while it is tried again" else 1)
    picky.refused.clear()
    drain(conn, alone(picky))
    assert seen(migrated_url) == [1, 2, 3, 4]
    assert state(migrated_url) == (4, None, {})


def test_something_away_while_an_entity_is_tried_again_keeps_nobody_waiting(
    conn: Connection, migrated_url: str, log: Log
) -> None:
    log.add("acme/bad")
    picky = Picky("acme/bad")
    drain(conn, alone(picky))
    picky.error = lambda: OutsideUnavailable("gone")
    follower = alone(picky)
    log.add("acme/good")
    with pytest.raises(OutsideUnavailable):
        drain(conn, follower)
    assert state(migrated_url) == (2, None, {"acme/task-bad": (1, 1)})
    log.add("acme/good")
    assert drain(conn, follower) is Step.IDLE
    assert seen(migrated_url) == [2, 3]


@BOTH
def test_a_follower_that_holds_nothing_back_asks_nothing_more(
    conn: Connection, log: Log, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    execute = psycopg.Connection.execute

    def noted(self: Any, statement: Any, *rest: Any, **options: Any) -> Any:
        asked.append(str(statement))
        return execute(self, statement, *rest, **options)

    log.add("acme/a", "acme/b")
    reader = make(noting())
    reader.enlist(conn)
    monkeypatch.setattr(psycopg.Connection, "execute", noted)
    while reader.step(conn) is Step.WORKED:
        pass
    assert asked
    assert not [statement for statement in asked if "held_" in statement]


def test_who_acts_outside_holds_back_and_tries_again_under_its_epoch(
    conn: Connection, migrated_url: str, log: Log
) -> None:
    picky = Picky("acme/bad")
    one, two = alone(picky, act_outside=True), alone(picky, act_outside=True)
    log.add("acme/a", "acme/bad", "acme/c")
    drain(conn, one)
    assert state(migrated_url) == (3, None, {"acme/task-bad": (2, 1)})
    picky.refused.clear()
    drain(conn, two)
    assert seen(migrated_url) == [1, 2, 3]
    assert rows(migrated_url, "SELECT epoch FROM followers WHERE name = %s", NAME) == [(2,)]
    log.add("acme/bad")
    assert drain(conn, one) is Step.IDLE
    assert rows(migrated_url, "SELECT position, epoch FROM followers WHERE name = %s", NAME) == [(4, 3)]
