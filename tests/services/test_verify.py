"""`foldwork verify` on stores that were damaged in each way that it looks for, and on one that is being worked on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import Any

import psycopg
import pytest

import projections
from projections import follower_name
from projections.task import table as tasks
from services.processors import read_models, verify
from services.store import checks, migrate
from services.store.append import Append, LedgerRow
from services.store.event_store import EventStore
from services.store.reader import Step
from tests.eventually import PATIENCE, eventually
from tests.projections.recording import recorded, store
from tests.services.following import add, following
from tests.services.harness import rows
from tests.services.test_event_store import event
from tests.services.test_held_back_read_models import LATER, SCENE, refuse

Connection = psycopg.Connection[Any]
SUFFIX = projections.suffix(tasks)
TASKS = follower_name(tasks, SUFFIX)
BACK = "ALTER TABLE followers DISABLE TRIGGER USER"


def follow(url: str, conn: Connection) -> None:
    for follower in read_models.followers(url):
        follower.enlist(conn)
        while follower.step(conn) is Step.WORKED:
            pass


@pytest.fixture
def sound(migrated_url: str, conn: Connection) -> str:
    """A store with events, receipts, an idempotency key, and read models that are up to date."""
    migrate.upgrade(migrated_url)
    store(conn, recorded(SCENE))
    follow(migrated_url, conn)
    events = EventStore(migrated_url)
    try:
        made = event("paid")
        row = LedgerRow("acme", made.metadata.command, b"f", first_position=-1, last_position=-1)
        key = {("acme", "idempotency", "k"): f"{made.metadata.command} ff @head 1 1"}
        events.append(
            Append(events=[made], ledger=[row, LedgerRow("acme", "refused", b"f", "forbidden")], unique_keys=key)
        )
    finally:
        events.close()
    follow(migrated_url, conn)
    return migrated_url


def found(url: str) -> list[str]:
    verdict = verify.verify(url)
    assert verdict.unchecked == []
    return [f"{each.check}: {each.detail}" for each in verdict.violations]


def test_a_sound_store_is_consistent(sound: str, conn: Connection) -> None:
    verdict = verify.verify(sound)
    assert (verdict.violations, verdict.unchecked) == ([], [])
    head = len(SCENE) + 1
    assert verdict.read_models == dict.fromkeys(projections.BY_NAME, head)
    # Marks of deadlines are not of the log, and a read model may be behind.
    conn.execute("UPDATE deadlines SET sends = 7")
    add(sound, 3)
    verdict = verify.verify(sound)
    assert (verdict.violations, verdict.events, set(verdict.read_models.values())) == ([], head + 3, {head})
    # Nothing is left behind.
    assert rows(sound, "SELECT relname FROM pg_class WHERE relname LIKE '%verified%'") == []


# The events of a task at each other's positions.
SWAP = """
UPDATE stored_events SET notification_id = -notification_id WHERE originator_id = 'acme/task-t1';
UPDATE stored_events AS e SET notification_id = o.other FROM (
    SELECT notification_id, -first_value(notification_id) OVER (ORDER BY notification_id ROWS BETWEEN 1 FOLLOWING
        AND 1 FOLLOWING) AS next, -last_value(notification_id) OVER (ORDER BY notification_id DESC ROWS BETWEEN
        UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS last, count(*) OVER () AS n FROM stored_events
    WHERE notification_id < 0) AS p CROSS JOIN LATERAL (SELECT coalesce(p.next, p.last) AS other) AS o
WHERE e.notification_id = p.notification_id"""
AGAIN = """
INSERT INTO stored_events SELECT 'acme/task-again', 1, topic, state, notification_id + 1, now()
FROM stored_events WHERE originator_id = 'acme/task-paid'"""
VERSION = """
UPDATE stored_events SET originator_version = 9 WHERE notification_id =
    (SELECT notification_id FROM stored_events WHERE originator_version > 1 ORDER BY 1 LIMIT 1)"""
HELD = f"""
INSERT INTO held_entities (follower, entity, position, error, retry_at) VALUES ('{TASKS}', 'e', 99, '', now());
INSERT INTO held_events VALUES ('{TASKS}', 'e', 99)"""
FIRST = "UPDATE stored_events SET originator_version = 5 WHERE originator_id = 'acme/task-paid'"
KEY = "UPDATE claims SET holder = {} WHERE kind = 'idempotency'"
RECEIPT = "UPDATE ledger SET {} WHERE code IS NULL"
MOVED = f"{BACK}; UPDATE followers SET {{}} WHERE name = '{TASKS}'"
DAMAGE = {
    "DELETE FROM stored_events WHERE notification_id = 3": "positions: the log has no events at the positions 3 to 3",
    VERSION: "versions: acme/",
    FIRST: "versions: acme/task-paid has version 5 at position {head}, which is the first",
    SWAP: "versions: acme/task-t1 has version",
    AGAIN: "effects: one command has recorded events twice, at position {head} and at {next}",
    RECEIPT.format("last_position = 99"): "effects: the receipt of acme/",
    RECEIPT.format("first_position = 1"): "effects: the receipt of acme/",
    RECEIPT.format("tenant = 'beta'"): "effects: the receipt of beta/",
    KEY.format("replace(holder, ' 1 1', ' 2 2')"): "effects: the idempotency key acme/k names events {next} to {next}",
    KEY.format("'x' || holder"): "effects: the idempotency key acme/k names events {head} to {head}",
    f"UPDATE tasks_{SUFFIX} SET title_key = 'other' WHERE id = 't1'": "read-models: tasks: the row acme/t1 has other",
    f"DELETE FROM tasks_{SUFFIX} WHERE id = 't1'": "read-models: tasks: the row acme/t1 is missing",
    "INSERT INTO work_periods VALUES ('acme', 'x', 1, 1, NULL, now(), NULL, 1)": (
        "read-models: work_periods: the row acme/x/1 does not belong there"
    ),
    f"UPDATE followers SET position = position - 1 WHERE name = '{TASKS}'": (
        "read-models: tasks: the row acme/paid does not belong there"
    ),
    MOVED.format("position = 99"): f"followers: {TASKS} is at position 99, and the log ends at {{head}}",
    MOVED.format("mark = replace(mark, '-', '_')"): f"followers: {TASKS} has handled another event than the log has",
    HELD: f"followers: {TASKS} is at position {{head}}, and holds back position 99",
    "UPDATE log_identity SET place = '1/2/3'": "identity: the database is a copy",
}


@pytest.mark.parametrize("statement", DAMAGE)
def test_damage_is_found_and_named(sound: str, conn: Connection, statement: str) -> None:
    expected = DAMAGE[statement]
    head = len(SCENE) + 1
    with conn.transaction():
        conn.execute(statement.encode())
    try:
        told = [f"{each.check}: {each.detail}" for each in verify.verify(sound).violations]
    finally:
        conn.execute("ALTER TABLE followers ENABLE TRIGGER USER")
    assert any(line.startswith(expected.format(head=head, next=head + 1)) for line in told), told


def test_an_id_that_is_used_again_after_its_receipt_was_pruned_is_no_second_effect(
    sound: str, conn: Connection
) -> None:
    with conn.transaction():
        conn.execute(AGAIN.encode())
        conn.execute(
            "UPDATE stored_events SET recorded_at = recorded_at - interval '31 days' WHERE notification_id <= 3"
        )
        conn.execute(
            "UPDATE stored_events SET recorded_at = now() - interval '31 days' WHERE originator_id LIKE '%paid'"
        )
    assert not any("recorded events twice" in line for line in found(sound))


def run(url: str, *arguments: str) -> tuple[int, str, str]:
    environment = {**os.environ, "FOLDWORK_DATABASE_URL": url}
    command = [sys.executable, "-m", "services.cli", "verify", *arguments]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return ended.returncode, ended.stdout, ended.stderr


def test_the_verdict_is_an_exit_status(sound: str, conn: Connection) -> None:
    code, told, _ = run(sound)
    assert (code, told.splitlines()[-1]) == (0, "Consistent.")
    conn.execute("DELETE FROM tasks WHERE id = 't1'")
    code, told, _ = run(sound, "--json")
    shown = json.loads(told)
    assert (code, shown["verdict"]) == (1, "contradictions")
    assert shown["violations"] == [{"check": "read-models", "detail": "tasks: the row acme/t1 is missing"}]
    conn.execute("UPDATE read_models SET serving = 'v999' WHERE name = 'tasks'")
    code, told, _ = run(sound)
    assert (code, "not checked: tasks: its tables are of version 999" in told) == (2, True)
    conn.execute("DELETE FROM migrations WHERE number = 1")
    assert run(sound) == (2, "", "the database lacks 1 migrations: run `foldwork db upgrade`\n")


def test_what_a_follower_holds_back_is_no_contradiction(migrated_url: str, conn: Connection) -> None:
    refuse(conn, tasks, SUFFIX)
    store(conn, recorded([*SCENE, *LATER]))
    follow(migrated_url, conn)
    assert rows(migrated_url, "SELECT count(*) > 0 FROM held_events") == [(True,)]
    assert found(migrated_url) == []


def test_it_runs_while_others_work(sound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "BATCH", 7)
    stopped = threading.Event()

    def append() -> None:
        while not stopped.is_set():
            add(sound, 5)

    writer = threading.Thread(target=append)
    with following(sound, *read_models.readers(sound)):
        writer.start()
        try:
            eventually(lambda: rows(sound, "SELECT count(*) > 100 FROM stored_events")[0][0])
            verdicts = [verify.verify(sound) for _ in range(3)]
        finally:
            stopped.set()
            writer.join(PATIENCE)
    assert [(each.violations, each.unchecked) for each in verdicts] == [([], [])] * 3
    assert verdicts[0].events < verdicts[-1].events
    assert max(verdicts[-1].read_models.values()) > 20


def test_the_versions_of_long_streams_are_compared_over_pages(sound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for page in (2, 3, 5):
        monkeypatch.setattr(checks, "PAGE", page)
        assert found(sound) == []
    with psycopg.connect(sound) as conn:
        conn.execute(
            "UPDATE stored_events SET originator_version = originator_version + 1"
            " WHERE (originator_id, originator_version) IN (SELECT originator_id, max(originator_version)"
            " FROM stored_events GROUP BY 1 HAVING max(originator_version) > 1)"
        )
        (wrong,) = conn.execute(
            "SELECT count(*) FROM (SELECT FROM stored_events GROUP BY originator_id"
            " HAVING max(originator_version) > count(*)) AS s"
        ).fetchone() or (0,)
    for page in (2, 3, 5, 1000):
        monkeypatch.setattr(checks, "PAGE", page)
        assert len([line for line in found(sound) if line.startswith("versions")]) == wrong > 0
