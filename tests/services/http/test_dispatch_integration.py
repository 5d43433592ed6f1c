"""The systems of a tenant: which tasks they are to carry out, and the outcomes and results that they report."""

from __future__ import annotations

from typing import Any

import pytest

from services import keys
from tests.services.http.api import Api
from tests.services.http.dispatch_scene import failure, furnish, planned, read, report, unresolved

BASE = "/api/integration"
TASKS, RESULTS, OUTCOMES = (
    f"{BASE}/activities/tasks",
    f"{BASE}/activity-results/tasks",
    f"{BASE}/task-result-type-configs",
)
# The page's own example.
PAGE: dict[str, Any] = {
    "activity_id": "a",
    "commerce_external_id": "COM-001",
    "occurred_at": "2026-04-11T10:30:00.000Z",
    "status": "EFFECTIVE",
    "task_result": {"result": "SALE_COMPLETED"},
}
KEYS = [
    "id", "activityOrigin", "type", "status", "channel", "scheduledAt", "occurredAt", "createdAt", "lifecycleStatus",
    "lifecycleStatusLabel", "lifecycleStatusDetail", "canForceRetryDispatch", "commerceExternalId", "commerceName",
    "operatorExternalId", "providerActivityId", "resultStatus", "taskResult",
]  # fmt: skip


def set_scene(api: Api) -> None:
    furnish(api)
    api.command("directory.change", {"kind": "commerce", "id": "shop", "fields": {"external_id": "COM-001"}})
    api.command("directory.change", {"kind": "operator", "id": "op-1", "fields": {"external_id": "OP-001"}})
    planned(api, "a", scheduled_at="2026-04-15T09:00:00.000Z")


def with_outcomes(api: Api) -> None:
    for code, label, required in (("SALE_COMPLETED", "Venta completada", False), ("RESCHEDULE", "Reprogramar", True)):
        fields = {"label": label, "requires_follow_up": required}
        api.command("directory.register", {"kind": "outcome", "id": code, "fields": fields})


async def rows(api: Api, query: str = "", token: str | None = None) -> list[dict[str, Any]]:
    response = await api.get(f"{TASKS}{query}", token)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["data"]
    return found


async def ids(api: Api, query: str) -> list[str]:
    return sorted(row["id"] for row in await rows(api, query))


async def test_a_task_as_its_system_sees_it(api: Api) -> None:
    (row,) = await rows(api)
    assert list(row) == KEYS
    assert row == {
        "id": "a",
        "activityOrigin": "ACTIVITY",
        "type": "TASK",
        "status": "PENDING",
        "channel": "SALESMAN",
        "scheduledAt": "2026-04-15T09:00:00.000Z",
        "occurredAt": None,
        "createdAt": row["createdAt"],
        "lifecycleStatus": "SCHEDULED",
        "lifecycleStatusLabel": "Scheduled",
        "lifecycleStatusDetail": None,
        "canForceRetryDispatch": False,
        "commerceExternalId": "COM-001",
        "commerceName": "Corner shop",
        "operatorExternalId": "OP-001",
        "providerActivityId": None,
        "resultStatus": "PENDING",
        "taskResult": None,
    }
    assert await rows(api, token=api.key("other")) == []


async def test_pages(api: Api) -> None:
    for number in range(22):
        planned(api, f"b{number:02}")
    page = (await api.get(TASKS)).json()
    assert page["meta"] == {"page": 1, "limit": 20, "total": 23, "totalPages": 2}
    assert (len(page["data"]), page["data"][0]["id"]) == (20, "b21")
    last = (await api.get(f"{TASKS}?page=3&per_page=10")).json()
    assert (last["meta"]["totalPages"], [row["id"] for row in last["data"]]) == (3, ["b01", "b00", "a"])
    assert (await api.get(f"{TASKS}?page=9")).json()["data"] == []


async def test_every_filter(api: Api) -> None:
    api.command("directory.register", {"kind": "commerce", "id": "COM-002", "fields": {}})
    api.command("task.create", {"id": "plain", "commerce": "COM-002"})
    planned(api, "mail", channel="EMAIL")
    unresolved(api, "lost")
    planned(api, "sent")
    api.command("task.dispatch", {"id": "sent"})
    report(api, "sent", 1, True)
    for task_id, result in (
        ("good", "EFFECTIVE"),
        ("bad", "NOT_EFFECTIVE"),
        ("not", "NOT_EXECUTED"),
        ("off", "CANCELED"),
    ):
        planned(api, task_id)
        api.command("task.submit-result", {"id": task_id, "result": result, "comment": f"so {task_id}"})
    planned(api, "message")
    api.command("task.create", {"id": "told", "type": "MESSAGE", "plan": {"channel": "SALESMAN"}})
    assert await ids(api, "?status=PENDING") == ["a", "lost", "mail", "message", "plain"]
    assert await ids(api, "?status=IN_PROGRESS") == ["sent"]
    assert await ids(api, "?status=COMPLETED") == ["bad", "good"]
    assert await ids(api, "?status=CANCELLED") == ["off"]
    assert await ids(api, "?status=FAILED") == ["not"]
    assert await ids(api, "?result_status=EFFECTIVE") == ["good"]
    assert await ids(api, "?result_status=NOT_EFFECTIVE") == ["bad", "not"]
    assert await ids(api, "?result_status=PENDING&channel=EMAIL") == ["mail"]
    assert await ids(api, "?external_commerce_id=COM-002") == ["plain"]
    assert await ids(api, "?external_commerce_id=COM-001&channel=EMAIL") == ["mail"]
    assert await ids(api, "?external_commerce_id=shop&channel=EMAIL") == ["mail"]
    assert await ids(api, "?external_operator_id=OP-001&status=IN_PROGRESS") == ["sent"]
    assert await ids(api, "?external_operator_id=OP-002") == await ids(api, "?external_commerce_id=OP-001") == []
    assert await ids(api, "?scheduled_from=2026-04-15T00:00:00Z&scheduled_to=2026-04-16T00:00:00Z") == ["a"]
    shown = {row["id"]: row for row in await rows(api, "?per_page=100")}
    assert {row["resultStatus"] for row in (shown["good"], shown["bad"], shown["off"])} == {
        "EFFECTIVE",
        "NOT_EFFECTIVE",
        None,
    }
    assert [shown[name]["lifecycleStatusDetail"] for name in ("not", "off", "good")] == ["so not", "so off", None]
    assert (shown["plain"]["commerceExternalId"], shown["plain"]["commerceName"]) == ("COM-002", None)
    assert (shown["lost"]["lifecycleStatus"], shown["lost"]["lifecycleStatusLabel"]) == ("UNRESOLVED", "Unresolved")


async def test_a_task_may_be_sent_again_between_two_attempts(api: Api) -> None:
    api.command("task.dispatch", {"id": "a"})
    assert (await rows(api))[0]["canForceRetryDispatch"] is False
    report(api, "a", 1, False)
    assert (await rows(api))[0]["canForceRetryDispatch"] is True
    assert (await api.post("/api/activities/tasks/a/dispatch", None)).status_code == 204


@pytest.mark.parametrize(
    "query",
    [
        "status=READY", "status=pending", "result_status=COMPLETED", "per_page=101", "per_page=0", "page=0",
        "scheduled_from=soon", "external_commerce_id=%00", "external_operator_id=" + "x" * 1001, "search=a",
        "external_commerce_id=a&external_commerce_id=b", "type=TASK",
    ],
)  # fmt: skip
async def test_a_question_that_cannot_be_asked(api: Api, query: str) -> None:
    message = failure(await api.get(f"{TASKS}?{query}"), 400)
    assert f"({query.partition('=')[0]})" in message


# Outcomes.


async def test_the_outcomes_of_a_tenant(api: Api) -> None:
    assert (await api.get(OUTCOMES)).json() == []
    with_outcomes(api)
    assert (await api.get(OUTCOMES)).json() == [
        {"code": "RESCHEDULE", "label": "Reprogramar", "requiresFutureScheduledAt": True},
        {"code": "SALE_COMPLETED", "label": "Venta completada", "requiresFutureScheduledAt": False},
    ]
    assert (await api.get(OUTCOMES, api.key("other"))).json() == []
    api.command("directory.retire", {"kind": "outcome", "id": "RESCHEDULE"})
    assert [row["code"] for row in (await api.get(OUTCOMES)).json()] == ["SALE_COMPLETED"]


# Results.


@pytest.mark.parametrize(
    ("status", "activity", "progress"),
    [
        ("EFFECTIVE", "COMPLETED", "COMPLETED"),
        ("NOT_EFFECTIVE", "COMPLETED", "COMPLETED"),
        ("PENDING", "READY", "PENDING"),
    ],
)
async def test_every_effect(api: Api, status: str, activity: str, progress: str) -> None:
    with_outcomes(api)
    answer = await api.post(RESULTS, {**PAGE, "status": status, "external_status": "7", "raw_payload": {"a": 1}})
    assert answer.status_code == 201, answer.text
    assert (answer.json()["result"], answer.json()["status"]) == (status, activity)
    (row,) = await rows(api)
    assert (row["status"], row["resultStatus"]) == (progress, status)
    if status == "PENDING":
        return
    assert (row["occurredAt"], row["taskResult"]["result"]) == (PAGE["occurred_at"], "SALE_COMPLETED")
    assert (await read(api, "a"))["result"] == status
    failure(await api.post(RESULTS, PAGE), 409)
    forced = await api.post(RESULTS, {**PAGE, "status": "NOT_EFFECTIVE", "hard_override": True})
    assert forced.json()["result"] == "NOT_EFFECTIVE"


async def test_the_providers_id_names_the_task(api: Api) -> None:
    api.command("task.dispatch", {"id": "a"})
    report(api, "a", 1, True, reference="ext-1")
    body = {name: value for name, value in PAGE.items() if name != "activity_id"}
    assert (await api.post(RESULTS, {**body, "provider_activity_id": "ext-1"})).json()["activityId"] == "a"


async def test_an_outcome_may_require_a_follow_up(api: Api) -> None:
    with_outcomes(api)
    later = {"result": "RESCHEDULE", "comment": "closed"}
    refused = failure(await api.post(RESULTS, {**PAGE, "task_result": later}), 400)
    assert refused.endswith("(/task_result/future_scheduled_at)")
    later["future_scheduled_at"] = "2026-04-20T10:00:00.000Z"
    answer = await api.post(RESULTS, {**PAGE, "status": "NOT_EFFECTIVE", "task_result": later})
    assert answer.json()["taskResult"]["futureScheduledAt"] == "2026-04-20T10:00:00.000Z"


@pytest.mark.parametrize(
    ("change", "status", "place"),
    [
        ({"activity_id": None}, 400, "activity_id or provider_activity_id"),
        ({"activity_id": "nobody"}, 404, ""),
        ({"commerce_external_id": None}, 400, "/commerce_external_id"),
        ({"commerce_external_id": ""}, 400, "/commerce_external_id"),
        ({"commerce_external_id": "COM-009"}, 404, "/commerce_external_id"),
        ({"status": "COMPLETED"}, 400, "/status"),
        ({"status": None}, 400, "/status"),
        ({"occurred_at": None}, 400, "/occurred_at"),
        ({"occurred_at": "2026-04-31T00:00:00Z"}, 400, "/occurred_at"),
        ({"task_result": None}, 400, "/task_result"),
        ({"task_result": {"result": "UNKNOWN"}}, 400, "/task_result/result"),
        ({"task_result": {"result": "no code"}}, 400, "/task_result/result"),
        ({"result": "EFFECTIVE"}, 400, "result"),
    ],
)
async def test_a_result_that_is_none(api: Api, change: Any, status: int, place: str) -> None:
    with_outcomes(api)
    assert place in failure(await api.post(RESULTS, {**PAGE, **change}), status)
    assert (await read(api, "a"))["result"] is None


async def test_the_key_of_an_integration(api: Api) -> None:
    token = api.key("acme", "system", *keys.ROLES["integration"])
    assert (await api.get(TASKS, token)).status_code == (await api.get(OUTCOMES, token)).status_code == 200
    by_header = await api.client.post(RESULTS, json=PAGE, headers={"x-api-key": token})
    assert by_header.status_code == 201, by_header.text
    failure(await api.post("/api/activity-results/tasks", {"activity_id": "a", "result": "COMPLETED"}, token), 403)
    failure(await api.post(RESULTS, PAGE, api.key("acme", "system", "CREATE_ACTIVITY", "VIEW_ACTIVITIES")), 403)
    failure(await api.client.post(RESULTS, json=PAGE), 401)


async def test_who_does_not_have_the_task_reports_nothing(api: Api) -> None:
    for name in ("ann", "bob"):
        api.command("directory.register", {"kind": "member", "id": name})
    api.command("task.assign", {"id": "a", "assignees": ["ann"]})
    failure(await api.post(RESULTS, PAGE, api.key("acme", "bob", "SUBMIT_ACTIVITY_RESULT")), 403)
    assert (await api.post(RESULTS, PAGE, api.key("acme", "ann", "SUBMIT_ACTIVITY_RESULT"))).status_code == 201
