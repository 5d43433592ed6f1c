"""A read model whose rows are not one an entity: repeated, held back, rebuilt, and of several tenants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings

import projections
from domain.lifecycle import TERMINAL, Lifecycle
from domain.recorded import Recorded
from domain.task import TaskAssigned, TaskCompleted, TaskCreated, TaskReassigned, TaskStarted
from domain.task.state import TASK, changes_of, evolve
from projections.support.documents import Documents
from projections.support.rows import Rows
from projections.support.table import Key, Table
from services.processors.read_models import ServingFollower
from services.processors.rebuild import rebuild
from services.store import standing
from services.store.reader import Step
from tests.projections.recording import recorded, store
from tests.projections.test_folding import commands, log_of

Connection = psycopg.Connection[Any]
_TASKS = """
CREATE TABLE busy_tasks_{suffix} (
    tenant  text COLLATE "C" NOT NULL,
    task_id text COLLATE "C" NOT NULL,
    doc     text NOT NULL,
    PRIMARY KEY (tenant, task_id)
)"""
_BUSY = """
CREATE TABLE busy_{suffix} (
    tenant  text COLLATE "C" NOT NULL,
    member  text COLLATE "C" NOT NULL,
    task_id text COLLATE "C" NOT NULL,
    status  text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, member, task_id)
)"""
COUNTS = "SELECT tenant, member, status, count(*) FROM {} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"


class Busy(msgspec.Struct, omit_defaults=True):
    assignees: tuple[str, ...] = ()
    lifecycle: Lifecycle = Lifecycle.OPEN
    position: int = 0


def apply(task: Busy | None, event: Recorded) -> Busy:
    if task is not None and event.position <= task.position:
        return task
    changed = changes_of(event.data)
    task = task if task is not None else Busy()
    task.assignees = changed.get("assignees", task.assignees)
    task.lifecycle = changed.get("lifecycle", task.lifecycle)
    task.position = event.position
    return task


def rows_of(key: Key, task: Busy) -> Iterator[Sequence[Any]]:
    if task.lifecycle not in TERMINAL:
        for member in task.assignees:
            yield key[0], member, key[1], task.lifecycle.value


class Model:
    """Who has how many tasks, by state: the events of a task change the rows of its people."""

    NAME = "busy"
    VERSION = 1
    VIEWS: tuple[str, ...] = ("busy", "busy_tasks")
    EVENTS = frozenset(TASK.events)
    TABLES = f"{_TASKS};{_BUSY}"
    INDEXES = "CREATE INDEX IF NOT EXISTS busy_{suffix}_task_idx ON busy_{suffix} (tenant, task_id)"

    def projection(self, suffix: str, keep: int = 4096) -> Documents[Busy]:
        return Documents(
            Table.of(_TASKS, key=("tenant", "task_id")),
            suffix,
            key_of=lambda event: (event.tenant, event.entity_id) if event.category == "task" else None,
            fold=apply,
            decode=msgspec.json.Decoder(Busy).decode,
            row=lambda key, task: (*key, msgspec.json.encode(task).decode()),
            rows=Rows(Table.of(_BUSY, key=("tenant", "member", "task_id")), suffix, rows_of),
            keep=keep,
        )


MODEL = Model()


def wanted(log: Sequence[Recorded]) -> list[tuple[Any, ...]]:
    """Return the counts that a log leads to, told from each task's state."""
    states: dict[tuple[str, str], Any] = {}
    for event in log:
        if event.category == "task":
            key = event.tenant, event.entity_id
            states[key] = evolve(states.get(key), event.data)
    counts = Counter(
        (tenant, member, task.lifecycle.value)
        for (tenant, _), task in states.items()
        if task.lifecycle not in TERMINAL
        for member in task.assignees
    )
    return [(*row, count) for row, count in sorted(counts.items())]


@pytest.fixture(scope="module")
def session(module_url: str) -> Iterator[Connection]:
    with psycopg.connect(module_url) as conn:
        projections.create(conn, MODEL, "v1")
        conn.commit()
        yield conn
        conn.rollback()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wished=commands)
def test_rows_follow_from_the_log_however_it_is_cut_and_repeated(session: Connection, wished: list[Any]) -> None:
    log = log_of(wished)
    half = len(log) // 2
    for keep in (4096, 0):
        for batches in (
            [log],
            [log[:half], log[half:]],
            [[event] for event in log],
            [log, log],
            [log[:half], log, log[:half]],
        ):
            projection = MODEL.projection("v1", keep)
            for batch in batches:
                projection.project(session, batch)
            assert session.execute(COUNTS.format("busy_v1").encode()).fetchall() == wanted(log)
            session.rollback()


LOG: list[Any] = [
    TaskCreated("t1"),
    TaskCreated("t2"),
    TaskAssigned("t1", None, ("ann", "bob")),
    TaskAssigned("t2", None, ("ann",)),
    TaskStarted("t1", None, "ann"),
    TaskReassigned("t1", None, ("ann", "bob"), ("cem", "bob")),
    TaskStarted("t2", None, "ann"),
    TaskCompleted("t2", None, {}),
]


def drain(conn: Connection) -> None:
    follower = ServingFollower(MODEL, batch=3)
    follower.enlist(conn)
    while follower.step(conn) is Step.WORKED:
        pass


def served(conn: Connection) -> list[tuple[Any, ...]]:
    return conn.execute(COUNTS.format("busy").encode()).fetchall()


def test_a_task_that_is_held_back_keeps_nobody_elses_rows_waiting_and_its_own_come_late(
    migrated_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(projections.BY_NAME, MODEL.NAME, MODEL)
    monkeypatch.setattr(projections, "READ_MODELS", (*projections.READ_MODELS, MODEL))
    projections.create(conn, MODEL, "v1")
    projections.serve(conn, MODEL, "v1")
    # The rows of one task are refused; its people have other tasks, whose events come before and after.
    refusal = "no CHECK (NOT (tenant = 'acme' AND task_id = 't1'))"
    conn.execute(f"ALTER TABLE busy_v1 ADD CONSTRAINT {refusal}".encode())
    log = [event for pair in zip(recorded(LOG), recorded(LOG, tenant="other"), strict=True) for event in pair]
    log = [event._replace(position=position) for position, event in enumerate(log, 1)]
    store(conn, log)
    drain(conn)
    assert served(conn) == wanted([event for event in log if (event.tenant, event.entity_id) != ("acme", "t1")])
    (line,) = [line for line in standing.status(migrated_url) if line.name == "busy"]
    assert [each.entity for each in line.held] == ["acme/task-t1"]
    # Tables that are built anew hold back nothing, since nothing refuses there.
    assert rebuild(migrated_url, "busy")
    assert served(conn) == wanted(log)


def test_events_that_waited_change_the_rows_as_if_they_had_come_in_time(conn: Connection) -> None:
    projections.create(conn, MODEL, "v1")
    projections.serve(conn, MODEL, "v1")
    conn.execute("ALTER TABLE busy_v1 ADD CONSTRAINT no CHECK (task_id <> 't1')")
    log = recorded(LOG)
    store(conn, log)
    drain(conn)
    assert served(conn) == wanted([event for event in log if event.entity_id != "t1"])
    conn.execute("ALTER TABLE busy_v1 DROP CONSTRAINT no")
    drain(conn)
    assert served(conn) == wanted(log) == [("acme", "bob", "OPEN", 1), ("acme", "cem", "OPEN", 1)]


def test_a_table_of_rows_begins_with_its_key() -> None:
    table = Table.of(_BUSY, key=("tenant", "task_id"))
    with pytest.raises(ValueError, match="the columns of busy begin with its key"):
        Rows(table, "v1", rows_of)
