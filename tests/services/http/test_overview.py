"""The overview: figures of the tenant alone, bounded, and there while the broker is away."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import msgspec
import psycopg
import pytest

from services.http.core.kept import Kept
from services.http.native import overview
from services.store import figures, operations
from services.store.append import append_in
from tests.services.following import an_event
from tests.services.harness import TENANT
from tests.services.http.api import Api, problem, with_activity, with_workflow

PATH = "/v1/overview"


async def shown(api: Api, query: str = "", token: str | None = None) -> dict[str, Any]:
    response = await api.get(f"{PATH}{query}", token)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def append(api: Api, tenant: str, count: int, age: float = 0.0) -> None:
    """Append so many events of a tenant, recorded so many seconds ago."""
    events = []
    for _ in range(count):
        one = an_event()
        events.append(msgspec.structs.replace(one, stream=one.stream.replace(f"{TENANT}/", f"{tenant}/")))
    with psycopg.connect(api.url) as conn:
        last = append_in(conn, events)[-1]
        conn.execute(
            "UPDATE stored_events SET recorded_at = now() - %s * interval '1 second' WHERE notification_id > %s",
            (age, last - count),
        )


def counts(found: dict[str, Any]) -> list[int]:
    return [each["count"] for each in found["events"]["buckets"]]


async def test_a_tenant_without_anything_has_figures_of_nothing(api: Api) -> None:
    found = await shown(api)
    assert counts(found) == [0] * 30
    assert found["events"] == {
        **found["events"], "last_minute": 0, "per_second": 0, "bucket_seconds": 10, "exact": True,
    }  # fmt: skip
    assert found["visible"] == {"lag": 0, "lag_seconds": 0}
    assert found["queue"] == {"waiting": 0, "consumers": 1, "dead_letters": 0}
    assert found["dead_letters"] == {"count": 0, "more": False}
    none = [{"status": status, "count": 0, "more": False} for status in ("open", "active", "paused")]
    assert (found["activities"], found["tasks"]) == (none, none)


async def test_events_are_counted_by_their_time_and_tenant(api: Api) -> None:
    # Positions are in the order of time.
    append(api, "acme", 5, age=1000)
    append(api, "acme", 4, age=295)
    append(api, "other", 9, age=294)
    append(api, "acme", 2, age=140)
    append(api, "acme", 3, age=30)
    with psycopg.connect(api.url) as conn:
        operations.record(conn, operations.Operation("acme", "cli:root", "key.create", "key/x"))
    append(api, "acme-2", 7)
    append(api, "acme", 1)
    found = await shown(api)
    assert (counts(found)[0], sum(counts(found)[1:15]), sum(counts(found)[15:])) == (4, 0, 6)
    assert (found["events"]["last_minute"], found["events"]["per_second"]) == (4, 0.07)
    times = [datetime.fromisoformat(each["at"]) for each in found["events"]["buckets"]]
    assert {later - earlier for earlier, later in pairwise(times)} == {timedelta(seconds=10)}
    assert times[-1] + timedelta(seconds=10) == datetime.fromisoformat(found["at"])
    hour = await shown(api, "?minutes=60")
    assert (sum(counts(hour)), hour["events"]["bucket_seconds"]) == (15, 120)
    assert sum(counts(await shown(api, token=api.key("other", "system", "read")))) == 9


async def test_many_events_are_estimated_from_a_sample(api: Api) -> None:
    for tenant in ("acme", "other") * 5:
        append(api, tenant, 100, age=20)
    with patch.object(figures, "SAMPLE", 250):
        found = await shown(api)
    assert not found["events"]["exact"]
    assert 400 <= sum(counts(found)) <= 600
    assert 400 <= found["events"]["last_minute"] <= 600


async def test_open_activities_and_tasks_are_counted_by_status_up_to_a_limit(api: Api) -> None:
    with_workflow(api)
    with_activity(api)
    api.command("task.create", {"id": "t1"})
    api.command("task.create", {"id": "t2"})
    api.command("task.cancel", {"id": "t2"})
    api.command("task.create", {"id": "other"}, "other")
    found = await shown(api)
    assert [each["count"] for each in found["activities"]] == [0, 1, 0]
    assert [each["count"] for each in found["tasks"]] == [3, 0, 0]
    with patch.object(overview, "MOST", 2):
        bounded = await shown(api)
    assert bounded["tasks"][0] == {"status": "open", "count": 2, "more": True}
    assert bounded["activities"][1] == {"status": "active", "count": 1, "more": False}


async def test_what_is_stuck_leads_to_its_list(api: Api) -> None:
    api.command("task.create", {"id": "t1", "start": "2025-01-01T00:00:00Z"})
    with psycopg.connect(api.url) as conn:
        for tenant in ("acme", "other"):
            conn.execute(
                "INSERT INTO dead_letters (id, tenant, arrived, key, headers, body, bytes, sha256, code, detail,"
                " pointer, fingerprint) VALUES (%s, %s, '1', 'k', '{}', '', 0, '', 'poison', '', '', '')",
                (f"of-{tenant}", tenant),
            )
    found = await shown(api)
    stuck = {each["cause"]: each for each in found["stuck"]}
    assert stuck["task-unassigned"]["count"] == 1
    assert found["dead_letters"] == {"count": 1, "more": False}
    for each in found["stuck"]:
        listed = (await api.get(each["path"])).json()
        assert [one["count"] for one in listed["counts"]] == [each["count"]]


async def test_a_read_model_that_is_behind_is_what_is_visible(api: Api) -> None:
    api.sender.late = {"tasks"}
    api.command("task.create", {"id": "t1"})
    found = await shown(api)
    assert found["visible"]["lag"] == 1
    assert found["visible"]["lag_seconds"] > 0


async def test_a_broker_that_is_away_takes_nothing_else_away(api: Api) -> None:
    api.queue.away = True
    assert (await shown(api))["queue"] is None
    api.queue.away, api.queue.waiting, api.queue.dead = False, 7, 2
    assert (await shown(api))["queue"] == {"waiting": 7, "consumers": 1, "dead_letters": 2}


@pytest.mark.parametrize("minutes", ["0", "61", "-1", "x", "", "1.5", "5&minutes=6"])
async def test_other_minutes_are_refused(api: Api, minutes: str) -> None:
    refused = await api.get(f"{PATH}?minutes={minutes}")
    problem(refused, 400, refused.json()["code"], parameter="minutes")


async def test_it_is_kept_for_a_moment_by_tenant(api: Api) -> None:
    other = api.key("other", "system", "read")
    with patch.object(Kept, "seconds", 60.0):
        first = await asyncio.gather(*(shown(api) for _ in range(5)))
        append(api, "acme", 1)
        append(api, "other", 1)
        assert await shown(api) == first[0]
        assert all(found == first[0] for found in first)
        assert sum(counts(await shown(api, token=other))) == 1
        assert (await shown(api, "?minutes=6"))["at"] != first[0]["at"]


async def test_an_answer_that_failed_is_not_kept() -> None:
    kept, asked = Kept(), []

    async def ask() -> int:
        asked.append(1)
        await asyncio.sleep(0)
        if len(asked) == 1:
            raise ValueError("away")
        return len(asked)

    both = await asyncio.gather(kept.get("a", ask), kept.get("a", ask), return_exceptions=True)
    assert [type(each) for each in both] == [ValueError, ValueError]
    assert await kept.get("a", ask) == await kept.get("a", ask) == 2
    # Whoever asks first and goes takes nothing from the others.
    going = asyncio.create_task(kept.get("b", ask))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(kept.get("b", ask))
    await asyncio.sleep(0)
    going.cancel()
    assert await waiting == 3
