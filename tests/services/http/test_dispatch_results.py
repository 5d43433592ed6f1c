"""Results in the original's own body, and what they say of a task in every later answer."""

from __future__ import annotations

from typing import Any

import pytest

from tests.services.http.api import Api
from tests.services.http.dispatch_scene import failure, furnish, planned, read, report

RESULTS = "/api/activity-results/tasks"
# The page's own example, word for word.
PAGE: dict[str, Any] = {
    "provider_activity_id": "ext-123",
    "commerce_external_id": "store-001",
    "status": "COMPLETED",
    "occurred_at": "2025-01-16T14:30:00.000Z",
    "task_result": {"result": "success", "comment": "Order placed successfully", "contact_type": "OUTBOUND"},
}
ALL: dict[str, Any] = {
    **PAGE,
    "external_status": "CLOSED",
    "raw_payload": {"form": {"a": 1}},
    "task_result": {
        **PAGE["task_result"],
        "operator_external_id": "op-77",
        "future_scheduled_at": "2025-01-20T09:00:00Z",
        "payload": {"sold": 3},
    },
}


def set_scene(api: Api) -> None:
    furnish(api)
    api.command("directory.change", {"kind": "commerce", "id": "shop", "fields": {"external_id": "store-001"}})
    sent(api, "a", "ext-123")


def sent(api: Api, task_id: str, reference: str) -> None:
    """Create a task that its provider took under an id of its own."""
    planned(api, task_id)
    api.command("task.dispatch", {"id": task_id})
    report(api, task_id, 1, True, reference=reference)


async def test_the_example_of_the_page(api: Api) -> None:
    response = await api.post(RESULTS, PAGE)
    assert response.status_code == 201, response.text
    assert response.json() == {
        "activityId": "a",
        "providerActivityId": "ext-123",
        "result": "COMPLETED",
        "hardOverride": False,
        "data": {},
        "comment": "Order placed successfully",
        "status": "COMPLETED",
        "occurredAt": "2025-01-16T14:30:00.000Z",
        "externalStatus": None,
        "taskResult": {
            "result": "success",
            "operatorExternalId": None,
            "futureScheduledAt": None,
            "contactType": "OUTBOUND",
            "occurredAt": "2025-01-16T14:30:00.000Z",
            "externalStatus": None,
        },
    }


async def test_all_of_it_is_kept(api: Api) -> None:
    assert (await api.post(RESULTS, ALL)).status_code == 201
    shown = await read(api, "a")
    assert (shown["status"], shown["result"], shown["providerActivityId"]) == ("COMPLETED", "COMPLETED", "ext-123")
    assert shown["taskResult"] == {
        "result": "success",
        "operatorExternalId": "op-77",
        "futureScheduledAt": "2025-01-20T09:00:00Z",
        "contactType": "OUTBOUND",
        "occurredAt": "2025-01-16T14:30:00.000Z",
        "externalStatus": "CLOSED",
    }
    native = (await api.get("/v1/tasks/a")).json()
    assert native["output"] == {"sold": 3}
    assert native["report"]["raw"] == {"form": {"a": 1}}
    assert [row["id"] for row in (await api.get("/v1/tasks?reference=ext-123")).json()["data"]] == ["a"]


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ("PENDING", "DISPATCHED"),
        ("COMPLETED", "COMPLETED"),
        ("TRANSFERRED", "COMPLETED"),
        ("NOT_EXECUTED", "FAILED"),
        ("CANCELED", "CANCELED"),
    ],
)
async def test_every_status(api: Api, status: str, shown: str) -> None:
    answer = (await api.post(RESULTS, {**PAGE, "status": status})).json()
    assert (answer["result"], answer["status"]) == (status, shown)
    assert (await read(api, "a"))["status"] == shown
    again = await api.post(RESULTS, {**PAGE, "status": "CANCELED"})
    if status == "PENDING":
        assert again.json()["status"] == "CANCELED"
        return
    assert "hard override" in failure(again, 409)
    forced = await api.post(RESULTS, {**PAGE, "status": "CANCELED", "hard_override": True})
    assert forced.json()["status"] == "CANCELED"


async def test_a_retry_forgets_what_was_reported(api: Api) -> None:
    assert (await api.post(RESULTS, {**ALL, "status": "NOT_EXECUTED"})).status_code == 201
    api.command("task.retry", {"id": "a"})
    shown = await read(api, "a")
    assert (shown["status"], shown["result"], shown["taskResult"]) == ("READY", None, None)


async def test_the_activitys_own_id_decides(api: Api) -> None:
    sent(api, "b", "ext-b")
    answer = await api.post(RESULTS, {**PAGE, "activity_id": "b"})
    assert (answer.json()["activityId"], answer.json()["providerActivityId"]) == ("b", "ext-b")
    assert (await read(api, "a"))["result"] is None
    by_id = {name: value for name, value in PAGE.items() if name != "provider_activity_id"}
    assert (await api.post(RESULTS, {**by_id, "activity_id": "a"})).json()["activityId"] == "a"


async def test_an_id_that_a_provider_gave_twice_names_nothing(api: Api) -> None:
    sent(api, "b", "ext-123")
    assert failure(await api.post(RESULTS, PAGE), 400).endswith("(/provider_activity_id)")
    stranger = await api.post(RESULTS, PAGE, api.key("other"))
    assert failure(stranger, 404).endswith("(/provider_activity_id)")


@pytest.mark.parametrize(
    ("change", "status", "place"),
    [
        ({"provider_activity_id": None}, 400, "activity_id or provider_activity_id is required"),
        ({"provider_activity_id": "nobody's"}, 404, "/provider_activity_id"),
        ({"provider_activity_id": "x" * 300}, 404, "/provider_activity_id"),
        ({"activity_id": "nobody"}, 404, ""),
        ({"commerce_external_id": "kiosk"}, 404, "/commerce_external_id"),
        ({"status": None}, 400, "/status"),
        ({"status": "effective"}, 400, "/status"),
        ({"occurred_at": None}, 400, "/occurred_at"),
        ({"occurred_at": "yesterday"}, 400, "/occurred_at"),
        ({"occurred_at": "2025-02-30T00:00:00Z"}, 400, "/occurred_at"),
        ({"task_result": None}, 400, "/task_result"),
        ({"task_result": {}}, 400, "/task_result/result"),
        ({"task_result": {"result": ""}}, 400, "/task_result/result"),
        ({"task_result": {"result": "x", "contact_type": "BOTH"}}, 400, "/task_result/contact_type"),
        ({"task_result": {"result": "x", "future_scheduled_at": "soon"}}, 400, "/task_result/future_scheduled_at"),
        ({"task_result": {"result": "x", "comment": "y" * 2001}}, 400, "/task_result/comment"),
        ({"task_result": {"result": "x", "payload": []}}, 400, "/task_result/payload"),
        ({"task_result": {"result": "x", "payload": {"k" * 300: 1}}}, 400, "/task_result/payload"),
        ({"task_result": {"result": "x", "colour": 1}}, 400, "/task_result/colour"),
        ({"raw_payload": "text"}, 400, "/raw_payload"),
        ({"hard_override": "yes"}, 400, "/hard_override"),
        ({"result": "COMPLETED"}, 400, "result"),
    ],
)
async def test_a_result_that_is_none(api: Api, change: Any, status: int, place: str) -> None:
    message = failure(await api.post(RESULTS, {**PAGE, **change}), status)
    assert place in message
    assert (await read(api, "a"))["status"] == "DISPATCHED"
