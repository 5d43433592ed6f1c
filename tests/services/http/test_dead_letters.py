"""Dead letters over HTTP: what a key sees of them, and what an operator may do with them."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import psycopg
import pytest
import uuid_utils

from services import dead_letters
from services.broker.frames.reader import Message
from services.dead_letters import NotDone, Rules
from services.processors.arrivals import arrival
from services.store import dead_letters as stored
from tests.services.http.api import Api, problem
from tests.services.parking import TASK, parked

LETTERS = "/v1/dead-letters"


def letter(
    body: Any = b'{"id":"t1","title":7}',
    message_id: str = "c1",
    key: str = "t1",
    code: str = "wrong-shape",
    pointer: str = "/title",
    tenant: str = "acme",
    **headers: Any,
) -> Message:
    """Return a letter as a worker makes it."""
    message = Message(1, False, "")
    message.body, message.size = body, len(body)
    properties = message.properties
    properties.message_id, properties.message_type, properties.user_id = message_id, TASK, "guest"
    said = {"code": code, "detail": "Input should be a valid string", "pointer": pointer, "routing-key": key}
    said |= {"letter": str(uuid_utils.uuid7()), "user": "guest"}
    properties.headers = {"tenant": tenant, **headers, **{f"x-foldwork-{name}": each for name, each in said.items()}}
    return message


def put(api: Api, *messages: Message) -> list[str]:
    """Store letters, and return their ids."""
    arrivals = [arrival(each, "guest", lambda _user, _tenant: True) for each in messages]
    with psycopg.connect(api.url) as conn:
        stored.store(conn, arrivals)
    return [each.id for each in arrivals]


def operator(api: Api, tenant: str = "acme") -> str:
    return api.key(tenant, "system", "read", "operate")


async def test_a_key_sees_the_letters_of_its_tenant_alone_and_an_operator_what_they_hold(api: Api) -> None:
    mine, theirs = put(api, letter(), letter(tenant="other"))
    page = (await api.get(LETTERS)).json()
    assert [each["id"] for each in page["data"]] == [mine]
    (shown,) = page["data"]
    assert (shown["state"], shown["message_id"], shown["key"], shown["count"]) == ("parked", "c1", "t1", 1)
    assert shown["reason"] == {"code": "wrong-shape", "detail": "Input should be a valid string", "pointer": "/title"}
    assert {"data", "headers", "body_base64"}.isdisjoint(shown)
    plain = api.key()
    problem(await api.get(f"{LETTERS}/{mine}", plain), 403, "forbidden")
    token = operator(api)
    whole = (await api.get(f"{LETTERS}/{mine}", token)).json()
    assert (whole["data"], whole["headers"]) == ({"id": "t1", "title": 7}, {"tenant": "acme"})
    for path in (f"{LETTERS}/{theirs}", f"{LETTERS}/nothing", f"{LETTERS}/a%00b"):
        problem(await api.get(path, token), 404, "not-found")
    for act, body in (("retry", {}), ("discard", {"reason": "x"})):
        problem(await api.post(f"{LETTERS}/{theirs}/{act}", body, token), 404, "not-found")
        problem(await api.post(f"{LETTERS}/{mine}/{act}", body, plain), 403, "forbidden")


async def test_a_body_that_is_no_object_is_shown_as_bytes(api: Api) -> None:
    (found,) = put(api, letter(b"\x00\xff{", code="not-utf-8", pointer=""))
    whole = (await api.get(f"{LETTERS}/{found}", operator(api))).json()
    assert base64.b64decode(whole["body_base64"]) == b"\x00\xff{"
    assert "data" not in whole


async def test_lists_are_filtered_and_paged_and_groups_are_counted(api: Api) -> None:
    put(api, *(letter(b'{"id":"t%d","title":7}' % each, f"c{each}", f"t{each}") for each in range(5)))
    put(api, letter(b"{", "d1", "t1", "not-json", ""))
    found: list[str] = []
    path: str | None = f"{LETTERS}?limit=2"
    while path:
        page = (await api.get(path)).json()
        found += [each["message_id"] for each in page["data"]]
        path = page["next"]
    assert found == ["c0", "c1", "c2", "c3", "c4", "d1"]
    for query, wanted in (
        ("reason=not-json", ["d1"]),
        ("key=t1", ["c1", "d1"]),
        ("state=discarded", []),
        (f"type={TASK}&reason=wrong-shape&key=t3", ["c3"]),
        ("since=2999-01-01T00:00:00Z", []),
    ):
        page = (await api.get(f"{LETTERS}?{query}")).json()
        assert [each["message_id"] for each in page["data"]] == wanted, query
    groups = (await api.get(f"{LETTERS}/groups")).json()["data"]
    assert [(each["reason"]["code"], each["letters"], each["messages"]) for each in groups] == [
        ("not-json", 1, 1),
        ("wrong-shape", 5, 5),
    ]
    mark = groups[1]["fingerprint"]
    assert len((await api.get(f"{LETTERS}?fingerprint={mark}")).json()["data"]) == 5
    for query in ("state=lost", "since=yesterday", "limit=0", "nonsense=1", "key=%00", "cursor=%00"):
        assert (await api.get(f"{LETTERS}?{query}")).status_code == 400, query


async def test_a_letter_is_checked_before_it_is_sent_again(api: Api) -> None:
    (found,) = put(api, letter())
    token, path = operator(api), f"{LETTERS}/{found}/retry"
    problem(await api.post(path, {}, token), 422, "wrong-shape", pointer="/data/title")
    problem(await api.post(path, {"merge": {"title": 8}}, token), 422, "wrong-shape", pointer="/merge/title")
    problem(await api.post(path, {"data": {"nonsense": 1}}, token), 422, "unknown-field", pointer="/data/nonsense")
    problem(await api.post(path, {"data": {}, "merge": {}}, token), 422, "invalid", pointer="/merge")
    for field in ("actor", "tenant", "type", "message_id"):
        refused = await api.post(path, {field: "ann", "merge": {"title": "x"}}, token)
        problem(refused, 422, "unknown-field", pointer=f"/{field}")
    assert parked(api.url, "state, retries") == [("parked", 0)]
    done = await api.post(path, {"merge": {"title": "Water the plants"}}, token)
    assert (done.status_code, done.json()["state"], done.json()["acted_by"]) == (200, "retrying", "system")
    whole = (await api.get(f"{LETTERS}/{found}", token)).json()
    assert whole["edited"] == {"id": "t1", "title": "Water the plants"}
    assert whole["data"]["title"] == 7
    problem(await api.post(path, {}, token), 409, "not-parked")
    problem(await api.post(f"{LETTERS}/{found}/discard", {"reason": "x"}, token), 409, "not-parked")


async def test_a_dry_run_of_a_letter_changes_nothing(api: Api) -> None:
    (found,) = put(api, letter())
    token, path, edit = operator(api), f"{LETTERS}/{found}/retry", {"merge": {"title": "Water the plants"}}
    for tried in (
        await api.post(f"{path}?dry_run=true", edit, token),
        await api.post(path, edit, token, headers={"Prefer": "dry-run"}),
    ):
        answer = tried.json()
        assert (tried.status_code, answer["dry_run"], answer["outcome"]) == (200, True, "accepted")
        assert [each["type"] for each in answer["would_record"]] == ["task.created"]
    problem(await api.post(f"{path}?dry_run=true", {}, token), 422, "wrong-shape", pointer="/data/title")
    discard = await api.post(f"{LETTERS}/{found}/discard", {"reason": "x"}, token, headers={"Prefer": "dry-run"})
    assert discard.status_code == 400
    assert parked(api.url, "state, retries, edited") == [("parked", 0, None)]


async def test_an_older_letter_of_the_same_key_comes_first(api: Api) -> None:
    older, newer, other = put(
        api, letter(code="poison", body=b'{"id":"t1"}'), letter(b'{"id":"t2"}', "c2"), letter(b"{}", "c3", "other")
    )
    token = operator(api)
    refused = await api.post(f"{LETTERS}/{newer}/retry", {}, token)
    problem(refused, 409, "older-letter")
    assert older in refused.json()["detail"]
    assert (await api.post(f"{LETTERS}/{other}/retry", {}, token)).status_code == 200
    assert (await api.post(f"{LETTERS}/{newer}/retry", {"out_of_order": True}, token)).status_code == 200
    assert (await api.post(f"{LETTERS}/{older}/discard", {"reason": "x"}, token)).status_code == 200


async def test_a_letter_is_discarded_with_a_reason(api: Api) -> None:
    (found,) = put(api, letter())
    token, path = operator(api), f"{LETTERS}/{found}/discard"
    for body in ({}, {"reason": ""}, {"reason": "x" * 1001}, {"reason": "a\0b"}, {"reason": " "}):
        refused = await api.post(path, body, token)
        assert refused.status_code == 422, body
    done = (await api.post(path, {"reason": "sent by a test"}, token)).json()
    assert (done["state"], done["note"], done["acted_by"]) == ("discarded", "sent by a test", "system")
    problem(await api.post(path, {"reason": "again"}, token), 409, "not-parked")


async def test_the_receipt_of_a_letter_says_so_until_it_is_decided(api: Api) -> None:
    (found,) = put(api, letter())
    token = operator(api)

    async def receipt() -> dict[str, Any]:
        answer: httpx.Response = await api.get("/v1/commands/c1")
        assert answer.status_code == 200
        body: dict[str, Any] = answer.json()
        return body

    assert ((await receipt())["outcome"], (await receipt())["error"]["code"]) == ("parked", "wrong-shape")
    await api.post(f"{LETTERS}/{found}/retry", {"merge": {"title": "x"}}, token)
    assert (await receipt())["outcome"] == "parked"
    await api.post("/v1/commands", {"id": "c1", "type": TASK, "data": {"id": "t1", "title": "x"}})
    assert (await receipt())["outcome"] == "accepted"
    put(api, letter(message_id="c2", body=b"{"))
    problem(await api.get("/v1/commands/c2", api.key("other")), 404, "unknown-or-undecided")


async def test_what_cannot_be_a_command_again_is_not_sent(api: Api) -> None:
    cut = letter(b"{", "c2", "t2")
    assert cut.properties.headers is not None
    cut.properties.headers["x-foldwork-bytes"] = 5 << 20
    dry = letter(message_id="c3", key="t3")
    dry.properties.message_type = f"dry-run.{TASK}"
    found = put(api, letter(message_id="a b", key="t1"), cut, dry, letter(message_id="c4", key="t4", actor="a b"))
    token = operator(api)
    for each in found:
        problem(await api.post(f"{LETTERS}/{each}/retry", {"merge": {}}, token), 409, "not-retryable")
    assert (await api.post(f"{LETTERS}/{found[1]}/retry", {"data": {"id": "t2"}}, token)).status_code == 200


async def test_whoever_sent_it_must_still_be_allowed_to(api: Api) -> None:
    put(api, letter(b"{}", code="poison"))
    rules = Rules(lambda user, _tenant: user != "guest", 1 << 20)
    with psycopg.connect(api.url) as conn:
        (found,) = dead_letters.select(conn, stored.Filter("acme"))
        with pytest.raises(NotDone, match="forbidden"):
            dead_letters.retry(conn, "acme", found, "system", rules)
    assert parked(api.url, "state") == [("parked",)]


async def test_each_act_is_recorded_with_who_did_it(api: Api) -> None:
    first, second = put(api, letter(), letter(b"{}", "c2", "t2"))
    token = operator(api)
    for path, body in ((f"{first}/discard", {"reason": "a test"}), (f"{second}/retry", {"merge": {"title": "x"}})):
        done = await api.post(f"{LETTERS}/{path}", body, token)
        assert done.headers["foldwork-position"].isdigit()
    await api.post(f"{LETTERS}/{first}/retry", {}, token)
    acts = (await api.get("/v1/audit", api.key("acme", "system", "audit"))).json()["data"]
    found = [(each["act"], each["target"], each["actor"], each["outcome"], each["details"]) for each in acts]
    edited, why = {"edited": True, "out_of_order": False}, {"reason": "a test", "code": "wrong-shape"}
    assert acts[0]["reason"].startswith("not-parked: ")
    assert found == [
        ("dead-letter.retry", f"dead-letter/{first}", "system", "failed", {**edited, "edited": False}),
        ("dead-letter.retry", f"dead-letter/{second}", "system", "succeeded", edited),
        ("dead-letter.discard", f"dead-letter/{first}", "system", "succeeded", why),
    ]


async def test_bodies_that_are_no_request_change_nothing(api: Api) -> None:
    (found,) = put(api, letter())
    token = operator(api)
    for act in ("retry", "discard"):
        path = f"{LETTERS}/{found}/{act}"
        problem(await api.post(path, [], token), 422, "wrong-shape")
        problem(await api.post(path, {"colour": 1, "reason": "x"}, token), 422, "unknown-field")
        sent = await api.client.post(path, content=b"{", headers={**api.by(token), "Content-Type": "application/json"})
        problem(sent, 400, "not-json")
        problem(await api.post(f"{path}?nonsense=1", {"reason": "x"}, token), 400, "unknown-parameter")
        problem(await api.post(path, {}, token, headers={"If-Match": '"1.1.00000000"'}), 400, "bad-header")
    assert parked(api.url, "state") == [("parked",)]
