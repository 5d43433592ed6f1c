"""Many tasks by one request: partial success, order, repetition, what is not answered in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest

from services import keys
from services.broker.sender import NotSent, Outgoing, Unconfirmed
from services.commands.wire import Reply
from services.http.core.app import create_app
from services.roles import Roles
from tests.eventually import PATIENCE, eventually_async
from tests.services.harness import settings
from tests.services.http.api import Api, field_failure, opened

PATH = "/api/v3/tasks/bulk"
START, END = "2025-10-31T08:55:00.000+07:00", "2025-11-01T08:55:00.000+07:00"


def task(ref: Any = "r1", **rest: Any) -> dict[str, Any]:
    """Return a task of a request."""
    return {"refId": ref, "flow": "Visit", **rest}


def _created(api: Api) -> int:
    with psycopg.connect(api.url) as conn:
        row = conn.execute("SELECT count(*) FROM stored_events WHERE topic = 'task.created'").fetchone()
    assert row is not None
    return int(row[0])


async def test_some_fail_and_the_others_do_not(api: Api) -> None:
    api.command("directory.register", {"kind": "hub", "id": "h1", "fields": {}})
    tasks = [
        task("a", assignee=["ann@example.com"], startTime=START, endTime=END, parcel={"kg": 2}),
        task("b", startTime=END, endTime=START),
        "no object",
        task("c", hubId="h9"),
        {"flow": "Visit"},
        task(7),
        task("d", assignee=["ann@example.com"]),
        task("e", status="DONE"),
        {"refId": "f"},
        task("g", assignee=["no one"]),
        task("h", hubId=["h1"]),
    ]
    response = await api.post(PATH, {"tasks": tasks})
    assert response.status_code == 201
    body = response.json()
    assert list(body) == ["success", "failed", "tasks"]
    assert (body["success"], body["failed"]) == (3, 8)
    assert [(item.get("refId"), item.get("failedCode")) for item in body["tasks"]] == [
        ("a", None),
        ("b", "activity-004"),
        (None, "activity-001"),
        ("c", "hub-001"),
        (None, None),
        (None, "activity-001"),
        ("d", None),
        ("e", "activity-003"),
        ("f", "activity-001"),
        ("g", "activity-005"),
        ("h", "activity-001"),
    ]
    assert list(body["tasks"][0]) == ["status", "message", "_id", "refId"]
    assert list(body["tasks"][1]) == ["status", "message", "_id", "refId", "failedCode"]
    assert body["tasks"][1]["message"].endswith("(/endTime)")
    assert [item["status"] for item in body["tasks"]] == ["failedCode" not in item for item in body["tasks"]]
    assert {item["_id"] for item in body["tasks"] if not item["status"]} == {None}
    first = (await api.get(f"/api/v3/task/{body['tasks'][0]['_id']}")).json()["task"]
    assert {name: first[name] for name in tasks[0]} == tasks[0]  # type: ignore[union-attr]
    assert _created(api) == 3


async def test_they_are_taken_together_and_answered_in_order(api: Api) -> None:
    refs = [f"order {number}" for number in range(300)]
    body = (await api.post(PATH, {"tasks": [task(ref) for ref in refs]})).json()
    assert [item["refId"] for item in body["tasks"]] == refs
    assert (body["success"], body["failed"]) == (300, 0)
    assert max(api.sender.batches) > 100
    listed = (await api.get("/api/v3/tasks?limit=300")).json()["tasks"]["data"]
    assert {found["_id"]: found["refId"] for found in listed} == {item["_id"]: item["refId"] for item in body["tasks"]}


async def test_the_published_request_and_its_answer(api: Api) -> None:
    """The slash is a part of the published path; a `refId` is shown where one was sent."""
    tasks = [{"flow": "Visit", "hubId": "h1"}, {"flow": "Visit", "hubId": "h1", "refId": "66544e0855d2696d401d8252"}]
    response = await api.post(f"{PATH}/", {"tasks": tasks})
    assert response.status_code == 201
    first, second = response.json()["tasks"]
    made = {"status": True, "message": "Task has been created"}
    assert response.json() == {
        "success": 2,
        "failed": 0,
        "tasks": [
            {**made, "_id": first["_id"]},
            {**made, "_id": second["_id"], "refId": "66544e0855d2696d401d8252"},
        ],
    }


async def test_a_key_makes_a_task_without_a_ref_take_effect_once_at_its_place(api: Api) -> None:
    headers = {"Idempotency-Key": "import 9"}
    # A ref that reads like a place is not one.
    tasks = [{"flow": "Visit"}, task("0")]
    first, second = [(await api.post(PATH, {"tasks": tasks}, headers=headers)).json()["tasks"] for _ in range(2)]
    assert [item["_id"] for item in first] == [item["_id"] for item in second]
    assert _created(api) == 2


async def test_all_tasks_of_one_ref_fail_alike(api: Api) -> None:
    body = (await api.post(PATH, {"tasks": [task("x"), task("y"), task("x", title="Other")]})).json()
    assert [item.get("failedCode") for item in body["tasks"]] == ["bulk-002", None, "bulk-002"]
    assert _created(api) == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ([], 400, "activity-001"),
        ({}, 400, "activity-001"),
        ({"tasks": {}}, 400, "activity-001"),
        ({"tasks": [task()], "background": "yes"}, 400, "activity-001"),
        ({"tasks": [task()], "backgrund": True}, 400, "activity-001"),
        ({"tasks": []}, 400, "bulk-001"),
        ({"tasks": [0] * 2001}, 400, "bulk-001"),
        ({"tasks": [task(note="\0")]}, 422, "activity-008"),
    ],
)
async def test_a_request_that_is_no_bulk(api: Api, body: Any, status: int, code: str) -> None:
    field_failure(await api.post(PATH, body), status, code)
    assert api.sender.sent == []


async def test_a_key_makes_each_task_take_effect_once_under_its_ref(api: Api) -> None:
    api.command("directory.register", {"kind": "hub", "id": "h1", "fields": {}})
    headers = {"Idempotency-Key": "import 7"}
    tasks = [task("a"), task("b", hubId="h2"), task("c")]
    first = (await api.post(PATH, {"tasks": tasks}, headers=headers)).json()["tasks"]
    assert [item["status"] for item in first] == [True, False, True]
    api.command("directory.register", {"kind": "hub", "id": "h2", "fields": {}})
    # In another order, with what was refused and one more: only these two are new.
    again = [tasks[2], tasks[1], task("d"), tasks[0]]
    second = (await api.post(PATH, {"tasks": again}, headers=headers)).json()["tasks"]
    assert [item["status"] for item in second] == [True] * 4
    ids = {item["refId"]: item["_id"] for item in second}
    assert (ids["a"], ids["c"]) == (first[0]["_id"], first[2]["_id"])
    assert _created(api) == 4
    other = (await api.post(PATH, {"tasks": [task("a", title="Other"), task("e")]}, headers=headers)).json()["tasks"]
    assert [item.get("failedCode") for item in other] == ["activity-006", None]
    assert (await api.post(PATH, {"tasks": [task("a")]}, headers={"Idempotency-Key": "import 8"})).json()["tasks"][0][
        "_id"
    ] != ids["a"]


async def test_a_key_of_one_tenant_is_nothing_to_another(api: Api) -> None:
    headers = {"Idempotency-Key": "k"}
    ours = (await api.post(PATH, {"tasks": [task()]}, headers=headers)).json()["tasks"][0]
    theirs = (await api.post(PATH, {"tasks": [task()]}, api.key("other"), headers=headers)).json()["tasks"][0]
    assert (ours["status"], theirs["status"]) == (True, True)
    assert ours["_id"] != theirs["_id"]


@pytest.mark.parametrize("key", [None, "k"])
async def test_in_the_background_each_task_that_can_be_sent_has_a_receipt(api: Api, key: str | None) -> None:
    api.sender.stopped = True
    headers = {} if key is None else {"Idempotency-Key": key}
    tasks = [task("a"), task("b", status="DONE"), task("c", hubId="h1")]
    response = await api.post(PATH, {"background": True, "tasks": tasks}, headers=headers)
    assert response.status_code == 202
    body = response.json()
    assert list(body) == ["success", "failed", "receipt", "tasks"]
    assert response.headers["location"] == body["receipt"]
    assert (body["success"], body["failed"]) == (2, 1)
    assert [item.get("failedCode") for item in body["tasks"]] == [None, "activity-003", None]
    taken = [item for item in body["tasks"] if item["status"]]
    for item in taken:
        assert (await api.get(item["receipt"])).status_code == 404
    await eventually_async(lambda: len(api.sender.waiting) == 2)
    await api.sender.catch_up()
    for item in taken:
        assert (await api.get(item["receipt"])).json()["outcome"] == "accepted"
        assert (await api.get(f"/api/v3/task/{item['_id']}")).json()["task"]["refId"] == item["refId"]


async def test_in_the_background_what_can_be_no_task_at_all_is_answered_now(api: Api) -> None:
    wrong = [task("a", status="DONE"), 7, task("b", startTime="tomorrow")]
    wrong.append(task("c", startTime="2025-10-31T01:00:00Z", endTime="2025-10-31T00:00:00Z"))
    response = await api.post(PATH, {"background": True, "tasks": wrong})
    assert (response.status_code, list(response.json())) == (201, ["success", "failed", "tasks"])


async def test_in_the_background_nobody_waits_for_the_workers(api: Api) -> None:
    response = await api.post(PATH, {"background": True, "tasks": [task()]})
    assert response.status_code == 202
    (item,) = response.json()["tasks"]

    async def there() -> bool:
        return (await api.get(f"/api/v3/task/{item['_id']}")).status_code == 200

    await eventually_async(there)


async def test_what_is_not_answered_in_time_has_a_receipt(api: Api) -> None:
    api.sender.stopped = True
    response = await api.post(PATH, {"tasks": [task("a"), task("b", status="DONE")]})
    assert response.status_code == 202
    first, second = response.json()["tasks"]
    assert list(first) == ["status", "message", "_id", "refId", "receipt"]
    assert (first["status"], second["status"]) == (True, False)
    await api.sender.catch_up()
    assert (await api.get(first["receipt"])).json()["outcome"] == "accepted"


async def test_a_broker_that_is_away_takes_nothing(api: Api) -> None:
    api.sender.unreachable = True
    response = await api.post(PATH, {"tasks": [task()]})
    field_failure(response, 503, "server-002")
    assert response.headers["retry-after"] == "1"


async def test_a_broker_that_goes_away_in_between(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    send = api.sender.send

    async def fails(outgoing: Outgoing, timeout: float, *, wait: bool = True) -> Reply | None:
        if b'"b"' in outgoing.body:
            raise NotSent("gone")
        if b'"c"' in outgoing.body:
            raise Unconfirmed("who knows")
        return await send(outgoing, timeout, wait=wait)

    monkeypatch.setattr(api.sender, "send", fails)
    response = await api.post(PATH, {"tasks": [task("a"), task("b"), task("c")]})
    assert response.status_code == 201
    first, second, third = response.json()["tasks"]
    assert first["status"] is True
    assert (second["failedCode"], second["_id"], "receipt" in second) == ("server-002", None, False)
    assert third["failedCode"] == "server-002"
    assert third["_id"]
    assert third["receipt"].startswith("/v1/commands/")


async def test_late_views_do_not_matter(api: Api) -> None:
    api.sender.late = {"tasks"}
    response = await api.post(PATH, {"tasks": [task()]})
    assert (response.status_code, response.json()["success"]) == (201, 1)


@pytest.fixture
async def roomy(migrated_url: str) -> AsyncIterator[Api]:
    """An API with the limit that a process has by default."""
    async with opened(migrated_url, http_body_limit=4 << 20, reply_timeout=20.0) as running:
        yield running


async def test_two_thousand_at_once(roomy: Api) -> None:
    tasks = [task(f"order-{number}", assignee=["ann@example.com"], note="x" * 1500) for number in range(2000)]
    body = (await roomy.post(PATH, {"tasks": tasks}, timeout=PATIENCE)).json()
    assert (body["success"], body["failed"]) == (2000, 0)
    assert len({item["_id"] for item in body["tasks"]}) == 2000
    assert (await roomy.get("/api/v3/tasks?taskType=task")).json()["tasks"]["total"] == 2000


async def test_over_a_broker_with_workers_behind_it(migrated_url: str, amqp_url: str) -> None:
    with psycopg.connect(migrated_url) as conn:
        _, token = keys.create(conn, "acme")
    known = settings(migrated_url, amqp_url, reply_timeout=20.0)
    behind = Roles(known, ("commands", "projections"))
    work = asyncio.create_task(behind.run())
    try:
        await behind.until_ready()
        app = create_app(known)
        transport = httpx.ASGITransport(app)
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://foldwork.test", headers=headers) as client,
        ):

            async def send(refs: str, background: bool) -> httpx.Response:
                tasks = [task(f"{refs}-{number}") for number in range(100)]
                return await client.post(PATH, json={"background": background, "tasks": tasks})

            await eventually_async(lambda: _ready(client))
            waited = await send("a", False)
            assert (waited.status_code, waited.json()["success"]) == (201, 100), waited.text[:300]
            assert (await client.get("/api/v3/tasks?taskType=task")).json()["tasks"]["total"] == 100
            taken = await send("b", True)
            assert (taken.status_code, taken.json()["success"]) == (202, 100)

            async def all_there() -> bool:
                return bool((await client.get("/api/v3/tasks?taskType=task")).json()["tasks"]["total"] == 200)

            await eventually_async(all_there)
            receipts = [(await client.get(item["receipt"])).json()["outcome"] for item in taken.json()["tasks"][:3]]
            assert receipts == ["accepted"] * 3
            receipt = (await client.get(taken.json()["receipt"])).json()
            assert (receipt["state"], receipt["accepted"], receipt["sent"]) == ("done", 100, 100)
    finally:
        behind.stop()
        await work


async def _ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/readyz")).status_code == 200
