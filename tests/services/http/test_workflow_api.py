"""The workflow dialect: each action with what it changes and what it refuses, and what all endpoints have in common."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest

from projections import suffix, tasks
from services.http.workflow.errors import JSON_API
from tests.services.http.house import House, opened

BASE = "/api/v3/workflow"
LIST = f"{BASE}/activities"
# Members of the project, each with an account number: `max` manages it, `eve` is in no project.
ACCOUNTS = {"ann": 42, "bob": 43, "max": 44, "eve": 45}


@dataclass(frozen=True)
class Write:
    """One action: how it is asked for, and the commands that make a task for which it is possible."""

    method: str
    path: str
    body: Any = None
    before: tuple[tuple[str, dict[str, Any]], ...] = ()
    status: str = ""


GIVEN = (("task.assign", {"id": "t", "assignees": ["ann"]}),)
RUNS = (*GIVEN, ("task.process", {"id": "t"}))
PAUSED = (*RUNS, ("tracker.pause", {"member": "ann"}))
WRITES = {
    "save": Write("PATCH", "/activities/t", {"data": {"draft": [1, None]}}, GIVEN, "pending"),
    "assign": Write("PATCH", "/activities/t/assign", {"account_id": 42, "start_working": False}, (), "pending"),
    "reassign": Write("PATCH", "/activities/t/reassign", {"account_id": 43}, RUNS, "pending"),
    "unassign": Write("PATCH", "/activities/t/unassign", None, RUNS, "pending"),
    "process": Write("PATCH", "/activities/t/process", None, GIVEN, "in-progress"),
    "complete": Write("PATCH", "/activities/t/complete", {"data": {"signed": True}}, GIVEN, "completed"),
    "error": Write("POST", "/activities/t/error", {"data": {"comment": "no road"}}, RUNS, "errored"),
    "cancel": Write("POST", "/activities/t/cancel", None, RUNS, "canceled"),
    "pause": Write("POST", "/tracker/pause", {"account_id": 42}, RUNS, "paused"),
    "resume": Write("POST", "/tracker/resume", {"account_id": 42}, PAUSED, "in-progress"),
    "cancel unit": Write("POST", "/work_units/a/cancel", None, (), "canceled"),
}
READS = ("/activities", "/activities/t")


@pytest.fixture
async def house(migrated_url: str) -> AsyncIterator[House]:
    """One task of a project, one activity of two steps, and the people."""
    async with opened(migrated_url) as running:
        running.command("directory.register", {"kind": "project", "id": "p", "fields": {"name": "North"}})
        for member, number in ACCOUNTS.items():
            projects = {} if member == "eve" else {"p": {"is_manager": member == "max"}}
            fields = {"account_id": number, "projects": projects, "actor_roles": ["driver"]}
            running.command("directory.register", {"kind": "member", "id": member, "fields": fields})
        running.command("workflow.define", {"id": "w", "name": "Visit", "steps": [{"name": "Go"}, {"name": "Come"}]})
        running.command("activity.create", {"id": "a", "workflow_id": "w", "tasks": [{"id": "a1"}, {"id": "a2"}]})
        running.command("task.create", {"id": "t", "title": "Visit", "project": "p", "fields": {"kg": 2}})
        for member in ("ann", "bob", "max", "eve"):
            running.tokens[member] = running.key("acme", member)
        yield running


async def send(house: House, write: Write, token: str | None = None, **rest: Any) -> httpx.Response:
    body = rest.pop("body", write.body)
    headers = {**house.by(token), **rest.pop("headers", {})}
    return await house.client.request(write.method, f"{BASE}{write.path}", json=body, headers=headers, **rest)


async def act(house: House, way: str, body: Any = None, actor: str | None = None, task: str = "t") -> httpx.Response:
    """Ask for an action on a task; a path beside the task's own."""
    method = "POST" if way in ("/cancel", "/error") else "PATCH"
    headers = house.by(house.tokens[actor] if actor is not None else None)
    return await house.client.request(method, f"{LIST}/{task}{way}", json=body, headers=headers)


def ready(house: House, write: Write) -> None:
    for name, data in write.before:
        house.command(name, data)


def shown(response: httpx.Response) -> dict[str, Any]:
    """Expect a resource, and return its attributes."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == JSON_API
    attributes: dict[str, Any] = response.json()["data"]["attributes"]
    return attributes


def refused(response: httpx.Response, status: int, code: str, **source: str) -> None:
    """Expect an error document."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == JSON_API
    (error,) = response.json()["errors"]
    assert list(error) == ["status", "title", "detail", "source"]
    assert (error["status"], error["title"]) == (str(status), code)
    assert error["detail"]
    assert response.headers["x-request-id"]
    if source:
        assert error["source"] == source


# What all have in common.


@pytest.mark.parametrize("name", WRITES)
async def test_an_action_answers_with_what_it_leaves(house: House, name: str) -> None:
    write = WRITES[name]
    ready(house, write)
    response = await send(house, write)
    assert shown(response)["status"] == write.status
    if write.path.startswith("/activities"):
        assert response.json() == (await house.get(f"{LIST}/t")).json()


async def test_both_media_types_are_taken(house: House) -> None:
    house.command("task.assign", {"id": "t", "assignees": ["ann"]})
    for media in ("application/json", JSON_API, f"{JSON_API}; charset=utf-8"):
        assert (await send(house, WRITES["save"], headers={"Content-Type": media})).status_code == 200


@pytest.mark.parametrize("name", WRITES)
async def test_a_late_view_changes_nothing_of_the_answer(house: House, name: str) -> None:
    write = WRITES[name]
    ready(house, write)
    house.sender.late = {"tasks", "activities", "directory"}
    late = await send(house, write)
    house.sender.late = set()
    house.sender.follow()
    assert shown(late)["status"] == write.status
    if write.path.startswith("/activities"):
        assert late.json() == (await house.get(f"{LIST}/t")).json()


@pytest.mark.parametrize("name", WRITES)
async def test_a_repetition_under_one_key_takes_effect_once(house: House, name: str) -> None:
    ready(house, WRITES[name])
    headers = {"Idempotency-Key": "k 1"}
    first = await send(house, WRITES[name], headers=headers)
    with psycopg.connect(house.url) as conn:
        before = conn.execute("SELECT max(notification_id) FROM stored_events").fetchone()
        again = await send(house, WRITES[name], headers=headers)
        assert conn.execute("SELECT max(notification_id) FROM stored_events").fetchone() == before
    assert shown(again) == shown(first)


@pytest.mark.parametrize("name", WRITES)
async def test_without_an_answer_the_receipt_says_more(house: House, name: str) -> None:
    write = WRITES[name]
    ready(house, write)
    house.sender.stopped = True
    response = await send(house, write)
    assert response.status_code == 202
    meta = response.json()["meta"]
    assert response.headers["location"] == meta["receipt"]
    await house.sender.catch_up()
    receipt = (await house.get(meta["receipt"])).json()
    assert (receipt["outcome"], receipt["command_id"]) == ("accepted", meta["command_id"])


@pytest.mark.parametrize("name", WRITES)
async def test_a_command_that_is_not_taken(house: House, name: str) -> None:
    ready(house, WRITES[name])
    house.sender.unreachable = True
    response = await send(house, WRITES[name])
    refused(response, 503, "unavailable")
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize("name", [*WRITES, *READS])
async def test_who_may_ask(house: House, name: str) -> None:
    write = WRITES.get(name, Write("GET", name))
    none = await house.client.request(write.method, f"{BASE}{write.path}", json=write.body)
    refused(none, 401, "unauthorized", pointer="")
    assert "www-authenticate" in none.headers
    refused(await send(house, write, "fw_0000000000000000_" + "x" * 43), 401, "unauthorized")
    lacking = house.key("acme", "system", "read" if name in WRITES else "CREATE_ACTIVITY")
    refused(await send(house, write, lacking), 403, "forbidden")


@pytest.mark.parametrize("name", [*WRITES, "/activities/t"])
async def test_another_tenants_id_reads_like_one_that_nobody_has(house: House, name: str) -> None:
    write = WRITES.get(name, Write("GET", name))
    if write.path.startswith("/tracker"):
        # The other tenant's number is nobody's here.
        refused(await send(house, write, house.key("other")), 422, "not-found", pointer="/account_id")
        return
    other = house.key("other")
    theirs = await send(house, write, other)
    refused(theirs, 404, "not-found")
    nobody = Write(write.method, write.path.replace("/t", "/nobody", 1).replace("/a/", "/nobody/"), write.body)
    answer = await send(house, nobody, other)
    refused(answer, 404, "not-found")
    for own in ("task t", "activity a"):
        kind = own.partition(" ")[0]
        theirs_text = theirs.text.replace(f'there is no {own}"', f'there is no {kind} nobody"')
        if theirs_text == answer.text:
            break
    else:
        raise AssertionError((theirs.text, answer.text))
    with psycopg.connect(house.url) as conn:
        assert conn.execute("SELECT count(*) FROM stored_events WHERE originator_id LIKE 'other/%'").fetchone() == (0,)


async def test_what_cannot_be_an_id_is_not_there(house: House) -> None:
    writes = [write for write in WRITES.values() if not write.path.startswith("/tracker")]
    for write in (*writes, Write("GET", "/activities/t")):
        for entity in ("x" * 65, "%00", "%F0%9F%8D%8E", "a%20b"):
            first, kind, _, *rest = write.path.split("/")
            path = "/".join([first, kind, entity, *rest])
            refused(await send(house, Write(write.method, path, write.body)), 404, "not-found")


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


async def test_a_body_that_cannot_be_taken(house: House) -> None:
    headers = {**house.by(), "Content-Type": "application/json"}
    for write in WRITES.values():
        for content, status, code in UGLY:
            response = await house.client.request(write.method, f"{BASE}{write.path}", content=content, headers=headers)
            refused(response, status, code)
    assert house.sender.sent == []


async def test_what_else_a_request_may_not_be(house: House) -> None:
    text = {**house.by(), "Content-Type": "text/plain"}
    for write in WRITES.values():
        url = f"{BASE}{write.path}"
        answer = await house.client.request(write.method, url, content=b"{}", headers=text)
        refused(answer, 415, "unsupported-media-type")
        beside = Write(write.method, f"{write.path}?x=1", write.body)
        refused(await send(house, beside), 422, "unknown-parameter", parameter="x")
        refused(await send(house, write, headers={"Idempotency-Key": "k" * 256}), 400, "bad-header")
        refused(await house.client.delete(url, headers=house.by()), 405, "method-not-allowed")
    refused(await house.get(f"{LIST}/t/colour"), 404, "no-endpoint")


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
async def test_a_wrong_value_is_told_at_its_place(house: House, name: str) -> None:
    ready(house, WRITES[name])
    for body, pointer in WRONG[name]:
        response = await send(house, WRITES[name], body=body)
        assert response.status_code == 422, response.text
        assert response.json()["errors"][0]["source"] == {"pointer": pointer}


# What the actions mean.


async def test_a_draft_is_kept_and_becomes_part_of_the_output(house: House) -> None:
    house.command("task.assign", {"id": "t", "assignees": ["ann"]})
    saved = shown(await act(house, "", {"data": {"kg": 3, "note": "x"}}, "ann"))
    assert (saved["data"], saved["output"], saved["status"]) == ({"kg": 3, "note": "x"}, None, "pending")
    done = shown(await act(house, "/complete", {"data": {"signed": True}}, "ann"))
    assert done["output"] == {"kg": 3, "note": "x", "signed": True}
    assert done["data"] == {"kg": 3, "note": "x", "signed": True}
    assert (done["started_at"], done["completed_at"]) == ("2025-10-31T01:50:00.000Z", "2025-10-31T01:50:00.000Z")
    for way, body in (("", {"data": {"a": 1}}), ("/complete", {"data": {}}), ("/process", None), ("/unassign", None)):
        refused(await act(house, way, body), 409, "terminal")
    refused(await act(house, "/cancel"), 409, "terminal")
    refused(await act(house, "/error", {"data": {"comment": "late"}}), 409, "terminal")


async def test_a_manager_assigns_and_who_has_it_works(house: House) -> None:
    given = shown(await act(house, "/assign", {"account_id": 42, "start_working": True}, "max"))
    assert (given["assigned_account_id"], given["status"]) == (42, "in-progress")
    refused(await act(house, "/assign", {"account_id": 43, "start_working": False}, "max"), 409, "already-assigned")
    refused(await act(house, "/process", actor="ann"), 422, "already-processing")
    refused(await act(house, "/process", actor="bob"), 422, "already-processing")
    refused(await act(house, "", {"data": {}}, "bob"), 403, "not-assignee")
    refused(await act(house, "/complete", {"data": {}}, "bob"), 403, "not-assignee")
    refused(await act(house, "/cancel", actor="ann"), 403, "forbidden")
    moved = shown(await act(house, "/reassign", {"account_id": 43}, "max"))
    assert (moved["assigned_account_id"], moved["status"]) == (43, "pending")
    refused(await act(house, "/process", actor="ann"), 403, "not-assignee")
    refused(await act(house, "/reassign", {"account_id": 43}, "max"), 409, "same-assignee")
    assert shown(await act(house, "/process", actor="bob"))["status"] == "in-progress"
    free = shown(await act(house, "/unassign", actor="bob"))
    assert (free["assigned_account_id"], free["status"]) == (None, "pending")
    refused(await act(house, "/unassign", actor="max"), 409, "not-assigned")
    refused(await act(house, "/reassign", {"account_id": 43}, "max"), 409, "not-assigned")
    refused(await act(house, "/complete", {"data": {}}), 403, "not-assignee")
    refused(await act(house, "/assign", {"account_id": 42, "start_working": False}, "bob"), 403, "forbidden")


async def test_claiming_for_oneself(house: House) -> None:
    refused(await act(house, "/assign", {"start_working": True, "self_assigning": True}, "eve"), 422, "not-eligible")
    somebody = {"account_id": 43, "start_working": True, "self_assigning": True}
    refused(await act(house, "/assign", somebody, "ann"), 403, "forbidden", pointer="/account_id")
    own = {"account_id": 42, "start_working": True, "self_assigning": True}
    taken = shown(await act(house, "/assign", own, "ann"))
    assert (taken["assigned_account_id"], taken["status"]) == (42, "in-progress")
    refused(
        await act(house, "/assign", {"start_working": True, "self_assigning": True}, "bob"), 409, "already-assigned"
    )
    house.command("task.create", {"id": "u", "project": "p"})
    for_somebody = shown(await act(house, "/assign", somebody, task="u"))
    assert for_somebody["assigned_account_id"] == 43


async def test_of_those_who_claim_at_once_exactly_one_wins(house: House) -> None:
    body = {"start_working": True, "self_assigning": True}
    house.command("task.create", {"id": "u", "project": "p"})
    for task in ("t", "u"):
        answers = await asyncio.gather(*(act(house, "/assign", body, who, task) for who in ("ann", "bob", "max") * 2))
        won = [answer for answer in answers if answer.status_code == 200]
        assert len(won) == 1
        for answer in answers:
            if answer is not won[0]:
                refused(answer, 409, "already-assigned")
        current = shown(await house.get(f"{LIST}/{task}"))
        assert current["assigned_account_id"] == shown(won[0])["assigned_account_id"]
    with psycopg.connect(house.url) as conn:
        count = conn.execute("SELECT count(*) FROM stored_events WHERE topic = 'task.assigned'").fetchone()
    assert count == (2,)


RULES: list[tuple[dict[str, Any], int, str | None]] = [
    ({}, 42, None),
    ({"roles": ["driver", "lead"]}, 42, None),
    ({"roles": ["lead"]}, 42, "not-eligible"),
    ({"whitelist": ["ann"]}, 42, None),
    ({"whitelist": ["ann"]}, 43, "not-eligible"),
    ({"blacklist": ["ann"]}, 42, "not-eligible"),
    ({"whitelist": ["ann"], "blacklist": ["ann"]}, 42, "not-eligible"),
    ({"project": "p"}, 45, "not-eligible"),
    ({"project": "p"}, 42, None),
]


async def test_who_is_eligible(house: House) -> None:
    for number, (rule, account, code) in enumerate(RULES):
        house.command("task.create", {"id": f"u{number}", **rule})
        body = {"account_id": account, "start_working": False}
        response = await act(house, "/assign", body, task=f"u{number}")
        if code is None:
            assert shown(response)["assigned_account_id"] == account
        else:
            refused(response, 422, code, pointer="/account_id")


async def test_an_error_and_a_cancel(house: House) -> None:
    house.command("task.assign", {"id": "t", "assignees": ["ann"]})
    failed = shown(await act(house, "/error", actor="ann"))
    assert (failed["status"], failed["completed_at"], failed["assigned_account_id"]) == ("errored", None, 42)
    house.command("task.retry", {"id": "t"})
    assert shown(await act(house, "/error", {"data": {"comment": "no road"}}, "max"))["status"] == "errored"
    assert (await house.get("/v1/tasks/t")).json()["comment"] == "no road"
    house.command("task.retry", {"id": "t"})
    canceled = shown(await act(house, "/cancel", actor="max"))
    assert (canceled["status"], canceled["assigned_account_id"]) == ("canceled", None)


async def test_the_tracker_holds_one_running_activity_a_person(house: House) -> None:
    house.command("task.create", {"id": "u", "project": "p", "assignees": ["ann"]})
    house.command("task.assign", {"id": "t", "assignees": ["ann"]})

    async def track(way: str, body: Any = None, actor: str = "ann") -> httpx.Response:
        headers = house.by(house.tokens[actor])
        return await house.client.post(f"{BASE}/tracker/{way}", json=body, headers=headers)

    refused(await track("pause"), 409, "not-processing")
    refused(await track("resume"), 409, "not-paused")
    await act(house, "/process", actor="ann")
    await act(house, "/process", actor="ann", task="u")
    assert shown(await house.get(f"{LIST}/t"))["status"] == "paused"
    paused = shown(await track("pause"))
    assert (paused["id"], paused["status"]) == ("u", "paused")
    await act(house, "/process", actor="ann", task="t")
    resumed = shown(await track("resume", {"account_id": 42}))
    assert (resumed["id"], resumed["status"]) == ("u", "in-progress")
    assert shown(await house.get(f"{LIST}/t"))["status"] == "paused"
    refused(await track("pause", {"account_id": 42}, "bob"), 403, "forbidden", pointer="/account_id")
    refused(await track("pause", {}, "bob"), 409, "not-processing")


async def test_a_cancelled_work_unit_takes_its_activities_along(house: House) -> None:
    house.command("task.claim", {"id": "a1", "member": "ann", "start": True})
    unit = shown(await house.post(f"{BASE}/work_units/a/cancel", {}))
    assert (unit["id"], unit["name"], unit["status"], unit["progress"]["canceled"]) == ("a", "Visit", "canceled", 2)
    for task in ("a1", "a2"):
        assert shown(await house.get(f"{LIST}/{task}"))["status"] == "canceled"
    refused(await house.post(f"{BASE}/work_units/a/cancel", {}), 409, "terminal")
    refused(await house.post(f"{BASE}/work_units/t/cancel", {}), 404, "not-found")
    refused(await house.post(f"{BASE}/work_units/a/cancel", {}, house.tokens["ann"]), 403, "forbidden")


async def test_when_it_is_woken_and_what_is_wrong_with_it_is_shown(house: House) -> None:
    criteria = [{"type": "ROLE_MATCH", "role": "buyer"}]
    house.command("directory.register", {"kind": "commerce", "id": "c", "fields": {"users": []}})
    house.command("task.create", {"id": "u", "commerce": "c", "plan": {"channel": "SMS", "criteria": criteria}})
    lost = shown(await house.get(f"{LIST}/u"))
    assert lost["try_resolve_at"] == "2025-10-31T01:51:00.000Z"
    assert lost["indicators"] == {"overdue": False, "late": False, "unresolved": True, "dispatched": False}
    refused(await act(house, "/assign", {"account_id": 42, "start_working": True}, task="u"), 409, "unresolved")
    house.command("task.create", {"id": "v", "end": "2025-10-30T00:00:00Z", "assignees": ["ann"]})
    late = shown(await act(house, "/complete", {"data": {}}, task="v"))
    assert late["indicators"] == {"overdue": False, "late": True, "unresolved": False, "dispatched": False}


# Reading.


async def test_what_is_included_stands_there_once(house: House) -> None:
    house.command("task.create", {"id": "u", "project": "p"})
    body = (await house.get(f"{LIST}?included=project,work_unit&included[]=node&sort=id")).json()
    assert [(found["type"], found["id"]) for found in body["included"]] == [
        ("workflow/projects", "p"),
        ("workflow/work_units", "a"),
        ("workflow/nodes", "w:0"),
        ("workflow/nodes", "w:1"),
    ]
    by_id = {found["id"]: found["attributes"] for found in body["included"]}
    assert (by_id["p"]["name"], by_id["a"]["status"], by_id["w:1"]["name"]) == ("North", "pending", "Come")
    related = {found["id"]: found["relationships"] for found in body["data"]}
    assert related["a2"]["node"] == {"data": {"type": "workflow/nodes", "id": "w:1"}}
    assert related["u"]["work_unit"] == {"data": None}
    assert "included" not in (await house.get(LIST)).json()
    assert (await house.get(f"{LIST}?included=node&filter[id]=t")).json()["included"] == []
    one = (await house.get(f"{LIST}/a1?included=node,work_unit&fields[workflow/nodes]=flow,name")).json()
    assert [list(found["attributes"]) for found in one["included"]][1] == ["name", "flow"]


async def test_pages_and_links(house: House) -> None:
    seen: list[str] = []
    follow: str | None = f"{LIST}?page[size]=1&sort=id&count=true&filter[created_at__gte]=2025-01-01T00:00:00%2B00:00"
    while follow is not None:
        body = (await house.get(follow)).json()
        seen += [found["id"] for found in body["data"]]
        assert body["meta"] == {"page": {"number": len(seen), "size": 1}, "count": 3}
        assert (body["links"]["prev"] is None) is (len(seen) == 1)
        follow = body["links"]["next"]
    assert seen == ["a1", "a2", "t"]
    beyond = (await house.get(f"{LIST}?page[number]=9")).json()
    assert (beyond["data"], beyond["links"]["next"]) == ([], None)
    assert "count" not in beyond["meta"]


async def test_a_read_waits_for_the_position_that_it_names(house: House) -> None:
    position = house.command("task.create", {"id": "new"}).position
    for path in (LIST, f"{LIST}/new"):
        assert (await house.get(f"{path}?min_position={position}")).status_code == 200
        refused(await house.get(f"{path}?min_position=999999"), 422, "position-beyond-head", parameter="min_position")
    house.sender.late = {"tasks"}
    position = house.command("task.create", {"id": "newer"}).position
    response = await house.get(f"{LIST}/newer?min_position={position}")
    refused(response, 503, "view-late")


async def test_a_tenant_never_sees_anothers(house: House) -> None:
    other = house.key("other")
    house.command("directory.register", {"kind": "member", "id": "ann", "fields": {"account_id": 42}}, "other")
    house.command("task.create", {"id": "theirs", "assignees": ["ann"], "fields": {"kg": 2}}, "other")
    for query in (
        "",
        "?filter[assigned_account_id]=42",
        '?filter[data__contains]={"kg":2}',
        "?filter[id__in]=t,theirs",
    ):
        found = (await house.get(f"{LIST}{query}", other)).json()["data"]
        assert [task["id"] for task in found] == ["theirs"]


QUESTIONS: list[tuple[str, str, str | None]] = [
    ("filter[colour]=red", "unknown-filter", "filter[colour]"),
    ("filter[status__like]=red", "unknown-filter", "filter[status__like]"),
    ("filter=red", "unknown-filter", "filter"),
    ("filter[]=red", "unknown-filter", "filter[]"),
    ("filter[status", "unknown-filter", "filter[status"),
    ("filter[status]=a&filter[status][]=b", "bad-filter", None),
    ("filter[created_at]=now", "bad-filter", "filter[created_at]"),
    ("filter[created_at__lt]=2025-10-31T08:00:00", "bad-filter", "filter[created_at__lt]"),
    ("filter[created_at__lt]=", "bad-filter", "filter[created_at__lt]"),
    ("filter[created_at__exists]=maybe", "bad-filter", "filter[created_at__exists]"),
    ("filter[working_seconds]=fast", "bad-filter", "filter[working_seconds]"),
    ("filter[working_seconds]=1e400", "bad-filter", "filter[working_seconds]"),
    ("filter[live_seconds__gt]=NaN", "bad-filter", "filter[live_seconds__gt]"),
    ("filter[assigned_account_id]=a b", "bad-filter", "filter[assigned_account_id]"),
    ("filter[assigned_account_id]=account:042", "bad-filter", "filter[assigned_account_id]"),
    ("filter[blacklisted_ids]=phone:112", "bad-filter", "filter[blacklisted_ids]"),
    ("filter[whitelisted_ids]=operator:%00", "bad-filter", "filter[whitelisted_ids]"),
    ("filter[assigned_account_id__gt]=%C2%B2", "bad-filter", "filter[assigned_account_id__gt]"),
    ("filter[whitelisted_ids__contains]=1,x/y", "bad-filter", "filter[whitelisted_ids__contains]"),
    ("filter[data]=x", "bad-filter", "filter[data]"),
    ("filter[data]=[1]", "bad-filter", "filter[data]"),
    ('filter[data]={"a":1e999}', "number-out-of-range", "filter[data]"),
    ('filter[data]={"a":"%5Cu0000"}', "nul", "filter[data]"),
    ("filter[name]=%00", "bad-filter", "filter[name]"),
    (f"filter[name]={'x' * 1001}", "bad-filter", "filter[name]"),
    (f"filter[id__in]={','.join(['a'] * 1001)}", "bad-filter", "filter[id__in]"),
    ("&".join(["filter[id__in][]=a"] * 1101), "bad-filter", None),
    ("sort=colour", "bad-sort", "sort"),
    ("sort=--name", "bad-sort", "sort"),
    ("sort=working_seconds", "bad-sort", "sort"),
    ("page[size]=0", "bad-limit", "page[size]"),
    ("page[size]=1001", "bad-limit", "page[size]"),
    ("page[size]=1&page[size]=2", "bad-filter", "page[size]"),
    ("page[number]=0", "bad-limit", "page[number]"),
    ("page[number]=x", "bad-limit", "page[number]"),
    ("page[number]=1000001", "bad-limit", "page[number]"),
    ("page[limit]=1", "unknown-parameter", "page[limit]"),
    ("count=yes", "bad-filter", "count"),
    ("include=project", "unknown-parameter", "include"),
    ("included=colour", "bad-filter", "included"),
    ("fields[colour]=id", "bad-filter", "fields[colour]"),
    ("fields[workflow/activities]=colour", "bad-filter", "fields[workflow/activities]"),
    ("fields=id", "bad-filter", "fields"),
    ("min_position=x", "bad-position", "min_position"),
]


async def test_a_question_that_cannot_be_asked(house: House) -> None:
    for query, code, parameter in QUESTIONS:
        source = {} if parameter is None else {"parameter": parameter}
        refused(await house.get(f"{LIST}?{query}"), 422, code, **source)


async def test_the_seconds_run_while_it_is_worked_on(migrated_url: str) -> None:
    async with opened(migrated_url) as house:
        house.command("directory.register", {"kind": "member", "id": "ann", "fields": {"account_id": 42}})
        house.command("task.create", {"id": "t", "assignees": ["ann"]})
        house.command("task.process", {"id": "t"})
        with psycopg.connect(migrated_url) as conn:
            conn.execute(
                f"UPDATE tasks_{suffix(tasks)} SET started_at = started_at - interval '30 s',"
                " doc = replace(doc, 'T01:50:00.000Z', 'T01:49:30.000Z')"
            )
        attributes = shown(await house.get(f"{LIST}/t"))
        assert (attributes["working_seconds"], attributes["live_seconds"], attributes["status"]) == (
            30,
            30,
            "in-progress",
        )
        found = (await house.get(f"{LIST}?filter[working_seconds__gte]=29.5&filter[live_seconds]=30")).json()
        assert [task["id"] for task in found["data"]] == ["t"]


async def test_two_who_claim_under_one_key_are_told_apart(house: House) -> None:
    """What is for oneself is another command for each person, whatever key both have thought of."""

    async def claim(actor: str) -> httpx.Response:
        headers = {**house.by(house.tokens[actor]), "Idempotency-Key": "claim-t"}
        body = {"start_working": False, "self_assigning": True}
        return await house.client.patch(f"{LIST}/t/assign", json=body, headers=headers)

    assert shown(await claim("ann"))["assigned_account_id"] == 42
    assert shown(await claim("ann"))["assigned_account_id"] == 42
    assert (await claim("bob")).status_code == 409
