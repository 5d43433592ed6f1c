"""Looking back: what is shown as of a position, or a time, is what the read models showed when they were there."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import httpx
import psycopg
import pytest

from domain.activity import CancelActivity, ChangeActivity
from domain.recorded import Recorded
from domain.task.working import TaskDataSaved
from services.http.core import past
from tests.projections.recording import store
from tests.projections.test_folding import ON_TASKS, log_of
from tests.services.http.api import Api, opened, problem

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
TASKS = ("t1", "t2", "t3", "t4")
LISTS = (
    "/v1/tasks?activity_id=a",
    "/v1/tasks?activity_id=a&sort=title&status=open&status=completed",
    "/v1/tasks?activity_id=a&search=zo%C3%AB&counts=status",
    "/v1/tasks?activity_id=a&limit=1&sort=-updated_at",
    "/api/v3/tasks?parentId=a&sortBy=title&sortOrder=asc",
    "/api/v3/tasks?parentId=a&format=csv",
    "/api/v3/workflow/activities?filter[work_unit_id]=a&count=true&sort=-working_seconds,status",
)
ONES = (
    *(f"/v1/tasks/{task}" for task in TASKS),
    "/v1/activities/a",
    "/v1/activities/a/explain",
    *(f"/api/v3/task/{each}" for each in ("t1", "t3", "a")),
    "/api/v3/activity/a?fields=status,assignee",
    "/api/activities/t4",
    "/api/activities/t4/attributes",
    "/api/activities/t4/target-users",
    "/api/v3/workflow/activities/t2?included=work_unit",
    "/api/v3/workflow/work_units/a",
)
# From here on the directory is as it is at the end.
FIRST = 4
Shown = tuple[int, str, str | None]


def at(position: int) -> datetime:
    return BEGAN + timedelta(seconds=90 * position)


def as_of(path: str, moment: Any) -> str:
    return f"{path}{'&' if '?' in path else '?'}as_of={quote(str(moment), safe='')}"


def shown(response: httpx.Response) -> Shown:
    # Addresses of other pages repeat what was asked for.
    body = re.sub(r"(\?|&)as_of=[^&\"]*&?", r"\1", response.text).replace('&"', '"')
    return response.status_code, body, response.headers.get("etag")


def histories(seed: int, length: int = 60) -> list[Recorded]:
    """Return what random commands record, between the events of another tenant with the same ids."""
    chosen = random.Random(seed)

    def commands(count: int) -> list[Any]:
        others = (CancelActivity("a"), ChangeActivity("a", title="Else"), ChangeActivity("a", hub=None))
        return [
            chosen.choice(ON_TASKS)(chosen.choice(TASKS)) if chosen.random() < 0.97 else chosen.choice(others)
            for _ in range(count)
        ]

    own = log_of(commands(length))
    theirs = [event._replace(tenant="other") for event in log_of(commands(10))]
    mixed = own[:FIRST]
    for event in own[FIRST:]:
        mixed.append(event)
        if theirs and chosen.random() < 0.3:
            mixed.append(theirs.pop(0))
    return mixed


class Clock:
    """The time of the HTTP process: that of the last event."""

    now = BEGAN

    def __call__(self) -> datetime:
        return self.now


async def record(api: Api, clock: Clock, log: list[Recorded], paths: tuple[str, ...]) -> dict[int, dict[str, Shown]]:
    """Store events one by one, and return what the read models showed after each."""
    found: dict[int, dict[str, Shown]] = {}
    with psycopg.connect(api.url, autocommit=True) as conn:
        for position, event in enumerate(log, 1):
            store(conn, [event])
            conn.execute(
                "UPDATE stored_events SET recorded_at = %s WHERE notification_id = %s", (at(position), position)
            )
            api.sender.follow()
            clock.now = at(position)
            if position >= FIRST:
                found[position] = {path: shown(await api.get(path)) for path in paths}
    return found


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_thousand_random_positions_show_what_the_read_models_showed_there(migrated_url: str, seed: int) -> None:
    clock, chosen = Clock(), random.Random(seed)
    log = histories(seed)
    async with opened(migrated_url, clock=clock) as api:
        seen = await record(api, clock, log, (*ONES, *LISTS))
        clock.now = at(10_000)
        differing = {path: len({each[path] for each in seen.values()}) for path in (*ONES, *LISTS)}
        assert min(differing.values()) >= 2, differing
        # Pages of a few events as well as of all of them.
        with patch.object(past, "EVENTS", 7):
            for number in range(500):
                position, path = chosen.choice(list(seen)), chosen.choice((*ONES, *LISTS))
                moment = at(position) + timedelta(seconds=chosen.choice((0, 0.5, 89.999)))
                wanted = position if number % 5 else at(position).isoformat()
                response = await api.get(as_of(path, wanted))
                assert shown(response) == seen[position][path], (position, path)
                assert response.headers["foldwork-position"] == str(position) or response.status_code == 404
                if number % 5 == 0:
                    later = await api.get(as_of("/v1/tasks/t1", moment.isoformat()))
                    assert later.headers.get("foldwork-position", str(position)) == str(position)


@pytest.fixture
async def told(migrated_url: str) -> Any:
    """The HTTP process, with a short history of one task in one activity."""
    clock = Clock()
    async with opened(migrated_url, clock=clock) as api:
        await record(api, clock, log_of([ON_TASKS[3]("t1"), ON_TASKS[7]("t1")]), ())
        clock.now = at(10_000)
        yield api


def length(api: Api) -> int:
    with psycopg.connect(api.url) as conn:
        return int(conn.execute("SELECT max(notification_id) FROM stored_events").fetchall()[0][0])


@pytest.mark.parametrize(
    ("moment", "code"),
    [
        ("", "bad-position"),
        ("-1", "bad-position"),
        ("1.5", "bad-position"),
        ("9" * 18, "position-beyond-head"),
        ("9" * 19, "bad-position"),
        ("now", "bad-position"),
        ("2026-03-01", "bad-position"),
        ("2026-03-01T12:00:00", "bad-position"),
        ("2026-13-01T12:00:00Z", "bad-position"),
        ("0001-01-01T00:00:00+14:00", "bad-position"),
        ("9999-12-31T23:59:59Z", "position-beyond-head"),
        ("٣", "bad-position"),
    ],
)
async def test_what_is_no_past_is_refused(told: Api, moment: str, code: str) -> None:
    for path in ("/v1/tasks/t1", "/v1/activities/a/explain", "/v1/tasks?activity_id=a"):
        problem(await told.get(as_of(path, moment)), 400, code, parameter="as_of")


async def test_before_the_creation_and_of_other_tenants_there_is_nothing(told: Api) -> None:
    for moment in (0, 1, 3, "0001-01-01T00:00:00Z", (BEGAN - timedelta(days=1)).isoformat()):
        for path in ONES:
            response = await told.get(as_of(path, moment))
            assert response.status_code == 404, (path, response.text)
        assert (await told.get(as_of("/v1/tasks?activity_id=a", moment))).json() == {"data": [], "next": None}
    other = told.key("other")
    for path in ONES:
        assert (await told.get(as_of(path, length(told)), other)).status_code == 404
    assert (await told.get(as_of("/v1/tasks?activity_id=a", length(told)), other)).json()["data"] == []
    for strange in ("a%00b", "x" * 70, "%F0%9F%98%80"):
        problem(await told.get(f"/v1/tasks/{strange}?as_of=1"), 404, "not-found")


async def test_the_end_of_the_log_is_the_present_and_beyond_it_is_refused(told: Api) -> None:
    head = length(told)
    now = await told.get("/v1/tasks/t1")
    then = await told.get(as_of("/v1/tasks/t1", head))
    assert then.json()["version"] == now.json()["version"]
    assert then.headers["etag"] == now.headers["etag"]
    problem(await told.get(as_of("/v1/tasks/t1", head + 1)), 400, "position-beyond-head", parameter="as_of")


async def test_only_single_ones_and_the_tasks_of_one_activity_have_a_past(told: Api) -> None:
    for path in (
        *("/v1/activities", "/v1/events", "/v1/directory/member", "/v1/directory/member/ann", "/v1/tasks/t1/history"),
        *("/v1/activities/a/history", "/v1/commands/c"),
    ):
        problem(await told.get(as_of(path, 1)), 400, "unknown-parameter", parameter="as_of")
    for path in (
        "/v1/tasks",
        "/v1/tasks?status=open",
        "/v1/tasks?activity_id=",
        "/v1/tasks?activity_id=a&activity_id=b",
    ):
        problem(await told.get(as_of(path, 1)), 400, "bad-position", parameter="as_of")
    for path in ("/api/v3/activities", "/api/v3/tasks", "/api/v3/tasks?format=csv", "/api/v3/hubs", "/api/v3/hub/h"):
        refused = await told.get(as_of(path, 5))
        assert refused.status_code == 400, refused.text
        assert "as_of" in refused.json()["message"]
    for path in ("/api/activities", "/api/activities/t4/status-events"):
        refused = await told.get(as_of(path, 5))
        assert refused.status_code == 400, refused.text
        assert "as_of" in refused.text
    base = "/api/v3/workflow"
    for path in ("activities", "activities?filter[status]=todo", "work_units", "projects", "work_periods", "members"):
        refused = await told.get(as_of(f"{base}/{path}", 5))
        assert refused.status_code in (400, 422), refused.text
        assert "as_of" in refused.text
    problem(
        await told.post("/v1/commands?as_of=1", {"type": "task.pause", "data": {"id": "t1"}}), 400, "unknown-parameter"
    )
    assert not told.sender.sent


async def test_nothing_is_waited_for_and_the_answer_says_the_position_that_it_shows(told: Api) -> None:
    head = length(told)
    told.sender.late.add("tasks")
    with psycopg.connect(told.url, autocommit=True) as conn:
        conn.execute("UPDATE followers SET position = 0")
    response = await told.get(f"/v1/tasks/t1?as_of={head - 1}&min_position={head}")
    assert (response.status_code, response.headers["foldwork-position"]) == (200, str(head - 1))
    response = await told.get(f"/v1/tasks/t1?as_of={head}", headers={"Foldwork-Position": "1"})
    assert (response.status_code, response.headers["foldwork-position"]) == (200, str(head))
    beyond = await told.get(f"/v1/tasks/t1?as_of={head}&min_position={head + 1}")
    problem(beyond, 400, "position-beyond-head", parameter="min_position")


async def test_a_tag_of_then_is_known_and_a_write_with_it_is_refused(told: Api) -> None:
    head = length(told)
    before = await told.get(as_of("/v1/tasks/t1", head - 1))
    tag = before.headers["etag"]
    assert (await told.get(as_of("/v1/tasks/t1", head - 1), headers={"If-None-Match": tag})).status_code == 304
    assert (await told.get("/v1/tasks/t1", headers={"If-None-Match": tag})).status_code == 200
    changed = await told.client.patch("/api/v3/task/t1", json={"title": "x"}, headers={**told.by(), "If-Match": tag})
    assert changed.status_code == 412, changed.text


async def test_a_stream_that_cannot_be_read_is_said_so(told: Api) -> None:
    with psycopg.connect(told.url, autocommit=True) as conn:
        conn.execute("UPDATE stored_events SET topic = 'task.invented' WHERE notification_id = %s", (length(told),))
    problem(await told.get(as_of("/v1/tasks/t1", length(told))), 503, "newer-version")
    assert (await told.get(as_of("/v1/tasks/t1", length(told) - 1))).status_code == 200


async def test_a_long_history_is_read_a_page_at_a_time(migrated_url: str) -> None:
    clock = Clock()
    async with opened(migrated_url, clock=clock, http_memory=1 << 20) as api:
        # Half a MB of events, of which no more than a few kB are in memory at once.
        log = log_of([ON_TASKS[3]("t1")])
        last = next(event for event in reversed(log) if event.entity_id == "t1")
        for number in range(1, 301):
            data = TaskDataSaved("t1", "a", {}, {"text": "x" * 4000, "n": number})
            log.append(last._replace(version=last.version + number, name="task.data-saved", data=data))
        with psycopg.connect(api.url, autocommit=True) as conn:
            store(conn, log)
        with patch.object(past, "BYTES", 8 << 10):
            for back in (0, 100, 299):
                found = await api.get(as_of("/v1/tasks/t1", len(log) - back))
                assert found.json()["data"]["n"] == 300 - back, found.text
