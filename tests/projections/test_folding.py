from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import projections
from domain.activity import CancelActivity, ChangeActivity
from domain.plan import DispatchPlan
from domain.recorded import Recorded
from domain.task import (
    AssignTask,
    CancelTask,
    ChangeTask,
    CompleteTask,
    DispatchTask,
    FailTask,
    PauseTask,
    ProcessTask,
    ReassignTask,
    ReportDispatch,
    RetryTask,
    SaveTask,
    SubmitResult,
    UnassignTask,
)
from projections.support.table import Table, array, plain_array
from projections.task import table as tasks
from tests import builders
from tests.given import Given
from tests.projections.recording import recorded

SCENE = [
    builders.workflow(2),
    builders.member("ann"),
    builders.member("bob"),
    builders.activity(2, assignees=[("ann",)]),
    builders.entry("dispatch", "SMS", provider="console"),
    builders.task("t4", plan=DispatchPlan("SMS", scheduled_at=builders.EARLY), roles=("lead",), whitelist=("ann",)),
    builders.task("t3", title='a "title" with \\ and {braces}, NULL', start=builders.EARLY),
]
ON_TASKS = (
    lambda i: AssignTask(i, ("bob",)),
    lambda i: ReassignTask(i, ("ann", "bob")),
    UnassignTask,
    ProcessTask,
    PauseTask,
    lambda i: SaveTask(i, {"draft": '"\\'}),
    lambda i: ChangeTask(i, title="Zoë", fields={"k": [1, None]}, end=builders.LATE),
    CompleteTask,
    lambda i: FailTask(i, "no"),
    CancelTask,
    RetryTask,
    DispatchTask,
    lambda i: ReportDispatch(i, 1, succeeded=False),
    lambda i: ReportDispatch(i, 2, succeeded=True),
    lambda i: SubmitResult(i, "COMPLETED", hard_override=True, data={"k": 1}),
    lambda i: SubmitResult(i, "NOT_EXECUTED", hard_override=True),
)
commands = st.lists(
    st.one_of(
        st.builds(lambda make, i: make(i), st.sampled_from(ON_TASKS), st.sampled_from(("t1", "t2", "t3", "t4"))),
        st.just(ChangeActivity("a", title="Else")),
        st.just(CancelActivity("a")),
    ),
    max_size=25,
)


def log_of(wanted: Sequence[Any]) -> list[Recorded]:
    scene = Given().and_commands(SCENE)
    for command in wanted:
        scene.when(command)
    return recorded(scene.log)


def folded(conn: psycopg.Connection[Any], batches: Sequence[Sequence[Recorded]], forget: bool) -> dict[str, list[Any]]:
    rows = {}
    for model in projections.READ_MODELS:
        projection = model.projection(projections.suffix(model))
        for batch in batches:
            projection.project(conn, batch)
            if forget:
                projection.forget()
        for stem in model.VIEWS:
            rows[stem] = conn.execute(f"SELECT t::text FROM {stem} AS t ORDER BY 1").fetchall()
    conn.rollback()
    return rows


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=commands, cuts=st.lists(st.integers(0, 60), max_size=6), forget=st.booleans())
def test_how_the_log_is_cut_into_batches_and_repeated_cannot_matter(
    module_conn: psycopg.Connection[Any], wanted: list[Any], cuts: list[int], forget: bool
) -> None:
    log = log_of(wanted)
    whole = folded(module_conn, [log], forget)
    edges = [0, *sorted(cuts), len(log)]
    cut = [log[first:last] for first, last in itertools.pairwise(edges)]
    assert folded(module_conn, cut, forget) == whole
    assert folded(module_conn, [[event] for event in log], forget) == whole
    assert folded(module_conn, [batch for batch in cut for _ in range(2)], forget) == whole
    assert folded(module_conn, [log, log], forget) == whole


@given(st.lists(st.one_of(st.none(), st.text(st.characters(blacklist_characters="\0", codec="utf-8")))))
def test_text_arrays_arrive_as_they_were(module_conn: psycopg.Connection[Any], values: list[str | None]) -> None:
    row = module_conn.execute("SELECT %s::text[]", (array(values),)).fetchone()
    assert row is not None
    assert row[0] == values


def test_plain_arrays_arrive_as_they_were(module_conn: psycopg.Connection[Any]) -> None:
    row = module_conn.execute(
        "SELECT %s::bigint[], %s::boolean[]", (plain_array([1, None]), plain_array([True, False]))
    )
    assert row.fetchone() == ([1, None], [True, False])


def test_memory_holds_no_more_documents_than_it_may(module_conn: psycopg.Connection[Any]) -> None:
    projection: Any = tasks.projection(projections.suffix(tasks), 2)
    projection.project(module_conn, log_of([]))
    assert len(projection.kept) == 2
    projection.forget()
    assert not projection.kept
    module_conn.rollback()


def test_a_row_is_never_replaced_by_an_older_one(module_conn: psycopg.Connection[Any]) -> None:
    log = log_of([ProcessTask("t1"), CompleteTask("t1")])
    for model in projections.READ_MODELS:
        model.projection(projections.suffix(model)).project(module_conn, log)
    rows = {
        stem: module_conn.execute(f"SELECT t::text FROM {stem} AS t ORDER BY 1").fetchall()
        for model in projections.READ_MODELS
        for stem in model.VIEWS
    }
    for model in projections.READ_MODELS:
        # As a process would that has read a part of the log for itself, and begins where documents begin.
        for length in range(1, len(log)):
            model.projection(projections.suffix(model)).project(module_conn, log[:length])
    for stem, before in rows.items():
        assert module_conn.execute(f"SELECT t::text FROM {stem} AS t ORDER BY 1").fetchall() == before
    module_conn.rollback()


def test_what_begins_in_a_batch_is_not_looked_for_and_what_began_before_is(
    module_conn: psycopg.Connection[Any],
) -> None:
    class Watched(psycopg.Cursor[Any]):
        def execute(self, query: Any, *rest: Any, **options: Any) -> Any:
            statements.append(str(query).split()[0])
            return super().execute(query, *rest, **options)

    statements: list[str] = []
    module_conn.cursor_factory = Watched
    try:
        log = log_of([ProcessTask("t1")])
        for name in ("activities", "tasks", "directory"):
            model = projections.BY_NAME[name]
            projection = model.projection(projections.suffix(model))
            projection.project(module_conn, log[:-1])
            assert statements == ["INSERT"]
            projection.forget()
            projection.project(module_conn, log[-1:])
            assert statements == (["INSERT"] if name == "directory" else ["INSERT", "SELECT", "INSERT"])
            statements.clear()
    finally:
        module_conn.cursor_factory = psycopg.Cursor
        module_conn.rollback()


@given(st.lists(st.text(st.characters(codec="utf-8", blacklist_characters="\0")), min_size=1))
def test_documents_arrive_as_they_were(module_conn: psycopg.Connection[Any], texts: list[str]) -> None:
    table = Table.of(
        'CREATE TABLE odd_{suffix} (\n    id   text COLLATE "C" NOT NULL,\n    doc  text NOT NULL\n)', key=("id",)
    )
    module_conn.execute("CREATE TEMPORARY TABLE odd_v1 (id text PRIMARY KEY, doc text NOT NULL)")
    documents = [msgspec.json.encode({"\x1e": text, "nothing": None}).decode() for text in texts]
    module_conn.execute(table.upsert("v1"), table.arrays([(str(index), doc) for index, doc in enumerate(documents)]))
    assert [doc for (doc,) in module_conn.execute("SELECT doc FROM odd_v1 ORDER BY id::int")] == documents
    module_conn.rollback()
