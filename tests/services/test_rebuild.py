from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

import projections
from domain.task import TaskCreated, TaskFieldsChanged
from projections import ReadModel, follower_name
from projections.task import table as tasks
from services.processors import read_models, rebuild
from services.processors.read_models import ServingFollower
from services.processors.rebuild import BuildingFollower, RebuildRunning, UnknownReadModel
from services.store import standing
from services.store.follower import Follower
from services.store.reader import Step
from tests import builders
from tests.eventually import PATIENCE, eventually
from tests.projections.recording import after, recorded, store

SCENE = [builders.workflow(), builders.member(), builders.activity(assignees=[("ann",)]), builders.task("n0")]
# The suffixes of the first tables of this version and of the next.
FIRST, NEXT = f"v{tasks.VERSION}", f"v{tasks.VERSION + 1}"
NAMES = [model.NAME for model in projections.READ_MODELS]


def add(conn: psycopg.Connection[Any], count: int, prefix: str = "x") -> None:
    store(conn, recorded([TaskCreated(f"{prefix}{number}", "Visit") for number in range(count)]))


def drain(conn: psycopg.Connection[Any], follower: Follower) -> Step:
    while (step := follower.step(conn)) is Step.WORKED and not follower.stopped.is_set():
        pass
    return step


def content(conn: psycopg.Connection[Any], view: str) -> list[Any]:
    return conn.execute(f"SELECT v::text FROM {view} AS v ORDER BY 1").fetchall()


def suffixes(conn: psycopg.Connection[Any], model: ReadModel) -> set[str]:
    return projections.suffixes(conn, model)


def test_each_read_model_gets_a_follower_and_follows_the_log(migrated_url: str, conn: psycopg.Connection[Any]) -> None:
    store(conn, recorded(after(SCENE)))
    found = read_models.followers(migrated_url)
    names = [follower_name(model, projections.suffix(model)) for model in projections.READ_MODELS]
    assert [follower.name for follower in found] == names
    assert [drain(conn, follower) for follower in found] == [Step.IDLE] * len(found)
    assert [len(content(conn, view)) for view in ("activities", "tasks", "entries")] == [1, 3, 2]
    for line in (each for each in standing.status(migrated_url) if each.suffix):
        assert (line.lag, line.serving, line.halted_at) == (0, True, None)


@pytest.mark.parametrize("name", NAMES)
def test_a_rebuilt_read_model_is_row_by_row_the_one_that_grew(
    migrated_url: str, conn: psycopg.Connection[Any], name: str
) -> None:
    store(conn, recorded(after(SCENE)))
    for follower in read_models.followers(migrated_url, batch=2):
        drain(conn, follower)
    model = projections.BY_NAME[name]
    before = {view: content(conn, view) for view in model.VIEWS}
    seen: list[tuple[int, int]] = []
    assert rebuild.rebuild(migrated_url, name, lambda position, head, rate, eta: seen.append((position, head)))
    assert {view: content(conn, view) for view in model.VIEWS} == before
    assert seen[-1][0] == seen[-1][1] > 0
    assert suffixes(conn, model) == {f"{projections.suffix(model)}r2"}
    assert rebuild.rebuild(migrated_url, name)
    assert suffixes(conn, model) == {f"{projections.suffix(model)}r3"}
    followers = conn.execute("SELECT name FROM followers WHERE name LIKE %s", (f"{name}%",)).fetchall()
    assert followers == [(f"{name}_{projections.suffix(model)}r3",)]


def test_a_rebuilt_table_has_every_index_that_a_new_one_has(migrated_url: str, conn: psycopg.Connection[Any]) -> None:
    def indexes() -> set[str]:
        rows = conn.execute("SELECT indexname FROM pg_indexes WHERE tablename LIKE 'tasks%'").fetchall()
        return {name.replace(f"{FIRST}r2", FIRST) for (name,) in rows}

    before = indexes()
    assert rebuild.rebuild(migrated_url, "tasks")
    assert indexes() == before


def test_a_killed_rebuild_goes_on_where_it_was_while_the_old_tables_serve(
    migrated_url: str, conn: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    add(conn, 30)
    serving = ServingFollower(tasks)
    drain(conn, serving)
    monkeypatch.setattr(rebuild, "BUILD_BATCH", 10)
    monkeypatch.setattr(rebuild.BuildingFollower.__init__, "__kwdefaults__", {"batch": 10, "batch_bytes": 1 << 20})

    def killed(position: int, head: int, rate: float, eta: float) -> None:
        if position == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rebuild.rebuild(migrated_url, "tasks", killed)
    add(conn, 5, "late")
    drain(conn, serving)
    assert len(content(conn, "tasks")) == 35
    assert [(line.suffix, line.position) for line in standing.status(migrated_url) if line.name == "tasks"] == [
        (FIRST, 35),
        (f"{FIRST}r2", 20),
    ]
    positions: list[int] = []
    assert rebuild.rebuild(migrated_url, "tasks", lambda position, *rest: positions.append(position))
    assert positions[0] == 30
    assert len(content(conn, "tasks")) == 35
    assert drain(conn, serving) is Step.IDLE
    assert serving.name == f"tasks_{FIRST}r2"


def test_a_rebuild_under_load_loses_nothing_and_readers_never_go_back(migrated_url: str) -> None:
    followers = [
        follower for follower in read_models.followers(migrated_url, batch=20) if follower.name == f"tasks_{FIRST}"
    ]
    runner = threading.Thread(target=followers[0].run, args=(migrated_url,))
    done = threading.Event()
    lowest: list[int] = []

    def write() -> None:
        with psycopg.connect(migrated_url, autocommit=True) as conn:
            for batch in range(40):
                add(conn, 25, f"b{batch}-")
                row = conn.execute("SELECT count(*) FROM tasks").fetchone()
                assert row is not None
                lowest.append(row[0])
        done.set()

    writer = threading.Thread(target=write)
    runner.start()
    writer.start()
    try:
        assert rebuild.rebuild(migrated_url, "tasks")
        assert rebuild.rebuild(migrated_url, "tasks")
        writer.join(PATIENCE)
        assert done.is_set()
        assert lowest == sorted(lowest)
        with psycopg.connect(migrated_url, autocommit=True) as conn:
            eventually(lambda: len(content(conn, "tasks")) == 1000)
    finally:
        followers[0].stop()
        runner.join(PATIENCE)


def test_all_that_serve_go_together_and_go_on_through_a_rebuild_and_a_poison_event(migrated_url: str) -> None:
    (together,) = read_models.readers(migrated_url, batch=20)
    runner = threading.Thread(target=together.run, args=(migrated_url,))

    def lines() -> dict[str, tuple[str, int, int | None]]:
        status = [line for line in standing.status(migrated_url) if line.name in NAMES]
        return {line.name: (line.suffix, line.position, line.halted_at) for line in status}

    assert together.unready == [follower_name(model, projections.suffix(model)) for model in projections.READ_MODELS]
    runner.start()
    try:
        with psycopg.connect(migrated_url, autocommit=True) as conn:
            for batch in range(3):
                add(conn, 30, f"b{batch}-")
                assert rebuild.rebuild(migrated_url, NAMES[batch])
            # A task's, so those who read no tasks, and those who only pass it on, do not mind.
            conn.execute(
                "INSERT INTO stored_events SELECT 'acme/task-poison', 1, topic,"
                " convert_to(replace(convert_from(state, 'UTF8'), '\"title\":', '\"id\":1,\"title\":'), 'UTF8'), 91"
                " FROM stored_events WHERE notification_id = 1"
            )
            add(conn, 9, "c")
            readers = {model.NAME for model in projections.READ_MODELS if "task.created" in model.EVENTS} - {"history"}
            eventually(lambda: {line[1:] for line in lines().values()} == {(100, None)})
            status = [line for line in standing.status(migrated_url) if line.name in NAMES]
            held = {line.name: [each.position for each in line.held] for line in status}
            assert held == {name: [91] if name in readers else [] for name in NAMES}
            conn.execute(
                "UPDATE stored_events SET state = (SELECT state FROM stored_events WHERE notification_id = 1)"
                " WHERE notification_id = 91"
            )
            assert standing.retry(migrated_url) == len(readers)
            eventually(lambda: not any(line.held for line in standing.status(migrated_url)))
            for name in NAMES[:3]:
                assert lines()[name][0].endswith("r2")
            # What the history has passed on cannot know that the log was mended afterwards.
            models = [model for model in projections.READ_MODELS if model.NAME != "history"]
            grown = {view: content(conn, view) for model in models for view in model.VIEWS}
            for model in models:
                assert rebuild.rebuild(migrated_url, model.NAME)
            for view, before in grown.items():
                assert content(conn, view) == before
    finally:
        together.stop()
        runner.join(PATIENCE)


def test_new_tables_take_over_only_when_they_are_as_far_as_the_old(conn: psycopg.Connection[Any]) -> None:
    add(conn, 3)
    drain(conn, ServingFollower(tasks))
    building = BuildingFollower(tasks, projections.begin_build(conn, tasks))
    assert building.step(conn) is Step.WORKED
    assert building.step(conn) is Step.WORKED  # the indexes
    add(conn, 2, "y")
    drain(conn, ServingFollower(tasks))
    assert building.switch(conn)
    assert len(content(conn, "tasks")) == 5
    assert conn.execute("SELECT name, position FROM followers WHERE name LIKE 'tasks%'").fetchall() == [
        (f"tasks_{FIRST}r2", 5)
    ]


def test_a_reader_of_the_old_tables_delays_the_switch_and_no_more(
    migrated_url: str, conn: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "SWITCH_TIMEOUT_MS", 50)
    building = BuildingFollower(tasks, projections.begin_build(conn, tasks))
    with psycopg.connect(migrated_url) as reader:
        reader.execute("SELECT count(*) FROM tasks")
        assert drain(conn, building) is Step.IDLE
        assert not building.stopped.is_set()
        assert suffixes(conn, tasks) == {FIRST, f"{FIRST}r2"}
    assert drain(conn, building) is Step.IDLE
    assert building.stopped.is_set()
    assert suffixes(conn, tasks) == {f"{FIRST}r2"}


def test_documents_in_memory_are_dropped_when_another_process_worked_in_between(conn: psycopg.Connection[Any]) -> None:
    mine, other = ServingFollower(tasks), ServingFollower(tasks)
    log = recorded(after([builders.member(), builders.task("n", assignees=("ann",))]))
    store(conn, log)
    drain(conn, mine)
    more = recorded(after([builders.member(), builders.task("n", assignees=("ann",))]))
    for version, title in ((3, "Second"), (4, "Third")):
        changed = TaskFieldsChanged("n", None, {}, {"fields": {title: True}})
        store(conn, [more[-1]._replace(version=version, name="task.fields-changed", data=changed)])
        drain(conn, other if version == 3 else mine)
    row = conn.execute(*tasks.LISTING.get("acme", "n")).fetchall()[0]
    assert tasks.resource(row, log[0].occurred_at)["fields"] == {"Second": True, "Third": True}


def test_a_new_version_is_built_by_the_role_and_takes_over(migrated_url: str, conn: psycopg.Connection[Any]) -> None:
    add(conn, 4)
    newer: Any = SimpleNamespace(
        **{name: getattr(tasks, name) for name in ("NAME", "TABLES", "INDEXES", "VIEWS", "EVENTS", "projection")},
        VERSION=tasks.VERSION + 1,
    )
    newer.TABLES = tasks.TABLES.replace("    position ", "    extra integer,\n    position ")
    assert projections.needs_build(conn, newer)
    assert projections.begin_build(conn, newer) == NEXT
    assert not projections.needs_build(conn, newer)
    assert projections.begin_build(conn, newer) == NEXT
    assert not projections.needs_build(conn, tasks)
    building, serving, older = BuildingFollower(newer, NEXT), ServingFollower(newer), ServingFollower(tasks)
    assert drain(conn, older) is Step.IDLE
    assert serving.step(conn) is Step.ELSEWHERE
    drain(conn, building)
    assert building.stopped.is_set()
    assert suffixes(conn, newer) == {NEXT}
    add(conn, 1, "y")
    assert older.step(conn) is Step.ELSEWHERE
    assert serving.step(conn) is Step.WORKED
    assert conn.execute("SELECT count(extra), count(*) FROM tasks").fetchall() == [(0, 5)]


def test_a_build_that_was_given_up_ends_its_follower(conn: psycopg.Connection[Any]) -> None:
    building = BuildingFollower(tasks, projections.begin_build(conn, tasks))
    conn.execute("UPDATE read_models SET building = NULL WHERE name = 'tasks'")
    conn.execute(f"DELETE FROM followers WHERE name = 'tasks_{FIRST}r2'")
    assert building.step(conn) is Step.ELSEWHERE
    assert building.stopped.is_set()
    rebuild.sweep(conn, tasks)
    assert suffixes(conn, tasks) == {FIRST}


def test_of_two_rebuilds_at_once_one_is_refused_and_changes_nothing(
    migrated_url: str, conn: psycopg.Connection[Any]
) -> None:
    add(conn, 30)
    found: list[str] = []

    def meanwhile(*_: object) -> None:
        if not found:
            before = suffixes(conn, tasks)
            with pytest.raises(RebuildRunning, match="another process rebuilds tasks") as raised:
                rebuild.rebuild(migrated_url, "tasks")
            found.append(str(raised.value))
            assert suffixes(conn, tasks) == before
            assert rebuild.rebuild(migrated_url, "activities")

    assert rebuild.rebuild(migrated_url, "tasks", meanwhile)
    assert found
    assert len(content(conn, "tasks")) == 30
    assert rebuild.rebuild(migrated_url, "tasks")


def test_who_builds_the_same_tables_ends_when_another_has_switched_to_them(conn: psycopg.Connection[Any]) -> None:
    """As the projections role and a rebuild do after an upgrade."""
    add(conn, 30)
    suffix = projections.begin_build(conn, tasks)
    first, second = BuildingFollower(tasks, suffix), BuildingFollower(tasks, suffix)
    eventually(lambda: first.step(conn) and first.stopped.is_set())
    assert projections.tables(conn, tasks)[0] == suffix
    eventually(lambda: second.step(conn) and second.stopped.is_set())
    assert len(content(conn, "tasks")) == 30


def test_a_rebuild_can_be_stopped_and_names_are_checked(migrated_url: str) -> None:
    assert not rebuild.rebuild(migrated_url, "tasks", stopped=lambda: True)
    with pytest.raises(UnknownReadModel, match="activities"):
        rebuild.rebuild(migrated_url, "nothing")
