"""Followers that go together: one transaction for all that are level, and none ever waits for another that cannot."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest

from services.store import follower_group as module
from services.store.follower import Follower, Handle
from services.store.follower_group import FollowerGroup
from services.store.log import LogRow
from services.store.reader import Step
from tests.eventually import LATE, PATIENCE, eventually
from tests.services.following import add, connections, following, noting, seen, state
from tests.services.harness import rows

Batch = Sequence[LogRow]
Connection = psycopg.Connection[Any]


pytestmark = pytest.mark.usefixtures("seen_table", "no_followers")


def group(*members: str | tuple[str, Handle], batch: int = 500, poll: float = 0.05) -> FollowerGroup:
    named = [(member, noting(member)) if isinstance(member, str) else member for member in members]
    return FollowerGroup("all", [Follower(name, handle, batch=batch) for name, handle in named], batch=batch, poll=poll)


def drain(conn: Connection, together: FollowerGroup) -> Step:
    together.enlist(conn)
    while (step := together.step(conn)) is Step.WORKED:
        pass
    return step


def transactions(url: str) -> dict[int, int]:
    """Return by how many transactions each position was noted."""
    return dict(rows(url, "SELECT position, count(DISTINCT tx) FROM seen GROUP BY position"))


def positions(url: str) -> dict[str, tuple[int, int | None]]:
    return {name: (at, halted) for name, at, halted in rows(url, "SELECT name, position, halted_at FROM followers")}


def needing(by: str, position: int, table: str) -> Handle:
    """Return a handler that needs a table from a position on."""

    def handle(conn: Connection, batch: Batch) -> None:
        noting(by)(conn, batch)
        if any(row.position == position for row in batch):
            conn.execute(f"INSERT INTO {table} VALUES (1)".encode())

    return handle


def test_those_that_stand_level_share_reading_decoding_and_transaction(conn: Connection, migrated_url: str) -> None:
    decoded: list[int] = []

    def looking(_: Connection, batch: Batch) -> None:
        decoded.extend(id(row.recorded()) for row in batch)

    add(migrated_url, 7)
    together = group("a", "b", ("c", looking), ("d", looking), batch=3)
    assert drain(conn, together) is Step.IDLE
    assert positions(migrated_url) == dict.fromkeys("abcd", (7, None))
    assert seen(migrated_url, "a") == seen(migrated_url, "b") == [1, 2, 3, 4, 5, 6, 7]
    assert transactions(migrated_url) == dict.fromkeys(range(1, 8), 1)
    assert len(rows(migrated_url, "SELECT DISTINCT tx FROM seen")) == 3
    assert decoded[:3] == decoded[3:6]


def test_one_that_cannot_go_on_halts_alone_and_is_met_again_when_mended(conn: Connection, migrated_url: str) -> None:
    add(migrated_url, 6)
    together = group("a", ("bad", needing("bad", 4, "missing")), "c")
    with following(migrated_url, together):
        eventually(lambda: positions(migrated_url) == {"a": (6, None), "bad": (3, 4), "c": (6, None)})
        add(migrated_url, 3)
        eventually(lambda: positions(migrated_url) == {"a": (9, None), "bad": (3, 4), "c": (9, None)})
        assert {transactions(migrated_url)[position] for position in (7, 8, 9)} == {1}
        ((error,),) = rows(migrated_url, "SELECT error FROM followers WHERE name = 'bad'")
        assert error.startswith("UndefinedTable")
        conn.execute("CREATE TABLE missing (id int)")
        eventually(lambda: positions(migrated_url) == dict.fromkeys(("a", "bad", "c"), (9, None)))
        add(migrated_url, 1)
        eventually(lambda: positions(migrated_url) == dict.fromkeys(("a", "bad", "c"), (10, None)))
    assert transactions(migrated_url)[10] == 1
    assert all(seen(migrated_url, name) == list(range(1, 11)) for name in ("a", "bad", "c"))
    assert rows(migrated_url, "SELECT DISTINCT error FROM followers") == [(None,)]


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("INSERT INTO seen VALUES (1, 'bad' || chr(0))", (2, None)),
        ("INSERT INTO nowhere VALUES (1)", (0, 1)),
        # Fails no sooner than at the commit.
        ("INSERT INTO owing VALUES (1, 2)", (2, None)),
    ],
)
def test_a_failure_that_the_server_tells_late_leaves_nothing_behind(
    conn: Connection, migrated_url: str, statement: str, found: tuple[int, int | None]
) -> None:
    conn.execute(
        "CREATE TABLE owing (id int PRIMARY KEY, other int REFERENCES owing (id) DEFERRABLE INITIALLY DEFERRED)"
    )

    def failing(session: Connection, batch: Batch) -> None:
        noting("bad")(session, batch)
        session.execute(statement.encode())

    add(migrated_url, 2)
    assert drain(conn, group(("bad", failing), "good")) is Step.IDLE
    assert positions(migrated_url) == {"bad": found, "good": (2, None)}
    assert seen(migrated_url, "bad") == []
    assert seen(migrated_url, "good") == [1, 2]
    # What the values cause is held back by entity; a table that is missing is no event's fault.
    assert rows(migrated_url, "SELECT follower, position FROM held_entities ORDER BY 2") == (
        [("bad", 1), ("bad", 2)] if found == (2, None) else []
    )


def test_who_is_halted_is_tried_once_in_a_poll_however_much_comes(conn: Connection, migrated_url: str) -> None:
    tried: list[int] = []

    def failing(session: Connection, batch: Batch) -> None:
        tried.append(len(batch))
        session.execute("SELECT FROM missing")

    together = group(("bad", failing), "good", poll=LATE)
    together.enlist(conn)
    for _ in range(5):
        add(migrated_url, 1)
        assert together.step(conn) is Step.WORKED
    assert positions(migrated_url) == {"bad": (0, 1), "good": (5, None)}
    # In the batch for all, by itself, and as an event that may be held back.
    assert tried == [1, 1, 1]


def test_one_that_is_behind_takes_every_other_turn_until_it_is_level(conn: Connection, migrated_url: str) -> None:
    together = group("late", "later", "front", batch=10)
    together.enlist(conn)
    add(migrated_url, 100)
    conn.execute("UPDATE followers SET position = CASE name WHEN 'front' THEN 60 WHEN 'late' THEN 45 ELSE 0 END")
    walk = []
    for _ in range(5):
        assert together.step(conn) is Step.WORKED
        found = positions(migrated_url)
        walk.append(tuple(found[name][0] for name in ("front", "late", "later")))
    assert walk == [(70, 45, 0), (70, 45, 10), (80, 45, 10), (80, 45, 20), (90, 45, 20)]
    assert drain(conn, together) is Step.IDLE
    assert set(positions(migrated_url).values()) == {(100, None)}
    assert seen(migrated_url, "later") == list(range(1, 101))
    assert seen(migrated_url, "late") == list(range(46, 101))
    assert seen(migrated_url, "front") == list(range(61, 101))
    add(migrated_url, 1)
    assert drain(conn, together) is Step.IDLE
    assert transactions(migrated_url)[101] == 1


def test_a_row_that_another_process_holds_is_left_to_it(conn: Connection, migrated_url: str) -> None:
    together = group("a", "held", "c")
    together.enlist(conn)
    add(migrated_url, 2)
    with psycopg.connect(migrated_url) as other:
        other.execute("SELECT FROM followers WHERE name = 'held' FOR UPDATE")
        assert drain(conn, together) is Step.IDLE
        assert positions(migrated_url) == {"a": (2, None), "held": (0, None), "c": (2, None)}
        other.execute("SELECT FROM followers FOR UPDATE SKIP LOCKED")
        assert together.step(conn) is Step.ELSEWHERE
    assert drain(conn, together) is Step.IDLE
    assert set(positions(migrated_url).values()) == {(2, None)}


def test_a_follower_blocked_by_a_lock_is_skipped_by_the_others(
    conn: Connection, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_TIMEOUT_MS", 50)
    monkeypatch.setattr(module, "SKIP_SECONDS", 0.2)
    conn.execute("CREATE TABLE others (id int)")

    def waiting(session: Connection, batch: Batch) -> None:
        noting("waits")(session, batch)
        session.execute("LOCK TABLE others")

    together = group("a", ("waits", waiting), "c")
    with psycopg.connect(migrated_url) as other, following(migrated_url, together):
        other.execute("LOCK TABLE others")
        for count in (1, 2, 3):
            add(migrated_url, 1)
            eventually(lambda count=count: positions(migrated_url).get("c") == (count, None))
        assert positions(migrated_url) == {"a": (3, None), "waits": (0, None), "c": (3, None)}
        other.rollback()
        eventually(lambda: set(positions(migrated_url).values()) == {(3, None)})
        assert together.unready == []
    assert all(seen(migrated_url, name) == [1, 2, 3] for name in ("a", "waits", "c"))


def test_two_groups_at_once_handle_each_event_once_for_each(conn: Connection, migrated_url: str) -> None:
    names = ("a", "b", "c")
    with following(migrated_url, *(group(*names, batch=2) for _ in range(2))):
        for _ in range(20):
            add(migrated_url, 3)
        for pid in connections(migrated_url, "all"):
            conn.execute("SELECT pg_terminate_backend(%s)", pid)
        add(migrated_url, 3)
        eventually(lambda: set(positions(migrated_url).values()) == {(63, None)})
    assert all(seen(migrated_url, name) == list(range(1, 64)) for name in names)


def test_a_connection_that_ends_in_a_batch_takes_all_of_it_back(conn: Connection, migrated_url: str) -> None:
    ended = threading.Event()

    def ending(session: Connection, batch: Batch) -> None:
        noting("b")(session, batch)
        if not ended.is_set():
            ended.set()
            conn.execute("SELECT pg_terminate_backend(%s)", (session.info.backend_pid,))

    add(migrated_url, 3)
    together = group("a", ("b", ending), "c")
    with following(migrated_url, together):
        eventually(lambda: set(positions(migrated_url).values()) == {(3, None)})
    assert all(seen(migrated_url, name) == [1, 2, 3] for name in ("a", "b", "c"))


def test_a_gap_and_an_older_log_halt_every_one_of_them(conn: Connection, migrated_url: str) -> None:
    add(migrated_url, 5)
    conn.execute("DELETE FROM stored_events WHERE notification_id = 3")
    assert drain(conn, group("a", "b")) is Step.HALTED
    assert positions(migrated_url) == dict.fromkeys("ab", (2, 3))
    conn.execute("UPDATE followers SET halted_at = NULL, position = CASE name WHEN 'a' THEN 10 ELSE 5 END")
    drain(conn, group("a", "b"))
    assert positions(migrated_url) == {"a": (10, 11), "b": (5, None)}


def test_a_notification_wakes_at_once_and_readiness_names_each(conn: Connection, migrated_url: str) -> None:
    together = group("a", "b", poll=LATE)
    assert together.unready == ["a", "b"]
    thread = threading.Thread(target=together.run, args=(migrated_url,), daemon=True)
    thread.start()
    eventually(lambda: together.unready == [])
    assert len(connections(migrated_url, "all")) == 1
    add(migrated_url, 1)
    eventually(lambda: seen(migrated_url) == [1, 1])
    together.stop()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert together.unready == []


def test_looking_for_news_locks_nothing(conn: Connection, migrated_url: str) -> None:
    follower, together = Follower("alone", noting("alone"), poll=LATE), group("a", "b", poll=LATE)
    with following(migrated_url, follower, together):
        add(migrated_url, 1)
        eventually(lambda: state(migrated_url, "alone") == (1, None, 0) and seen(migrated_url, "b") == [1])
        before = rows(migrated_url, "SELECT name, xmin::text, xmax::text FROM followers ORDER BY name")
        for _ in range(20):
            conn.execute("NOTIFY foldwork_log")
        add(migrated_url, 1)
        eventually(lambda: set(positions(migrated_url).values()) == {(2, None)})
        after = rows(migrated_url, "SELECT name, xmin::text, xmax::text FROM followers ORDER BY name")
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert state(migrated_url, "a") == (2, None, 0)
