"""What the figures of events cost: a bounded number of rows, however long the log is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from services.store import figures

EVENTS = 50_000
Connection = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def long_log(module_url: str) -> Iterator[Connection]:
    """A log of fourteen hours, an event each second, every fifth of `acme`."""
    with psycopg.connect(module_url, autocommit=True) as session:
        session.execute(
            "INSERT INTO stored_events (originator_id, originator_version, topic, state, notification_id, recorded_at)"
            " SELECT CASE n % 5 WHEN 0 THEN 'acme' ELSE 'other' END || '/task-' || n, 1, 'task.created', '{}', n,"
            f" now() - ({EVENTS} - n) * interval '1 second' FROM generate_series(1, {EVENTS}) AS n"
        )
        session.execute("VACUUM ANALYZE stored_events")
        yield session


def read(plan: dict[str, Any]) -> int:
    """Return how many rows of the log were read, all over a plan."""
    own = 0
    if plan.get("Relation Name") == "stored_events":
        assert plan["Node Type"] != "Seq Scan", json.dumps(plan, indent=1)
        left_out = sum(plan.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck"))
        own = (plan["Actual Rows"] + left_out) * plan["Actual Loops"]
    return int(own) + sum(read(part) for part in plan.get("Plans", ()))


@pytest.mark.parametrize("seconds", [1, 60, 300, 3600, 10 * EVENTS])
def test_no_more_of_the_log_is_read_than_the_sample(long_log: Connection, seconds: int) -> None:
    asked = figures.recent("acme", seconds, 30)
    row = long_log.execute(f"EXPLAIN (ANALYZE, FORMAT JSON, TIMING OFF) {asked.sql}", asked.params).fetchone()
    assert row is not None
    # The plan has rounded means, and beside the sample what is halved.
    assert read(row[0][0]["Plan"]) <= 1.5 * figures.SAMPLE


@pytest.mark.parametrize(("seconds", "exact"), [(300, True), (2900, True), (3600, False), (40_000, False)])
def test_the_numbers_are_those_of_the_log_or_near(long_log: Connection, seconds: int, exact: bool) -> None:
    found = figures.counted(long_log.execute(*figures.recent("acme", seconds, 30)).fetchall(), 30)
    assert found.exact is exact
    assert len(found.counts) == 30
    true = seconds / 5
    # Events were recorded when the test began, some seconds ago.
    assert true * 0.8 - 60 <= sum(found.counts) <= true * 1.2
