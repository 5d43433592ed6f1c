"""What can be done with an activity in the dispatch dialect."""

from __future__ import annotations

from typing import Any

import pytest

from tests.services.http.api import Api, with_activity, with_workflow
from tests.services.http.dispatch_scene import BODY, failure, furnish, planned, read, report, unresolved

CREATE, RESULTS = "/api/activities/tasks", "/api/activity-results/tasks"


set_scene = furnish


async def _patch(api: Api, path: str, body: Any = None) -> Any:
    return await api.client.patch(path, json=body, headers=api.by())


async def test_cancelling(api: Api) -> None:
    planned(api, "a")
    shown = await _patch(api, "/api/activities/a/cancel", {"reason": "closed"})
    assert (shown.status_code, shown.json()["status"]) == (200, "CANCELED")
    assert (await api.get("/v1/tasks/a")).json()["reason"] == "closed"
    assert failure(await _patch(api, "/api/activities/a/cancel"), 400) == "the task has ended"
    planned(api, "b")
    assert (await api.client.patch("/api/activities/b/cancel", headers=api.by())).json()["status"] == "CANCELED"
    planned(api, "c")
    for body in ({"reason": 7}, {"why": "x"}, [], "x"):
        failure(await _patch(api, "/api/activities/c/cancel", body), 400)
    assert (await read(api, "c"))["status"] == "READY"


async def test_resolving_again(api: Api) -> None:
    unresolved(api, "a")
    path = "/api/activities/a/retry-resolution"
    still = await _patch(api, path)
    assert (still.status_code, still.json()["status"]) == (200, "UNRESOLVED")
    users = [{"id": "u-clerk", "role": "CLERK"}]
    api.command("directory.change", {"kind": "commerce", "id": "shop", "fields": {"users": users}})
    assert (await _patch(api, path)).json()["status"] == "READY"
    assert [target["commerceUserId"] for target in await read(api, "a", "/target-users")] == ["u-clerk"]
    failure(await _patch(api, path), 400)
    planned(api, "b")
    failure(await _patch(api, "/api/activities/b/retry-resolution"), 400)
    api.command("task.cancel", {"id": "b"})
    failure(await _patch(api, "/api/activities/b/retry-resolution"), 400)


async def test_naming_a_target(api: Api) -> None:
    unresolved(api, "a")
    found = {target["reason"]: target for target in await read(api, "a", "/target-users")}
    assert {target["resolutionStatus"] for target in found.values()} == {"FAILED"}
    path = "/api/activities/a/target-users/{}/resolve"
    cook, nobody = found["asked not to be called"]["id"], found["nobody fits"]["id"]
    locked, failed = path.format(cook), path.format(nobody)
    assert "locked" in failure(await _patch(api, locked, {"user_id": "u-1"}), 400)
    assert failure(await _patch(api, failed, {"user_id": "u-cook"}), 400).endswith("(/user_id)")
    assert failure(await _patch(api, failed, {"user_id": "no id"}), 400).endswith("(/user_id)")
    twice = {"user_id": "u", "commerce_user_id": "u"}
    for body in ({}, {"user_id": None}, {"user_id": 7}, {"user_id": "u", "x": 1}, twice, []):
        failure(await _patch(api, failed, body), 400)
    for target in ("nobody", "%ff", "x" * 200):
        assert failure(await _patch(api, path.format(target), {"user_id": "u"}), 404)
    sent = len(api.sender.sent)
    assert failure(await _patch(api, path.format("%00"), {"user_id": "u"}), 400)
    # A worker would make a dead letter of it.
    assert len(api.sender.sent) == sent
    # Whom the shop does not have nobody can name; who is there need not fit what was asked for.
    assert failure(await _patch(api, failed, {"user_id": "u-new"}), 404).endswith("(/user_id)")
    shown = await _patch(api, failed, {"commerce_user_id": "u-owner"})
    assert (shown.status_code, shown.json()["status"]) == (200, "READY")
    named = {target["id"]: target for target in await read(api, "a", "/target-users")}[nobody]
    assert (named["resolutionStatus"], named["commerceUserId"], named["reason"]) == ("RESOLVED", "u-owner", None)
    assert (named["lockReason"], named["lockedAt"]) == ("MANUAL_ASSIGNMENT", None)
    failure(await _patch(api, failed, {"user_id": "u-owner"}), 400)


async def test_dispatching(api: Api) -> None:
    planned(api, "a")
    path = "/api/activities/tasks/{}/dispatch"
    sent = await api.client.post(path.format("a"), headers=api.by())
    assert (sent.status_code, sent.content) == (204, b"")
    assert (await read(api, "a"))["dispatchAttempts"] == 1
    assert failure(await api.post(path.format("a"), None), 400) == "a dispatch is under way"
    report(api, "a", 1, True)
    assert (await read(api, "a"))["status"] == "DISPATCHED"
    assert failure(await api.post(path.format("a"), None), 400) == "the task is dispatched"
    unresolved(api, "b")
    failure(await api.post(path.format("b"), None), 400)
    api.command("task.create", {"id": "plain"})
    assert failure(await api.post(path.format("plain"), None), 400) == "the task has no channel"
    planned(api, "c", channel="EMAIL")
    failure(await api.post(path.format("c"), None), 404)
    failure(await api.post(path.format("nobody"), None), 404)


async def test_three_failed_attempts_fail_the_activity(api: Api) -> None:
    planned(api, "a")
    for attempt in (1, 2, 3):
        assert (await api.post("/api/activities/tasks/a/dispatch", None)).status_code == 204
        report(api, "a", attempt, False, code="http-503", message="busy")
    assert (await read(api, "a"))["status"] == "FAILED"
    failure(await api.post("/api/activities/tasks/a/dispatch", None), 400)


@pytest.mark.parametrize(
    ("result", "status"),
    [
        ("PENDING", "DISPATCHED"),
        ("COMPLETED", "COMPLETED"),
        ("TRANSFERRED", "COMPLETED"),
        ("NOT_EXECUTED", "FAILED"),
        ("CANCELED", "CANCELED"),
    ],
)
async def test_results(api: Api, result: str, status: str) -> None:
    planned(api, "a")
    api.command("task.dispatch", {"id": "a"})
    report(api, "a", 1, True)
    body = {"activity_id": "a", "result": result, "data": {"sold": 3}, "comment": "as agreed"}
    response = await api.post(RESULTS, body)
    assert response.status_code == 201, response.text
    assert response.json() == {
        "activityId": "a",
        "providerActivityId": None,
        "result": result,
        "hardOverride": False,
        "data": {"sold": 3},
        "comment": "as agreed",
        "status": status,
        "occurredAt": None,
        "externalStatus": None,
        "taskResult": None,
    }
    shown = await read(api, "a")
    assert (shown["status"], shown["result"]) == (status, None if result == "PENDING" else result)
    again = await api.post(RESULTS, {"activity_id": "a", "result": "COMPLETED"})
    if result == "PENDING":
        assert again.json()["status"] == "COMPLETED"
    else:
        assert "hard override" in failure(again, 409)
        forced = {"activity_id": "a", "result": "CANCELED", "hard_override": True}
        assert (await api.post(RESULTS, forced)).json()["status"] == "CANCELED"


@pytest.mark.parametrize(
    ("change", "status", "place"),
    [
        ({"activity_id": None}, 400, "/activity_id"),
        ({"activity_id": 7}, 400, "/activity_id"),
        ({"activity_id": "nobody"}, 404, ""),
        ({"activity_id": "no id"}, 404, ""),
        ({"result": None}, 400, "/result"),
        ({"result": "DONE"}, 400, "/result"),
        ({"result": ["COMPLETED"]}, 400, "/result"),
        ({"hard_override": "yes"}, 400, "/hard_override"),
        ({"data": []}, 400, "/data"),
        ({"comment": 7}, 400, "/comment"),
        ({"hardOverride": True}, 400, "hardOverride"),
    ],
)
async def test_a_result_that_is_none(api: Api, change: Any, status: int, place: str) -> None:
    planned(api, "a")
    response = await api.post(RESULTS, {"activity_id": "a", "result": "COMPLETED", **change})
    message = failure(response, status)
    assert message.endswith(f"({place})") if place else message.startswith("there is no task"), message
    assert (await read(api, "a"))["status"] == "READY"


async def test_rights_are_the_domains(api: Api) -> None:
    for member in ("ann", "bob"):
        api.command("directory.register", {"kind": "member", "id": member, "fields": {}})
    planned(api, "a")
    api.command("task.assign", {"id": "a", "assignees": ["ann"]})
    bob, ann = api.key("acme", "bob"), api.key("acme", "ann")
    for token in (ann, bob):
        refused = await api.client.patch("/api/activities/a/cancel", headers=api.by(token))
        assert "not for this actor" in failure(refused, 403)
        failure(await api.post("/api/activities/tasks/a/dispatch", None, token), 403)
    result = {"activity_id": "a", "result": "COMPLETED"}
    failure(await api.post(RESULTS, result, bob), 403)
    failure(await api.post(RESULTS, {**result, "result": "CANCELED"}, ann), 403)
    assert (await api.post(RESULTS, result, ann)).status_code == 201
    failure(await api.post(RESULTS, {**result, "result": "NOT_EXECUTED", "hard_override": True}, ann), 403)


async def test_whose_operator_is_shown(api: Api) -> None:
    for member, operator in (("ann", "op-1"), ("bob", "op-2"), ("zoe", None)):
        fields = {"operator_id": operator} if operator else {}
        api.command("directory.register", {"kind": "member", "id": member, "fields": fields})
    created = (await api.post(CREATE, BODY)).json()
    task_id = created["id"]
    assert (await api.get(f"/v1/tasks/{task_id}")).json()["assignees"] == ["ann"]
    for people, operator in ((["bob", "ann"], "op-2"), (["zoe"], "op-1")):
        api.command("task.reassign", {"id": task_id, "assignees": people})
        assert (await read(api, task_id))["taskDetails"]["assignedOperatorId"] == operator
    api.command("task.unassign", {"id": task_id})
    assert (await read(api, task_id))["taskDetails"]["assignedOperatorId"] == "op-1"


async def test_tasks_of_other_dialects_are_activities_here(api: Api) -> None:
    with_workflow(api)
    with_activity(api)
    shown = await read(api, "a1-t1")
    assert (shown["type"], shown["channel"], shown["status"]) == ("TASK", None, "READY")
    assert shown["taskDetails"] == {"assignedRouteId": None, "assignedOperatorId": None}
    assert shown["reason"] == "Pickup"
    assert await read(api, "a1-t1", "/attributes") == []
    assert await read(api, "a1-t1", "/target-users") == []
    failure(await api.get("/api/activities/a1"), 404)
    cancelled = await _patch(api, "/api/activities/a1-t1/cancel")
    assert cancelled.json()["status"] == "CANCELED"
