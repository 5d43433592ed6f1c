"""The dispatch dialect's writes: creating, one key for one activity, and what can be done with an activity."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import psycopg
import pytest

from services.commands.wire import Reply
from tests.services.http.dispatch_scene import BODY, OWNER, failure, furnish, planned, report, unresolved
from tests.services.http.house import House, with_activity, with_workflow

CREATE, RESULTS = "/api/activities/tasks", "/api/activity-results/tasks"


@pytest.fixture
async def house(house: House) -> House:
    furnish(house)
    return house


def _created(house: House) -> int:
    with psycopg.connect(house.url) as conn:
        row = conn.execute("SELECT count(*) FROM stored_events WHERE topic = 'task.created'").fetchone()
    assert row is not None
    return int(row[0])


async def _read(house: House, task_id: str, part: str = "") -> Any:
    response = await house.get(f"/api/activities/{task_id}{part}")
    assert response.status_code == 200, response.text
    return response.json()


async def _patch(house: House, path: str, body: Any = None) -> Any:
    return await house.client.patch(path, json=body, headers=house.by())


# Creating.


async def test_everything_that_a_request_says_is_there_again(house: House) -> None:
    body = {
        **BODY,
        "suggested_execution_time": "2025-01-16T11:00:00+02:00",
        "user_status": "VIP",
        "score": 7,
        "assignment_reason": "nearest",
        "target_criteria": [OWNER],
        "attribute_keys": ["greeting", "nothing"],
        "attributes": [{"key": "greeting", "fallback": "Hello"}, {"key": "size", "value": {"m": 2}, "fallback": None}],
    }
    created = (await house.post(CREATE, body)).json()
    assert list(created) == ["id", "type", "channel", "status", "taskDetails"]
    shown = await _read(house, created["id"])
    assert {name: shown[name] for name in created} == created
    assert shown == {
        **created,
        "reason": "Monthly visit",
        "commerceId": "shop",
        "scheduledAt": "2025-01-16T09:00:00.000Z",
        "suggestedExecutionTime": "2025-01-16T11:00:00+02:00",
        "userStatus": "VIP",
        "score": 7,
        "assignmentReason": "nearest",
        "targetCriteria": [OWNER],
        "attributeKeys": ["greeting", "nothing"],
        "dispatchAttempts": 0,
        "result": None,
        "createdAt": "2025-10-31T01:50:00.000Z",
        "updatedAt": "2025-10-31T01:50:00.000Z",
    }
    assert await _read(house, created["id"], "/attributes") == [
        {"key": "greeting", "value": "Hello"},
        {"key": "size", "value": {"m": 2}},
    ]
    assert await _read(house, created["id"], "/target-users") == [
        {"id": "t1", "criterion": "ROLE_MATCH", "status": "RESOLVED", "userId": "u-owner", "reason": None}
    ]
    assert (await house.get(f"/v1/tasks/{created['id']}")).json()["title"] == "Monthly visit"


async def test_null_is_the_same_as_left_out(house: House) -> None:
    nulls = dict.fromkeys(("score", "user_status", "target_criteria", "attribute_keys", "attributes"))
    assert (await house.post(CREATE, {**BODY, **nulls})).status_code == 201
    failure(await house.post(CREATE, BODY), 409, existingId=(await _ids(house))[0], samePayload=True)


async def _ids(house: House, query: str = "") -> list[str]:
    return [shown["id"] for shown in (await house.get(f"/api/activities?{query}")).json()["data"]]


async def test_what_is_required_is_a_text(house: House) -> None:
    for name in BODY:
        for value in (None, "", 7, [], {}, True):
            message = failure(await house.post(CREATE, {**BODY, name: value}), 400)
            assert message.endswith(f"(/{name})")
        failure(await house.post(CREATE, {key: given for key, given in BODY.items() if key != name}), 400)
    assert _created(house) == 0


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"channel": "FAX"}, "/channel"),
    ({"commerce_id": "no id"}, "/commerce_id"),
    ({"assigned_route_id": "x" * 65}, "/assigned_route_id"),
    ({"assigned_operator_id": "ü"}, "/assigned_operator_id"),
    ({"scheduled_at": "tomorrow"}, "/scheduled_at"),
    ({"scheduled_at": "2025-01-16T09:00:00"}, "/scheduled_at"),
    ({"suggested_execution_time": "2025-02-30T09:00:00Z"}, "/suggested_execution_time"),
    ({"suggested_execution_time": 7}, "/suggested_execution_time"),
    ({"score": "7"}, "/score"),
    ({"score": 1.5}, "/score"),
    ({"score": True}, "/score"),
    ({"score": 2**63}, "/score"),
    ({"user_status": 7}, "/user_status"),
    ({"assignment_reason": []}, "/assignment_reason"),
    ({"target_criteria": {}}, "/target_criteria"),
    ({"target_criteria": ["ANY"]}, "/target_criteria/0"),
    ({"target_criteria": [{"type": "NEAREST"}]}, "/target_criteria/0/type"),
    ({"target_criteria": [{"type": "ANY", "weight": 1}]}, "/target_criteria/0/weight"),
    ({"target_criteria": [{"type": "ROLE_MATCH"}]}, "/target_criteria/0/role"),
    ({"attribute_keys": "a"}, "/attribute_keys"),
    ({"attribute_keys": [7]}, "/attribute_keys/0"),
    ({"attribute_keys": ["a b"]}, "/attribute_keys/0"),
    ({"attributes": [{"value": 1}]}, "/attributes/0/key"),
    ({"attributes": [{"key": "a", "values": 1}]}, "/attributes/0/values"),
    ({"idempotency_key": "x" * 256}, "/idempotency_key"),
    ({"idempotency_key": "a\nb"}, "/idempotency_key"),
    ({"reason": "a\0b"}, "/reason"),
    ({"attributes": [{"key": "a", "value": "\ud800"}]}, "/attributes/0/value"),
    ({"colour": "red"}, "colour"),
]


async def test_a_request_that_is_wrong_writes_nothing(house: House) -> None:
    headers = {**house.by(), "Content-Type": "application/json"}
    for change, place in WRONG:
        # As ASCII, since half of a surrogate pair can be sent in no other way.
        body = json.dumps({**BODY, **change})
        message = failure(await house.client.post(CREATE, content=body, headers=headers), 400)
        assert message.endswith(f"({place})"), message
    assert _created(house) == 0


@pytest.mark.parametrize("name", ["commerce_id", "assigned_route_id", "assigned_operator_id"])
async def test_what_is_not_there_is_named(house: House, name: str) -> None:
    furnish(house, "other")
    kind = name.removeprefix("assigned_").removesuffix("_id")
    house.command("directory.register", {"kind": kind, "id": "theirs"}, "other")
    answers = [await house.post(CREATE, {**BODY, name: entry}) for entry in ("theirs", "nobody")]
    for answer in answers:
        assert failure(answer, 404).endswith(f"(/{name})")
    assert answers[0].text.replace("theirs", "nobody") == answers[1].text
    # What is refused holds no key, and what was registered a moment ago is found.
    house.sender.late = {"directory"}
    house.command("directory.register", {"kind": kind, "id": "nobody"})
    assert (await house.post(CREATE, {**BODY, name: "nobody"})).status_code == 201


async def test_a_tenants_own_channels_hold(house: House) -> None:
    house.command("directory.register", {"kind": "policy", "id": "channels", "fields": {"value": ["DRONE"]}})
    failure(await house.post(CREATE, BODY), 400)
    assert (await house.post(CREATE, {**BODY, "channel": "DRONE"})).json()["channel"] == "DRONE"


async def test_targets_that_are_not_found_make_an_unresolved_activity(house: House) -> None:
    body = {**BODY, "target_criteria": [{"type": "ROLE_MATCH", "role": "CLERK"}]}
    response = await house.post(CREATE, body)
    assert (response.status_code, response.json()["status"]) == (201, "UNRESOLVED")
    assert (await _read(house, response.json()["id"]))["status"] == "UNRESOLVED"


@pytest.mark.parametrize("late", [set(), {"tasks"}, {"activities", "tasks", "directory"}])
async def test_the_answer_is_what_the_command_itself_did(house: House, late: set[str]) -> None:
    house.sender.late = late
    send = house.sender.send

    async def overtaken(outgoing: Any, timeout: float, *, wait: bool = True) -> Reply | None:
        reply = await send(outgoing, timeout, wait=wait)
        assert reply is not None
        task = reply.events[0].stream.partition("-")[2]
        await asyncio.to_thread(house.command, "task.submit-result", {"id": task, "result": "COMPLETED"})
        return reply

    house.sender.send = overtaken  # type: ignore[method-assign]
    response = await house.post(CREATE, BODY)
    assert response.json() == {
        "id": response.json()["id"],
        "type": "TASK",
        "channel": "SALESMAN",
        "status": "READY",
        "taskDetails": {"assignedRouteId": "north", "assignedOperatorId": "op-1"},
    }


# One key, one activity.


async def test_the_same_payload_under_the_same_key_of_another_actor_is_another_payload(house: House) -> None:
    first = (await house.post(CREATE, BODY)).json()
    agent = house.key("acme", "m1", "CREATE_ACTIVITY")
    failure(await house.post(CREATE, BODY, agent), 409, existingId=first["id"], samePayload=False)


async def test_a_key_used_twice(house: House) -> None:
    first = (await house.post(CREATE, BODY)).json()
    failure(await house.post(CREATE, BODY), 409, existingId=first["id"], samePayload=True)
    failure(await house.post(CREATE, {**BODY, "score": 1}), 409, existingId=first["id"], samePayload=False)
    other = (await house.post(CREATE, {**BODY, "idempotency_key": "k-2"})).json()
    assert other["id"] != first["id"]
    assert _created(house) == 2
    assert house.sender.sent[0].routing_key == house.sender.sent[1].routing_key


async def test_a_key_is_a_tenants_own(house: House) -> None:
    furnish(house, "other")
    answers = [await house.post(CREATE, BODY, token) for token in (None, house.key("other"))]
    assert [answer.status_code for answer in answers] == [201, 201]


async def test_many_at_once_with_one_key(house: House) -> None:
    answers = await asyncio.gather(*(house.post(CREATE, BODY) for _ in range(8)))
    (made,) = [answer.json() for answer in answers if answer.status_code == 201]
    for answer in answers:
        if answer.status_code != 201:
            failure(answer, 409, existingId=made["id"], samePayload=True)
    assert _created(house) == 1


async def test_the_header_may_only_repeat_the_key(house: House) -> None:
    wrong = await house.post(CREATE, BODY, headers={"Idempotency-Key": "k-2"})
    assert failure(wrong, 400).endswith("(Idempotency-Key)")
    assert (await house.post(CREATE, BODY, headers={"Idempotency-Key": "k-1"})).status_code == 201


async def test_a_key_that_another_dialect_used(house: House) -> None:
    with_workflow(house)
    key = {"Idempotency-Key": "k-1"}
    master = (await house.post("/api/v3/activity", {"workflowId": "w1", "tasks": [{}, {}]}, headers=key)).json()["data"]
    failure(await house.post(CREATE, BODY), 409, existingId=master["_id"], samePayload=False)
    registered = await house.post(
        "/v1/commands",
        {"type": "directory.register", "data": {"kind": "hub", "id": "h"}},
        headers={"Idempotency-Key": "k-2"},
    )
    assert registered.status_code == 200
    failure(await house.post(CREATE, {**BODY, "idempotency_key": "k-2"}), 409, existingId=None, samePayload=False)


async def test_a_command_that_was_delivered_twice_is_no_use_of_its_key(house: House) -> None:
    send = house.sender.send

    async def again(outgoing: Any, timeout: float, *, wait: bool = True) -> Reply | None:
        first = await send(outgoing, timeout, wait=wait)
        second = await send(outgoing, timeout, wait=wait)
        assert first is not None
        assert second == msgspec.structs.replace(first, duplicate=True)
        return second

    house.sender.send = again  # type: ignore[method-assign]
    response = await house.post(CREATE, BODY)
    assert response.status_code == 201, response.text
    failure(await house.post(CREATE, BODY), 409, existingId=response.json()["id"], samePayload=True)


async def test_a_repetition_after_no_answer_is_told_what_it_made(house: House) -> None:
    house.sender.stopped = True
    lost = await house.post(CREATE, BODY)
    assert lost.status_code == 202
    assert list(lost.json()) == ["statusCode", "message", "commandId", "receipt"]
    assert lost.headers["location"] == lost.json()["receipt"]
    await house.sender.catch_up()
    (made,) = await _ids(house)
    failure(await house.post(CREATE, BODY), 409, existingId=made, samePayload=True)


# What can be done with an activity.


async def test_cancelling(house: House) -> None:
    planned(house, "a")
    shown = await _patch(house, "/api/activities/a/cancel", {"reason": "closed"})
    assert (shown.status_code, shown.json()["status"]) == (200, "CANCELED")
    assert (await house.get("/v1/tasks/a")).json()["reason"] == "closed"
    assert failure(await _patch(house, "/api/activities/a/cancel"), 400) == "the task has ended"
    planned(house, "b")
    assert (await house.client.patch("/api/activities/b/cancel", headers=house.by())).json()["status"] == "CANCELED"
    planned(house, "c")
    for body in ({"reason": 7}, {"why": "x"}, [], "x"):
        failure(await _patch(house, "/api/activities/c/cancel", body), 400)
    assert (await _read(house, "c"))["status"] == "READY"


async def test_resolving_again(house: House) -> None:
    unresolved(house, "a")
    path = "/api/activities/a/retry-resolution"
    still = await _patch(house, path)
    assert (still.status_code, still.json()["status"]) == (200, "UNRESOLVED")
    users = [{"id": "u-clerk", "role": "CLERK"}]
    house.command("directory.change", {"kind": "commerce", "id": "shop", "fields": {"users": users}})
    assert (await _patch(house, path)).json()["status"] == "READY"
    assert [target["userId"] for target in await _read(house, "a", "/target-users")] == ["u-clerk"]
    failure(await _patch(house, path), 400)
    planned(house, "b")
    failure(await _patch(house, "/api/activities/b/retry-resolution"), 400)
    house.command("task.cancel", {"id": "b"})
    failure(await _patch(house, "/api/activities/b/retry-resolution"), 400)


async def test_naming_a_target(house: House) -> None:
    unresolved(house, "a")
    found = {target["status"]: target for target in await _read(house, "a", "/target-users")}
    assert found["LOCKED"]["reason"] == "asked not to be called"
    path = "/api/activities/a/target-users/{}/resolve"
    locked, failed = path.format(found["LOCKED"]["id"]), path.format(found["FAILED"]["id"])
    assert "locked" in failure(await _patch(house, locked, {"user_id": "u-1"}), 400)
    assert failure(await _patch(house, failed, {"user_id": "u-cook"}), 400).endswith("(/user_id)")
    assert failure(await _patch(house, failed, {"user_id": "no id"}), 400).endswith("(/user_id)")
    for body in ({}, {"user_id": None}, {"user_id": 7}, {"user_id": "u", "x": 1}, []):
        failure(await _patch(house, failed, body), 400)
    for target in ("nobody", "%00", "%ff", "x" * 200):
        assert failure(await _patch(house, path.format(target), {"user_id": "u"}), 400 if target == "%00" else 404)
    # Whom the shop does not have nobody can name; who is there need not fit what was asked for.
    assert failure(await _patch(house, failed, {"user_id": "u-new"}), 404).endswith("(/user_id)")
    shown = await _patch(house, failed, {"user_id": "u-owner"})
    assert (shown.status_code, shown.json()["status"]) == (200, "READY")
    named = {target["id"]: target for target in await _read(house, "a", "/target-users")}[found["FAILED"]["id"]]
    assert (named["status"], named["userId"], named["reason"]) == ("RESOLVED", "u-owner", None)
    failure(await _patch(house, failed, {"user_id": "u-owner"}), 400)


async def test_dispatching(house: House) -> None:
    planned(house, "a")
    path = "/api/activities/tasks/{}/dispatch"
    sent = await house.client.post(path.format("a"), headers=house.by())
    assert (sent.status_code, sent.content) == (204, b"")
    assert (await _read(house, "a"))["dispatchAttempts"] == 1
    assert failure(await house.post(path.format("a"), None), 400) == "a dispatch is under way"
    report(house, "a", 1, True)
    assert (await _read(house, "a"))["status"] == "DISPATCHED"
    assert failure(await house.post(path.format("a"), None), 400) == "the task is dispatched"
    unresolved(house, "b")
    failure(await house.post(path.format("b"), None), 400)
    house.command("task.create", {"id": "plain"})
    assert failure(await house.post(path.format("plain"), None), 400) == "the task has no channel"
    planned(house, "c", channel="EMAIL")
    failure(await house.post(path.format("c"), None), 400)
    failure(await house.post(path.format("nobody"), None), 404)


async def test_three_failed_attempts_fail_the_activity(house: House) -> None:
    planned(house, "a")
    for attempt in (1, 2, 3):
        assert (await house.post("/api/activities/tasks/a/dispatch", None)).status_code == 204
        report(house, "a", attempt, False, code="http-503", message="busy")
    assert (await _read(house, "a"))["status"] == "FAILED"
    failure(await house.post("/api/activities/tasks/a/dispatch", None), 400)


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
async def test_results(house: House, result: str, status: str) -> None:
    planned(house, "a")
    house.command("task.dispatch", {"id": "a"})
    report(house, "a", 1, True)
    body = {"activity_id": "a", "result": result, "data": {"sold": 3}, "comment": "as agreed"}
    response = await house.post(RESULTS, body)
    assert response.status_code == 201, response.text
    assert response.json() == {
        "activityId": "a",
        "result": result,
        "hardOverride": False,
        "data": {"sold": 3},
        "comment": "as agreed",
        "status": status,
    }
    shown = await _read(house, "a")
    assert (shown["status"], shown["result"]) == (status, None if result == "PENDING" else result)
    again = await house.post(RESULTS, {"activity_id": "a", "result": "COMPLETED"})
    if result == "PENDING":
        assert again.json()["status"] == "COMPLETED"
    else:
        assert "hard override" in failure(again, 409)
        forced = {"activity_id": "a", "result": "CANCELED", "hard_override": True}
        assert (await house.post(RESULTS, forced)).json()["status"] == "CANCELED"


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
async def test_a_result_that_is_none(house: House, change: Any, status: int, place: str) -> None:
    planned(house, "a")
    response = await house.post(RESULTS, {"activity_id": "a", "result": "COMPLETED", **change})
    message = failure(response, status)
    assert message.endswith(f"({place})") if place else message.startswith("there is no task"), message
    assert (await _read(house, "a"))["status"] == "READY"


async def test_rights_are_the_domains(house: House) -> None:
    for member in ("ann", "bob"):
        house.command("directory.register", {"kind": "member", "id": member, "fields": {}})
    planned(house, "a")
    house.command("task.assign", {"id": "a", "assignees": ["ann"]})
    bob, ann = house.key("acme", "bob"), house.key("acme", "ann")
    for token in (ann, bob):
        refused = await house.client.patch("/api/activities/a/cancel", headers=house.by(token))
        assert "not for this actor" in failure(refused, 403)
        failure(await house.post("/api/activities/tasks/a/dispatch", None, token), 403)
    result = {"activity_id": "a", "result": "COMPLETED"}
    failure(await house.post(RESULTS, result, bob), 403)
    failure(await house.post(RESULTS, {**result, "result": "CANCELED"}, ann), 403)
    assert (await house.post(RESULTS, result, ann)).status_code == 201
    failure(await house.post(RESULTS, {**result, "result": "NOT_EXECUTED", "hard_override": True}, ann), 403)


async def test_a_key_makes_any_write_take_effect_once(house: House) -> None:
    planned(house, "a")
    key = {"Idempotency-Key": "once"}
    body = {"activity_id": "a", "result": "NOT_EXECUTED"}
    answers = [await house.post(RESULTS, body, headers=key) for _ in range(2)]
    assert [answer.json() for answer in answers] == [answers[0].json()] * 2
    failure(await house.post(RESULTS, {**body, "comment": "x"}, headers=key), 409)


async def test_whose_operator_is_shown(house: House) -> None:
    for member, operator in (("ann", "op-1"), ("bob", "op-2"), ("zoe", None)):
        fields = {"operator_id": operator} if operator else {}
        house.command("directory.register", {"kind": "member", "id": member, "fields": fields})
    created = (await house.post(CREATE, BODY)).json()
    task_id = created["id"]
    assert (await house.get(f"/v1/tasks/{task_id}")).json()["assignees"] == ["ann"]
    for people, operator in ((["bob", "ann"], "op-2"), (["zoe"], "op-1")):
        house.command("task.reassign", {"id": task_id, "assignees": people})
        assert (await _read(house, task_id))["taskDetails"]["assignedOperatorId"] == operator
    house.command("task.unassign", {"id": task_id})
    assert (await _read(house, task_id))["taskDetails"]["assignedOperatorId"] == "op-1"


async def test_tasks_of_other_dialects_are_activities_here(house: House) -> None:
    with_workflow(house)
    with_activity(house)
    shown = await _read(house, "a1-t1")
    assert (shown["type"], shown["channel"], shown["status"]) == ("TASK", None, "READY")
    assert shown["taskDetails"] == {"assignedRouteId": None, "assignedOperatorId": None}
    assert shown["reason"] == "Pickup"
    assert await _read(house, "a1-t1", "/attributes") == []
    assert await _read(house, "a1-t1", "/target-users") == []
    failure(await house.get("/api/activities/a1"), 404)
    cancelled = await _patch(house, "/api/activities/a1-t1/cancel")
    assert cancelled.json()["status"] == "CANCELED"
