"""The dispatch dialect's creating of activities, and one key for one activity."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import psycopg
import pytest

from services.commands.wire import Reply
from tests.services.http.api import Api, with_workflow
from tests.services.http.dispatch_scene import BODY, OWNER, failure, furnish, read

CREATE = "/api/activities/tasks"


set_scene = furnish


def _created(api: Api) -> int:
    with psycopg.connect(api.url) as conn:
        row = conn.execute("SELECT count(*) FROM stored_events WHERE topic = 'task.created'").fetchone()
    assert row is not None
    return int(row[0])


# Creating.


async def test_everything_that_a_request_says_is_there_again(api: Api) -> None:
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
    created = (await api.post(CREATE, body)).json()
    assert list(created) == ["id", "type", "channel", "status", "taskDetails"]
    shown = await read(api, created["id"])
    assert {name: shown[name] for name in created} == created
    assert shown == {
        **created,
        "reason": "Monthly visit",
        "commerceId": "shop",
        "commerceAssignment": {"commerceId": "shop", "commerce": {"name": "Corner shop"}},
        "scheduledAt": "2025-01-16T09:00:00.000Z",
        "suggestedExecutionTime": "2025-01-16T11:00:00+02:00",
        "userStatus": "VIP",
        "score": 7,
        "assignmentReason": "nearest",
        "targetCriteria": [OWNER],
        "attributeKeys": ["greeting", "nothing"],
        "dispatchAttempts": 0,
        "providerActivityId": None,
        "result": None,
        "taskResult": None,
        "createdAt": "2025-10-31T01:50:00.000Z",
        "updatedAt": "2025-10-31T01:50:00.000Z",
    }
    attributes = await read(api, created["id"], "/attributes")
    assert [(each["key"], each["value"], each["resolutionStatus"]) for each in attributes] == [
        ("greeting", "Hello", "FALLBACK"),
        ("nothing", None, "FAILED"),
        ("size", {"m": 2}, "RESOLVED"),
    ]
    (target,) = await read(api, created["id"], "/target-users")
    assert (target["criterion"], target["commerceUserId"], target["reason"]) == ("ROLE_MATCH", "u-owner", None)
    assert (await api.get(f"/v1/tasks/{created['id']}")).json()["title"] == "Monthly visit"


async def test_null_is_the_same_as_left_out(api: Api) -> None:
    nulls = dict.fromkeys(("score", "user_status", "target_criteria", "attribute_keys", "attributes"))
    assert (await api.post(CREATE, {**BODY, **nulls})).status_code == 201
    failure(await api.post(CREATE, BODY), 409, existingId=(await _ids(api))[0], samePayload=True)


async def _ids(api: Api, query: str = "") -> list[str]:
    return [shown["id"] for shown in (await api.get(f"/api/activities?{query}")).json()["data"]]


async def test_what_is_required_is_a_text(api: Api) -> None:
    for name in BODY:
        for value in (None, "", 7, [], {}, True):
            message = failure(await api.post(CREATE, {**BODY, name: value}), 400)
            assert message.endswith(f"(/{name})")
        failure(await api.post(CREATE, {key: given for key, given in BODY.items() if key != name}), 400)
    assert _created(api) == 0


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


async def test_a_request_that_is_wrong_writes_nothing(api: Api) -> None:
    headers = {**api.by(), "Content-Type": "application/json"}
    for change, place in WRONG:
        # As ASCII, since half of a surrogate pair can be sent in no other way.
        body = json.dumps({**BODY, **change})
        message = failure(await api.client.post(CREATE, content=body, headers=headers), 400)
        assert message.endswith(f"({place})"), message
    assert _created(api) == 0


@pytest.mark.parametrize("name", ["commerce_id", "assigned_route_id", "assigned_operator_id"])
async def test_what_is_not_there_is_named(api: Api, name: str) -> None:
    furnish(api, "other")
    kind = name.removeprefix("assigned_").removesuffix("_id")
    api.command("directory.register", {"kind": kind, "id": "theirs"}, "other")
    answers = [await api.post(CREATE, {**BODY, name: entry}) for entry in ("theirs", "nobody")]
    for answer in answers:
        assert failure(answer, 404).endswith(f"(/{name})")
    assert answers[0].text.replace("theirs", "nobody") == answers[1].text
    # What is refused holds no key, and what was registered a moment ago is found.
    api.sender.late = {"directory"}
    api.command("directory.register", {"kind": kind, "id": "nobody"})
    assert (await api.post(CREATE, {**BODY, name: "nobody"})).status_code == 201


async def test_a_tenants_own_channels_hold(api: Api) -> None:
    api.command("directory.register", {"kind": "policy", "id": "channels", "fields": {"value": ["DRONE"]}})
    failure(await api.post(CREATE, BODY), 400)
    assert (await api.post(CREATE, {**BODY, "channel": "DRONE"})).json()["channel"] == "DRONE"


async def test_targets_that_are_not_found_make_an_unresolved_activity(api: Api) -> None:
    body = {**BODY, "target_criteria": [{"type": "ROLE_MATCH", "role": "CLERK"}]}
    response = await api.post(CREATE, body)
    assert (response.status_code, response.json()["status"]) == (201, "UNRESOLVED")
    assert (await read(api, response.json()["id"]))["status"] == "UNRESOLVED"


@pytest.mark.parametrize("late", [set(), {"tasks"}, {"activities", "tasks", "directory"}])
async def test_the_answer_is_what_the_command_itself_did(api: Api, late: set[str]) -> None:
    api.sender.late = late
    send = api.sender.send

    async def overtaken(outgoing: Any, timeout: float, *, wait: bool = True) -> Reply | None:
        reply = await send(outgoing, timeout, wait=wait)
        assert reply is not None
        task = reply.events[0].stream.partition("-")[2]
        await asyncio.to_thread(api.command, "task.submit-result", {"id": task, "result": "COMPLETED"})
        return reply

    api.sender.send = overtaken  # type: ignore[method-assign]
    response = await api.post(CREATE, BODY)
    assert response.json() == {
        "id": response.json()["id"],
        "type": "TASK",
        "channel": "SALESMAN",
        "status": "READY",
        "taskDetails": {"assignedRouteId": "north", "assignedOperatorId": "op-1"},
    }


# One key, one activity.


async def test_the_same_payload_under_the_same_key_of_another_actor_is_another_payload(api: Api) -> None:
    first = (await api.post(CREATE, BODY)).json()
    agent = api.key("acme", "m1", "CREATE_ACTIVITY")
    failure(await api.post(CREATE, BODY, agent), 409, existingId=first["id"], samePayload=False)


async def test_a_key_used_twice(api: Api) -> None:
    first = (await api.post(CREATE, BODY)).json()
    failure(await api.post(CREATE, BODY), 409, existingId=first["id"], samePayload=True)
    failure(await api.post(CREATE, {**BODY, "score": 1}), 409, existingId=first["id"], samePayload=False)
    other = (await api.post(CREATE, {**BODY, "idempotency_key": "k-2"})).json()
    assert other["id"] != first["id"]
    assert _created(api) == 2
    assert api.sender.sent[0].routing_key == api.sender.sent[1].routing_key


async def test_a_key_is_a_tenants_own(api: Api) -> None:
    furnish(api, "other")
    answers = [await api.post(CREATE, BODY, token) for token in (None, api.key("other"))]
    assert [answer.status_code for answer in answers] == [201, 201]


async def test_many_at_once_with_one_key(api: Api) -> None:
    answers = await asyncio.gather(*(api.post(CREATE, BODY) for _ in range(8)))
    (made,) = [answer.json() for answer in answers if answer.status_code == 201]
    for answer in answers:
        if answer.status_code != 201:
            failure(answer, 409, existingId=made["id"], samePayload=True)
    assert _created(api) == 1


async def test_the_header_may_only_repeat_the_key(api: Api) -> None:
    wrong = await api.post(CREATE, BODY, headers={"Idempotency-Key": "k-2"})
    assert failure(wrong, 400).endswith("(Idempotency-Key)")
    assert (await api.post(CREATE, BODY, headers={"Idempotency-Key": "k-1"})).status_code == 201


async def test_a_key_that_another_dialect_used(api: Api) -> None:
    with_workflow(api)
    key = {"Idempotency-Key": "k-1"}
    master = (await api.post("/api/v3/activity", {"workflowId": "w1", "tasks": [{}, {}]}, headers=key)).json()["data"]
    failure(await api.post(CREATE, BODY), 409, existingId=master["_id"], samePayload=False)
    registered = await api.post(
        "/v1/commands",
        {"type": "directory.register", "data": {"kind": "hub", "id": "h"}},
        headers={"Idempotency-Key": "k-2"},
    )
    assert registered.status_code == 200
    failure(await api.post(CREATE, {**BODY, "idempotency_key": "k-2"}), 409, existingId=None, samePayload=False)


async def test_a_command_that_was_delivered_twice_is_no_use_of_its_key(api: Api) -> None:
    send = api.sender.send

    async def again(outgoing: Any, timeout: float, *, wait: bool = True) -> Reply | None:
        first = await send(outgoing, timeout, wait=wait)
        second = await send(outgoing, timeout, wait=wait)
        assert first is not None
        assert second == msgspec.structs.replace(first, duplicate=True)
        return second

    api.sender.send = again  # type: ignore[method-assign]
    response = await api.post(CREATE, BODY)
    assert response.status_code == 201, response.text
    failure(await api.post(CREATE, BODY), 409, existingId=response.json()["id"], samePayload=True)


async def test_a_repetition_after_no_answer_is_told_what_it_made(api: Api) -> None:
    api.sender.stopped = True
    lost = await api.post(CREATE, BODY)
    assert lost.status_code == 202
    assert list(lost.json()) == ["statusCode", "message", "commandId", "receipt"]
    assert lost.headers["location"] == lost.json()["receipt"]
    await api.sender.catch_up()
    (made,) = await _ids(api)
    failure(await api.post(CREATE, BODY), 409, existingId=made, samePayload=True)
