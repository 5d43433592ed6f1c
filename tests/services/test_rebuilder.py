"""Rebuilds that were asked for are done by the role `projections`, once, and go on when their process has gone."""

from __future__ import annotations

import json
import threading
from typing import Any
from unittest.mock import patch

import psycopg
import pytest

import projections
from projections.task import table as tasks
from services.processors import read_models, rebuilder
from services.processors.rebuilder import EXAMPLES, Rebuilder
from services.store import rebuilds, standing
from services.store.rebuilds import Shown
from tests.eventually import PATIENCE, eventually
from tests.projections.recording import after, recorded, store
from tests.services.following import following
from tests.services.test_rebuild import FIRST, SCENE, drain, suffixes

NEW = f"{FIRST}r2"
Connection = psycopg.Connection[Any]


@pytest.fixture
def followed(conn: Connection, migrated_url: str) -> str:
    """A database whose read models have followed a short log."""
    store(conn, recorded(after(SCENE)))
    for follower in read_models.followers(migrated_url):
        drain(conn, follower)
    return migrated_url


def ask(conn: Connection, name: str = "tasks", *, diff: bool = False, tenant: str = "acme") -> bool:
    with conn.transaction():
        return rebuilds.ask(conn, name, tenant, "system", "0123456789abcdef", diff=diff)


def shown(conn: Connection, name: str = "tasks", tenant: str = "acme") -> Shown:
    (found,) = [row for row in conn.execute(*rebuilds.shown(tenant)) if row[0] == name]
    return Shown(*found)


def ended(conn: Connection, name: str = "tasks", tenant: str = "acme") -> Shown:
    eventually(lambda: shown(conn, name, tenant).ended_at is not None)
    return shown(conn, name, tenant)


def acts(conn: Connection) -> list[tuple[Any, ...]]:
    """Return (stream, act, target, outcome, actor, key) of what was recorded."""
    places = ("data,act", "data,target", "data,outcome", "meta,actor", "data,key_id")
    columns = ", ".join(f"convert_from(state, 'UTF8')::jsonb #>> '{{{place}}}'" for place in places)
    found = f"SELECT originator_id, {columns} FROM stored_events WHERE topic = 'operation.recorded'"
    return conn.execute(f"{found} ORDER BY notification_id".encode()).fetchall()


def test_a_rebuild_is_done_and_recorded_as_an_act(followed: str, conn: Connection) -> None:
    assert ask(conn)
    assert shown(conn).state == "waiting"
    with following(followed, Rebuilder()):  # type: ignore[arg-type]
        done = ended(conn)
    assert (done.state, done.error, done.progress) == ("done", None, None)
    assert done.result == {"switched": True, "held_back": 0, "position": None, "tables": {}}
    assert suffixes(conn, tasks) == {NEW}
    stream, of = "_system/operations-log", ("read-model.rebuild", "read-model/tasks")
    by = ("system", "0123456789abcdef")
    assert acts(conn) == [(stream, *of, "started", *by), (stream, *of, "succeeded", *by)]


def test_what_a_killed_rebuild_has_left_is_dropped_at_the_start(followed: str, conn: Connection) -> None:
    projections.begin_build(conn, tasks, announced=False)
    assert suffixes(conn, tasks) == {FIRST, NEW}
    with following(followed, Rebuilder()):  # type: ignore[arg-type]
        eventually(lambda: suffixes(conn, tasks) == {FIRST})


def test_a_comparison_without_a_difference_switches(followed: str, conn: Connection) -> None:
    assert ask(conn, diff=True)
    with following(followed, Rebuilder()):  # type: ignore[arg-type]
        done = ended(conn)
    assert done.result is not None
    assert done.result["switched"]
    assert done.result["position"] >= len(after(SCENE))
    ((rows,),) = conn.execute("SELECT count(*) FROM tasks").fetchall()
    assert done.result["tables"]["tasks"] == {"same": rows, "missing": 0, "extra": 0, "different": 0, "columns": {}}
    assert suffixes(conn, tasks) == {NEW}


def test_differences_are_counted_for_all_and_shown_to_the_tenant_alone_whose_they_are(
    followed: str, conn: Connection
) -> None:
    conn.execute(f"UPDATE tasks_{FIRST} SET status = 'canceled', channel = repeat('x', 1500) WHERE id = 't1'")
    # Rows of another tenant, which the log does not have.
    made = "(jsonb_populate_record(t, jsonb_build_object('tenant', 'other', 'id', 'secret-' || n))).*"
    conn.execute(
        f"INSERT INTO tasks_{FIRST} SELECT {made} FROM tasks_{FIRST} AS t, generate_series(1, {EXAMPLES + 5}) AS n"
        " WHERE t.id = 't1'"
    )
    assert ask(conn, diff=True)
    with following(followed, Rebuilder()):  # type: ignore[arg-type]
        done = ended(conn)
        assert done.result is not None
        assert not done.result["switched"]
        counts = done.result["tables"]["tasks"]
        assert (counts["missing"], counts["different"]) == (EXAMPLES + 5, 1)
        (example,) = done.examples or ()
        assert example["key"] == {"tenant": "acme", "id": "t1"}
        assert example["columns"]["status"] == {"serving": "canceled", "new": "open"}
        cut = example["columns"]["channel"]["serving"]
        assert (len(cut), cut[-1]) == (1000, "…")
        assert "secret" not in json.dumps(done._asdict(), default=str)
        # The other tenant sees that there was one, and counts, and none of the rows.
        theirs = shown(conn, tenant="other")
        assert (theirs.result, theirs.examples) == (done.result, None)
        # Whoever asks next has the examples.
        assert ask(conn, diff=True, tenant="other")
        again = ended(conn, tenant="other")
    assert len(again.examples or ()) == EXAMPLES
    assert {each["key"]["tenant"] for each in again.examples or ()} == {"other"}
    assert shown(conn).examples is None
    assert suffixes(conn, tasks) == {FIRST}


def test_a_history_row_is_shown_to_its_tenant_though_its_key_does_not_tell(followed: str, conn: Connection) -> None:
    (history,) = suffixes(conn, projections.BY_NAME["history"])
    conn.execute(f"UPDATE history_{history} SET doc = '{{}}' WHERE position = 1")
    for tenant, examples in (("other", 0), ("acme", 1)):
        assert ask(conn, "history", diff=True, tenant=tenant)
        with following(followed, Rebuilder()):  # type: ignore[arg-type]
            done = ended(conn, "history", tenant)
        assert done.result is not None
        assert done.result["tables"]["history"]["different"] == 1
        assert len(done.examples or ()) == examples


def test_a_second_one_is_refused_until_the_first_has_ended(followed: str, conn: Connection) -> None:
    assert ask(conn)
    assert not ask(conn, diff=True)
    assert ask(conn, "directory")
    with following(followed, Rebuilder()):  # type: ignore[arg-type]
        assert not shown(conn).diff
        ended(conn)
        ended(conn, "directory")
    assert ask(conn, diff=True)
    assert (shown(conn).state, shown(conn).result, shown(conn).ended_at) == ("waiting", None, None)


def test_while_a_command_line_rebuilds_nothing_is_asked_for_nor_begun(followed: str, conn: Connection) -> None:
    assert ask(conn, "directory")
    with psycopg.connect(followed, autocommit=True) as other:
        assert standing.begin_rebuild(other, "tasks")
        assert standing.begin_rebuild(other, "directory")
        assert not ask(conn)
        assert rebuilds.take(conn) is None
        assert shown(conn, "directory").state == "waiting"
        assert acts(conn) == []
    conn.execute("UPDATE rebuilds SET due_at = now()")
    with following(followed, Rebuilder()):  # type: ignore[arg-type]
        assert ended(conn, "directory").state == "done"


def test_what_cannot_be_rebuilt_fails_and_says_nothing_of_others(followed: str, conn: Connection) -> None:
    # The new tables would hold back what the serving ones do not.
    conn.execute("UPDATE stored_events SET state = '{}' WHERE originator_id = 'acme/task-t1'")
    assert ask(conn, tenant="other")
    with following(followed, Rebuilder()):  # type: ignore[arg-type]
        failed = ended(conn, tenant="other")
    assert (failed.state, failed.result) == ("failed", None)
    assert failed.error is not None
    assert "t1" not in failed.error
    assert "acme" not in failed.error
    outcomes = [outcome for _, _, _, outcome, *_ in acts(conn)]
    assert outcomes == ["started", "failed"]
    # A comparison finds that tables are being built, and says what to do.
    assert ask(conn, diff=True)
    with following(followed, Rebuilder()):  # type: ignore[arg-type]
        refused = ended(conn)
    assert "being built already" in (refused.error or "")


def test_a_rebuild_whose_process_is_gone_is_taken_by_another(followed: str, conn: Connection) -> None:
    assert ask(conn)
    gone = rebuilds.take(conn)
    assert gone is not None
    assert shown(conn).state == "running"
    assert rebuilds.take(conn) is None
    conn.execute("UPDATE rebuilds SET due_at = now() - interval '1 second'")
    with following(followed, Rebuilder()):  # type: ignore[arg-type]
        assert ended(conn).state == "done"
    # What the first one says of it comes too late.
    assert not rebuilds.note(conn, gone, None)
    rebuilds.end(conn, gone, None, error="lost")
    assert (shown(conn).state, shown(conn).error) == ("done", None)


def test_a_stop_leaves_the_rebuild_to_the_next(followed: str, conn: Connection) -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow(url: str, name: str, progress: Any, *, stopped: Any) -> bool:
        progress(3, 10, 1.0, 7.0)
        began.set()
        go_on.wait(PATIENCE)
        assert stopped()
        return False

    assert ask(conn)
    with patch.object(rebuilder.rebuild, "rebuild", slow):
        worker = Rebuilder()
        thread = threading.Thread(target=worker.run, args=(followed,), daemon=True)
        thread.start()
        assert began.wait(PATIENCE)
        told = {"phase": "filling", "what": "tasks", "done": 3, "total": 10}
        eventually(lambda: shown(conn).progress == told)
        worker.stop()
        go_on.set()
        thread.join(PATIENCE)
    assert shown(conn).state == "waiting"
    with following(followed, Rebuilder()):  # type: ignore[arg-type]
        assert ended(conn).state == "done"
