"""The workflow dialect: what all its endpoints have in common."""

from __future__ import annotations

import psycopg
import pytest

from services.http.workflow.errors import JSON_API
from tests.services.http.api import Api
from tests.services.http.workflow_scene import (
    BASE,
    LIST,
    READS,
    WRITES,
    Write,
    furnish,
    ready,
    refused,
    send,
    shown,
)

set_scene = furnish


@pytest.mark.parametrize("name", WRITES)
async def test_an_action_answers_with_what_it_leaves(api: Api, name: str) -> None:
    write = WRITES[name]
    ready(api, write)
    response = await send(api, write)
    assert shown(response)["status"] == write.status
    if write.path.startswith("/activities"):
        assert response.json() == (await api.get(f"{LIST}/t")).json()


async def test_both_media_types_are_taken(api: Api) -> None:
    api.command("task.assign", {"id": "t", "assignees": ["ann"]})
    for media in ("application/json", JSON_API, f"{JSON_API}; charset=utf-8"):
        assert (await send(api, WRITES["save"], headers={"Content-Type": media})).status_code == 200


@pytest.mark.parametrize("name", WRITES)
async def test_a_late_view_changes_nothing_of_the_answer(api: Api, name: str) -> None:
    write = WRITES[name]
    ready(api, write)
    api.sender.late = {"tasks", "activities", "directory"}
    late = await send(api, write)
    api.sender.late = set()
    api.sender.follow()
    assert shown(late)["status"] == write.status
    if write.path.startswith("/activities"):
        assert late.json() == (await api.get(f"{LIST}/t")).json()


@pytest.mark.parametrize("name", WRITES)
async def test_a_repetition_under_one_key_takes_effect_once(api: Api, name: str) -> None:
    ready(api, WRITES[name])
    headers = {"Idempotency-Key": "k 1"}
    first = await send(api, WRITES[name], headers=headers)
    with psycopg.connect(api.url) as conn:
        before = conn.execute("SELECT max(notification_id) FROM stored_events").fetchone()
        again = await send(api, WRITES[name], headers=headers)
        assert conn.execute("SELECT max(notification_id) FROM stored_events").fetchone() == before
    assert shown(again) == shown(first)


@pytest.mark.parametrize("name", WRITES)
async def test_without_an_answer_the_receipt_says_more(api: Api, name: str) -> None:
    write = WRITES[name]
    ready(api, write)
    api.sender.stopped = True
    response = await send(api, write)
    assert response.status_code == 202
    meta = response.json()["meta"]
    assert response.headers["location"] == meta["receipt"]
    await api.sender.catch_up()
    receipt = (await api.get(meta["receipt"])).json()
    assert (receipt["outcome"], receipt["command_id"]) == ("accepted", meta["command_id"])


@pytest.mark.parametrize("name", WRITES)
async def test_a_command_that_is_not_taken(api: Api, name: str) -> None:
    ready(api, WRITES[name])
    api.sender.unreachable = True
    response = await send(api, WRITES[name])
    refused(response, 503, "unavailable")
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize("name", [*WRITES, *READS])
async def test_who_may_ask(api: Api, name: str) -> None:
    write = WRITES.get(name, Write("GET", name))
    none = await api.client.request(write.method, f"{BASE}{write.path}", json=write.body)
    refused(none, 401, "unauthorized", pointer="")
    assert "www-authenticate" in none.headers
    refused(await send(api, write, "fw_0000000000000000_" + "x" * 43), 401, "unauthorized")
    lacking = api.key("acme", "system", "read" if name in WRITES else "CREATE_ACTIVITY")
    refused(await send(api, write, lacking), 403, "forbidden")


@pytest.mark.parametrize("name", [*WRITES, "/activities/t"])
async def test_another_tenants_id_reads_like_one_that_nobody_has(api: Api, name: str) -> None:
    write = WRITES.get(name, Write("GET", name))
    if write.path.startswith("/tracker"):
        # The other tenant's number is nobody's here.
        refused(await send(api, write, api.key("other")), 422, "not-found", pointer="/account_id")
        return
    other = api.key("other")
    theirs = await send(api, write, other)
    refused(theirs, 404, "not-found")
    nobody = Write(write.method, write.path.replace("/t", "/nobody", 1).replace("/a/", "/nobody/"), write.body)
    answer = await send(api, nobody, other)
    refused(answer, 404, "not-found")
    for own in ("task t", "activity a"):
        kind = own.partition(" ")[0]
        theirs_text = theirs.text.replace(f'there is no {own}"', f'there is no {kind} nobody"')
        if theirs_text == answer.text:
            break
    else:
        raise AssertionError((theirs.text, answer.text))
    with psycopg.connect(api.url) as conn:
        assert conn.execute("SELECT count(*) FROM stored_events WHERE originator_id LIKE 'other/%'").fetchone() == (0,)


async def test_what_cannot_be_an_id_is_not_there(api: Api) -> None:
    writes = [write for write in WRITES.values() if not write.path.startswith("/tracker")]
    for write in (*writes, Write("GET", "/activities/t")):
        for entity in ("x" * 65, "%00", "%F0%9F%8D%8E", "a%20b"):
            first, kind, _, *rest = write.path.split("/")
            path = "/".join([first, kind, entity, *rest])
            refused(await send(api, Write(write.method, path, write.body)), 404, "not-found")


UGLY: list[tuple[bytes, int, str]] = [
    (b"{", 400, "not-json"),
    (b"\xff", 400, "not-utf-8"),
    (b'{"data":{},"data":{}}', 400, "duplicate-key"),
    (b"[" * 40 + b"]" * 40, 400, "too-deep"),
    (b"[]", 422, "wrong-shape"),
    (b"null", 422, "wrong-shape"),
    (b'"data"', 422, "wrong-shape"),
    (b'{"colour":1}', 422, "unknown-field"),
    (b'{"data":{"a":"\\u0000"}}', 422, "nul"),
    (b'{"data":{"a":"\\ud800"}}', 422, "lone-surrogate"),
    (b'{"data":{"a":1e999}}', 422, "number-out-of-range"),
    (b'{"account_id":99999999999999999999}', 422, "number-out-of-range"),
    (b'{"' + b"x" * 70_000 + b'":1}', 413, "too-large"),
]


async def test_a_body_that_cannot_be_taken(api: Api) -> None:
    headers = {**api.by(), "Content-Type": "application/json"}
    for write in WRITES.values():
        for content, status, code in UGLY:
            response = await api.client.request(write.method, f"{BASE}{write.path}", content=content, headers=headers)
            refused(response, status, code)
    assert api.sender.sent == []


async def test_what_else_a_request_may_not_be(api: Api) -> None:
    text = {**api.by(), "Content-Type": "text/plain"}
    for write in WRITES.values():
        url = f"{BASE}{write.path}"
        answer = await api.client.request(write.method, url, content=b"{}", headers=text)
        refused(answer, 415, "unsupported-media-type")
        beside = Write(write.method, f"{write.path}?x=1", write.body)
        refused(await send(api, beside), 422, "unknown-parameter", parameter="x")
        refused(await send(api, write, headers={"Idempotency-Key": "k" * 256}), 400, "bad-header")
        refused(await api.client.delete(url, headers=api.by()), 405, "method-not-allowed")
    refused(await api.get(f"{LIST}/t/colour"), 404, "no-endpoint")


WRONG = {
    "save": [({}, "/data"), ({"data": None}, "/data"), ({"data": [1]}, "/data"), ({"data": "x"}, "/data")],
    "complete": [({}, "/data"), ({"data": 7}, "/data")],
    "assign": [
        ({}, "/start_working"),
        ({"account_id": 42}, "/start_working"),
        ({"account_id": 42, "start_working": None}, "/start_working"),
        ({"account_id": 42, "start_working": 1}, "/start_working"),
        ({"start_working": True}, "/account_id"),
        ({"start_working": True, "self_assigning": "yes"}, "/self_assigning"),
        ({"start_working": True, "self_assigning": True}, "/account_id"),
        ({"account_id": "42", "start_working": True}, "/account_id"),
        ({"account_id": True, "start_working": True}, "/account_id"),
        ({"account_id": 4.5, "start_working": True}, "/account_id"),
        ({"account_id": 0, "start_working": True}, "/account_id"),
        ({"account_id": 2**53, "start_working": True}, "/account_id"),
        ({"account_id": 999, "start_working": True}, "/account_id"),
        ({"account_id": 45, "start_working": True}, "/account_id"),
    ],
    "reassign": [({}, "/account_id"), ({"account_id": None}, "/account_id"), ({"account_id": 999}, "/account_id")],
    "error": [
        ({"data": []}, "/data"),
        ({"data": None}, "/data"),
        ({"data": {}}, "/data"),
        ({"data": {"comment": 1}}, "/data/comment"),
        ({"data": {"comment": "x", "more": 1}}, "/data"),
    ],
    "pause": [({}, "/account_id"), ({"account_id": 999}, "/account_id"), ({"account_id": {}}, "/account_id")],
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_value_is_told_at_its_place(api: Api, name: str) -> None:
    ready(api, WRITES[name])
    for body, pointer in WRONG[name]:
        response = await send(api, WRITES[name], body=body)
        assert response.status_code == 422, response.text
        assert response.json()["errors"][0]["source"] == {"pointer": pointer}


@pytest.mark.parametrize("name", WRITES)
async def test_a_body_may_repeat_the_id_of_the_path_and_no_other(api: Api, name: str) -> None:
    write = WRITES[name]
    ready(api, write)
    own = write.path.split("/")[2]
    # The path of the tracker has none.
    tracker = write.path.startswith("/tracker")
    for wrong in ("t" if tracker else "other", 7, [own]):
        refused(await send(api, write, body={**(write.body or {}), "id": wrong}), 422, "invalid", pointer="/id")
    if not tracker:
        refused(await send(api, write, body={**(write.body or {}), "id": None}), 422, "invalid", pointer="/id")
        assert shown(await send(api, write, body={**(write.body or {}), "id": own}))["id"] == own
