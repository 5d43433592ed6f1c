"""The workflow dialect's actions: what each changes, and what it refuses."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import psycopg

from tests.services.http.api import Api
from tests.services.http.workflow_scene import (
    BASE,
    LIST,
    act,
    furnish,
    refused,
    shown,
)

set_scene = furnish


async def test_a_draft_is_kept_and_becomes_part_of_the_output(api: Api) -> None:
    api.command("task.assign", {"id": "t", "assignees": ["ann"]})
    saved = shown(await act(api, "", {"data": {"kg": 3, "note": "x"}}, "ann"))
    assert (saved["data"], saved["output"], saved["status"]) == ({"kg": 3, "note": "x"}, None, "pending")
    done = shown(await act(api, "/complete", {"data": {"signed": True}}, "ann"))
    assert done["output"] == {"kg": 3, "note": "x", "signed": True}
    assert done["data"] == {"kg": 3, "note": "x", "signed": True}
    assert (done["started_at"], done["completed_at"]) == ("2025-10-31T01:50:00.000Z", "2025-10-31T01:50:00.000Z")
    for way, body in (("", {"data": {"a": 1}}), ("/complete", {"data": {}}), ("/process", None), ("/unassign", None)):
        refused(await act(api, way, body), 409, "terminal")
    refused(await act(api, "/cancel"), 409, "terminal")
    refused(await act(api, "/error", {"data": {"comment": "late"}}), 409, "terminal")


async def test_a_manager_assigns_and_who_has_it_works(api: Api) -> None:
    given = shown(await act(api, "/assign", {"account_id": 42, "start_working": True}, "max"))
    assert (given["assigned_account_id"], given["status"]) == (42, "in-progress")
    refused(await act(api, "/assign", {"account_id": 43, "start_working": False}, "max"), 409, "already-assigned")
    refused(await act(api, "/process", actor="ann"), 422, "already-processing")
    refused(await act(api, "/process", actor="bob"), 422, "already-processing")
    refused(await act(api, "", {"data": {}}, "bob"), 403, "not-assignee")
    refused(await act(api, "/complete", {"data": {}}, "bob"), 403, "not-assignee")
    refused(await act(api, "/cancel", actor="ann"), 403, "forbidden")
    moved = shown(await act(api, "/reassign", {"account_id": 43}, "max"))
    assert (moved["assigned_account_id"], moved["status"]) == (43, "pending")
    refused(await act(api, "/process", actor="ann"), 403, "not-assignee")
    refused(await act(api, "/reassign", {"account_id": 43}, "max"), 409, "same-assignee")
    assert shown(await act(api, "/process", actor="bob"))["status"] == "in-progress"
    free = shown(await act(api, "/unassign", actor="bob"))
    assert (free["assigned_account_id"], free["status"]) == (None, "pending")
    refused(await act(api, "/unassign", actor="max"), 409, "not-assigned")
    refused(await act(api, "/reassign", {"account_id": 43}, "max"), 409, "not-assigned")
    refused(await act(api, "/complete", {"data": {}}), 403, "not-assignee")
    refused(await act(api, "/assign", {"account_id": 42, "start_working": False}, "bob"), 403, "forbidden")


async def test_claiming_for_oneself(api: Api) -> None:
    refused(await act(api, "/assign", {"start_working": True, "self_assigning": True}, "eve"), 422, "not-eligible")
    somebody = {"account_id": 43, "start_working": True, "self_assigning": True}
    refused(await act(api, "/assign", somebody, "ann"), 403, "forbidden", pointer="/account_id")
    own = {"account_id": 42, "start_working": True, "self_assigning": True}
    taken = shown(await act(api, "/assign", own, "ann"))
    assert (taken["assigned_account_id"], taken["status"]) == (42, "in-progress")
    refused(await act(api, "/assign", {"start_working": True, "self_assigning": True}, "bob"), 409, "already-assigned")
    api.command("task.create", {"id": "u", "project": "p"})
    for_somebody = shown(await act(api, "/assign", somebody, task="u"))
    assert for_somebody["assigned_account_id"] == 43


async def test_of_those_who_claim_at_once_exactly_one_wins(api: Api) -> None:
    body = {"start_working": True, "self_assigning": True}
    api.command("task.create", {"id": "u", "project": "p"})
    for task in ("t", "u"):
        answers = await asyncio.gather(*(act(api, "/assign", body, who, task) for who in ("ann", "bob", "max") * 2))
        won = [answer for answer in answers if answer.status_code == 200]
        assert len(won) == 1
        for answer in answers:
            if answer is not won[0]:
                refused(answer, 409, "already-assigned")
        current = shown(await api.get(f"{LIST}/{task}"))
        assert current["assigned_account_id"] == shown(won[0])["assigned_account_id"]
    with psycopg.connect(api.url) as conn:
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


async def test_who_is_eligible(api: Api) -> None:
    for number, (rule, account, code) in enumerate(RULES):
        api.command("task.create", {"id": f"u{number}", **rule})
        body = {"account_id": account, "start_working": False}
        response = await act(api, "/assign", body, task=f"u{number}")
        if code is None:
            assert shown(response)["assigned_account_id"] == account
        else:
            refused(response, 422, code, pointer="/account_id")


async def test_an_error_and_a_cancel(api: Api) -> None:
    api.command("task.assign", {"id": "t", "assignees": ["ann"]})
    failed = shown(await act(api, "/error", actor="ann"))
    assert (failed["status"], failed["completed_at"], failed["assigned_account_id"]) == ("errored", None, 42)
    api.command("task.retry", {"id": "t"})
    assert shown(await act(api, "/error", {"data": {"comment": "no road"}}, "max"))["status"] == "errored"
    assert (await api.get("/v1/tasks/t")).json()["comment"] == "no road"
    api.command("task.retry", {"id": "t"})
    canceled = shown(await act(api, "/cancel", actor="max"))
    assert (canceled["status"], canceled["assigned_account_id"]) == ("canceled", None)


async def test_the_tracker_holds_one_running_activity_a_person(api: Api) -> None:
    api.command("task.create", {"id": "u", "project": "p", "assignees": ["ann"]})
    api.command("task.assign", {"id": "t", "assignees": ["ann"]})

    async def track(way: str, body: Any = None, actor: str = "ann") -> httpx.Response:
        headers = api.by(api.tokens[actor])
        return await api.client.post(f"{BASE}/tracker/{way}", json=body, headers=headers)

    refused(await track("pause"), 409, "not-processing")
    refused(await track("resume"), 409, "not-paused")
    await act(api, "/process", actor="ann")
    await act(api, "/process", actor="ann", task="u")
    assert shown(await api.get(f"{LIST}/t"))["status"] == "paused"
    paused = shown(await track("pause"))
    assert (paused["id"], paused["status"]) == ("u", "paused")
    await act(api, "/process", actor="ann", task="t")
    resumed = shown(await track("resume", {"account_id": 42}))
    assert (resumed["id"], resumed["status"]) == ("u", "in-progress")
    assert shown(await api.get(f"{LIST}/t"))["status"] == "paused"
    refused(await track("pause", {"account_id": 42}, "bob"), 403, "forbidden", pointer="/account_id")
    refused(await track("pause", {}, "bob"), 409, "not-processing")


async def test_a_manager_pauses_others_and_nobody_else_does(api: Api) -> None:
    await act(api, "/assign", {"account_id": 42, "start_working": True}, "max")

    async def pause(path: str, actor: str, body: Any = None) -> httpx.Response:
        return await api.client.post(f"{BASE}/tracker/pause{path}", json=body, headers=api.by(api.tokens[actor]))

    refused(await pause("/42", "bob"), 403, "forbidden")
    for path in ("/999", "/x", "/0", "/042", "/9999999999999999"):
        refused(await pause(path, "max"), 404, "not-found", pointer="")
    assert shown(await pause("/42", "max"))["status"] == "paused"
    refused(await pause("/42", "max"), 409, "not-processing")
    await act(api, "/process", actor="ann")
    assert shown(await pause("", "max", {"account_id": "42"}))["status"] == "paused"


async def test_the_tracker_starts_an_activity_and_says_what_was_spent_on_one(api: Api) -> None:
    async def track(way: str, body: Any = None, actor: str = "ann") -> httpx.Response:
        return await api.client.post(f"{BASE}/tracker/{way}", json=body, headers=api.by(api.tokens[actor]))

    def start(**attributes: Any) -> Any:
        return {"data": {"type": "workflow/work_periods", "attributes": attributes}}

    place = "/data/attributes/activity_id"
    refused(await track("start", start()), 422, "wrong-shape", pointer=place)
    refused(await track("start", start(activity_id=7)), 422, "wrong-shape", pointer=place)
    refused(await track("start", start(activity_id="nobody")), 422, "not-found", pointer=place)
    refused(await track("start", {}), 422, "wrong-shape", pointer="/data")
    for key in ("project_id", "billable", "details", "colour"):
        wrong = start(activity_id="t", **{key: 1})
        refused(await track("start", wrong), 422, "unknown-field", pointer=f"/data/attributes/{key}")
    refused(await track("start", start(activity_id="t")), 403, "not-assignee")
    await act(api, "/assign", {"account_id": 42, "start_working": False}, "max")
    assert shown(await track("start", start(activity_id="t")))["status"] == "in-progress"
    refused(await track("start", start(activity_id="t")), 422, "already-processing")
    await track("pause")
    resumed = await track("resume")
    assert resumed.json()["meta"] == {"working_seconds": shown(resumed)["working_seconds"]}


async def test_a_cancelled_work_unit_takes_its_activities_along(api: Api) -> None:
    api.command("task.claim", {"id": "a1", "member": "ann", "start": True})
    unit = shown(await api.post(f"{BASE}/work_units/a/cancel", {}))
    assert (unit["id"], unit["name"], unit["status"], unit["progress"]["canceled"]) == ("a", "Visit", "canceled", 2)
    for task in ("a1", "a2"):
        assert shown(await api.get(f"{LIST}/{task}"))["status"] == "canceled"
    refused(await api.post(f"{BASE}/work_units/a/cancel", {}), 409, "terminal")
    refused(await api.post(f"{BASE}/work_units/t/cancel", {}), 404, "not-found")
    refused(await api.post(f"{BASE}/work_units/a/cancel", {}, api.tokens["ann"]), 403, "forbidden")


async def test_when_it_is_woken_and_what_is_wrong_with_it_is_shown(api: Api) -> None:
    criteria = [{"type": "ROLE_MATCH", "role": "buyer"}]
    api.command("directory.register", {"kind": "commerce", "id": "c", "fields": {"users": []}})
    api.command("task.create", {"id": "u", "commerce": "c", "plan": {"channel": "SMS", "criteria": criteria}})
    lost = shown(await api.get(f"{LIST}/u"))
    assert lost["try_resolve_at"] == "2025-10-31T01:51:00.000Z"
    assert lost["indicators"] == {"overdue": False, "late": False, "unresolved": True, "dispatched": False}
    refused(await act(api, "/assign", {"account_id": 42, "start_working": True}, task="u"), 409, "unresolved")
    api.command("task.create", {"id": "v", "end": "2025-10-30T00:00:00Z", "assignees": ["ann"]})
    late = shown(await act(api, "/complete", {"data": {}}, task="v"))
    assert late["indicators"] == {"overdue": False, "late": True, "unresolved": False, "dispatched": False}


async def test_two_who_claim_under_one_key_are_told_apart(api: Api) -> None:
    """What is for oneself is another command for each person, whatever key both have thought of."""

    async def claim(actor: str) -> httpx.Response:
        headers = {**api.by(api.tokens[actor]), "Idempotency-Key": "claim-t"}
        body = {"start_working": False, "self_assigning": True}
        return await api.client.patch(f"{LIST}/t/assign", json=body, headers=headers)

    assert shown(await claim("ann"))["assigned_account_id"] == 42
    assert shown(await claim("ann"))["assigned_account_id"] == 42
    assert (await claim("bob")).status_code == 409
