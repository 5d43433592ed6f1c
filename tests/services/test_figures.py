"""What the figures of events cost: a bounded number of rows, however long the log is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from services.store import figures, tenants
from services.store.stuck import Asked

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
        session.execute(
            "INSERT INTO ledger (tenant, command_id, fingerprint, recorded_at)"
            " SELECT 'acme', 'c' || notification_id, '', recorded_at FROM stored_events"
        )
        session.execute("VACUUM ANALYZE stored_events, ledger")
        yield session


def read(plan: dict[str, Any], table: str = "stored_events") -> int:
    """Return how many rows of a table were read, all over a plan."""
    own = 0
    if plan.get("Relation Name") == table:
        assert plan["Node Type"] != "Seq Scan", json.dumps(plan, indent=1)
        left_out = sum(plan.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck"))
        own = (plan["Actual Rows"] + left_out) * plan["Actual Loops"]
    return int(own) + sum(read(part, table) for part in plan.get("Plans", ()))


def plan_of(conn: Connection, asked: Asked) -> dict[str, Any]:
    row = conn.execute(f"EXPLAIN (ANALYZE, FORMAT JSON, TIMING OFF) {asked.sql}", asked.params).fetchone()
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


@pytest.mark.parametrize("seconds", [1, 60, 300, 3600, 10 * EVENTS])
def test_no_more_of_the_log_is_read_than_the_sample(long_log: Connection, seconds: int) -> None:
    for asked in (figures.recent("acme", seconds, 30), figures.by_tenant(seconds)):
        # The plan has rounded means, and beside the sample what is halved.
        assert read(plan_of(long_log, asked)) <= 1.5 * figures.SAMPLE


def test_commands_are_counted_by_the_index_on_their_time(long_log: Connection) -> None:
    # As of a statement that was prepared: the planner does not know how many seconds.
    long_log.execute("SET plan_cache_mode = force_generic_plan")
    long_log.execute(f"PREPARE counting (integer) AS {tenants.decided(0).sql.replace('%(seconds)s', '$1')}")
    plan = plan_of(long_log, Asked("EXECUTE counting (300)", {}))
    long_log.execute("RESET plan_cache_mode")
    # The index knows stretches of pages, not rows.
    assert 290 <= read(plan, "ledger") <= EVENTS / 2


def test_the_events_of_each_tenant_are_those_of_the_log_or_near(long_log: Connection) -> None:
    for seconds, exact in ((2900, True), (40_000, False)):
        rows = long_log.execute(*figures.by_tenant(seconds)).fetchall()
        found = tenants.ranked(rows, [], [])
        assert found.exact is exact
        assert [load.tenant for load in found.tenants] == ["other", "acme"]
        acme = found.tenants[1]
        assert seconds / 5 * 0.8 - 60 <= acme.events <= seconds / 5 * 1.2
        assert acme.bytes == 2 * acme.events
        assert 16 <= acme.share <= 24


@pytest.mark.parametrize(("seconds", "exact"), [(300, True), (2900, True), (3600, False), (40_000, False)])
def test_the_numbers_are_those_of_the_log_or_near(long_log: Connection, seconds: int, exact: bool) -> None:
    found = figures.counted(long_log.execute(*figures.recent("acme", seconds, 30)).fetchall(), 30)
    assert found.exact is exact
    assert len(found.counts) == 30
    true = seconds / 5
    # Events were recorded when the test began, some seconds ago.
    assert true * 0.8 - 60 <= sum(found.counts) <= true * 1.2
