"""The log over HTTP."""

from __future__ import annotations

import psycopg
import pytest

from services.cloud_events import cloud_event
from services.http.native import records
from services.store import log
from tests.services.http.api import Api, problem, with_activity, with_workflow


async def test_events_are_the_bytes_that_are_published_and_the_tenants_alone(api: Api) -> None:
    with_workflow(api, "other")
    with_workflow(api)
    with_activity(api)
    with_workflow(api, "acme-2", id="w2")
    response = await api.get("/v1/events")
    with psycopg.connect(api.url) as conn:
        rows = [row for row in log.read(conn, 0, 100) if row.stream.startswith("acme/")]
        head = log.head(conn)
    wanted = b",".join(cloud_event(row) for row in rows)
    assert response.content == b'{"events":[%b],"next":%d,"head":%d}' % (wanted, head, head)
    assert len(rows) == 7


async def test_a_tail_goes_on_where_it_stopped(api: Api) -> None:
    with_workflow(api)
    with_activity(api)
    after, seen = 0, []
    while True:
        body = (await api.get(f"/v1/events?after={after}&limit=2")).json()
        seen += [event["position"] for event in body["events"]]
        if body["next"] == after:
            break
        after = body["next"]
    assert seen == list(range(1, body["head"] + 1))


async def test_a_filter_by_type_and_a_long_stretch_without_any(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_WINDOW", 3)
    with_workflow(api)
    with_activity(api)
    body = (await api.get("/v1/events?type=task.assigned")).json()
    assert body["events"] == []
    assert body["next"] == 3
    body = (await api.get("/v1/events?after=3&type=task.assigned&type=workflow.defined")).json()
    assert [event["type"] for event in body["events"]] == ["task.assigned"]
    api.command("directory.register", {"kind": "hub", "id": "h", "fields": {}}, "other")
    head = body["head"] + 1
    body = (await api.get(f"/v1/events?after={head - 1}")).json()
    assert body == {"events": [], "next": head, "head": head}


@pytest.mark.parametrize(
    ("query", "code", "parameter"),
    [
        ("after=1", "position-beyond-head", "after"),
        ("after=-1", "bad-position", "after"),
        ("limit=501", "bad-limit", "limit"),
        ("type=task.exploded", "bad-filter", "type"),
        ("before=1", "unknown-parameter", "before"),
    ],
)
async def test_a_question_that_cannot_be_asked(api: Api, query: str, code: str, parameter: str) -> None:
    problem(await api.get(f"/v1/events?{query}"), 400, code, parameter=parameter)
