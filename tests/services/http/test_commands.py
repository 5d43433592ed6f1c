"""Commands over HTTP and their receipts."""

from __future__ import annotations

from typing import Any

import pytest

from services.broker.sender import Outgoing, Unconfirmed
from services.commands.wire import Reply
from tests.services.http.api import Api, problem, with_activity, with_workflow

DEFINE: dict[str, Any] = {
    "type": "workflow.define",
    "data": {"id": "w1", "name": "Visit", "steps": [{"name": "Arrive"}, {"name": "Leave"}]},
}


async def test_an_accepted_command_answers_with_its_reply_and_has_a_receipt(api: Api) -> None:
    response = await api.post("/v1/commands", {**DEFINE, "id": "c1"})
    assert response.status_code == 200
    assert response.headers["location"] == "/v1/commands/c1"
    event = {"position": 1, "type": "workflow.defined", "stream": "workflow-w1", "version": 1}
    assert response.json() == {
        "command_id": "c1",
        "outcome": "accepted",
        "duplicate": False,
        "position": 1,
        "events": [event],
        "error": None,
    }
    receipt = (await api.get("/v1/commands/c1")).json()
    assert receipt.pop("recorded_at")
    assert receipt == {"command_id": "c1", "outcome": "accepted", "position": 1, "events": [event]}


async def test_a_refused_command_answers_with_a_problem_and_has_a_receipt(api: Api) -> None:
    body = {"type": "task.complete", "data": {"id": "t1"}, "id": "c1"}
    problem(await api.post("/v1/commands", body), 404, "not-found", pointer="/data/id", command_id="c1")
    receipt = (await api.get("/v1/commands/c1")).json()
    assert receipt["outcome"] == "rejected"
    assert receipt["error"] == {"code": "not-found", "detail": "there is no task t1", "pointer": "/id"}
    assert receipt["events"] == []


async def test_the_same_command_again_is_answered_again_and_another_under_its_id_is_refused(api: Api) -> None:
    first = (await api.post("/v1/commands", {**DEFINE, "id": "c1"})).json()
    again = (await api.post("/v1/commands", {**DEFINE, "id": "c1"})).json()
    assert again == {**first, "duplicate": True}
    other = {"type": "workflow.retire", "data": {"id": "w1"}, "id": "c1"}
    problem(await api.post("/v1/commands", other), 409, "command-id-conflict")


async def test_an_idempotency_key_takes_effect_once(api: Api) -> None:
    headers = {"Idempotency-Key": "k-1"}
    body = {"type": "task.create", "data": {"title": "Call"}}
    first = (await api.post("/v1/commands", body, headers=headers)).json()
    again = (await api.post("/v1/commands", body, headers=headers)).json()
    assert again["events"] == first["events"]
    assert again["duplicate"] is True
    other = {"type": "task.create", "data": {"title": "Write"}}
    problem(await api.post("/v1/commands", other, headers=headers), 409, "idempotency-conflict")


async def test_without_an_answer_the_receipt_tells_later(api: Api) -> None:
    api.sender.stopped = True
    response = await api.post("/v1/commands", {**DEFINE, "id": "c/1"})
    assert response.status_code == 202
    assert response.headers["location"] == "/v1/commands/c%2F1"
    assert response.json() == {"command_id": "c/1", "outcome": "undecided", "receipt": "/v1/commands/c%2F1"}
    problem(await api.get(response.headers["location"]), 404, "unknown-or-undecided")
    await api.sender.catch_up()
    receipt = await api.get(response.headers["location"])
    assert receipt.json()["outcome"] == "accepted"


async def test_a_version_that_is_expected_is_compared(api: Api) -> None:
    with_workflow(api)
    change = {"type": "workflow.change", "data": {"id": "w1", "name": "Other"}, "expected_version": 7}
    problem(await api.post("/v1/commands", change), 409, "version-conflict")
    assert (await api.post("/v1/commands", {**change, "expected_version": 1})).status_code == 200


async def test_an_actor_is_named_by_the_system_alone_and_with_permission(api: Api) -> None:
    with_workflow(api)
    with_activity(api)
    fail = {"type": "task.cancel", "data": {"id": "a1-t1"}, "actor": "ann"}
    problem(await api.post("/v1/commands", fail), 403, "forbidden")
    trusted = api.key("acme", "system", "read", "write", "impersonate")
    problem(await api.post("/v1/commands", fail, trusted), 403, "forbidden", command_id=api.sender.sent[-1].command_id)
    assert api.sender.sent[-1].actor == "ann"
    member = api.key("acme", "bob")
    problem(await api.post("/v1/commands", fail, member), 403, "forbidden", pointer="/actor")
    await api.post("/v1/commands", {**fail, "actor": "bob"}, member)
    assert api.sender.sent[-1].actor == "bob"


async def test_a_task_goes_the_way_of_its_activity(api: Api) -> None:
    with_workflow(api)
    with_activity(api)
    await api.post("/v1/commands", {"type": "task.process", "data": {"id": "a1-t1"}})
    assert api.sender.sent[-1].routing_key == "a1"
    await api.post("/v1/commands", {"type": "task.process", "data": {"id": "a1-t1"}, "routing_key": "mine"})
    assert api.sender.sent[-1].routing_key == "mine"
    await api.post("/v1/commands", {"type": "task.process", "data": {"id": "unknown"}})
    assert api.sender.sent[-1].routing_key == "unknown"


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        ("{", 400, "not-json", None),
        ("", 400, "not-json", None),
        ('{"type":"task.create","type":"task.create","data":{}}', 400, "duplicate-key", "/type"),
        ('{"type":"task.create","data":' + '{"fields":' * 40 + "1" + "}" * 41, 400, "too-deep", None),
        ('{"type":"task.create","data":{"title":NaN}}', 400, "not-json", None),
        (b'{"type":"\xff"}', 400, "not-utf-8", None),
        ('{"type":"task.create","data":{"title":"a\\u0000"}}', 422, "nul", "/data/title"),
        ('{"type":"task.create","data":{"title":"\\ud800"}}', 422, "lone-surrogate", "/data/title"),
        ('{"type":"task.create","data":{"fields":{"n":1e999}}}', 422, "number-out-of-range", "/data/fields/n"),
        ("[]", 422, "wrong-shape", None),
        ("{}", 422, "unknown-type", "/type"),
        ('{"type":"task.created","data":{}}', 422, "unknown-type", "/type"),
        ('{"type":"task.create"}', 422, "wrong-shape", "/data"),
        ('{"type":"task.create","data":[]}', 422, "wrong-shape", "/data"),
        ('{"type":"task.create","data":{"colour":1}}', 422, "unknown-field", "/data/colour"),
        ('{"type":"task.create","data":{"title":1}}', 422, "wrong-shape", "/data/title"),
        ('{"type":"task.create","data":{},"tenant":"x"}', 422, "unknown-field", "/tenant"),
        ('{"type":"task.create","data":{},"id":"a b"}', 422, "wrong-shape", "/id"),
        ('{"type":"task.create","data":{},"id":7}', 422, "wrong-shape", "/id"),
        ('{"type":"task.create","data":{},"expected_version":-1}', 422, "wrong-shape", "/expected_version"),
        ('{"type":"task.create","data":{},"expected_version":true}', 422, "wrong-shape", "/expected_version"),
        ('{"type":"task.create","data":{},"routing_key":""}', 422, "wrong-shape", "/routing_key"),
        ('{"type":"task.create","data":{},"actor":"a b"}', 422, "wrong-shape", "/actor"),
        ('{"type":"task.create","data":{"start":"tomorrow"}}', 422, "invalid", "/data/start"),
    ],
)
async def test_what_is_no_command_is_refused_before_it_is_sent(
    api: Api, body: Any, status: int, code: str, pointer: str | None
) -> None:
    headers = {**api.by(), "Content-Type": "application/json"}
    response = await api.client.post("/v1/commands", content=body, headers=headers)
    problem(response, status, code, pointer=pointer)
    if code != "invalid":
        assert api.sender.sent == []


async def test_an_id_of_any_length_goes_to_a_queue(api: Api) -> None:
    """AMQP takes routing keys of up to 255 bytes; what cannot be one must not break the publishing."""
    for entry_id in ("x" * 300, "\u00e9" * 200, ""):
        response = await api.post("/v1/commands", {"type": "task.create", "data": {"id": entry_id}})
        assert 400 <= response.status_code < 500, response.text
    assert [
        command.routing_key for command in api.sender.sent if not 1 <= len(command.routing_key.encode()) <= 255
    ] == []


async def test_a_command_that_may_have_been_taken_says_where_its_receipt_lies(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unconfirmed(outgoing: Outgoing, timeout: float, *, wait: bool = True) -> Reply | None:
        raise Unconfirmed("who knows")

    monkeypatch.setattr(api.sender, "send", unconfirmed)
    response = await api.post("/v1/commands", {"type": "task.create", "data": {}, "id": "a/b?c#d%20e"})
    problem(response, 503, "unavailable")
    location = response.headers["location"]
    assert location == "/v1/commands/a%2Fb%3Fc%23d%2520e"
    problem(await api.get(location), 404, "unknown-or-undecided")
