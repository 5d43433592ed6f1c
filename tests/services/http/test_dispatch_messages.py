"""Messages beside tasks: created, listed, sent out when they are due, and ended by a result; nobody can have one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.services.http.api import Api
from tests.services.http.dispatch_scene import failure, furnish, planned, read, report

ACTIVITIES = "/api/activities"
# The page's own example, with the scene's commerce.
MESSAGE: dict[str, Any] = {
    "type": "MESSAGE",
    "reason": "Monthly promotion",
    "channel": "WHATSAPP",
    "commerce_id": "shop",
    "idempotency_key": "msg-2025-01-15-001",
    "scheduled_at": "2025-01-16T09:00:00.000Z",
    "attribute_keys": ["commerce_info"],
}


def set_scene(api: Api) -> None:
    furnish(api)


async def created(api: Api, **change: Any) -> dict[str, Any]:
    response = await api.post(ACTIVITIES, {**MESSAGE, **change})
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    return body


async def test_the_example_of_the_page(api: Api) -> None:
    shown = await created(api)
    task_id = shown.pop("id")
    assert shown == {"type": "MESSAGE", "channel": "WHATSAPP", "status": "READY", "taskDetails": None}
    one = await read(api, task_id)
    assert (one["type"], one["reason"], one["taskDetails"]) == ("MESSAGE", "Monthly promotion", None)
    assert one["commerceAssignment"] == {"commerceId": "shop", "commerce": {"name": "Corner shop"}}
    assert [row["key"] for row in await read(api, task_id, "/attributes")] == ["commerce_info"]
    assert {row["activityType"] for row in await read(api, task_id, "/status-events")} == {"MESSAGE"}


async def test_a_task_of_nobody_is_created_at_the_same_address(api: Api) -> None:
    shown = await created(api, type="TASK")
    assert (shown["type"], shown["taskDetails"]) == ("TASK", {"assignedRouteId": None, "assignedOperatorId": None})
    api.command("directory.register", {"kind": "member", "id": "ann"})
    api.command("task.assign", {"id": shown["id"], "assignees": ["ann"]})


async def test_a_key_makes_one_activity_of_whatever_type(api: Api) -> None:
    first = await created(api)
    same = await api.post(ACTIVITIES, MESSAGE)
    failure(same, 409, existingId=first["id"], samePayload=True)
    failure(await api.post(ACTIVITIES, {**MESSAGE, "type": "TASK"}), 409, existingId=first["id"], samePayload=False)


async def test_lists_are_filtered_by_the_type(api: Api) -> None:
    message = await created(api)
    planned(api, "task")

    async def ids(query: str) -> list[str]:
        page = (await api.get(f"{ACTIVITIES}{query}")).json()
        assert page["meta"]["total"] == len(page["data"])
        return sorted(row["id"] for row in page["data"])

    assert await ids("?type=MESSAGE") == [message["id"]]
    assert await ids("?type=TASK") == ["task"]
    assert await ids("") == sorted([message["id"], "task"])
    assert await ids("?type=MESSAGE&status=COMPLETED") == []
    native = (await api.get("/v1/tasks?type=MESSAGE")).json()["data"]
    assert [(row["id"], row["type"]) for row in native] == [(message["id"], "MESSAGE")]


async def test_a_message_goes_out_when_it_is_due_and_ends_by_a_result(api: Api) -> None:
    shown = await created(api, channel="SALESMAN")
    at = MESSAGE["scheduled_at"]
    api.command("task.wake", {"id": shown["id"], "kind": "dispatch", "due": at})
    report(api, shown["id"], 1, True, reference="msg-1")
    assert (await read(api, shown["id"]))["status"] == "DISPATCHED"
    body = {"activity_id": shown["id"], "result": "COMPLETED"}
    answer = await api.post("/api/activity-results/tasks", body)
    assert (answer.status_code, answer.json()["status"]) == (201, "COMPLETED")


async def test_a_message_is_cancelled(api: Api) -> None:
    shown = await created(api)
    answer = await api.client.patch(f"{ACTIVITIES}/{shown['id']}/cancel", headers=api.by())
    assert (answer.json()["status"], answer.json()["type"]) == ("CANCELED", "MESSAGE")


async def test_only_tasks_are_dispatched_by_hand(api: Api) -> None:
    shown = await created(api, channel="SALESMAN")
    message = failure(await api.post(f"{ACTIVITIES}/tasks/{shown['id']}/dispatch", None), 400)
    assert "MESSAGE" in message
    assert (await read(api, shown["id"]))["dispatchAttempts"] == 0
    planned(api, "task")
    assert (await api.post(f"{ACTIVITIES}/tasks/task/dispatch", None)).status_code == 204


async def test_nobody_can_have_a_message_in_any_dialect(api: Api) -> None:
    shown = await created(api)
    api.command("directory.register", {"kind": "member", "id": "ann", "fields": {"account_id": 7, "email": "a@x.vn"}})
    field = await api.get(f"/api/v3/task/{shown['id']}")
    assert (field.json()["task"]["assignee"], field.json()["task"]["status"]) == ([], "UNASSIGNED")
    given = await api.client.patch(f"/api/v3/task/{shown['id']}", json={"assignee": ["a@x.vn"]}, headers=api.by())
    assert given.status_code == 422, given.text
    workflow = await api.client.patch(
        f"/api/v3/workflow/activities/{shown['id']}/assign", json={"account_id": 7}, headers=api.by()
    )
    assert workflow.status_code == 422, workflow.text
    native = (await api.get(f"/v1/tasks/{shown['id']}")).json()
    assert {"task.assign", "task.claim"}.isdisjoint(native["allowed_actions"])
    assert (await read(api, shown["id"]))["status"] == "READY"


@pytest.mark.parametrize(
    ("change", "status", "place"),
    [
        ({"type": None}, 400, "/type"),
        ({"type": "message"}, 400, "/type"),
        ({"type": ["MESSAGE"]}, 400, "/type"),
        ({"assigned_operator_id": "op-1"}, 400, "assigned_operator_id"),
        ({"assigned_route_id": "north"}, 400, "assigned_route_id"),
        ({"channel": "FAX"}, 400, "/channel"),
        ({"channel": None}, 400, "/channel"),
        ({"commerce_id": "nobody"}, 404, "/commerce_id"),
        ({"scheduled_at": None}, 400, "/scheduled_at"),
        ({"scheduled_at": "2025-02-30T00:00:00Z"}, 400, "/scheduled_at"),
        ({"reason": ""}, 400, "/reason"),
        ({"reason": "a\0b"}, 400, "NUL"),
        ({"idempotency_key": None}, 400, "/idempotency_key"),
        ({"colour": 1}, 400, "colour"),
    ],
)
async def test_an_activity_that_is_none(api: Api, change: Any, status: int, place: str) -> None:
    message = failure(await api.post(ACTIVITIES, {**MESSAGE, **change}), status)
    assert place.lower() in message.lower()
    assert (await api.get(ACTIVITIES)).json()["meta"]["total"] == 0
