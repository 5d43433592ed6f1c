"""The deadlines: what the read model says is due is what each task's own state says, whatever has happened to it."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import projections
from domain.lifecycle import TERMINAL
from domain.plan import Criterion, DispatchPlan
from domain.recorded import Recorded
from domain.task import (
    AssignTask,
    CancelTask,
    ChangeTask,
    CompleteTask,
    CreateTask,
    DispatchTask,
    FailTask,
    ProcessTask,
    ReportDispatch,
    ResolveTarget,
    RetryResolution,
    RetryTask,
    SubmitResult,
    Task,
    WakeTask,
)
from projections import deadlines
from projections.due import LEASE
from tests import builders
from tests.given import NOW, Given
from tests.projections.recording import recorded

PAST, SOON = "2025-10-31T06:30:00+07:00", "2025-10-31T09:00:00.000500+07:00"
SCENE = [
    builders.workflow(1),
    builders.member("ann"),
    builders.entry("commerce", "shop", users=[{"id": "u1", "role": "buyer"}]),
    builders.entry("dispatch", "SMS", provider="console", backoff_seconds=10),
    builders.activity(1, assignees=[("ann",)]),
    CreateTask("plain"),
    CreateTask("ends", end=builders.LATE),
    CreateTask("goes", end=SOON, plan=DispatchPlan("SMS", scheduled_at=PAST)),
    CreateTask("asked", plan=DispatchPlan("SMS")),
    CreateTask("mute", plan=DispatchPlan("EMAIL", scheduled_at=PAST)),
    CreateTask(
        "unresolved",
        commerce="shop",
        plan=DispatchPlan("SMS", scheduled_at=SOON, criteria=(Criterion("ROLE_MATCH", role="nobody"),)),
    ),
    CreateTask(
        "unplanned", commerce="shop", plan=DispatchPlan("SMS", criteria=(Criterion("ROLE_MATCH", role="nobody"),))
    ),
]
TASKS = ("t1", "plain", "ends", "goes", "asked", "mute", "unresolved", "unplanned")
VIEW = "SELECT task_id, kind, due, due_at, activity_id, todo, wake_at, sends FROM deadlines_v1 ORDER BY 1, 2"


def current(task: Task) -> dict[str, str]:
    """Return what a task's own state says of its deadlines, by kind."""
    if task.lifecycle in TERMINAL:
        return {}
    found = {}
    if task.end is not None and not task.overdue:
        found["overdue"] = task.end
    if task.wake is not None:
        found[task.wake[0]] = task.wake[1]
    if task.in_flight:
        found["attempt"] = str(task.attempt)
    return found


def wake(task: Task) -> Any:
    """Return the command that the oldest deadline of a task leads to; a stale one when there is none."""
    for kind, due in current(task).items():
        if kind != "attempt":
            return WakeTask(task.id, kind, due)  # type: ignore[arg-type]
    return WakeTask(task.id, "dispatch", PAST)


STEPS = (
    wake,
    wake,
    lambda task: WakeTask(task.id, "overdue", task.end or PAST),
    lambda task: DispatchTask(task.id),
    lambda task: ReportDispatch(task.id, task.attempt, True),
    lambda task: ReportDispatch(task.id, task.attempt, False, code="timeout"),
    lambda task: ReportDispatch(task.id, task.attempt, False, code="timeout"),
    lambda task: RetryResolution(task.id),
    lambda task: ResolveTarget(task.id, "t1", "u1"),
    lambda task: AssignTask(task.id, ("ann",)),
    lambda task: ProcessTask(task.id),
    lambda task: ChangeTask(task.id, end=builders.LATE),
    lambda task: ChangeTask(task.id, start=PAST),
    lambda task: CompleteTask(task.id),
    lambda task: FailTask(task.id),
    lambda task: CancelTask(task.id),
    lambda task: RetryTask(task.id),
    lambda task: SubmitResult(task.id, "NOT_EXECUTED", hard_override=True),
    lambda task: builders.entry("dispatch", "EMAIL", provider="console"),
)
lives = st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from(TASKS)), max_size=30)


def lived(life: Sequence[Any]) -> Given:
    scene = Given().and_commands(SCENE)
    for number, (step, task_id) in enumerate(life):
        # What is refused changes nothing.
        scene.when(step(scene.state("task", task_id)), now=NOW + timedelta(minutes=number))
    return scene


def folded(conn: psycopg.Connection[Any], batches: Sequence[Sequence[Recorded]]) -> list[tuple[Any, ...]]:
    projection = deadlines.projection("v1")
    for batch in batches:
        projection.project(conn, [event for event in batch if event.name in deadlines.EVENTS])
    rows = conn.execute(VIEW).fetchall()
    conn.rollback()
    return rows


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(life=lives, cuts=st.lists(st.integers(0, 90), max_size=5))
def test_what_is_due_is_what_the_tasks_say(
    module_conn: psycopg.Connection[Any], life: list[Any], cuts: list[int]
) -> None:
    scene = lived(life)
    log = recorded(scene.log)
    edges = [0, *sorted(cuts), len(log)]
    cut = [log[first:last] for first, last in itertools.pairwise(edges)]
    rows = folded(module_conn, cut)
    found: dict[str, dict[str, str]] = {}
    for task_id, kind, due, due_at, activity_id, todo, wake_at, sends in rows:
        found.setdefault(task_id, {})[kind] = due
        task = scene.state("task", task_id)
        assert (activity_id, sends, wake_at) == (task.activity_id, 0, due_at)
        assert todo == ("call" if kind == "attempt" else "send")
        if kind != "attempt":
            assert due_at == datetime.fromisoformat(due)
    wanted = {task_id: current(scene.state("task", task_id)) for task_id in TASKS}
    assert found == {task_id: due for task_id, due in wanted.items() if due}
    assert folded(module_conn, [batch for batch in cut for _ in range(2)]) == rows
    assert folded(module_conn, [log, log]) == rows
    assert folded(module_conn, [[event] for event in log]) == rows


@pytest.mark.parametrize(
    ("task_id", "failures"),
    [("t1", 0), ("goes", 0), ("asked", 0), ("unresolved", 0), ("unplanned", 0), ("unplanned", 5)],
)
def test_every_short_life_of_a_task_is_mirrored(task_id: str, failures: int) -> None:
    scene = lived([(wake, task_id)] * failures)
    state = None
    for event in recorded(scene.log):
        if event.category == "task" and event.entity_id == task_id:
            state = deadlines.apply(state, event)
    seen: Counter[str] = Counter()

    def live(before: Given, remembered: deadlines.Remembered | None, left: int) -> None:
        for step in STEPS if left else ():
            here = Given(dict(before.states), dict(before.holders), [], before.ids, before.numbers)
            here.when(step(here.state("task", task_id)), now=NOW + timedelta(minutes=5 - left))
            first = 1 if remembered is None else remembered.position + 1
            now = copy.copy(remembered)
            for event in recorded(here.log, first=first):
                if event.category == "task" and event.entity_id == task_id and event.name in deadlines.EVENTS:
                    now = deadlines.apply(now, event)
            wanted = current(here.state("task", task_id))
            assert {kind: due.due for kind, due in deadlines.due_of(now).items()} == wanted, here.log
            seen.update(wanted.keys())
            if here.log:
                live(here, now, left - 1)

    live(scene, state, 4)
    assert seen["overdue"]
    assert task_id == "t1" or (seen["dispatch"] and seen["attempt"])
    assert not task_id.startswith("un") or seen["resolution"] or failures


def test_the_scene_has_a_deadline_of_every_kind(module_conn: psycopg.Connection[Any]) -> None:
    log = recorded(lived([(lambda task: DispatchTask(task.id), "asked")]).log)
    assert [row[:3] for row in folded(module_conn, [log])] == [
        ("asked", "attempt", "1"),
        ("ends", "overdue", builders.LATE),
        ("goes", "dispatch", PAST),
        ("goes", "overdue", SOON),
        ("unplanned", "resolution", "2025-10-31T01:01:00.000Z"),
        ("unresolved", "resolution", "2025-10-31T01:01:00.000Z"),
    ]


def test_a_task_without_a_deadline_leaves_nothing(module_conn: psycopg.Connection[Any]) -> None:
    log = recorded(
        Given().and_commands([builders.member(), CreateTask("a", assignees=("ann",)), CompleteTask("a")]).log
    )
    projection = deadlines.projection("v1")
    projection.project(module_conn, log)
    assert module_conn.execute("SELECT 1 FROM deadline_tasks_v1 UNION ALL SELECT 1 FROM deadlines_v1").fetchall() == []
    module_conn.rollback()


def test_marks_stay_while_a_deadline_is_the_same_and_a_deadline_that_comes_back_is_another(
    module_conn: psycopg.Connection[Any],
) -> None:
    scene = Given().and_commands([CreateTask("a", end=SOON)])
    projection = deadlines.projection("v1")
    projection.project(module_conn, recorded(scene.log))
    marked = "SELECT sends, outcome, wake_at > due_at, position FROM deadlines_v1"
    module_conn.execute("UPDATE deadlines_v1 SET sends = 3, outcome = 'x', wake_at = now()")
    before = len(scene.log)
    scene.and_commands([ChangeTask("a", title="Else")])
    projection.project(module_conn, recorded(scene.log)[before:])
    assert module_conn.execute(marked).fetchall() == [(3, "x", True, 1)]
    before = len(scene.log)
    scene.and_commands([FailTask("a"), RetryTask("a")])
    projection.project(module_conn, recorded(scene.log)[before:])
    assert module_conn.execute(marked).fetchall() == [(0, None, False, 4)]
    module_conn.rollback()


def test_marks_go_over_to_tables_that_are_built_anew(migrated_url: str) -> None:
    with psycopg.connect(migrated_url) as conn:
        log = recorded(Given().and_commands([CreateTask("a", end=SOON), CreateTask("b", end=SOON)]).log)
        deadlines.projection("v1").project(conn, log)
        conn.execute("UPDATE deadlines SET sends = 2, wake_at = 'infinity' WHERE task_id = 'a'")
        assert projections.begin_build(conn, deadlines) == "v1r2"
        more = recorded(Given().and_commands([CreateTask("c", end=SOON)]).log, first=len(log) + 1)
        deadlines.projection("v1r2").project(conn, [*log, *more])
        projections.serve(conn, deadlines, "v1r2")
        found = conn.execute("SELECT task_id, sends, wake_at = 'infinity' FROM deadlines ORDER BY 1").fetchall()
        assert found == [("a", 2, True), ("b", 0, False), ("c", 0, False)]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2025-10-31T08:55:00.000+07:00", datetime(2025, 10, 31, 1, 55, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999Z", datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        ("2025-10-31T01:00:00.123456789Z", datetime(2025, 10, 31, 1, 0, 0, 123456, tzinfo=UTC)),
    ],
)
def test_every_time_that_a_task_may_have_is_held(
    module_conn: psycopg.Connection[Any], text: str, moment: datetime
) -> None:
    (row,) = folded(module_conn, [recorded(Given().and_commands([CreateTask("a", end=text)]).log)])
    assert row[2:4] == (text, moment)


def test_what_is_leased_is_chosen_once(conn: psycopg.Connection[Any]) -> None:
    """A choice that a plan may repeat for each row takes other rows each time, and so more than were asked for."""
    plan = conn.execute(f"EXPLAIN {LEASE}", (["acme"], [4], deadlines.CALL, 16, 60.0)).fetchall()
    assert any("CTE taken" in line for (line,) in plan), plan
