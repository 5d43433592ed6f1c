"""A rebuild that compares: what differs is counted, shown and written to a file, and keeps the old tables serving."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

import projections
from domain.task import TaskCreated
from projections import follower_name
from projections.support import comparison
from projections.support.comparison import Difference
from projections.task import table as tasks
from services.processors import compared, read_models, rebuild
from services.processors.compared import NotComparable, rebuild_compared
from services.processors.read_models import ServingFollower
from services.store import log, standing
from tests.eventually import PATIENCE
from tests.projections.recording import after, recorded, store
from tests.services.test_projections_commands import documents, run
from tests.services.test_rebuild import FIRST, SCENE, add, content, drain, suffixes

NEW = f"{FIRST}r2"
# As many as make several ranges.
MANY = 20_000


def furnish(conn: psycopg.Connection[Any], url: str) -> None:
    """Let all read models follow a short log."""
    store(conn, recorded(after(SCENE)))
    for follower in read_models.followers(url):
        drain(conn, follower)


def spoil(conn: psycopg.Connection[Any], task_id: str, **columns: Any) -> None:
    for name, value in columns.items():
        conn.execute(f"UPDATE tasks_{FIRST} SET {name} = %s WHERE id = %s", (value, task_id))


def document(conn: psycopg.Connection[Any], task_id: str) -> dict[str, Any]:
    ((text,),) = conn.execute("SELECT doc FROM tasks WHERE id = %s", (task_id,)).fetchall()
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.mark.parametrize("name", projections.BY_NAME)
def test_without_a_difference_the_new_tables_take_over(
    migrated_url: str, conn: psycopg.Connection[Any], name: str
) -> None:
    furnish(conn, migrated_url)
    model = projections.BY_NAME[name]
    before = {view: content(conn, view) for view in model.VIEWS}
    found: list[Difference] = []
    result = rebuild_compared(migrated_url, name, found.append)
    assert result is not None
    assert (found, result.switched, result.position) == ([], True, len(after(SCENE)))
    assert {view: each.same for view, each in result.tables.items()} == {view: len(before[view]) for view in before}
    assert {view: content(conn, view) for view in model.VIEWS} == before
    assert suffixes(conn, model) == {f"{projections.suffix(model)}r2"}


def test_a_missing_an_extra_and_a_different_row_are_named_and_nothing_is_switched(
    migrated_url: str, conn: psycopg.Connection[Any]
) -> None:
    furnish(conn, migrated_url)
    conn.execute(f"DELETE FROM tasks_{FIRST} WHERE id = 'n0'")
    conn.execute(
        f'INSERT INTO tasks_{FIRST} SELECT (jsonb_populate_record(t, \'{{"id": "stray"}}\')).* FROM tasks AS t LIMIT 1'
    )
    wrong = {**document(conn, "t1"), "title": "Wrong", "invented": None}
    spoil(conn, "t1", status="canceled", doc=json.dumps(wrong))
    # The same document, written in another way, is no difference.
    same = document(conn, "t2")
    spoil(conn, "t2", doc=json.dumps(dict(reversed(same.items())), indent=1))
    before = content(conn, "tasks")
    found: list[Difference] = []
    result = rebuild_compared(migrated_url, "tasks", found.append)
    assert result is not None
    assert not result.switched
    table = result.tables["tasks"]
    assert (table.rows, table.same, dict(table.kinds)) == (3, 1, {"extra": 1, "missing": 1, "different": 1})
    assert dict(table.columns) == {"status": 1, "doc.title": 1, "doc.invented": 1}
    shown = {each.key["id"]: (each.kind, each.columns) for each in found}
    assert shown["n0"] == ("extra", {})
    assert shown["stray"] == ("missing", {})
    kind, columns = shown["t1"]
    assert (kind, columns["status"], columns["doc.invented"]) == ("different", ("canceled", "open"), (None, "(absent)"))
    # Nothing is left, and the serving tables are as they were.
    assert content(conn, "tasks") == before
    assert suffixes(conn, tasks) == {FIRST}
    assert conn.execute("SELECT name FROM followers WHERE name LIKE 'tasks%'").fetchall() == [(f"tasks_{FIRST}",)]
    assert rebuild_compared(migrated_url, "tasks", found.append, switch=True).switched  # type: ignore[union-attr]
    assert document(conn, "t1")["title"] != "Wrong"
    assert suffixes(conn, tasks) == {NEW}


def test_one_wrong_row_among_many_is_found(migrated_url: str, conn: psycopg.Connection[Any]) -> None:
    store(conn, recorded([TaskCreated("x", "Visit")]))
    drain(conn, ServingFollower(tasks))
    other = projections.begin_build(conn, tasks)
    made = "(jsonb_populate_record(t, jsonb_build_object('id', 'n' || lpad(n::text, 9, '0')))).*"
    for suffix in (FIRST, other):
        conn.execute(
            f"INSERT INTO tasks_{suffix} SELECT {made} FROM tasks_{FIRST} AS t, generate_series(1, {MANY}) AS n"
            " WHERE t.id = 'x'"
        )
    conn.execute(f"DELETE FROM tasks_{FIRST} WHERE id = 'x'")
    place = f"n{MANY * 3 // 4:09d}"
    conn.execute(f"UPDATE tasks_{FIRST} SET doc = replace(doc, 'Visit', 'Visjt') WHERE id = '{place}'")
    reached: list[int] = []
    with conn.transaction():
        (found,) = comparison.differences(conn, "tasks", FIRST, other, progress=reached.append)
    assert (found.key["id"], found.columns) == (place, {"doc.title": ("Visjt", "Visit")})
    assert reached == [comparison.RANGE * number for number in range(1, MANY // comparison.RANGE + 1)]


def test_all_rows_of_one_side_are_missing(conn: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    add(conn, 30)
    drain(conn, ServingFollower(tasks))
    other = projections.begin_build(conn, tasks)
    monkeypatch.setattr(comparison, "RANGE", 7)
    monkeypatch.setattr(comparison, "READ", 3)
    ids = sorted(f"x{number}" for number in range(30))
    for first, second, kind in ((FIRST, other, "missing"), (other, FIRST, "extra")):
        found = list(comparison.differences(conn, "tasks", first, second))
        assert [(each.key["id"], each.kind) for each in found] == [(each, kind) for each in ids]
    assert list(comparison.differences(conn, "tasks", other, other)) == []


def test_where_no_role_runs_the_serving_tables_are_taken_along(
    migrated_url: str, conn: psycopg.Connection[Any]
) -> None:
    add(conn, 3)
    drain(conn, ServingFollower(tasks))
    add(conn, 2, "y")
    found: list[Difference] = []
    result = rebuild_compared(migrated_url, "tasks", found.append)
    assert result is not None
    assert (found, result.position, result.tables["tasks"].same, result.switched) == ([], 5, 5, True)


def test_both_are_compared_at_one_position_while_the_log_grows(
    migrated_url: str, conn: psycopg.Connection[Any]
) -> None:
    add(conn, 50)
    serving = ServingFollower(tasks, batch=5)
    runner = threading.Thread(target=serving.run, args=(migrated_url,))
    done = threading.Event()

    def write() -> None:
        with psycopg.connect(migrated_url, autocommit=True) as writer:
            for batch in range(100):
                add(writer, 10, f"b{batch}-")
                if done.is_set():
                    return

    writing = threading.Thread(target=write)
    runner.start()
    writing.start()
    found: list[Difference] = []
    try:
        result = rebuild_compared(migrated_url, "tasks", found.append)
        assert result is not None
        assert (found, result.switched) == ([], True)
        assert result.position == result.tables["tasks"].rows
    finally:
        done.set()
        writing.join(PATIENCE)
        serving.stop()
        runner.join(PATIENCE)


def test_nobody_else_fills_switches_or_drops_tables_that_are_compared(
    migrated_url: str, conn: psycopg.Connection[Any]
) -> None:
    furnish(conn, migrated_url)
    spoil(conn, "t1", status="canceled")
    seen: list[set[str]] = []

    def meanwhile(table: str, done: int, rows: int) -> None:
        # As the role does when it starts.
        names = [follower.name for follower in read_models.followers(migrated_url)]
        assert names == [follower_name(model, projections.suffix(model)) for model in projections.READ_MODELS]
        seen.append(suffixes(conn, tasks))
        lines = {line.suffix: line.serving for line in standing.status(migrated_url) if line.name == "tasks"}
        assert lines == {FIRST: True, NEW: False}
        with pytest.raises(rebuild.RebuildRunning):
            rebuild.rebuild(migrated_url, "tasks")

    result = rebuild_compared(migrated_url, "tasks", lambda _: None, comparing=meanwhile)
    assert result is not None
    assert not result.switched
    assert seen == [{FIRST, NEW}] * len(seen) != []


def test_what_a_killed_one_leaves_is_dropped_by_the_next_sweep(conn: psycopg.Connection[Any]) -> None:
    assert projections.begin_build(conn, tasks, announced=False) == NEW
    assert projections.tables(conn, tasks) == (FIRST, None)
    rebuild.sweep(conn, tasks)
    assert suffixes(conn, tasks) == {FIRST}
    assert standing.position(conn, f"tasks_{NEW}") == 0


def test_an_interrupted_one_leaves_nothing(migrated_url: str, conn: psycopg.Connection[Any]) -> None:
    furnish(conn, migrated_url)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    for given in ({"progress": interrupted}, {"comparing": interrupted}):
        with pytest.raises(KeyboardInterrupt):
            rebuild_compared(migrated_url, "tasks", lambda _: None, **given)  # type: ignore[arg-type]
        assert suffixes(conn, tasks) == {FIRST}
    assert rebuild_compared(migrated_url, "tasks", lambda _: None, stopped=lambda: True) is None
    assert suffixes(conn, tasks) == {FIRST}


def test_what_cannot_be_compared_is_refused(
    migrated_url: str, conn: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    add(conn, 3)
    monkeypatch.setattr(compared, "PATIENCE", 0.1)
    monkeypatch.setattr(compared, "SWITCH_TIMEOUT_MS", 50)
    with psycopg.connect(migrated_url) as other:
        other.execute(f"SELECT FROM followers WHERE name = 'tasks_{FIRST}' FOR UPDATE")
        with pytest.raises(NotComparable, match=r"did not get to position 3 within 0\.1 s"):
            rebuild_compared(migrated_url, "tasks", lambda _: None)
    assert suffixes(conn, tasks) == {FIRST}
    projections.begin_build(conn, tasks)
    with pytest.raises(NotComparable, match="being built already"):
        rebuild_compared(migrated_url, "tasks", lambda _: None)
    assert suffixes(conn, tasks) == {FIRST, NEW}
    conn.execute("UPDATE read_models SET building = NULL, serving = 'v1' WHERE name = 'tasks'")
    with pytest.raises(NotComparable, match="of another version: v1"):
        rebuild_compared(migrated_url, "tasks", lambda _: None)
    with pytest.raises(rebuild.UnknownReadModel):
        rebuild_compared(migrated_url, "nothing", lambda _: None)


def test_the_command_tells_and_writes_the_differences(
    migrated_url: str, conn: psycopg.Connection[Any], tmp_path: Path
) -> None:
    furnish(conn, migrated_url)
    for task in ("t1", "t2", "n0"):
        spoil(conn, task, status="canceled")
    path = tmp_path / "differences.jsonl"
    command = ("rebuild", "tasks", "--diff-file", str(path), "--examples", "2")
    assert run(migrated_url, *command, code=1).count("comparing tasks") >= 1
    lines = documents(path.read_text("utf-8"))
    assert [line["key"] for line in lines] == [{"tenant": "acme", "id": task} for task in ("n0", "t1", "t2")]
    assert lines[1]["columns"] == {"status": {"serving": "canceled", "new": "open"}}
    assert path.stat().st_mode & 0o777 == 0o600
    assert "File exists" in run(migrated_url, *command, code=1)
    assert documents(path.read_text("utf-8")) == lines
    assert "--switch goes with --diff" in run(migrated_url, "rebuild", "tasks", "--switch", code=2)
    assert suffixes(conn, tasks) == {FIRST}
    # What the operator does is recorded, too, when it begins and when it ends.
    begun = log.head(conn) + 1
    told = run(migrated_url, "rebuild", "tasks", "--diff", "--switch", "--examples", "1")
    assert told.splitlines() == [
        f"tasks: 0 rows are the same, 0 missing, 0 extra, 3 different at position {begun}",
        "  status differs in 3 rows",
        "tasks acme/n0: different in the new tables",
        '  status: "canceled" now, "open" in the new tables',
        "tasks now serves from its new tables.",
    ]
    (shown,) = documents(run(migrated_url, "rebuild", "tasks", "--diff", "--json"))
    assert shown == {
        "name": "tasks",
        "switched": True,
        "held_back": 0,
        "position": begun + 2,
        "tables": {"tasks": {"same": 3, "missing": 0, "extra": 0, "different": 0, "columns": {}}},
        "examples": [],
    }


def test_a_row_that_the_new_tables_hold_back_is_missing(migrated_url: str, conn: psycopg.Connection[Any]) -> None:
    furnish(conn, migrated_url)
    conn.execute("UPDATE stored_events SET state = '{}' WHERE originator_id = 'acme/task-n0'")
    found: list[Difference] = []
    result = rebuild_compared(migrated_url, "tasks", found.append)
    assert result is not None
    assert not result.switched
    assert [(each.key["id"], each.kind) for each in found] == [("n0", "missing")]
    with pytest.raises(rebuild.RebuildHalted, match="would be held back"):
        rebuild_compared(migrated_url, "tasks", found.append, switch=True)
    assert suffixes(conn, tasks) == {FIRST}
