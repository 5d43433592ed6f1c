from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from domain.activity import ActivityCanceled, NewTask
from domain.plan import DispatchPlan
from domain.task import (
    ResolutionFailed,
    TaskAssigned,
    TaskCompleted,
    TaskCreated,
    TaskFailed,
    TaskStarted,
)
from projections import activities, suffix
from projections.statement import Query
from projections.support.query import BadQuery
from projections.task import table as tasks
from tests import builders
from tests.given import NOW
from tests.projections.recording import after, recorded

TIMES = (None, "2025-10-31T08:00:00+07:00", "2025-10-31T01:00:00Z", "2025-11-02T00:00:00.250Z")


@pytest.fixture(scope="module")
def listed_tasks(module_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(module_url, autocommit=True) as session:
        lone = [
            TaskCreated(
                f"n{number:02}",
                f"Visit {number % 3}" if number % 4 else None,
                flow="survey" if number % 2 else None,
                plan=DispatchPlan("SMS" if number % 2 else "EMAIL", scheduled_at=TIMES[number % 4])
                if number < 8
                else None,
                flow_id=f"f{number % 2}",
                hub="north" if number % 3 else None,
                project="p",
                commerce="c",
                route="r",
                operator="o",
                start=TIMES[number % 4],
                end=TIMES[(number + 1) % 4],
            )
            for number in range(23)
        ]
        scene = [
            builders.workflow(),
            builders.workflow(id="w2", name="Other"),
            builders.activity(),
            builders.activity(id="b", workflow_id="w2", tasks=two("b")),
            builders.activity(id="c", tasks=two("c"), title="Straße 1"),
        ]
        more = [
            TaskAssigned("n00", None, ("ann", "bob")),
            TaskStarted("n00", None, "ann"),
            TaskAssigned("n01", None, ("bob",)),
            TaskCompleted("n01", None, {}),
            ResolutionFailed("n02", None, "nobody"),
            TaskAssigned("t1", "a", ("ann",)),
            TaskFailed("b1", "b", None),
            ActivityCanceled("c", None),
        ]
        # Ties on purpose: all were made at the same instant.
        log = recorded(after(scene, *lone, *more), every=0)
        others = recorded([TaskCreated("n00", "Theirs"), TaskCreated("theirs", "Theirs")], tenant="other", first=1000)
        for model in (tasks, activities):
            model.projection(suffix(model)).project(session, [*log, *others])
        yield session


def two(prefix: str) -> Any:
    return tuple(NewTask(id=f"{prefix}{number}") for number in (1, 2))


def ids(conn: psycopg.Connection[Any], asked: Query) -> list[str]:
    return [row[1] for row in conn.execute(*asked).fetchall()]


def lone(*numbers: int) -> set[str]:
    return {f"n{number:02}" for number in numbers}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"status": "active"}, lone(0)),
        ({"status": ["active", "completed"]}, lone(0, 1)),
        ({"status": ["completed"]}, lone(1)),
        ({"status": []}, set()),
        ({"assignee": "bob"}, lone(0, 1)),
        ({"assignee": ["ann", "bob"]}, {*lone(0, 1), "t1"}),
        ({"resolution": "FAILED"}, lone(2)),
        ({"activity_id": "a"}, {"t1", "t2"}),
        ({"activity_id": None, "flow": "survey"}, lone(*range(1, 23, 2))),
        ({"flow_id": "f1"}, lone(*range(1, 23, 2))),
        ({"hub": "north", "status": "completed"}, lone(1)),
        ({"hub": None, "project": "p", "flow_id": "f0"}, lone(0, 6, 12, 18)),
        ({"commerce": "c", "route": "r", "operator": "o", "dispatch": "NONE"}, lone(*range(23))),
        ({"search": "vISIT 2"}, lone(2, 5, 11, 14, 17)),
        ({"search": "%"}, set()),
        ({"start__gte": "2025-11-01T00:00:00Z"}, lone(*range(3, 23, 4))),
        ({"start__lte": "2025-10-31T08:00:00+07:00", "flow_id": "f1"}, lone(*range(1, 23, 4))),
        ({"end__gte": "2025-11-02T00:00:00.251Z"}, set()),
        ({"created_at__gte": NOW, "created_at__lte": NOW, "project": "p"}, lone(*range(23))),
        ({"updated_at__lte": "2020-01-01T00:00:00Z"}, set()),
        ({"channel": "SMS"}, lone(1, 3, 5, 7)),
        ({"channel": ["SMS", "EMAIL"], "flow": None}, lone(0, 2, 4, 6)),
        ({"channel": None, "project": "p"}, lone(*range(8, 23))),
        ({"scheduled_at__gte": "2025-10-31T01:00:00.001Z"}, lone(3, 7)),
        ({"scheduled_at__lte": "2025-10-31T01:00:00Z"}, lone(1, 2, 5, 6)),
        ({"assignee": None, "project": "p"}, lone(*range(2, 23))),
        ({"overdue": True}, set()),
        ({"overdue": "false", "status": "active"}, lone(0)),
    ],
)
def test_each_filter_of_tasks(
    listed_tasks: psycopg.Connection[Any], filters: dict[str, Any], expected: set[str]
) -> None:
    assert set(ids(listed_tasks, tasks.page("acme", filters))) == expected
    assert listed_tasks.execute(*tasks.count("acme", filters)).fetchall() == [(len(expected),)]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, {"a", "b", "c"}),
        ({"status": "canceled"}, {"c"}),
        ({"rule": "U7"}, {"b"}),
        ({"attention": True}, {"b"}),
        ({"attention": False, "workflow_id": "w"}, {"a", "c"}),
        ({"assignee": "ann"}, {"a"}),
        ({"search": "STRASSE"}, {"c"}),
        ({"hub": None, "project": None, "overdue": False}, {"a", "b", "c"}),
        ({"start__gte": "2000-01-01T00:00:00Z"}, set()),
    ],
)
def test_each_filter_of_activities(
    listed_tasks: psycopg.Connection[Any], filters: dict[str, Any], expected: set[str]
) -> None:
    assert set(ids(listed_tasks, activities.page("acme", filters))) == expected


@pytest.mark.parametrize("sort", [way + name for name in tasks.LISTING.sorts for way in ("", "-")])
@pytest.mark.parametrize("limit", [1, 4, 100])
def test_paging_meets_every_row_once_in_order_over_ties_and_gaps(
    listed_tasks: psycopg.Connection[Any], sort: str, limit: int
) -> None:
    met: list[str] = []
    after_cursor = None
    while rows := listed_tasks.execute(*tasks.page("acme", {}, sort, after_cursor, limit)).fetchall():
        met += [row[1] for row in rows]
        after_cursor = tasks.LISTING.cursor(rows[-1], sort)
    assert met == ids(listed_tasks, tasks.page("acme", {}, sort, limit=1000))
    assert len(met) == len(set(met)) == 29


def test_rows_without_a_time_come_last(listed_tasks: psycopg.Connection[Any]) -> None:
    docs = [json.loads(row[0]) for row in listed_tasks.execute(*tasks.page("acme", {"project": "p"}, "start"))]
    starts = [doc.get("start") for doc in docs]
    assert None not in starts[:17]
    assert set(starts[17:]) == {None}


def test_offset_skips_rows_for_callers_that_count_pages(listed_tasks: psycopg.Connection[Any]) -> None:
    whole = ids(listed_tasks, tasks.page("acme", {}))
    assert ids(listed_tasks, tasks.page("acme", {}, limit=5, offset=10)) == whole[10:15]


def token(*parts: Any) -> str:
    return urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "garbled",
    [
        "",
        "%%%",
        "é",
        "AAAA",
        token("-created_at", "yesterday", "t1"),
        token("-created_at", "2025-10-31 01:00:00+00"),
        token("-created_at", "2025-10-31 01:00:00+00", "no id"),
        token("-created_at", "2025-10-31 01:00:00", "t1"),
        token("created_at", "2025-10-31 01:00:00+00", "t1"),
        token("title", "x\0", "t1"),
        token("-created_at", 7, "t1"),
    ],
)
def test_a_garbled_cursor_or_one_of_another_sort_is_refused(garbled: str) -> None:
    with pytest.raises(BadQuery) as refused:
        tasks.page("acme", {}, after=garbled)
    assert (refused.value.code, refused.value.parameter) == ("bad-cursor", "cursor")


@pytest.mark.parametrize(
    ("filters", "more", "code"),
    [
        ({"doc": "x"}, {}, "unknown-filter"),
        ({"status": 7}, {}, "bad-filter"),
        ({"status": None}, {}, "bad-filter"),
        ({"hub": "a\0"}, {}, "bad-filter"),
        ({"hub": ["\ud800"]}, {}, "bad-filter"),
        ({"search": ["a", "b"]}, {}, "bad-filter"),
        ({"overdue": "perhaps"}, {}, "bad-filter"),
        ({"start__gte": "soon"}, {}, "bad-filter"),
        ({"start__gte": "2025-10-31T08:00:00"}, {}, "bad-filter"),
        ({"start__gte": "0001-01-01T00:00:00+10:00"}, {}, "bad-filter"),
        ({}, {"sort": "doc"}, "bad-sort"),
        ({}, {"sort": "--title"}, "bad-sort"),
        ({}, {"limit": 0}, "bad-limit"),
        ({}, {"limit": 1001}, "bad-limit"),
        ({}, {"offset": 2**70}, "bad-offset"),
        ({}, {"offset": -1}, "bad-offset"),
    ],
)
def test_what_cannot_be_asked_is_refused(filters: dict[str, Any], more: dict[str, Any], code: str) -> None:
    with pytest.raises(BadQuery) as refused:
        tasks.page("acme", filters, **more)
    assert refused.value.code == code


def test_no_text_of_a_caller_becomes_a_part_of_a_statement() -> None:
    evil = "x'; DROP TABLE tasks; --"
    asked = tasks.page("acme", {"status": [evil, evil], "search": evil, "assignee": evil, "hub": evil})
    assert "DROP" not in asked.sql
    assert "DROP" not in tasks.LISTING.get(evil, evil).sql


def test_a_tenant_never_sees_anothers(listed_tasks: psycopg.Connection[Any]) -> None:
    assert ids(listed_tasks, tasks.page("other", {})) == ["theirs", "n00"]
    assert ids(listed_tasks, tasks.LISTING.get("acme", "theirs")) == []
    assert ids(listed_tasks, tasks.LISTING.get_many("other", ["n00", "n01"])) == ["n00"]
    assert json.loads(listed_tasks.execute(*tasks.LISTING.get("other", "n00")).fetchall()[0][0])["title"] == "Theirs"
    assert ids(listed_tasks, activities.page("other", {})) == []
    assert ids(listed_tasks, activities.get("other", "a")) == []


def test_a_stored_row_is_shown_with_what_is_counted_at_the_time(listed_tasks: psycopg.Connection[Any]) -> None:
    row = listed_tasks.execute(*activities.get("acme", "a")).fetchall()[0]
    shown = activities.resource(row, NOW)
    assert {"working_seconds", "children", "sub_status", "reason"} <= set(shown)


def test_gets_and_lists_of_large_tables_go_through_an_index(migrated_url: str) -> None:
    filters: list[tuple[Any, dict[str, Any]]] = [
        (tasks, one)
        for one in (
            {},
            {"status": "active"},
            {"assignee": "m7"},
            {"activity_id": "a7"},
            {"activity_id": None},
            {"flow_id": "f7"},
            {"hub": "h7"},
            {"project": "p7"},
            {"overdue": True},
            {"channel": "SMS"},
            {"scheduled_at__gte": "2026-01-14T00:00:00Z"},
            {"scheduled_at__lte": "2026-01-02T00:00:00Z"},
            {"start__gte": "2027-01-01T00:00:00Z"},
            {"created_at__gte": "2027-01-01T00:00:00Z"},
        )
    ]
    filters += [
        (activities, one)
        for one in ({}, {"status": "active"}, {"workflow_id": "w7"}, {"assignee": "m7"}, {"attention": True})
    ]
    of_tasks, of_activities = (f"{model.NAME}_{suffix(model)}" for model in (tasks, activities))
    with psycopg.connect(migrated_url, autocommit=True) as conn:
        conn.execute(
            f"INSERT INTO {of_tasks} (tenant, id, status, resolution, dispatch, type, activity_id, flow, flow_id, hub,"
            " project, channel, assignees, overdue, late, title_key, start_at, end_at, scheduled_at, created_at,"
            " updated_at, done_at, order_index, position, doc)"
            " SELECT 'acme', 't' || n, CASE n % 100 WHEN 0 THEN 'active' ELSE 'open' END, 'NONE',"
            " 'NONE', 'TASK', CASE WHEN n % 50 > 0 THEN 'a' || n / 3 END, 'f' || n % 500, 'f' || n % 500,"
            " 'h' || n % 500,"
            " 'p' || n % 500, CASE n % 200 WHEN 0 THEN 'SMS' END, ARRAY['m' || n % 500], n % 500 = 0, false, '', at,"
            " at, CASE n % 200 WHEN 0 THEN at ELSE 'infinity' END, at, at, '-infinity', n, n, '{}'"
            " FROM generate_series(1, 20000) AS n,"
            " LATERAL (SELECT '2026-01-01'::timestamptz + n * interval '1 minute' AS at) AS made"
        )
        conn.execute(
            f"INSERT INTO {of_activities} SELECT 'acme', 'a' || n, CASE n % 100 WHEN 0 THEN 'active' ELSE 'open' END,"
            " 'U8', 'w' || n % 500, NULL, NULL, ARRAY['m' || n % 500], false, n % 500 = 0, '', NULL, at, at, at, at,"
            " '-infinity', n, '{}'"
            " FROM generate_series(1, 20000) AS n,"
            " LATERAL (SELECT '2026-01-01'::timestamptz + n * interval '1 minute' AS at) AS made"
        )
        conn.execute(f"ANALYZE {of_tasks}, {of_activities}")
        for model, one in filters:
            for asked in (model.page("acme", one), model.LISTING.get("acme", "t7")):
                plan = "\n".join(line for (line,) in conn.execute(f"EXPLAIN {asked.sql}", asked.params))
                assert "Seq Scan" not in plan, f"{one}: {plan}"
