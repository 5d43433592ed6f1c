"""Each read model goes on past an event that it cannot take, and is whole once that is mended."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

import projections
from domain.activity import ActivityFieldsChanged
from domain.directory import EntryChanged
from domain.task import (
    TaskAssigned,
    TaskCanceled,
    TaskCompleted,
    TaskCreated,
    TaskFieldsChanged,
    TaskRescheduled,
    TaskStarted,
)
from projections import ReadModel, activities
from projections.task import table as tasks
from services.processors import read_models, rebuild
from services.processors.read_models import ServingFollower
from services.processors.rebuild import BuildingFollower, RebuildHalted
from services.store import standing
from services.store.follower import Follower
from services.store.reader import Step
from tests import builders
from tests.projections.recording import after, recorded, store

Connection = psycopg.Connection[Any]
MODELS = pytest.mark.parametrize("model", projections.READ_MODELS, ids=lambda model: model.NAME)
END = "2025-11-01T08:55:00.000+07:00"

SCENE = after(
    [builders.workflow(), builders.member(), builders.member("bob"), builders.activity(), builders.task("n0")],
    TaskRescheduled("t1", "a", None, None, None, END),
    TaskRescheduled("t2", "a", None, None, None, END),
)
# Each of the first activity's, of its tasks, of a member and of a task alone, in turn.
LATER: list[Any] = [
    TaskAssigned("t1", "a", ("ann",)),
    EntryChanged("member", "ann", {}, {"name": "Ann"}),
    TaskAssigned("t2", "a", ("ann",)),
    TaskFieldsChanged("n0", None, {}, {"title": "New"}),
    TaskStarted("t1", "a", "ann"),
    ActivityFieldsChanged("a", {}, {"title": "Other"}),
    TaskRescheduled("t1", "a", None, END, None, "2025-12-01T08:55:00.000+07:00"),
    EntryChanged("member", "ann", {}, {"name": "Anne"}),
    EntryChanged("member", "bob", {}, {"name": "Bob"}),
    TaskCompleted("t1", "a", {}),
    TaskCanceled("t2", "a", None, ("ann",)),
]
# What a table refuses of an entity, and how the entity is called; for the last, `doc` tells nothing of its task.
REFUSED = {
    "activities": ("activities", "id = 'a'", "activity-a"),
    "tasks": ("tasks", "id = 't1'", "task-t1"),
    "history": ("history", "entity_id = 't1'", "task-t1"),
    "directory": ("entries", "id = 'ann'", "member-ann"),
    "deadlines": ("deadline_tasks", "task_id = 't1'", "task-t1"),
    "periods": ("work_periods", "task_id = 't1'", "task-t1"),
}


def later(tenant: str) -> list[Any]:
    """Return the later events, as they follow the scene of a tenant."""
    return recorded([*SCENE, *LATER], tenant=tenant)[len(SCENE) :]


def drain(conn: Connection, *followers: Follower) -> None:
    for follower in followers:
        follower.enlist(conn)
        while follower.step(conn) is Step.WORKED and not follower.stopped.is_set():
            pass


def content(conn: Connection, model: ReadModel, *, but: str = "false") -> dict[str, list[Any]]:
    return {
        view: conn.execute(
            f"SELECT v::text FROM {view} AS v WHERE NOT (tenant = 'acme' AND {but}) ORDER BY 1"
        ).fetchall()
        for view in model.VIEWS
    }


def held(url: str, name: str, *, serving: bool = True) -> dict[str, tuple[int, int]]:
    (line,) = [line for line in standing.status(url) if line.name == name and line.serving is serving]
    assert line.halted_at is None
    return {each.entity: (each.position, each.waiting) for each in line.held}


def refuse(conn: Connection, model: ReadModel, suffix: str) -> str:
    """Let a table refuse what would change an entity of one tenant, and return the entity's name."""
    stem, which, entity = REFUSED[model.NAME]
    conn.execute(f"ALTER TABLE {stem}_{suffix} ADD CONSTRAINT no CHECK (NOT (tenant = 'acme' AND {which})) NOT VALID")
    return f"acme/{entity}"


def mend(conn: Connection, model: ReadModel, suffix: str) -> None:
    conn.execute(f"ALTER TABLE {REFUSED[model.NAME][0]}_{suffix} DROP CONSTRAINT no")


@pytest.mark.parametrize("batch", [500, 3])
@MODELS
def test_a_row_that_a_table_refuses_holds_back_its_entity_and_no_other(
    migrated_url: str, conn: Connection, model: ReadModel, batch: int
) -> None:
    for tenant in ("acme", "other"):
        store(conn, recorded(SCENE, tenant=tenant))
    drain(conn, ServingFollower(model, batch=batch))
    suffix = projections.suffix(model)
    entity = refuse(conn, model, suffix)
    for first, second in zip(later("acme"), later("other"), strict=True):
        store(conn, [first, second])
    drain(conn, ServingFollower(model, batch=batch))
    found = held(migrated_url, model.NAME)
    assert list(found) == [entity]
    assert found[entity][1] >= 2
    which = REFUSED[model.NAME][1]
    others = content(conn, model, but=which)
    stale = content(conn, model)
    mend(conn, model, suffix)
    drain(conn, ServingFollower(model, batch=batch))
    assert held(migrated_url, model.NAME) == {}
    mended = content(conn, model)
    assert mended != stale
    assert content(conn, model, but=which) == others
    assert rebuild.rebuild(migrated_url, model.NAME)
    assert content(conn, model) == mended


@MODELS
def test_all_that_serve_together_go_on_past_the_refusal_of_one(
    migrated_url: str, conn: Connection, model: ReadModel
) -> None:
    (together,) = read_models.readers(migrated_url)
    store(conn, recorded(SCENE))
    together.enlist(conn)
    entity = refuse(conn, model, projections.suffix(model))
    store(conn, [*later("acme"), *recorded([*SCENE, *LATER], tenant="other")])
    while together.step(conn) is Step.WORKED:
        pass
    lines = {line.name: line for line in standing.status(migrated_url) if line.suffix}
    assert {line.lag for line in lines.values()} == {0}
    assert {name: [each.entity for each in line.held] for name, line in lines.items()} == {
        each.NAME: [entity] if each is model else [] for each in projections.READ_MODELS
    }
    mend(conn, model, projections.suffix(model))
    (again,) = read_models.readers(migrated_url)
    again.enlist(conn)
    while again.step(conn) is Step.WORKED:
        pass
    assert held(migrated_url, model.NAME) == {}
    grown = content(conn, model)
    assert rebuild.rebuild(migrated_url, model.NAME)
    assert content(conn, model) == grown


@MODELS
def test_a_rebuild_folds_what_was_held_back_when_it_can(migrated_url: str, conn: Connection, model: ReadModel) -> None:
    refuse(conn, model, projections.suffix(model))
    store(conn, recorded([*SCENE, *LATER]))
    drain(conn, ServingFollower(model))
    assert held(migrated_url, model.NAME)
    assert rebuild.rebuild(migrated_url, model.NAME)
    assert held(migrated_url, model.NAME) == {}
    assert conn.execute("SELECT count(*) FROM held_events").fetchall() == [(0,)]


def unreadable(conn: Connection, task_id: str, version: int, state: bytes, name: str = "task.fields-changed") -> int:
    """Append an event of a task that nobody can decode, and return its position."""
    row = conn.execute(
        "INSERT INTO stored_events SELECT 'acme/task-' || %s, %s, %s, %s, max(notification_id) + 1 FROM stored_events"
        " RETURNING notification_id",
        (task_id, version, name, state),
    ).fetchone()
    assert row is not None
    return int(row[0])


UNREADABLE = {
    "a field of another kind": (b'{"meta": 1}', "task.fields-changed"),
    "no JSON": (b"\xff\x00", "task.fields-changed"),
    "nothing": (b"", "task.fields-changed"),
    "a later version's event that names its activity": (b'{"data": {"activity_id": "a"}}', "task.exploded"),
    "a later version's event that does not": (b'{"data": {"x": [1]}}', "task.exploded"),
}


@pytest.mark.parametrize(
    ("model", "why"),
    # What a model does not read it need not decode; a name that nobody knows is everybody's.
    [
        pytest.param(model, why, id=f"{model.NAME}-{why}")
        for model in projections.READ_MODELS
        for why, (_, name) in UNREADABLE.items()
        if name in model.EVENTS or name == "task.exploded"
    ],
)
def test_an_event_that_cannot_be_decoded_holds_back_what_it_belongs_to(
    migrated_url: str, conn: Connection, model: ReadModel, why: str
) -> None:
    state, name = UNREADABLE[why]
    store(conn, recorded(SCENE))
    version = max(event.version for event in recorded(SCENE) if event.entity_id == "t1") + 1
    position = unreadable(conn, "t1", version, state, name)
    moved = [event._replace(version=event.version + 1) if event.entity_id == "t1" else event for event in later("acme")]
    store(conn, [*moved, *recorded([*SCENE, *LATER], tenant="other")])
    drain(conn, ServingFollower(model))
    entity = "acme/activity-a" if model is activities else "acme/task-t1"
    found = held(migrated_url, model.NAME)
    assert {name: first for name, (first, _) in found.items()} == {entity: position}
    # The same holds of tables that are built anew, which serve as soon as they are as good.
    assert rebuild.rebuild(migrated_url, model.NAME)
    assert held(migrated_url, model.NAME) == found
    good = recorded([TaskCreated("t1"), TaskFieldsChanged("t1", "a", {}, {"title": "Mended"})])[1]
    store(conn, [good._replace(entity_id="spare", version=1)])
    conn.execute(
        "UPDATE stored_events SET topic = 'task.fields-changed', state = (SELECT state FROM stored_events"
        " WHERE originator_id = 'acme/task-spare') WHERE notification_id = %s",
        (position,),
    )
    conn.execute("DELETE FROM stored_events WHERE originator_id = 'acme/task-spare'")
    drain(conn, ServingFollower(model))
    assert held(migrated_url, model.NAME) == {}
    grown = content(conn, model)
    assert rebuild.rebuild(migrated_url, model.NAME)
    assert content(conn, model) == grown


def test_a_creation_that_cannot_be_decoded_is_its_activitys(migrated_url: str, conn: Connection) -> None:
    store(conn, recorded(SCENE))
    broken = "UPDATE stored_events SET state = '{}' WHERE originator_id = 'acme/task-t2' AND originator_version = 1"
    conn.execute(broken.encode())
    drain(conn, ServingFollower(activities), ServingFollower(tasks))
    assert list(held(migrated_url, "activities")) == ["acme/activity-a"]
    assert list(held(migrated_url, "tasks")) == ["acme/task-t2"]


def test_an_event_of_nothing_that_is_known_holds_back_its_stream(migrated_url: str, conn: Connection) -> None:
    conn.execute("INSERT INTO stored_events VALUES ('acme/planet-x', 1, 'planet.discovered', '{}', 1)")
    store(conn, recorded(SCENE))
    conn.execute(
        "INSERT INTO stored_events SELECT 'acme/planet-x', 2, 'planet.discovered', '{}', max(notification_id) + 1"
        " FROM stored_events"
    )
    drain(conn, *read_models.followers(migrated_url))
    for line in (each for each in standing.status(migrated_url) if each.suffix):
        assert (line.lag, line.halted_at) == (0, None)
        assert [(each.entity, each.position, each.waiting) for each in line.held] == [("acme/planet-x", 1, 2)]
        assert line.held[0].error


def test_a_rebuild_that_would_hold_back_more_does_not_serve(
    migrated_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(conn, recorded([*SCENE, *LATER]))
    drain(conn, ServingFollower(tasks))
    before = content(conn, tasks)
    apply = tasks.apply

    def failing(task: Any, event: Any) -> Any:
        if event.entity_id == "t2" and isinstance(event.data, TaskCanceled):
            raise ValueError("a fault of the code")
        return apply(task, event)

    monkeypatch.setattr(tasks, "apply", failing)
    with pytest.raises(RebuildHalted, match="acme/task-t2 would be held back: ValueError: a fault of the code"):
        rebuild.rebuild(migrated_url, "tasks")
    assert content(conn, tasks) == before
    assert held(migrated_url, "tasks") == {}
    assert list(held(migrated_url, "tasks", serving=False)) == ["acme/task-t2"]
    # In the role it waits, and lets the others go on.
    building = next(each for each in read_models.followers(migrated_url) if isinstance(each, BuildingFollower))
    drain(conn, building)
    assert not building.stopped.is_set()
    monkeypatch.setattr(tasks, "apply", apply)
    assert rebuild.rebuild(migrated_url, "tasks")
    assert content(conn, tasks) == before
    assert held(migrated_url, "tasks") == {}


def test_tables_of_a_new_version_serve_with_what_they_must_hold_back(migrated_url: str, conn: Connection) -> None:
    store(conn, recorded(SCENE))
    drain(conn, ServingFollower(tasks))
    newer: Any = SimpleNamespace(
        **{name: getattr(tasks, name) for name in ("NAME", "INDEXES", "VIEWS", "EVENTS", "projection")},
        VERSION=tasks.VERSION + 1,
        TABLES=tasks.TABLES.replace("PRIMARY KEY", "CHECK (id <> 't1'), PRIMARY KEY"),
    )
    building = BuildingFollower(newer, projections.begin_build(conn, newer))
    drain(conn, building)
    assert building.stopped.is_set()
    assert list(held(migrated_url, "tasks")) == ["acme/task-t1"]
    assert {name for (name,) in conn.execute("SELECT id FROM tasks")} == {"t2", "n0"}
    # The row of the tables before is gone, and what it held back with it.
    assert conn.execute("SELECT DISTINCT follower FROM held_entities").fetchall() == [(f"tasks_v{newer.VERSION}",)]


def test_rows_that_an_index_cannot_take_are_held_back_by_a_rebuild_too(
    migrated_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounded = "CREATE INDEX IF NOT EXISTS tasks_{suffix}_wide_idx ON tasks_{suffix} (doc)"
    monkeypatch.setattr(tasks, "INDEXES", f"{tasks.INDEXES};\n{bounded}")
    with conn.transaction():
        projections.create_indexes(conn, tasks, projections.suffix(tasks))
    # Random, since what repeats itself is compressed before it is measured.
    row = conn.execute("SELECT string_agg(md5(n::text), '') FROM generate_series(1, 300) AS n").fetchone()
    assert row is not None
    wide = TaskFieldsChanged("t2", "a", {}, {"fields": {"x": row[0]}})
    store(conn, recorded([*SCENE, *LATER[:2], wide, *LATER[3:]]))
    drain(conn, ServingFollower(tasks))
    found, before = held(migrated_url, "tasks"), content(conn, tasks)
    assert list(found) == ["acme/task-t2"]
    assert rebuild.rebuild(migrated_url, "tasks")
    assert (held(migrated_url, "tasks"), content(conn, tasks)) == (found, before)
    conn.execute(f"DROP INDEX tasks_{projections.suffix(tasks)}r2_wide_idx".encode())
    drain(conn, ServingFollower(tasks))
    assert held(migrated_url, "tasks") == {}


def test_an_event_that_fails_in_the_last_steps_before_a_switch_is_held_back_then(
    migrated_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(conn, recorded(SCENE))
    serving, building = ServingFollower(tasks), BuildingFollower(tasks, projections.begin_build(conn, tasks))
    drain(conn, serving)
    assert building.step(conn) is Step.WORKED
    assert building.step(conn) is Step.WORKED  # the indexes
    refuse(conn, tasks, projections.suffix(tasks))
    refuse(conn, tasks, f"{projections.suffix(tasks)}r2")
    store(conn, later("acme"))
    drain(conn, serving)
    assert not building.switch(conn)
    drain(conn, building)
    assert building.stopped.is_set()
    assert list(held(migrated_url, "tasks")) == ["acme/task-t1"]
    assert conn.execute("SELECT serving FROM read_models WHERE name = 'tasks'").fetchall() == [
        (f"{projections.suffix(tasks)}r2",)
    ]
