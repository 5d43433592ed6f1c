"""The periods of work: who worked on which task, from when to when, whatever happened to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings

import projections
from domain.lifecycle import ACTIVE
from domain.recorded import Recorded
from domain.task import (
    CompleteTask,
    PauseTracker,
    ProcessTask,
    ReassignTask,
    ResumeTracker,
    SubmitResult,
    TaskCompleted,
    TaskCreated,
    TaskPaused,
    TaskStarted,
    UnassignTask,
)
from domain.task.state import Task, evolve
from projections import periods
from projections.support.conditions import Asked
from projections.support.people import Members
from projections.support.query import BadQuery
from projections.task import table as tasks
from tests.builders import member, task
from tests.given import NOW, TENANT, Given
from tests.projections.recording import recorded
from tests.projections.test_folding import commands, log_of

Connection = psycopg.Connection[Any]
PEOPLE = [member(), member("bob"), task("t1", assignees=("ann", "bob"), project=None), task("t2", assignees=("ann",))]


@pytest.fixture
def rolled_back(module_conn: Connection) -> Iterator[Connection]:
    yield module_conn
    module_conn.rollback()


def fold(conn: Connection, log: Sequence[Recorded]) -> None:
    periods.projection("v1").project(conn, [event for event in log if event.name in periods.EVENTS])


def listed(
    conn: Connection, *asked: Asked, by: Sequence[tuple[str, bool]] = (("started_at", False),)
) -> list[dict[str, Any]]:
    where = [periods.where(each) for each in asked]
    rows = conn.execute(*periods.page(TENANT, where, by, 100, 0)).fetchall()
    assert conn.execute(*periods.count(TENANT, where)).fetchone() == (len(rows),)
    return [periods.resource(row) for row in rows]


def worked(conn: Connection) -> list[tuple[Any, ...]]:
    """Return each period as the task, the person, and the seconds from the first event of the log to its bounds."""
    rows = conn.execute(
        "SELECT task_id, member, extract(epoch FROM started_at - %s), extract(epoch FROM ended_at - %s)"
        " FROM work_periods ORDER BY begun",
        (NOW, NOW),
    ).fetchall()
    return [(name, who, int(begun), None if ended is None else int(ended)) for name, who, begun, ended in rows]


def wanted(log: Sequence[Recorded]) -> list[tuple[Any, ...]]:
    """Return the periods that a log leads to, told from each task's state."""
    states: dict[str, Task | None] = {}
    found: list[list[Any]] = []
    current: dict[str, list[Any]] = {}
    for event in log:
        if event.category != "task":
            continue
        before, after = states.get(event.entity_id), evolve(states.get(event.entity_id), event.data)
        states[event.entity_id] = after
        assert after is not None
        working = before is not None and before.lifecycle is ACTIVE
        at = int((event.occurred_at - NOW).total_seconds())
        if after.lifecycle is ACTIVE and not working:
            current[event.entity_id] = [event.entity_id, after.runner, at, None]
            found.append(current[event.entity_id])
        elif working and after.lifecycle is not ACTIVE:
            current.pop(event.entity_id)[3] = at
        elif working:
            assert before is not None
            assert before.runner == after.runner
    return [tuple(each) for each in found]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commands)
def test_the_periods_are_those_that_the_states_of_the_tasks_tell(module_conn: Connection, wanted_: list[Any]) -> None:
    log = log_of(wanted_)
    fold(module_conn, log)
    assert worked(module_conn) == wanted(log)
    module_conn.rollback()


DAY = [
    ProcessTask("t1"),
    # The other task of the person at work pauses the first.
    ProcessTask("t2"),
    PauseTracker("ann"),
    ResumeTracker("ann"),
    UnassignTask("t2"),
    ReassignTask("t1", ("bob",)),
    ProcessTask("t1"),
    SubmitResult("t1", "NOT_EXECUTED"),
    SubmitResult("t1", "COMPLETED", hard_override=True),
]


def test_a_day_of_two_people(rolled_back: Connection) -> None:
    log = recorded(Given().and_commands([*PEOPLE, *DAY]).log)
    fold(rolled_back, log)
    assert [(name, who) for name, who, *_ in worked(rolled_back)] == [
        ("t1", "ann"), ("t2", "ann"), ("t2", "ann"), ("t1", "bob"),
    ]  # fmt: skip
    assert worked(rolled_back) == wanted(log)
    assert all(ended is not None for *_, ended in worked(rolled_back))


def test_a_task_that_is_completed_at_once_has_a_period_of_no_length(rolled_back: Connection) -> None:
    fold(rolled_back, recorded(Given().and_commands([*PEOPLE, CompleteTask("t2")]).log, every=0))
    assert worked(rolled_back) == [("t2", "ann", 0, 0)]


def test_what_a_system_starts_for_nobody_is_a_period_of_nobody(rolled_back: Connection) -> None:
    fold(rolled_back, recorded(Given().and_commands([task("n"), ProcessTask("n")]).log))
    assert worked(rolled_back) == [("n", None, 1, None)]


def test_no_period_ends_before_it_begins(rolled_back: Connection) -> None:
    log = recorded([TaskStarted("t", None, "ann"), TaskPaused("t", None, "asked"), TaskStarted("u", None, "ann")])
    log += recorded([TaskCompleted("u", None, {})], first=4)
    late = [event._replace(occurred_at=event.occurred_at - timedelta(seconds=9 * event.position)) for event in log]
    fold(rolled_back, late)
    assert [(who, ended - begun) for _, who, begun, ended in worked(rolled_back)] == [("ann", 0), ("ann", 0)]
    rolled_back.rollback()
    for event in late:
        fold(rolled_back, [event])
    assert [ended - begun for *_, begun, ended in worked(rolled_back)] == [0, 0]


def test_a_task_with_very_many_periods_costs_no_more_each_time(rolled_back: Connection) -> None:
    log = recorded([TaskStarted("t", None, "ann"), TaskPaused("t", None, "asked")] * 2000)
    fold(rolled_back, log[:1999])
    fold(rolled_back, log[1999:])
    assert rolled_back.execute("SELECT count(*), count(ended_at) FROM work_periods").fetchone() == (2000, 2000)


def test_questions(rolled_back: Connection) -> None:
    log = recorded(
        [
            TaskCreated("a", project="p"),
            TaskCreated("b"),
            TaskStarted("b", None, "bob"),
            TaskStarted("a", None, "ann"),
            TaskPaused("a", None, "asked"),
        ]
    )
    tasks.projection(projections.suffix(tasks)).project(rolled_back, log)
    fold(rolled_back, log)
    first, second = listed(rolled_back)
    assert (first["task_id"], first["member"], first["ended_at"], first["project"]) == ("b", "bob", None, None)
    assert (second["task_id"], second["member"]) == ("a", "ann")
    assert second["ended_at"] is not None

    def ids(name: str, operator: str, value: Any) -> list[str]:
        asked = Asked(TENANT, name, operator, value, f"filter[{name}]")
        return [each["task_id"] for each in listed(rolled_back, asked)]

    for name, operator, value, found in (
        ("id", "", second["id"], ["a"]),
        ("id", "in", [first["id"], second["id"]], ["b", "a"]),
        ("id", "in", [], []),
        ("id", "", "nothing", []),
        ("id", "", "a:" + "9" * 19, []),
        ("task_id", "", "a", ["a"]),
        ("task_id", "exists", "true", ["b", "a"]),
        ("project", "", "p", ["a"]),
        ("project", "prefix", "P", ["a"]),
        ("project", "", None, ["b"]),
        ("member", "", Members(("ann",)), ["a"]),
        ("member", "neq", Members(("ann",)), ["b"]),
        ("member", "exists", "0", []),
        ("started_at", "gte", second["started_at"], ["a"]),
        ("started_at", "lt", second["started_at"], ["b"]),
        ("ended_at", "", None, ["b"]),
        ("ended_at", "lte", "2100-01-01T00:00:00Z", ["a"]),
    ):
        assert ids(name, operator, value) == found, (name, operator, value)
    for name, operator, value in (
        ("id", "", "b\0"), ("id", "match", "1"), ("started_at", "", "noon"),
        ("ended_at", "prefix", "2"), ("task_id", "", "a\0"), ("project", "contains", "p"),
    ):  # fmt: skip
        with pytest.raises(BadQuery):
            ids(name, operator, value)
    for name in periods.SORTS:
        for falling in (False, True):
            assert len(listed(rolled_back, by=[(name, falling)])) == 2
    assert [each["task_id"] for each in listed(rolled_back, by=[])] == ["a", "b"]
    assert rolled_back.execute(*periods.get(TENANT, first["id"])).fetchone() is not None
    assert rolled_back.execute(*periods.get("other", first["id"])).fetchone() is None
    last = rolled_back.execute(*periods.last(TENANT, "ann")).fetchone()
    assert last is not None
    assert periods.resource(last) == second
    assert rolled_back.execute(*periods.last(TENANT, "nobody")).fetchone() is None


def test_the_periods_of_another_tenant_are_nobodys_here(rolled_back: Connection) -> None:
    log = [TaskStarted("t", None, "ann"), TaskPaused("t", None, "asked")]
    fold(rolled_back, [*recorded(log[:1]), *recorded(log, tenant="other", first=2)])
    assert worked(rolled_back) == [("t", "ann", 0, None), ("t", "ann", 0, 1)]
    assert [each["ended_at"] for each in listed(rolled_back)] == [None]
