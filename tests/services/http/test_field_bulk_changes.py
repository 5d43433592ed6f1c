"""Many tasks changed, assigned, moved or deleted by one request, each by itself."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.services.http.api import Api, field_failure, opened, with_activity, with_workflow
from tests.services.http.many import Holding, done_of

PATH = "/api/v3/tasks/bulk"
ANN = "ann@example.com"


@pytest.fixture(autouse=True)
def scene(api: Api) -> None:
    """An activity `a1` with its tasks, and the tasks `t0` to `t4`, which stand alone."""
    with_workflow(api)
    with_activity(api)
    api.command("directory.register", {"kind": "hub", "id": "h2", "fields": {"name": "Bogor"}})
    for number in range(5):
        api.command("task.create", {"id": f"t{number}", "flow": "Visit", "fields": {"floor": number, "note": "n"}})


async def bulk(api: Api, method: str, tasks: Any, path: str = "", **rest: Any) -> httpx.Response:
    more = rest.pop("more", {})
    headers = {**api.by(rest.pop("token", None)), **rest.pop("headers", {})}
    return await api.client.request(method, PATH + path, json={"tasks": tasks, **more}, headers=headers)


async def shown(api: Api, own: str) -> dict[str, Any]:
    found: dict[str, Any] = (await api.get(f"/api/v3/task/{own}")).json()["task"]
    return found


async def child(api: Api, place: int = 0) -> str:
    return str((await shown(api, "a1"))["subId"][place])


async def test_the_published_requests_and_their_answers(api: Api) -> None:
    done = [{"status": True, "message": "Success", "_id": own} for own in ("t1", "t0")]
    for method, path, rest in (
        ("PATCH", "", {"floor": 7}),
        ("PUT", "/assign", {"assignee": [ANN]}),
        ("PUT", "/move", {"hubId": "h2"}),
        ("PUT", "/", {"flow": "Visit", "floor": 8}),
    ):
        response = await bulk(api, method, [{"_id": own, **rest} for own in ("t1", "t0")], path)
        assert (response.status_code, response.json()) == (200, {"success": 2, "failed": 0, "tasks": done}), method
        assert int(response.headers["Foldwork-Position"]) > 0
    task = await shown(api, "t0")
    assert (task["status"], task["assignee"], task["hubId"], task["floor"]) == ("ONGOING", [ANN], "h2", 8)
    assert "note" not in task
    assert (await bulk(api, "DELETE", [{"_id": own} for own in ("t1", "t0")])).json()["tasks"] == done
    assert (await shown(api, "t0"))["status"] == "CANCELED"
    assert (await shown(api, "t2"))["status"] == "UNASSIGNED"


async def test_some_fail_and_the_others_do_not(api: Api) -> None:
    api.command("task.cancel", {"id": "t1"})
    api.command("task.create", {"id": "theirs", "flow": "Visit"}, "other")
    first = await child(api)
    tasks = [
        {"_id": "t0", "floor": 9},
        {"_id": "t1", "floor": 9},
        "no object",
        {"floor": 9},
        {"_id": None, "floor": 9},
        {"_id": 7},
        {"_id": "no such id", "floor": 9},
        {"_id": "nobody", "floor": 9},
        {"_id": "theirs", "floor": 9},
        {"_id": "t2", "floor": 9},
        {"_id": "t2", "floor": 10},
        {"_id": "t3", "status": "ONGOING"},
        {"_id": "t3b", "status": "ONGOING"},
        {"_id": "t4", "hubId": "nowhere"},
        {"_id": "a1", "title": "Order 7", "reference": "R-7"},
        {"_id": first, "recipient": "Jane"},
    ]
    response = await bulk(api, "PATCH", tasks)
    assert response.status_code == 200
    body = response.json()
    assert (body["success"], body["failed"]) == (3, 13)
    assert [(item["_id"], item.get("failedCode")) for item in body["tasks"]] == [
        ("t0", None),
        ("t1", "task-002"),
        (None, "activity-001"),
        (None, "activity-001"),
        (None, "activity-001"),
        (None, "task-001"),
        (None, "task-001"),
        ("nobody", "task-001"),
        ("theirs", "task-001"),
        ("t2", "bulk-002"),
        ("t2", "bulk-002"),
        ("t3", "activity-003"),
        ("t3b", "task-001"),
        ("t4", "hub-001"),
        ("a1", None),
        (first, None),
    ]
    assert body["tasks"][13]["message"].endswith("(/hubId)")
    assert ((await shown(api, "t0"))["floor"], (await shown(api, "t2"))["floor"]) == (9, 2)
    assert (await shown(api, "a1"))["reference"] == "R-7"
    assert (await shown(api, first))["recipient"] == "Jane"


async def test_documents_that_were_read_are_taken_back(api: Api) -> None:
    first = await child(api)
    documents = [{**await shown(api, own), "label": "Urgent"} for own in ("t0", first, "a1")]
    del documents[0]["note"]
    documents.append({**await shown(api, "t1"), "organizationId": "another"})
    body = (await bulk(api, "PUT", documents)).json()
    assert [item.get("failedCode") for item in body["tasks"]] == [None, None, None, "activity-003"]
    assert body["tasks"][3]["message"].endswith("(/organizationId)")
    task = await shown(api, "t0")
    assert ("note" in task, task["floor"], task["label"]) == (False, 0, "Urgent")
    # A task completes with the rest of its document.
    done = [{**await shown(api, own), "assignee": [ANN], "status": "DONE"} for own in ("t2", "t3")]
    assert (await bulk(api, "PUT", done)).json()["success"] == 2
    assert (await shown(api, "t3"))["status"] == "DONE"


async def test_what_is_deleted_assigned_and_moved(api: Api) -> None:
    first = await child(api)
    body = (await bulk(api, "DELETE", [{"_id": first}, {"_id": "a1"}, {"_id": "t0", "hubId": "h2"}])).json()
    assert [item.get("failedCode") for item in body["tasks"]] == ["task-006", None, "activity-001"]
    assert [(await shown(api, own))["status"] for own in (first, "t0")] == ["CANCELED", "UNASSIGNED"]
    tasks = [{"_id": "t0", "assignee": []}, {"_id": "t1"}, {"_id": "t2", "assignee": [ANN], "hubId": "h2"}]
    body = (await bulk(api, "PUT", [*tasks, {"_id": "a1", "assignee": [ANN]}], "/assign")).json()
    assert [item.get("failedCode") for item in body["tasks"]] == [None, "activity-001", "activity-001", "task-001"]
    assert body["tasks"][1]["message"] == "The assignee field is required."
    with_activity(api, "a2")
    body = (await bulk(api, "PUT", [{"_id": "a2", "hubId": "h2"}, {"_id": "t1", "hubId": None}], "/move")).json()
    assert [item.get("failedCode") for item in body["tasks"]] == [None, "activity-001"]
    assert (await shown(api, "a2"))["hubId"] == "h2"


async def test_each_has_the_rights_of_the_caller(api: Api) -> None:
    api.command("directory.register", {"kind": "member", "id": "bea", "fields": {"email": "bea@example.com"}})
    api.command("task.change", {"id": "t0", "assignees": ["bea"]})
    token = api.key("acme", "bea")
    body = (
        await bulk(api, "PATCH", [{"_id": "t0", "status": "DONE"}, {"_id": "t1", "status": "DONE"}], token=token)
    ).json()
    assert [item.get("failedCode") for item in body["tasks"]] == [None, "auth-002"]
    response = await bulk(api, "PATCH", [{"_id": "t0"}], token=api.key("acme", "bea", "read"))
    assert field_failure(response, 403, "auth-002")


@pytest.mark.parametrize(
    "body",
    [[], {}, {"tasks": None}, {"tasks": []}, {"tasks": [{"_id": "t0"}] * 2001}, {"tasks": [{}], "more": 1}],
    ids=["list", "none", "no list", "empty", "too many", "unknown key"],
)
@pytest.mark.parametrize(("method", "path"), [("PUT", ""), ("PATCH", ""), ("DELETE", ""), ("PUT", "/move")])
async def test_a_body_without_tasks_is_refused_as_a_whole(api: Api, body: Any, method: str, path: str) -> None:
    response = await api.client.request(method, PATH + path, json=body, headers=api.by())
    assert response.status_code == 400
    assert response.json()["failedCode"] in ("activity-001", "bulk-001")


async def test_two_thousand_are_changed_in_order_and_once_under_a_key(migrated_url: str) -> None:
    async with opened(migrated_url, http_body_limit=1 << 20, reply_timeout=20.0) as roomy:
        await _change_two_thousand(roomy)


async def _change_two_thousand(api: Api) -> None:
    made = (await api.post(PATH, {"tasks": [{"flow": "Visit"}] * 2000})).json()["tasks"]
    ids = [item["_id"] for item in reversed(made)]
    headers = {"Idempotency-Key": "evening"}
    sent = len(api.sender.sent)
    tasks = [{"_id": own, "floor": number} for number, own in enumerate(ids)]
    for asked in (tasks, tasks[::-1]):
        body = (await bulk(api, "PATCH", asked, headers=headers)).json()
        assert (body["success"], body["failed"]) == (2000, 0)
        assert [item["_id"] for item in body["tasks"]] == [task["_id"] for task in asked]
    first, second = api.sender.sent[sent : sent + 2000], api.sender.sent[sent + 2000 :]
    assert {one.idempotency_key for one in first} == {one.idempotency_key for one in second}
    assert (await shown(api, ids[1234]))["floor"] == 1234
    # Another change under the same key is none.
    body = (await bulk(api, "PATCH", [{"_id": ids[0], "floor": "other"}], headers=headers)).json()
    assert body["tasks"][0]["failedCode"] == "activity-006"


async def test_tasks_of_an_activity_go_where_it_is_decided(api: Api) -> None:
    first = await child(api)
    await bulk(api, "PATCH", [{"_id": first, "floor": 1}, {"_id": "a1", "title": "Order 7"}, {"_id": "t0", "floor": 1}])
    assert [(one.name, one.routing_key) for one in api.sender.sent[-3:]] == [
        ("task.change", "a1"),
        ("activity.change", "a1"),
        ("task.change", "t0"),
    ]


async def test_in_the_background_each_is_sent_under_its_own_command(api: Api) -> None:
    tasks = [{"_id": "t0"}, {"_id": "a1"}, {"_id": "nobody"}]
    response = await bulk(api, "DELETE", tasks, more={"background": True})
    assert response.status_code == 202
    body = response.json()
    assert [(item["_id"], "receipt" in item) for item in body["tasks"]] == [
        ("t0", True),
        ("a1", True),
        ("nobody", False),
    ]
    assert response.headers["Location"] == body["receipt"]
    receipt = await done_of(api, body["receipt"])
    assert [(item["ref"], item["outcome"]) for item in receipt["items"]] == [
        ("t0", "accepted"),
        ("a1", "accepted"),
        ("nobody", "rejected"),
    ]
    for own in ("t0", "a1"):
        found = await api.get(f"/api/v3/task/{own}?min_position={receipt['position']}")
        assert found.json()["task"]["status"] == "CANCELED"


async def test_what_is_not_known_yet_has_a_receipt(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Holding(api, monkeypatch, 1)
    body = (await bulk(api, "PATCH", [{"_id": "t0", "floor": 5}, {"_id": "t1", "floor": 5}])).json()
    assert [item.get("failedCode") for item in body["tasks"]] == [None, "server-002"]
    assert (body["tasks"][1]["_id"], broker.takes) == ("t1", 0)
    api.sender.send = _silent  # type: ignore[method-assign]
    response = await bulk(api, "PATCH", [{"_id": "t2", "floor": 5}])
    assert response.status_code == 202
    (item,) = response.json()["tasks"]
    assert (item["status"], item["_id"], item["receipt"][:13]) == (True, "t2", "/v1/commands/")


async def _silent(*_: Any, **__: Any) -> None:
    await asyncio.sleep(0)
