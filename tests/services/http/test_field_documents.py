"""Documents that are sent back: late views, changes in between, repetitions, and what the service gives by itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from services.broker.sender import Outgoing
from services.commands.wire import Reply
from tests.services.http.api import NOW, Api, field_failure, with_activity, with_workflow

VIEWS = {"tasks", "activities", "directory"}


def set_scene(api: Api) -> None:
    hub = {"name": "Jakarta", "lat": -6.2, "lng": 106.8, "address": "Sudirman 1", "since": 2019}
    for own, fields in (("h1", hub), ("h2", {})):
        api.command("directory.register", {"kind": "hub", "id": own, "fields": fields})
    with_workflow(api)
    with_activity(api, hub="h1", fields={"reference": "R-1"})


async def put(api: Api, body: Any, task: str = "a1-t1", **headers: str) -> httpx.Response:
    return await api.client.put(f"/api/v3/task/{task}", json=body, headers={**api.by(), **headers})


async def done(api: Api, body: Any, task: str = "a1-t1", **headers: str) -> dict[str, Any]:
    response = await put(api, body, task, **headers)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()["task"]
    return found


async def shown(api: Api, task: str = "a1-t1") -> dict[str, Any]:
    found: dict[str, Any] = (await api.get(f"/api/v3/task/{task}")).json()["task"]
    return found


def later(api: Api, name: str, **data: Any) -> None:
    """Run a command a second after all that was done before."""
    api.sender.now += timedelta(seconds=1)
    api.command(name, data)


def in_between(api: Api, change: Callable[[], None]) -> None:
    """Let something change after the next request was read, and before its command is decided."""
    send, changes = api.sender.send, [change]

    async def sent(outgoing: Outgoing, timeout: float, *, wait: bool = True) -> Reply | None:
        if changes:
            changes.pop()()
        return await send(outgoing, timeout, wait=wait)

    api.sender.send = sent  # type: ignore[method-assign]


@pytest.mark.parametrize("late", [set(), {"tasks"}, {"activities"}, {"directory"}, VIEWS])
@pytest.mark.parametrize("task", ["a1-t1", "a1"])
async def test_a_document_from_an_answer_is_right_however_late_the_views_are(
    api: Api, task: str, late: set[str]
) -> None:
    api.sender.late = late
    body = {"assignee": "new@example.com", "orderIndex": 3} if task == "a1-t1" else {"title": "Order 7"}
    api.sender.now += timedelta(seconds=1)
    document = await done(api, body, task)
    assert document["updatedTime"] != "2025-10-31T01:50:00.000Z"
    api.sender.now += timedelta(seconds=1)
    again = await done(api, {**document, "note": 1}, task)
    # Of a person whom the directory does not have yet, just the id is known.
    people = ("assignee", "assignedTo") if "directory" in late else ()
    expected = {**document, "note": 1, "updatedTime": "2025-10-31T01:50:02.000Z"}
    assert {k: v for k, v in again.items() if k not in people} == {k: v for k, v in expected.items() if k not in people}
    api.sender.late = set()
    api.sender.follow()
    assert (await shown(api, task))["note"] == 1


async def test_a_task_that_no_view_has_yet_is_compared_with_the_log(api: Api) -> None:
    api.sender.late = VIEWS
    created = (await api.post("/api/v3/task", {"flow": "Visit", "assignee": ["new@example.com"], "hubId": "h1"})).json()
    document = created["task"]
    assert (await done(api, {**document, "note": 1}, document["_id"]))["note"] == 1
    message = field_failure(await put(api, {**document, "createdBy": "ann"}, document["_id"]), 400, "activity-003")
    assert message == "createdBy is given by the service (/createdBy)"
    api.sender.late = set()
    api.sender.follow()
    assert (await shown(api, document["_id"]))["note"] == 1


@pytest.mark.parametrize(("task", "name"), [("a1-t1", "task.change"), ("a1", "activity.change")])
async def test_what_changes_in_between_is_not_written_over(api: Api, task: str, name: str) -> None:
    document = await shown(api, task)
    in_between(api, lambda: later(api, name, id=task, title="Theirs", fields={"theirs": 1}))
    message = field_failure(await put(api, {**document, "mine": 1}, task), 400, "activity-003")
    assert "has changed since the document was read" in message
    assert message.endswith("(/updatedTime)")
    now = await shown(api, task)
    assert (now["title"], now["theirs"], "mine" in now) == ("Theirs", 1, False)
    assert (await done(api, {**now, "mine": 1}, task))["theirs"] == 1


@pytest.mark.parametrize(("task", "name"), [("a1-t1", "task.change"), ("a1", "activity.change")])
async def test_a_document_that_is_behind_is_refused(api: Api, task: str, name: str) -> None:
    document = await shown(api, task)
    later(api, name, id=task, title="Theirs")
    field_failure(await put(api, document, task), 400, "activity-003")
    assert (await shown(api, task))["title"] == "Theirs"
    # Without a time it says nothing of when it was read.
    del document["updatedTime"]
    assert (await done(api, {**document, "updatedBy": None} | {"updatedBy": "system"}, task))["title"] != "Theirs"


async def test_a_master_may_be_changed_while_its_tasks_go_on(api: Api) -> None:
    document = await shown(api, "a1")
    in_between(api, lambda: later(api, "task.complete", id="a1-t1"))
    changed = await done(api, {**document, "title": "Order 7"}, "a1")
    assert (changed["title"], changed["progress"]["completed"]) == ("Order 7", 1)
    document = await shown(api, "a1")
    later(api, "task.assign", id="a1-t2", assignees=["bob@example.com"])
    assert (await done(api, {**document, "title": "Order 8"}, "a1"))["assignee"][-1] == "bob@example.com"


@pytest.mark.parametrize("task", ["a1-t1", "a1"])
async def test_a_repetition_gets_the_first_answer(api: Api, task: str) -> None:
    document = {**await shown(api, task), "title": "Mine"}
    first = await done(api, document, task, **{"Idempotency-Key": "k"})
    later(api, "task.change" if task == "a1-t1" else "activity.change", id=task, title="Theirs", fields={"n": 1})
    assert (await done(api, document, task, **{"Idempotency-Key": "k"}))["title"] == "Theirs"
    assert first["title"] == "Mine"
    field_failure(await put(api, {**document, "n": 2}, task, **{"Idempotency-Key": "k"}), 409, "activity-006")


async def test_a_tag_and_a_document_of_two_versions_are_refused(api: Api) -> None:
    first = await api.get("/api/v3/task/a1-t1")
    later(api, "task.change", id="a1-t1", title="Theirs")
    second = await api.get("/api/v3/task/a1-t1")
    for tag, document in ((first, second), (second, first)):
        body = {**document.json()["task"], "mine": 1}
        field_failure(await put(api, body, **{"If-Match": tag.headers["etag"]}), 412, "request-007")
    body = {**second.json()["task"], "mine": 1}
    assert (await done(api, body, **{"If-Match": second.headers["etag"]}))["mine"] == 1


@pytest.mark.parametrize(
    "given",
    [
        {"hub": {"_id": "h1"}},
        {"hub": {"_id": "h1", "name": "Jakarta", "lat": -6.2, "lng": 106.80}},
        {"doneTime": None, "doneBy": None},
        {"assignedTo": None, "hub": None, "assignee": []},
    ],
)
async def test_what_says_nothing_else_is_accepted(api: Api, given: dict[str, Any]) -> None:
    if given.get("assignedTo", 1) is None:
        api.command("task.change", {"id": "a1-t1", "hub": None, "assignees": None})
    assert (await done(api, {**given, "note": 1}))["note"] == 1


@pytest.mark.parametrize(
    "given",
    [
        {"hub": {"_id": "h2"}},
        {"hub": {"_id": "h1", "name": "Bogor"}},
        {"hub": {"_id": "h1", "since": 2019}},
        {"hub": {}},
        {"hub": None},
        {"hub": "h1"},
        {"hub": [{"_id": "h1"}]},
        {"assignedTo": {"_id": "somebody"}},
        {"doneTime": "2025-10-31T01:50:00.000Z"},
        {"updatedTime": "2025-10-31T01:49:00.000Z"},
        {"updatedTime": None},
        {"updatedTime": 7},
        {"status": "UNASSIGNED"},
        {"subId": []},
    ],
)
async def test_what_the_service_gives_cannot_be_given(api: Api, given: dict[str, Any]) -> None:
    before = await shown(api)
    (key,) = given
    message = field_failure(await put(api, {**given, "note": 1}), 400, "activity-003")
    assert message.endswith(f"(/{key})")
    assert await shown(api) == before


async def test_a_hub_that_was_renamed_since_is_not_what_it_was(api: Api) -> None:
    document = await shown(api)
    api.command("directory.change", {"kind": "hub", "id": "h1", "fields": {"name": "Bogor"}})
    field_failure(await put(api, document), 400, "activity-003")
    assert (await done(api, {**await shown(api), "hubId": "h2"}))["hub"] == {"_id": "h2"}


async def test_a_whole_document_keeps_fields_that_cannot_be_shown(api: Api) -> None:
    hidden = {"status": "x", "hub": "y", "orderIndex": "z", "subId": 1}
    api.command("task.create", {"id": "t1", "flow": "Visit", "fields": {**hidden, "seen": 1, "late": 2, "gone": 3}})
    document = await shown(api, "t1")
    del document["gone"]
    changed = await done(api, {**document, "seen": 2}, "t1")
    assert (changed["seen"], changed["late"], "gone" in changed) == (2, 2, False)
    fields = (await api.get("/v1/tasks/t1")).json()["fields"]
    assert fields == {**hidden, "seen": 2, "late": 2}


async def test_a_whole_document_is_whole_whatever_came_in_between(api: Api) -> None:
    in_between(api, lambda: later(api, "task.change", id="a1-t1", fields={"theirs": 1}))
    changed = await done(api, {"flow": None, "mine": 1})
    assert ("theirs" in changed, changed["mine"]) == (False, 1)


async def test_a_status_is_a_change_if_it_is_done_and_else_compared(api: Api) -> None:
    assert (await done(api, {"status": "ONGOING"}))["status"] == "ONGOING"
    assert (await done(api, {"status": "DONE"}))["status"] == "DONE"
    field_failure(await put(api, {"status": "DONE"}), 409, "task-002")
    field_failure(await put(api, {"status": "ONGOING"}), 400, "activity-003")
    api.command("task.assign", {"id": "a1-t2", "assignees": ["bob@example.com"]})
    api.command("task.complete", {"id": "a1-t2"})
    assert (await done(api, {"status": "DONE", "title": "Over"}, "a1"))["title"] == "Over"
    assert api.sender.now == NOW
