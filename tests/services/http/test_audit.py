"""What operators did, over HTTP: listed for their own tenant, to whoever has the permission, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from services.store import audit
from services.store.connect import connect
from services.store.operations import Operation, record
from tests.services.harness import rows
from tests.services.http.api import Api, problem, with_activity, with_workflow
from tests.services.http.streaming import Streaming

PATH = "/v1/audit"


def add(api: Api, *operations: Operation) -> None:
    for operation in operations:
        with connect(api.url, "test") as conn:
            record(conn, operation)


def numbered(count: int, tenant: str | None = "acme") -> list[Operation]:
    return [Operation(tenant, "cli:root", "key.create", f"key/{number}") for number in range(count)]


async def listed(api: Api, path: str = PATH, token: str | None = None) -> list[dict[str, Any]]:
    """All acts of a list, page by page."""
    found: list[dict[str, Any]] = []
    following: str | None = path
    token = token or api.key("acme", "system", "audit")
    while following is not None:
        answer = await api.get(following, token)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page["data"]
        following = page["next"]
    return found


async def test_acts_are_listed_newest_first_with_who_did_what(api: Api) -> None:
    failed = Operation("acme", "ann", "key.revoke", "key/1", "failed", {"more": 1}, "there is none", "0123456789abcdef")
    add(api, *numbered(1), failed)
    newest, first = await listed(api)
    assert first["target"] == "key/0"
    moment = rows(api.url, "SELECT recorded_at FROM stored_events WHERE notification_id = 2")[0][0]
    event_id = newest["event_id"]
    assert newest == {
        "position": 2,
        "event_id": event_id,
        "operation_id": event_id,
        "act": "key.revoke",
        "target": "key/1",
        "outcome": "failed",
        "reason": "there is none",
        "actor": "ann",
        "key_id": "0123456789abcdef",
        "recorded_at": moment.isoformat(timespec="milliseconds")[:23] + "Z",
        "details": {"more": 1},
    }


@pytest.mark.parametrize("limit", [1, 3, 7, 8])
async def test_pages_meet_without_a_gap_while_more_is_recorded(api: Api, limit: int) -> None:
    add(api, *numbered(7))
    token = api.key("acme", "system", "audit")
    first = (await api.get(f"{PATH}?limit={limit}", token)).json()
    add(api, *numbered(3))
    rest = await listed(api, first["next"], token) if first["next"] else []
    assert [each["position"] for each in (*first["data"], *rest)] == [7, 6, 5, 4, 3, 2, 1]


async def test_filters(api: Api) -> None:
    others = Operation("acme", "ann", "webhook.create", "webhook/1", "failed", reason="no")
    add(api, *numbered(2), others)
    times = [at for (at,) in rows(api.url, "SELECT recorded_at FROM stored_events ORDER BY notification_id")]
    second = times[1].isoformat().replace("+00:00", "Z")
    for query, positions in (
        ("act=webhook.create", [3]),
        ("actor=cli:root", [2, 1]),
        ("target=key/", [2, 1]),
        ("target=key/1&actor=cli:root", [2]),
        ("outcome=failed", [3]),
        (f"since={second}", [3, 2]),
        (f"until={second}", [1]),
        (f"since={second}&until={second}", []),
        ("act=nothing", []),
    ):
        assert [each["position"] for each in await listed(api, f"{PATH}?{query}")] == positions, query


async def test_a_filter_that_finds_little_is_asked_in_parts(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "WINDOW", 2)
    add(api, Operation("acme", "ann", "key.revoke", "key/9"), *numbered(6))
    token = api.key("acme", "system", "audit")
    first = (await api.get(f"{PATH}?act=key.revoke", token)).json()
    assert first["data"] == []
    assert first["next"] is not None
    assert [each["position"] for each in await listed(api, first["next"], token)] == [1]


@pytest.mark.parametrize(
    ("query", "code", "parameter"),
    [
        ("act=", "bad-filter", "act"),
        ("actor=%00", "bad-filter", "actor"),
        ("target=" + "x" * 20_000, "bad-filter", "target"),
        ("outcome=done", "bad-filter", "outcome"),
        ("act=a.b&act=c.d", "bad-filter", "act"),
        ("since=yesterday", "bad-filter", "since"),
        ("until=2026-02-30T00:00:00Z", "bad-filter", "until"),
        ("limit=0", "bad-limit", "limit"),
        ("limit=501", "bad-limit", "limit"),
        ("cursor=x", "bad-cursor", "cursor"),
        ("cursor=9223372036854775808", "bad-cursor", "cursor"),
        ("tenant=other", "unknown-parameter", "tenant"),
    ],
)
async def test_what_cannot_be_asked(api: Api, query: str, code: str, parameter: str) -> None:
    refused = await api.get(f"{PATH}?{query}", api.key("acme", "system", "audit"))
    problem(refused, 400, code, parameter=parameter)


async def test_any_cursor_is_a_place_in_the_list(api: Api) -> None:
    add(api, *numbered(2))
    for cursor, positions in ((0, []), (1, []), (2, [1]), (9223372036854775807, [2, 1])):
        answer = await api.get(f"{PATH}?cursor={cursor}", api.key("acme", "system", "audit"))
        assert [each["position"] for each in answer.json()["data"]] == positions


async def test_nobody_sees_the_acts_of_others(api: Api) -> None:
    add(api, *numbered(1), *numbered(2, "other"), *numbered(3, None), *numbered(1, "acme-2"))
    assert [each["position"] for each in await listed(api)] == [1]
    assert len(await listed(api, token=api.key("other", "system", "audit"))) == 2
    assert await listed(api, token=api.key("third", "system", "audit")) == []


async def test_it_needs_its_permission(api: Api) -> None:
    for permissions in (("read", "write"), ("operate", "webhooks"), ("VIEW_ACTIVITIES", "impersonate")):
        refused = await api.get(PATH, api.key("acme", "system", *permissions))
        problem(refused, 403, "forbidden", detail="this needs the permission audit")


async def test_acts_are_no_events_of_the_tenant(api: Api) -> None:
    with_workflow(api)
    add(api, *numbered(2))
    with_activity(api, "a1")
    answer = (await api.get("/v1/events?after=0&limit=500")).json()
    positions = [event["position"] for event in answer["events"]]
    head = rows(api.url, "SELECT max(notification_id) FROM stored_events")[0][0]
    acts = [
        position for (position,) in rows(api.url, "SELECT notification_id FROM stored_events WHERE topic ~ '^oper'")
    ]
    assert len(acts) == 2
    assert positions == [position for position in range(1, head + 1) if position not in acts]
    refused = await api.get("/v1/events?type=operation.recorded")
    problem(refused, 400, "bad-filter")


async def test_acts_are_not_streamed(live: Streaming) -> None:
    api = live.api
    async with live.read() as reader:
        await reader.begin()
        add(api, *numbered(2))
        with_workflow(api)
        assert (await reader.event())["position"] == 3
    async with live.read("after=0") as reader:
        assert (await reader.event())["position"] == 3
