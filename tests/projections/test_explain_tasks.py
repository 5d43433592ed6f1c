"""Every filter of tasks goes through an index: what PostgreSQL did on a large table, read from its own account."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from projections import directory, search, suffix
from projections.listing import COMMON_SORTS
from projections.support import query
from projections.support.conditions import OPERATORS, Asked, among
from projections.support.grams import gram_array
from projections.support.people import Members
from projections.support.table import title_key
from projections.task import pages as task_pages
from projections.task import table as tasks
from projections.task.filters import CONDITIONS, where
from projections.task.pages import Order
from projections.task.search import with_field

ROWS, TITLES = 100_000, 5000
# Rows that are read and not shown: the page's own size is what a scan in the order of the page may come across.
BOUND = 3 * query.MAX_ROWS
NOW = datetime(2026, 6, 1, tzinfo=UTC)
DEFAULT = Order((), ["open"], NOW)
TASKS, ENTRIES = f"tasks_{suffix(tasks)}", f"entries_{suffix(directory)}"
# Of each hundred tasks: 60 completed, 30 open, 5 active, 3 failed, 2 canceled. What few tasks have, one in 200 has.
FILL = f"""
INSERT INTO {TASKS} (tenant, id, status, resolution, dispatch, type, activity_id, flow, flow_id, hub, project,
    commerce, channel, assignees, roles, whitelist, blacklist, overdue, late, title_key, grams, start_at, end_at,
    scheduled_at, started_at, ended_at, done_at, order_index, wake_at, created_at, updated_at, data, output, position,
    doc)
SELECT 'acme', 't' || lpad(n::text, 6, '0'), status,
    CASE WHEN rare THEN 'FAILED' ELSE 'NONE' END, CASE WHEN rare THEN 'DISPATCHED' ELSE 'NONE' END, 'TASK',
    CASE WHEN n % 200 <> 0 THEN 'a' || n / 3 END, 'f', 'f' || n % 500, NULL,
    CASE WHEN n % 200 <> 1 THEN 'p' || n % 500 END, NULL, NULL,
    CASE WHEN n % 200 <> 2 THEN ARRAY['m' || n % 500, 'm' || (n + 1) % 500] ELSE '{{}}' END,
    CASE WHEN rare THEN ARRAY['acme/r' || n % 7] END, CASE WHEN rare THEN ARRAY['acme/m' || n % 7] END,
    CASE WHEN rare THEN ARRAY['acme/m' || n % 7] END, rare, rare, 'visit ' || n % {TITLES}, grams, at, at, 'infinity',
    CASE WHEN status <> 'open' AND n % 200 <> 3 THEN at + interval '1 minute' END,
    CASE WHEN status IN ('completed', 'failed', 'canceled') THEN at + interval '1 hour' END,
    CASE status WHEN 'completed' THEN at + interval '1 hour' ELSE '-infinity' END, n,
    CASE WHEN rare THEN at + interval '1 day' END, at, at,
    jsonb_build_object('acme', jsonb_build_object('customer', 'c' || n % {TITLES}, 'from', 'WEB')),
    CASE status WHEN 'completed' THEN jsonb_build_object('acme', jsonb_build_object('photo', n, 'signed', true)) END,
    n, json_build_object('id', 't' || n, 'title', 'Visit ' || n % {TITLES}, 'worked_seconds', n % 100)
FROM generate_series(1, {ROWS}) AS n,
    LATERAL (SELECT '2026-01-01'::timestamptz + n * interval '1 minute' AS at, n % 200 = 4 AS rare,
        CASE WHEN n % 100 < 60 THEN 'completed' WHEN n % 100 < 90 THEN 'open' WHEN n % 100 < 95 THEN 'active'
            WHEN n % 100 < 98 THEN 'failed' ELSE 'canceled' END AS status) AS made,
    LATERAL (SELECT grams FROM titles WHERE number = n % {TITLES} OFFSET 0) AS found
"""


@contextmanager
def without_indexes(session: psycopg.Connection[Any]) -> Iterator[None]:
    """Drop the indexes of tasks that belong to no constraint, and make them again at the end."""
    indexes = session.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indrelid = %s::regclass AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)",
        (TASKS,),
    ).fetchall()
    assert len(indexes) > 10
    for name, _ in indexes:
        session.execute(f"DROP INDEX {name}")
    yield
    session.execute("SET maintenance_work_mem = '256MB'")
    for _, definition in indexes:
        session.execute(definition)


@pytest.fixture(scope="module")
def large_tables(module_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(module_url, autocommit=True) as session:
        # Indexes made over rows that are there are the same, in a fraction of the time.
        with without_indexes(session):
            session.execute("CREATE TEMPORARY TABLE titles (number integer PRIMARY KEY, grams integer[])")
            with session.cursor() as cursor, cursor.copy("COPY titles FROM STDIN") as copy:
                for number in range(TITLES):
                    copy.write_row((number, gram_array("acme", title_key(f"Visit {number}"))))
            session.execute(FILL)
        session.execute(
            f"INSERT INTO {ENTRIES} (tenant, kind, id, email, account_id, operator, retired, position, doc)"
            " SELECT 'acme', 'member', 'm' || n, 'm' || n || '@x.vn', n, 'op-' || n, false, n, '{}'"
            " FROM generate_series(0, 499) AS n"
        )
        session.execute(f"VACUUM ANALYZE {TASKS}, {ENTRIES}")
        yield session


WHEN = {"lt": "2026-01-01T01:00:00Z", "lte": "2026-01-01T01:00:00Z", "gt": "2026-03-11T10:00:00Z"}
WHEN["gte"], ONCE = WHEN["gt"], "2026-02-01T00:00:00Z"
TEXTS = {
    "id": ("t000777", "t09"),
    "name": ("Visit 777", "Visit 77"),
    "project": ("p77", "p7"),
    "activity_id": ("a777", "a77"),
}
PEOPLE = ("assigned", "whitelist", "blacklist")
TIMES = ("started_at", "completed_at", "wake_at", "created_at")
PERIODS = ("working_seconds", "live_seconds", "pipeline_seconds")


def asked_of(name: str, operator: str) -> Any:
    """Return a value that a caller would ask with."""
    if operator == "exists":
        return "true"
    if name in TEXTS:
        whole, begin = TEXTS[name]
        # Nothing lies below or above, so that no page is full.
        texts = {"lt": "a", "lte": "a", "gt": "z", "gte": "z", "prefix": begin, "in": [whole, "t000778", "p8"]}
        return texts.get(operator, whole)
    if name in TIMES:
        return [ONCE, "2026-02-02T00:00:00Z"] if operator == "in" else WHEN.get(operator, ONCE)
    if name == "assigned" and operator in WHEN:
        return {"lt": "2", "lte": "1", "gt": "497", "gte": "498"}[operator]
    if name in PEOPLE:
        return Members(("m4", "m7")) if operator in ("in", "contains") else Members(("m4",))
    if name == "roles":
        return ["r3", "r4"] if operator in ("in", "contains") else "r3"
    if name == "indicators":
        off = dict.fromkeys(("overdue", "late", "unresolved", "dispatched"), False)
        return {"overdue": True} if operator == "contains" else off | {"overdue": True}
    value = {"customer": "c77"} if operator == "contains" else {"customer": "c77", "from": "WEB"}
    if name == "output":
        value = {"photo": 7700} if operator == "contains" else {"photo": 7700, "signed": True}
    return [value, {"customer": "c78"}] if operator == "in" else value


def read_for_nothing(plan: dict[str, Any]) -> int:
    """Return how many rows were read and left out again, all over a plan."""
    own = sum(
        plan.get(key, 0)
        for key in ("Rows Removed by Filter", "Rows Removed by Index Recheck", "Rows Removed by Join Filter")
    )
    return int(own * plan.get("Actual Loops", 1)) + sum(read_for_nothing(part) for part in plan.get("Plans", ()))


def nodes(plan: dict[str, Any]) -> Iterator[str]:
    yield plan["Node Type"]
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def explained(conn: psycopg.Connection[Any], asked: query.Query) -> dict[str, Any]:
    row = conn.execute(f"EXPLAIN (ANALYZE, FORMAT JSON, TIMING OFF) {asked.sql}", asked.params).fetchone()
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def page(name: str, operator: str, value: Any, order: tuple[tuple[str, bool], ...] = ()) -> query.Query:
    condition = where(Asked("acme", name, operator, value, "filter", NOW))
    return task_pages.page("acme", [condition], Order(order, ["open"], NOW), query.MAX_ROWS + 1, 0)


SERVED = [
    (name, operator)
    for name, (operators, _) in CONDITIONS.items()
    for operator in ("", *OPERATORS)
    if operator in (operators | {""}) and operator not in ("match", "suffix") and name not in PERIODS
] + [("name", "match")]


@pytest.mark.parametrize(("name", "operator"), SERVED)
def test_each_filter_has_its_index(large_tables: psycopg.Connection[Any], name: str, operator: str) -> None:
    plan = explained(large_tables, page(name, operator, asked_of(name, operator)))
    assert "Seq Scan" not in set(nodes(plan)), json.dumps(plan, indent=1)
    assert read_for_nothing(plan) <= BOUND, json.dumps(plan, indent=1)


@pytest.mark.parametrize("name", ["activity_id", "assigned", "completed_at", "name"])
def test_what_few_tasks_lack_is_found_by_an_index_too(large_tables: psycopg.Connection[Any], name: str) -> None:
    plan = explained(large_tables, page(name, "exists", "false"))
    assert "Seq Scan" not in set(nodes(plan))
    assert read_for_nothing(plan) <= BOUND, json.dumps(plan, indent=1)


@pytest.mark.parametrize("name", ["id", "name", "created_at"])
@pytest.mark.parametrize("falling", [True, False])
def test_a_page_in_an_order_that_has_an_index_reads_no_more_than_its_rows(
    large_tables: psycopg.Connection[Any], name: str, falling: bool
) -> None:
    plan = explained(large_tables, task_pages.page("acme", [], Order([(name, falling)], ["open"], NOW), 50, 0))
    assert "Seq Scan" not in set(nodes(plan)), json.dumps(plan, indent=1)
    assert read_for_nothing(plan) <= BOUND


@pytest.mark.parametrize("sort", [f"{way}{name}" for name in (*COMMON_SORTS, "order_index") for way in ("", "-")])
def test_a_list_in_an_order_of_its_own_reads_no_more_than_its_rows(
    large_tables: psycopg.Connection[Any], sort: str
) -> None:
    plan = explained(large_tables, tasks.page("acme", {}, sort, limit=50))
    assert not {"Seq Scan", "Sort"} & set(nodes(plan)), json.dumps(plan, indent=1)
    assert read_for_nothing(plan) <= BOUND


def test_status_is_found_by_its_index(large_tables: psycopg.Connection[Any]) -> None:
    for statuses, bound in ((["failed"], 0), (["canceled"], 0), (["failed", "canceled"], ROWS // 4)):
        asked = task_pages.page("acme", [among("status", "text", statuses)], DEFAULT, query.MAX_ROWS + 1, 0)
        plan = explained(large_tables, asked)
        assert "Seq Scan" not in set(nodes(plan))
        # Several have no order together, so their page is read in its order, past the others: by far not all of them.
        assert read_for_nothing(plan) <= bound, json.dumps(plan, indent=1)


@pytest.mark.parametrize("name", PERIODS)
def test_a_filter_on_a_period_stays_inside_the_project(large_tables: psycopg.Connection[Any], name: str) -> None:
    conditions = [
        where(Asked("acme", key, "", value, "f", NOW)) for key, value in (("project", "p7"), (name, "1000000"))
    ]
    plan = explained(large_tables, task_pages.page("acme", conditions, DEFAULT, query.MAX_ROWS + 1, 0))
    assert "Seq Scan" not in set(nodes(plan))
    assert read_for_nothing(plan) <= ROWS // 500


@pytest.mark.parametrize("name", [*PERIODS, "assigned"])
def test_a_sort_without_an_index_stays_inside_the_project(large_tables: psycopg.Connection[Any], name: str) -> None:
    condition = where(Asked("acme", "project", "", "p7", "f", NOW))
    plan = explained(large_tables, task_pages.page("acme", [condition], Order([(name, True)], ["open"], NOW), 50, 0))
    assert "Seq Scan" not in set(nodes(plan)), json.dumps(plan, indent=1)
    assert read_for_nothing(plan) <= ROWS // 500


def scanned(plan: dict[str, Any]) -> Iterator[str]:
    """Return the tables that are read from one end to the other."""
    if plan["Node Type"] == "Seq Scan":
        yield plan["Relation Name"]
    for part in plan.get("Plans", ()):
        yield from scanned(part)


@pytest.mark.parametrize(
    "text",
    [
        *("t000777", "Visit 77", "visit", "sit 77", "isi", "777", "sit 99999"),
        *("m77@x.vn", "account:77", "operator:op-77", "nothing", "a b"),
    ],
)
def test_a_search_reads_no_more_than_it_finds(large_tables: psycopg.Connection[Any], text: str) -> None:
    plan = explained(large_tables, search.found("acme", text, directory.KINDS, 21))
    # There are no activities, and so few entries that all of them may be read.
    assert TASKS not in set(scanned(plan)), json.dumps(plan, indent=1)
    assert read_for_nothing(plan) <= BOUND, json.dumps(plan, indent=1)


@pytest.mark.parametrize("text", ["sit 777", "777", "777 visit", "isi", "visit 4", "nothing has this", "x" * 1000])
def test_a_part_of_a_title_is_found_by_its_index(large_tables: psycopg.Connection[Any], text: str) -> None:
    plan = explained(large_tables, tasks.page("acme", {"search": text}, limit=50))
    assert "Seq Scan" not in set(nodes(plan)), json.dumps(plan, indent=1)
    assert read_for_nothing(plan) <= BOUND, json.dumps(plan, indent=1)


@pytest.mark.parametrize("text", ["customer=c77", "customer=nobody", "colour=red", "customer=77"])
def test_a_search_for_a_value_goes_through_its_index(large_tables: psycopg.Connection[Any], text: str) -> None:
    asked = with_field("acme", text, 21)
    assert asked is not None
    plan = explained(large_tables, asked)
    assert "Seq Scan" not in set(nodes(plan)), json.dumps(plan, indent=1)
    assert read_for_nothing(plan) <= BOUND, json.dumps(plan, indent=1)


def test_open_tasks_are_counted_up_to_a_limit(large_tables: psycopg.Connection[Any]) -> None:
    plan = explained(large_tables, tasks.LISTING.standing("acme", ["open", "active", "paused"], 10_000))
    assert "Seq Scan" not in set(nodes(plan)), json.dumps(plan, indent=1)
    assert read_for_nothing(plan) == 0, json.dumps(plan, indent=1)


def test_another_tenants_rows_are_not_read_for_ones_own(large_tables: psycopg.Connection[Any]) -> None:
    for name in ("roles", "data", "indicators", "name", "assigned"):
        condition = where(Asked("other", name, "", asked_of(name, ""), "f", NOW))
        plan = explained(large_tables, task_pages.page("other", [condition], DEFAULT, query.MAX_ROWS + 1, 0))
        assert read_for_nothing(plan) == 0, json.dumps(plan, indent=1)
