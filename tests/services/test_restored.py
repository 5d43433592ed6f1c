"""A store that was restored from a backup: nobody works on it until it is adopted, and then nothing is skipped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

import projections
from projections import follower_name
from projections.task import table as tasks
from services.processors import read_models, rebuild
from services.store import identity, migrate
from services.store.adopt import adopt
from services.store.append import Append
from services.store.connect import connect
from services.store.diagnosis import UnsuitableDatabase
from services.store.event_store import EventStore
from services.store.follower import Follower
from services.store.follower_group import FollowerGroup
from services.store.reader import Reader, Step
from services.store.unavailable import StoreUnavailable
from tests.databases import Databases
from tests.eventually import PATIENCE, eventually
from tests.services.following import NAME, add, following, noting, seen, state
from tests.services.harness import rows
from tests.services.processes import nursery
from tests.services.test_event_store import event

TASKS = follower_name(tasks, projections.suffix(tasks))


def db_adopt(url: str, *arguments: str) -> tuple[int, str]:
    environment = {**os.environ, "FOLDWORK_DATABASE_URL": url}
    command = [sys.executable, "-m", "services.cli", "db", "adopt", *arguments]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return ended.returncode, ended.stdout


def settled(url: str) -> str:
    """Note where the log is, as `db upgrade` does."""
    migrate.upgrade(url)
    return url


@pytest.fixture
def snapshot(migrated_url: str, databases: Databases) -> Iterator[str]:
    """A copy of a database with a relay after 3 of 4 events: what restoring a backup makes."""
    settled(migrated_url)
    relay = Follower("relay", lambda *_: None, batch=3)
    add(migrated_url, 4)
    with connect(migrated_url, "test", autocommit=True) as conn:
        relay.enlist(conn)
        relay.step(conn)
    copy = databases.create(urlsplit(migrated_url).path.removeprefix("/"))
    yield copy
    databases.drop(copy)


def test_nobody_works_on_a_copy_until_it_is_adopted(snapshot: str, amqp_url: str) -> None:
    with connect(snapshot, "test", autocommit=True) as conn, pytest.raises(UnsuitableDatabase, match="db adopt"):
        migrate.demand_current(conn)
    reader = Follower("relay", lambda *_: None, poll=0.1)
    with closing(EventStore(snapshot)) as store, following(snapshot, reader):
        with pytest.raises(StoreUnavailable, match="db adopt") as raised:
            store.append(Append(events=[event("a")]))
        assert raised.value.outage
        assert state(snapshot, "relay") == (3, None, 0)
        with nursery().start("relay", env={"database_url": snapshot, "amqp_url": amqp_url}) as process:
            assert process.wait(PATIENCE) == 1
        assert process.output.count("\n") == 1
        assert "`foldwork db adopt`" in process.output
        # Without --force it only says what it would do.
        code, told = db_adopt(snapshot)
        assert code == 1
        assert "relay continues after position 3" in told
        assert "Positions after 4 may have been read or published" in told
        with pytest.raises(StoreUnavailable):
            store.append(Append(events=[event("a")]))
        assert db_adopt(snapshot, "--force")[0] == 0
        # After the record of the adoption.
        assert store.append(Append(events=[event("a")])) == (6, [6])
        eventually(lambda: state(snapshot, "relay") == (6, None, 0))
    code, told = db_adopt(snapshot, "--json")
    found = json.loads(told)
    assert (code, found["needed"], found["epoch"], found["copied"]) == (0, False, 2, False)
    assert rows(snapshot, "SELECT id::text FROM log_identity") == [(found["id"],)]


def test_a_log_of_another_kind_of_restore_is_at_another_place(migrated_url: str) -> None:
    """`pg_restore --clean` makes new tables in the same database."""
    settled(migrated_url)
    with psycopg.connect(migrated_url) as conn:
        assert not identity.copied(conn)
        conn.execute("ALTER TABLE stored_events RENAME TO old")
        conn.execute("CREATE TABLE stored_events (LIKE old INCLUDING ALL)")
        assert identity.copied(conn)
        conn.rollback()
        # A user who may not ask for the server's identifier still notices another table or database.
        conn.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
        conn.execute("CREATE ROLE foldwork_nobody")
        conn.execute("SET LOCAL ROLE foldwork_nobody")
        assert identity.here(conn).count("/") == 1
        conn.rollback()


def restore_log(url: str, kept: int, later: int, minutes: int = 10) -> None:
    """Restore only the log, as it was `minutes` ago with the first events, and append others."""
    with psycopg.connect(url) as conn:
        conn.execute("DELETE FROM stored_events WHERE notification_id > %s", (kept,))
        conn.execute("UPDATE stored_events SET recorded_at = recorded_at - %s * interval '1 minute'", (minutes,))
        conn.execute("ALTER TABLE followers DISABLE TRIGGER USER")
        # What a follower handled is what it was.
        conn.execute(
            "UPDATE followers SET mark = log_mark(position) WHERE position <= %s AND position > 0",
            (kept,),
        )
        conn.execute("ALTER TABLE followers ENABLE TRIGGER USER")
    add(url, later)


@pytest.mark.usefixtures("no_followers", "seen_table")
@pytest.mark.parametrize("later", [1, 2, 30])
def test_a_follower_ahead_of_a_restored_log_never_goes_on_by_itself(migrated_url: str, later: int) -> None:
    """Whether the log is still shorter than its position, just as long, or longer."""
    add(migrated_url, 5)
    alone = Follower(NAME, noting(), poll=0.05)
    member, fine = Follower("member", noting("member"), poll=0.05), Follower("fine", noting("fine"), poll=0.05)
    group = FollowerGroup("group", [member, fine], poll=0.05)
    readers: list[Reader] = [alone, group]
    with following(migrated_url, *readers):
        eventually(lambda: {state(migrated_url, name) for name in (NAME, "member", "fine")} == {(5, None, 0)})
    with psycopg.connect(migrated_url) as conn:
        conn.execute("UPDATE followers SET position = 2 WHERE name = 'fine'")
    restore_log(migrated_url, 3, later)
    alone, group = Follower(NAME, noting(), poll=0.05), FollowerGroup("group", [member, fine], poll=0.05)
    for reader in (member, fine):
        reader.stopped.clear()
    with following(migrated_url, alone, group):
        eventually(lambda: state(migrated_url, NAME) == (5, 6, 0) == state(migrated_url, "member"))
        eventually(lambda: state(migrated_url, "fine") == (3 + later, None, 0))
        for (error,) in rows(migrated_url, "SELECT error FROM followers WHERE halted_at IS NOT NULL"):
            assert "db adopt" in error
        assert seen(migrated_url, NAME) == []
        adopted = adopt(migrated_url, force=True)
        assert {move.follower: move.to for move in adopted.moves} == {NAME: 3, "member": 3, "fine": 3 + later}
        # They go on by themselves, and handle what was appended after the restore.
        eventually(lambda: {state(migrated_url, name) for name in (NAME, "member")} == {(3 + later, None, 0)})
    assert seen(migrated_url, "one") == sorted([1, 2, 3, 4, 5, *range(4, 4 + later)])


def test_events_that_were_recorded_about_when_the_follower_worked_are_handled_again(migrated_url: str) -> None:
    """The clock of another server may differ; an event may be published twice, and none is skipped."""
    add(migrated_url, 5)
    with psycopg.connect(migrated_url) as conn:
        conn.execute("INSERT INTO followers (name) VALUES ('relay')")
        conn.execute("UPDATE followers SET position = 5 WHERE name = 'relay'")
    restore_log(migrated_url, 3, 4, minutes=0)
    (relay,) = [move for move in adopt(migrated_url, force=False).moves if move.follower == "relay"]
    assert (relay.position, relay.to) == (5, 0)


def drain(conn: psycopg.Connection[Any], follower: Follower) -> Step:
    while (step := follower.step(conn)) is Step.WORKED:
        pass
    return step


def test_a_read_model_with_rows_of_lost_events_is_rebuilt(migrated_url: str, conn: psycopg.Connection[Any]) -> None:
    add(migrated_url, 5)
    for follower in read_models.followers(migrated_url):
        drain(conn, follower)
    restore_log(migrated_url, 3, 4)
    adopted = {move.follower: move for move in adopt(migrated_url, force=True).moves}
    assert (adopted[TASKS].to, adopted[TASKS].rebuilds) == (3, "tasks")
    code, told = db_adopt(migrated_url)
    assert (code, "fit together" in told) == (0, True)
    # `projections` fills the new tables when it starts.
    for each in read_models.followers(migrated_url):
        drain(conn, each)
    found = {stream for (stream,) in rows(migrated_url, "SELECT originator_id FROM stored_events")}
    assert {f"acme/task-{task}" for (task,) in rows(migrated_url, "SELECT id FROM tasks")} == found
    assert projections.tables(conn, tasks) == (f"{projections.suffix(tasks)}r2", None)


def test_a_rebuild_repairs_a_read_model_that_is_ahead_of_the_log(
    migrated_url: str, conn: psycopg.Connection[Any]
) -> None:
    add(migrated_url, 5)
    for follower in read_models.followers(migrated_url):
        drain(conn, follower)
    restore_log(migrated_url, 3, 1)
    assert rebuild.rebuild(migrated_url, "tasks")
    assert rows(migrated_url, "SELECT count(*) FROM tasks") == [(4,)]


def test_a_worker_notices_that_the_log_was_replaced_under_it(migrated_url: str) -> None:
    """It keeps the state of streams in memory, and their versions may be the same in the other log."""
    with closing(EventStore(migrated_url)) as store:
        store.append(Append(events=[event("a"), event("b")]))
        with psycopg.connect(migrated_url) as conn:
            conn.execute("DELETE FROM stored_events WHERE notification_id = 2")
        add(migrated_url, 3)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="db adopt"):
                store.append(Append(events=[event("c")]))
        adopt(migrated_url, force=True)
        # Once more, so that whoever called it forgets what it has in memory.
        with pytest.raises(StoreUnavailable):
            store.append(Append(events=[event("c")]))
        assert store.append(Append(events=[event("c")])) == (5, [5])


def test_an_append_that_was_not_committed_is_not_remembered(migrated_url: str) -> None:
    with closing(EventStore(migrated_url)) as store:
        store.append(Append(events=[event("a")]))
        with psycopg.connect(migrated_url, autocommit=True) as conn:
            conn.execute("ALTER TABLE ledger RENAME TO gone")
            with pytest.raises(Exception, match="ledger"):
                store.append(Append(events=[event("b")]))
            conn.execute("ALTER TABLE gone RENAME TO ledger")
        add(migrated_url, 1)
        assert store.append(Append(events=[event("b")])) == (3, [3])


def test_a_database_from_before_has_marks_after_its_upgrade(migrated_url: str) -> None:
    add(migrated_url, 3)
    with psycopg.connect(migrated_url) as conn:
        conn.execute("UPDATE followers SET position = 3")
        conn.execute("DROP TABLE log_identity CASCADE")
        conn.execute("DROP TRIGGER mark_follower ON followers")
        conn.execute("DROP FUNCTION log_mark, mark_follower")
        conn.execute("ALTER TABLE followers DROP COLUMN mark")
        conn.execute("DELETE FROM migrations WHERE number = 4")
    assert migrate.upgrade(migrated_url) == ["0004_log_identity"]
    assert adopt(migrated_url, force=False).needed is False
    with connect(migrated_url, "test", autocommit=True) as conn:
        assert identity.identity(conn).place == identity.here(conn)
        assert rows(migrated_url, "SELECT DISTINCT mark IS NOT NULL, mark = log_mark(3) FROM followers") == [
            (True, True)
        ]
