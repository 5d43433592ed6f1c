"""The preview of a bulk: what it chooses, what each item would do, and what is refused; nothing is done by it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.services.http.api import Api, problem, with_activity, with_workflow
from tests.services.http.bulk_scene import (
    BULK,
    act,
    items_of,
    operator,
    previewed,
    recorded,
    until,
    with_tasks,
)


async def test_a_preview_says_what_each_would_do_and_does_nothing(api: Api) -> None:
    ids = with_tasks(api, 3)
    api.command("task.cancel", {"id": ids[1]})
    before = recorded(api, "task.canceled")
    bulk = await previewed(api, {"command": "task.cancel", "ids": [*ids, "nobody"], "data": {"reason": "storm"}})
    assert {name: bulk[name] for name in ("command", "data", "state", "total", "on_change", "actor")} == {
        "command": "task.cancel",
        "data": {"reason": "storm"},
        "state": "previewed",
        "total": 4,
        "on_change": "skip",
        "actor": "system",
    }
    assert bulk["counts"] == {"pending": 0, "ready": 2, "accepted": 0, "refused": 0, "skipped": 2, "unknown": 0}
    assert bulk["skipped"] == {"refused-in-preview": 1, "not-found": 1}
    first, second, third, fourth = await items_of(api, bulk["id"])
    assert (first["number"], first["id"], first["version"], first["state"]) == (1, ids[0], 1, "ready")
    assert first["would_record"] == third["would_record"] == ["task.canceled"]
    assert (second["state"], second["reason"], second["error"]["code"]) == ("skipped", "refused-in-preview", "terminal")
    assert (fourth["state"], fourth["reason"], fourth["error"]["code"]) == ("skipped", "not-found", "not-found")
    assert "version" not in fourth
    assert not {"command_id", "receipt"} & {name for item in (first, second, third, fourth) for name in item}
    assert recorded(api, "task.canceled") == before


async def test_a_filter_is_that_of_the_list(api: Api) -> None:
    mine = with_tasks(api, 3, "a", hub=None, title="Water the plants")
    with_tasks(api, 2, "b", title="Feed the cat")
    api.command("task.cancel", {"id": mine[0]})
    with_tasks(api, 2, "z", tenant="other", title="Water the plants")
    for given, wanted in (
        ({"search": "water", "status": "open"}, mine[1:]),
        ({"search": "water", "status": ["open", "canceled"]}, mine),
        ({"status": ["canceled"]}, mine[:1]),
        ({"overdue": True}, []),
        ({"search": "feed", "hub": None}, ["b00001", "b00002"]),
        ({"assignee": None, "search": "feed"}, ["b00001", "b00002"]),
        ({"created_at__gte": "2030-01-01T00:00:00Z"}, []),
    ):
        bulk = await previewed(api, {"command": "task.cancel", "filter": given})
        assert [item["id"] for item in await items_of(api, bulk["id"])] == wanted
        await act(api, bulk["id"], "abort")


async def test_activities_are_chosen_for_their_commands(api: Api) -> None:
    with_workflow(api)
    with_activity(api, "a1")
    with_activity(api, "a2")
    bulk = await previewed(api, {"command": "activity.cancel", "filter": {"hub": None}})
    shown = await items_of(api, bulk["id"])
    assert [item["id"] for item in shown] == ["a1", "a2"]
    assert shown[0]["would_record"] == ["activity.canceled", "task.canceled", "activity.status-changed"]
    await act(api, bulk["id"], "run", {"rate": "all"})
    assert (await until(api, bulk["id"]))["counts"]["accepted"] == 2
    assert (await api.get("/v1/activities/a2")).json()["status"] == "canceled"


ONE: dict[str, Any] = {"command": "task.cancel", "ids": ["t1"]}


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        ({"command": "task.cancel", "filter": {}}, 422, "invalid", "/filter"),
        ({"command": "task.cancel", "filter": {"status": []}}, 400, "bad-filter", "/filter/status"),
        ({"command": "task.cancel", "filter": {"search": ""}}, 400, "bad-filter", "/filter/search"),
        ({"command": "task.cancel", "filter": {"search": [""]}}, 400, "bad-filter", "/filter/search"),
        ({"command": "task.cancel", "filter": {"status": 7}}, 400, "bad-filter", "/filter/status"),
        ({"command": "task.cancel", "filter": {"colour": "red"}}, 400, "unknown-filter", "/filter/colour"),
        ({"command": "task.cancel", "filter": {"a/b~": "red"}}, 400, "unknown-filter", "/filter/a~1b~0"),
        ({"command": "task.cancel", "filter": {"overdue": "maybe"}}, 400, "bad-filter", "/filter/overdue"),
        ({"command": "task.cancel", "filter": {"end__gte": "soon"}}, 400, "bad-filter", "/filter/end__gte"),
        ({"command": "task.cancel", "filter": {"assignee": ["account:x"]}}, 400, "bad-filter", "/filter/assignee"),
        ({"command": "task.cancel", "filter": "status=open"}, 422, "wrong-shape", "/filter"),
        ({"command": "task.cancel"}, 422, "wrong-shape", ""),
        ({**ONE, "filter": {"status": "open"}}, 422, "wrong-shape", ""),
        ({**ONE, "ids": []}, 422, "invalid", "/ids"),
        ({**ONE, "ids": ["a", "b", "a"]}, 422, "invalid", "/ids/2"),
        ({**ONE, "ids": ["a", "not an id"]}, 422, "invalid", "/ids/1"),
        ({**ONE, "ids": ["a", 7]}, 422, "wrong-shape", "/ids/1"),
        ({**ONE, "command": "task.fly"}, 422, "unknown-type", "/command"),
        ({**ONE, "command": "task.create"}, 422, "unknown-type", "/command"),
        ({**ONE, "command": "task.wake"}, 422, "unknown-type", "/command"),
        ({**ONE, "command": "directory.retire"}, 422, "unknown-type", "/command"),
        ({"ids": ["a"]}, 422, "wrong-shape", "/command"),
        ({**ONE, "data": {"id": "t2"}}, 422, "unknown-field", "/data/id"),
        ({**ONE, "data": {"reasn": "x"}}, 422, "unknown-field", "/data/reasn"),
        ({**ONE, "data": {"reason": 7}}, 422, "wrong-shape", "/data/reason"),
        ({**ONE, "data": {"reason": "x" * 70_000}}, 413, "too-large", ""),
        ({**ONE, "data": []}, 422, "wrong-shape", "/data"),
        ({**ONE, "on_change": "stop"}, 422, "wrong-shape", "/on_change"),
        ({**ONE, "rate": "all"}, 422, "unknown-field", "/rate"),
        ([], 422, "wrong-shape", ""),
    ],
)  # fmt: skip
async def test_what_is_no_bulk_is_refused_with_its_place(
    api: Api, body: Any, status: int, code: str, pointer: str
) -> None:
    refused = await api.post(BULK, body, operator(api))
    problem(refused, status, code)
    assert refused.json().get("pointer", "") == pointer
    assert api.sender.sent == []


async def test_who_may_not_give_the_command_is_refused_at_the_preview(api: Api) -> None:
    with_tasks(api, 1)
    body = {"command": "task.cancel", "ids": ["t00001"]}
    for permissions in (("read", "write"), ("read", "operate"), ("operate",)):
        problem(await api.post(BULK, body, api.key("acme", "system", *permissions)), 403, "forbidden")
    # What the actor may not do is what the preview shows.
    api.command("directory.register", {"kind": "member", "id": "ann", "fields": {}})
    bulk = await previewed(api, body, operator(api, actor="ann"))
    (item,) = await items_of(api, bulk["id"])
    assert (item["reason"], item["error"]["code"]) == ("refused-in-preview", "forbidden")


async def test_another_tenants_bulk_is_not_there(api: Api) -> None:
    ids = with_tasks(api, 2)
    bulk = await previewed(api, {"command": "task.cancel", "ids": ids})
    other = operator(api, "other")
    for suffix in ("", "/items", "/events"):
        problem(await api.get(f"{BULK}/{bulk['id']}{suffix}", other), 404, "not-found")
    for verb in ("run", "pause", "resume", "abort"):
        problem(await api.post(f"{BULK}/{bulk['id']}/{verb}", {}, other), 404, "not-found")
    theirs = await previewed(api, {"command": "task.cancel", "ids": ids}, other)
    assert theirs["skipped"] == {"not-found": 2}
    assert (await until(api, bulk["id"], None, "previewed"))["counts"]["ready"] == 2


async def test_under_one_key_there_is_one_bulk(api: Api) -> None:
    ids = with_tasks(api, 2)
    body = {"command": "task.cancel", "ids": ids}
    headers = {"Idempotency-Key": "k1"}
    first, again = [await api.post(BULK, body, operator(api), headers=headers) for _ in range(2)]
    assert first.json()["id"] == again.json()["id"]
    assert first.headers["location"] == f"{BULK}/{first.json()['id']}"
    problem(await api.post(BULK, {**body, "ids": ids[:1]}, operator(api), headers=headers), 409, "idempotency-conflict")
    other = await api.post(BULK, body, operator(api, "other"), headers=headers)
    assert other.json()["id"] != first.json()["id"]


async def test_too_many_open_bulks_are_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.http.core.bulk_selection.MAX_OPEN", 2)
    with_tasks(api, 1)
    bulks = [await previewed(api, {"command": "task.cancel", "ids": ["t00001"]}) for _ in range(2)]
    problem(await api.post(BULK, ONE, operator(api)), 429, "too-many-requests")
    await act(api, bulks[0]["id"], "abort")
    await until(api, bulks[0]["id"])
    await previewed(api, {"command": "task.cancel", "ids": ["t00001"]})


async def test_a_filter_that_finds_too_many_is_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.http.core.bulk_selection.MAX_ITEMS", 4)
    with_tasks(api, 5)
    problem(await api.post(BULK, {"command": "task.cancel", "filter": {"status": "open"}}, operator(api)), 422,
            "invalid", pointer="/filter")  # fmt: skip
    problem(await api.post(BULK, {"command": "task.cancel", "ids": list("abcde")}, operator(api)), 422,
            "invalid", pointer="/ids")  # fmt: skip
