"""Followers of the log: one works at a time, each event counts once, and what cannot be handled halts in sight."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest

from domain.task import TaskCreated
from services.store import codec, log
from services.store.append import NewEvent, append_in
from services.store.connect import connect
from services.store.failures import Fenced
from services.store.follower import Follower
from services.store.follower_group import FollowerGroup
from services.store.log import LogGap, LogRow
from services.store.reader import Step
from tests.eventually import LATE, PATIENCE, eventually
from tests.services.following import NAME, add, an_event, connections, following, noting, seen, state
from tests.services.harness import rows

pytestmark = pytest.mark.usefixtures("seen_table")


def drain(conn: psycopg.Connection[Any], follower: Follower) -> Step:
    follower.enlist(conn)
    while (step := follower.step(conn)) is Step.WORKED:
        pass
    return step


def test_batches_are_handled_in_order_and_the_position_is_saved_with_them(
    conn: psycopg.Connection[Any], migrated_url: str
) -> None:
    add(migrated_url, 7)
    follower = Follower(NAME, noting(), batch=3)
    assert drain(conn, follower) is Step.IDLE
    assert (seen(migrated_url), state(migrated_url)) == ([1, 2, 3, 4, 5, 6, 7], (7, None, 0))

    def fail(session: psycopg.Connection[Any], batch: Sequence[LogRow]) -> None:
        noting()(session, batch)
        raise psycopg.OperationalError("gone")

    add(migrated_url, 1)
    with pytest.raises(psycopg.OperationalError):
        Follower(NAME, fail).step(conn)
    assert (seen(migrated_url), state(migrated_url)) == ([1, 2, 3, 4, 5, 6, 7], (7, None, 0))


def test_just_one_of_a_name_works_and_another_takes_over(conn: psycopg.Connection[Any], migrated_url: str) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def hold(session: psycopg.Connection[Any], batch: Sequence[LogRow]) -> None:
        noting("first")(session, batch)
        inside.set()
        go_on.wait(PATIENCE)

    first, second = Follower(NAME, hold), Follower(NAME, noting("second"), poll=0.05)
    add(migrated_url, 3)
    with following(migrated_url, first):
        assert inside.wait(PATIENCE)
        (holder,) = connections(migrated_url)
        with following(migrated_url, second):
            eventually(lambda: second.connected)
            assert second.step(conn) is Step.ELSEWHERE
            assert seen(migrated_url) == []
            conn.execute("SELECT pg_terminate_backend(%s)", (holder[0],))
            eventually(lambda: seen(migrated_url) == [1, 2, 3])
            first.stop()
            go_on.set()
    assert rows(migrated_url, "SELECT DISTINCT by FROM seen") == [("second",)]
    assert state(migrated_url) == (3, None, 0)


def test_two_that_run_at_once_handle_each_event_once(conn: psycopg.Connection[Any], migrated_url: str) -> None:
    with following(migrated_url, *(Follower(NAME, noting(str(number)), batch=2) for number in range(2))):
        for _ in range(20):
            add(migrated_url, 3)
        eventually(lambda: len(seen(migrated_url)) >= 60)
        for pid in connections(migrated_url):
            conn.execute("SELECT pg_terminate_backend(%s)", pid)
        add(migrated_url, 3)
        eventually(lambda: len(seen(migrated_url)) >= 63)
    assert seen(migrated_url) == list(range(1, 64))


def test_a_failure_of_the_database_halts_with_its_position_and_goes_on_when_mended(
    conn: psycopg.Connection[Any], migrated_url: str
) -> None:
    def into_nowhere(session: psycopg.Connection[Any], batch: Sequence[LogRow]) -> None:
        noting()(session, batch)
        if any(row.position == 4 for row in batch):
            session.execute("INSERT INTO missing VALUES (1)")

    add(migrated_url, 6)
    bad, good = Follower(NAME, into_nowhere, poll=0.05), Follower("good", lambda *_: None)
    with following(migrated_url, bad, good):
        eventually(lambda: state(migrated_url) == (3, 4, 0))
        eventually(lambda: state(migrated_url, "good") == (6, None, 0))
        assert seen(migrated_url) == [1, 2, 3]
        ((error,),) = rows(migrated_url, "SELECT error FROM followers WHERE name = 'seen'")
        assert error.startswith("UndefinedTable")
        eventually(lambda: bad.connected)
        conn.execute("CREATE TABLE missing (id int)")
        eventually(lambda: state(migrated_url) == (6, None, 0))
    assert seen(migrated_url) == [1, 2, 3, 4, 5, 6]
    assert rows(migrated_url, "SELECT error FROM followers WHERE name = 'seen'") == [(None,)]
    assert rows(migrated_url, "SELECT * FROM held_entities") == []


def test_large_events_come_in_smaller_batches_and_wait_for_no_poll(
    conn: psycopg.Connection[Any], migrated_url: str
) -> None:
    most = 100_000
    sizes = [10, 20_000, 60_000, 30_000, 300_000, 10, 90_000, 10, 90_000, 10]
    with psycopg.connect(migrated_url) as session:
        for size in sizes:
            event = an_event()
            large = TaskCreated(event.event.id, "x" * size)
            append_in(session, [NewEvent(event.stream, 1, event.name, large, event.metadata)])
    batches: list[list[int]] = []
    found: list[int] = []

    def handle(_: psycopg.Connection[Any], batch: Sequence[LogRow]) -> None:
        batches.append([row.position for row in batch])
        found.extend(len(row.recorded().data.title) for row in batch)

    members = [Follower("a", lambda *_: None), Follower("b", lambda *_: None)]
    with following(
        migrated_url,
        Follower(NAME, handle, poll=LATE, batch=8, batch_bytes=most),
        FollowerGroup("all", members, poll=LATE, batch=8, batch_bytes=most),
    ):
        eventually(lambda: {state(migrated_url, name) for name in ("a", "b", NAME)} == {(10, None, 0)})
    assert found == sizes
    assert batches == [[1, 2, 3, 4], [5], [6, 7, 8, 9], [10]]


def test_a_batch_is_bounded_by_what_its_events_take_in_memory(conn: psycopg.Connection[Any], migrated_url: str) -> None:
    """Many small values take twenty times their text; what was read in vain is not read again and again."""
    with psycopg.connect(migrated_url) as session:
        for _ in range(60):
            event = an_event()
            dense = TaskCreated(event.event.id, fields={"f": [[]] * 2000})
            append_in(session, [NewEvent(event.stream, 1, event.name, dense, event.metadata)])
    batches: list[int] = []
    follower = Follower(NAME, lambda _, rows: batches.append(len(rows)), batch_bytes=1 << 20)
    follower.enlist(conn)
    drain(conn, follower)
    assert sum(batches) == 60
    # An event's text is 6 kB.
    assert set(batches[:-1]) == {4}
    assert follower.pace.limit < 60


def test_a_gap_in_the_log_is_never_stepped_over(conn: psycopg.Connection[Any], migrated_url: str) -> None:
    add(migrated_url, 5)
    conn.execute("DELETE FROM stored_events WHERE notification_id = 3")
    assert drain(conn, Follower(NAME, noting())) is Step.HALTED
    assert (seen(migrated_url), state(migrated_url)) == ([1, 2], (2, 3, 0))
    assert "LogGap" in rows(migrated_url, "SELECT error FROM followers WHERE name = 'seen'")[0][0]


def test_a_position_beyond_the_log_is_refused(conn: psycopg.Connection[Any], migrated_url: str) -> None:
    add(migrated_url, 2)
    follower = Follower(NAME, noting())
    follower.enlist(conn)
    conn.execute("UPDATE followers SET position = 10")
    assert follower.step(conn) is Step.HALTED
    assert state(migrated_url) == (10, 11, 0)
    with pytest.raises(LogGap, match="foldwork db adopt"):
        log.demand_reaches(conn, 10, NAME)
    # It does not go on by itself when the log grows past the position: those are other events than it has handled.
    assert seen(migrated_url) == []


def test_a_position_never_goes_back(conn: psycopg.Connection[Any], migrated_url: str) -> None:
    add(migrated_url, 3)
    follower = Follower(NAME, noting())
    drain(conn, follower)
    for position in (1, 3):
        with pytest.raises(Fenced):
            follower.save(conn, position)
    assert state(migrated_url) == (3, None, 0)


def test_of_two_that_act_outside_only_the_epochs_owner_saves(conn: psycopg.Connection[Any], migrated_url: str) -> None:
    acted: list[tuple[str, int]] = []

    def acting(by: str) -> Follower:
        return Follower(
            NAME, lambda _, batch: acted.extend((by, row.position) for row in batch), batch=2, act_outside=True
        )

    one, two = acting("one"), acting("two")
    one.enlist(conn)
    add(migrated_url, 6)
    assert one.step(conn) is Step.WORKED
    assert state(migrated_url) == (2, None, 1)
    assert two.step(conn) is Step.WORKED
    assert state(migrated_url) == (4, None, 2)
    with pytest.raises(Fenced):
        one.save(conn, 5)
    # Whoever has the row again raises the epoch before it acts, so that nothing is done twice.
    assert one.step(conn) is Step.WORKED
    assert state(migrated_url) == (6, None, 3)
    assert acted == [("one", 1), ("one", 2), ("two", 3), ("two", 4), ("one", 5), ("one", 6)]


def test_an_epoch_that_is_raised_meanwhile_leaves_nothing_saved(
    conn: psycopg.Connection[Any], migrated_url: str
) -> None:
    add(migrated_url, 2)

    def fenced(session: psycopg.Connection[Any], _: Sequence[LogRow]) -> None:
        session.execute("UPDATE followers SET epoch = epoch + 1")

    follower = Follower(NAME, fenced, act_outside=True)
    follower.enlist(conn)
    with pytest.raises(Fenced):
        follower.step(conn)
    assert state(migrated_url) == (0, None, 0)


def test_a_lost_notification_costs_one_poll(conn: psycopg.Connection[Any], migrated_url: str) -> None:
    follower = Follower(NAME, noting())
    with following(migrated_url, follower):
        eventually(lambda: follower.connected)
        # As when the notification was sent while nobody listened: the row alone.
        conn.execute(
            "INSERT INTO stored_events (originator_id, originator_version, topic, state, notification_id)"
            " VALUES ('acme/task-q', 1, 'task.created', %s, 1)",
            (codec.encode(an_event().metadata, TaskCreated("q")),),
        )
        eventually(lambda: seen(migrated_url) == [1])


def test_a_notification_and_a_stop_wake_at_once(conn: psycopg.Connection[Any], migrated_url: str) -> None:
    follower = Follower(NAME, noting(), poll=LATE)
    thread = threading.Thread(target=follower.run, args=(migrated_url,), daemon=True)
    thread.start()
    eventually(lambda: follower.connected)
    add(migrated_url, 1)
    eventually(lambda: seen(migrated_url) == [1])
    follower.stop()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_connections_end_half_open_ones_by_themselves(migrated_url: str) -> None:
    with connect(migrated_url, "x" * 100, 1.5) as session:
        given = session.info.get_parameters()
        assert {name: given[name] for name in ("tcp_user_timeout", "keepalives_idle", "connect_timeout")} == {
            "tcp_user_timeout": "10000",
            "keepalives_idle": "5",
            "connect_timeout": "5",
        }
        shown = [session.execute(f"SHOW {name}").fetchone() for name in ("statement_timeout", "timezone")]
    assert shown == [("1500ms",), ("UTC",)]
