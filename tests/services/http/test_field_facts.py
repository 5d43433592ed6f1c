"""What a task and a master show of who, when and where, how tasks are ordered by it, and how they are found."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.services.http.api import Api, field_failure, with_workflow

ANN = {"_id": "ann", "name": "Ann", "email": "ann@example.com", "hubId": ["h1", "h2"]}
HUB = {"_id": "h1", "name": "Jakarta", "lat": -6.2, "lng": 106.8, "address": "Sudirman 1"}
FIRST, SECOND, THIRD = (f"2025-10-31T01:50:0{second}.000Z" for second in range(3))


def set_scene(api: Api) -> None:
    for kind, own, fields in (
        ("member", "ann", {"name": "Ann", "email": "ann@example.com", "hubId": ["h1", "h2"], "projects": {}}),
        ("member", "bob", {"email": "bob@example.com", "hubId": "h1"}),
        ("member", "eve", {"projects": {"p": {"is_manager": True}}, "name": "x" * 200}),
        ("hub", "h1", {"name": "Jakarta", "lat": -6.2, "lng": 106.8, "address": "Sudirman 1", "phone": 1}),
        ("hub", "h2", {}),
    ):
        api.command("directory.register", {"kind": kind, "id": own, "fields": fields})
    with_workflow(api)


async def shown(api: Api, task: str) -> dict[str, Any]:
    found: dict[str, Any] = (await api.get(f"/api/v3/task/{task}")).json()["task"]
    # A list shows the same.
    rows = (await api.get("/api/v3/tasks?limit=500")).json()["tasks"]["data"]
    assert found in rows
    return found


def later(api: Api, name: str, data: dict[str, Any], actor: str = "system") -> None:
    api.sender.now += timedelta(seconds=1)
    api.command(name, data, actor=actor)


GIVEN = ("hub", "orderIndex", "assignedTo", "assignedBy", "assignedTime", "doneBy", "doneTime", "updatedBy")


def given(task: dict[str, Any]) -> dict[str, Any]:
    return {key: task[key] for key in GIVEN if key in task}


async def test_a_task_says_who_gave_it_to_whom_and_who_did_it_when(api: Api) -> None:
    made = await api.post("/api/v3/task", {"flow": "Visit", "hubId": "h1", "orderIndex": 10}, api.key("acme", "eve"))
    task = made.json()["task"]
    assert given(task) == {"hub": HUB, "orderIndex": 10, "updatedBy": "eve"}
    own = task["_id"]
    later(api, "task.assign", {"id": own, "assignees": ["ann", "bob"]}, "eve")
    assigned = {"hub": HUB, "orderIndex": 10, "assignedTo": ANN, "assignedBy": "eve", "assignedTime": SECOND}
    assert given(await shown(api, own)) == {**assigned, "updatedBy": "eve"}
    later(api, "task.complete", {"id": own}, "bob")
    task = await shown(api, own)
    people = {"doneBy": "bob@example.com", "updatedBy": "bob@example.com"}
    assert given(task) == {**assigned, **people, "doneTime": THIRD}
    assert (task["createdBy"], task["createdTime"], task["updatedTime"]) == ("eve", FIRST, THIRD)


async def test_what_is_not_known_of_a_person_or_a_hub_is_left_out(api: Api) -> None:
    for member, known in (("bob", {"email": "bob@example.com"}), ("eve", {"name": "x" * 200})):
        api.command("task.create", {"id": f"t-{member}", "assignees": [member], "hub": "h2"})
        task = await shown(api, f"t-{member}")
        assert task["assignedTo"] == {"_id": member, **known, "hubId": []}
        assert task["hub"] == {"_id": "h2"}
    api.command("directory.retire", {"kind": "hub", "id": "h2"})
    assert (await shown(api, "t-bob"))["hub"] == {"_id": "h2"}


async def test_whoever_has_a_task_no_more_is_not_shown(api: Api) -> None:
    api.command("task.create", {"id": "t1", "assignees": ["ann"]})
    later(api, "task.reassign", {"id": "t1", "assignees": ["bob"]}, "eve")
    task = await shown(api, "t1")
    assert (task["assignedTo"]["_id"], task["assignedBy"], task["assignedTime"]) == ("bob", "eve", SECOND)
    later(api, "task.unassign", {"id": "t1"})
    assert given(await shown(api, "t1")) == {"orderIndex": 176187540000000, "updatedBy": "system"}


async def test_an_order_index_is_set_kept_as_it_was_written_and_taken_away(api: Api) -> None:
    body = {"workflowId": "w1", "tasks": [{"orderIndex": 2.5, "assignee": "ann@example.com"}, {"assignee": ""}]}
    first, second = (await api.post("/api/v3/activity", body)).json()["data"]["subId"]
    assert ((await shown(api, first))["orderIndex"], (await shown(api, first))["assignedTo"]) == (2.5, ANN)
    assert ((await shown(api, second))["orderIndex"], (await shown(api, second))["assignee"]) == (176187540000000, [])
    for sent in (-1, 0, 1.5, 2**53, None):
        response = await api.client.patch(f"/api/v3/task/{second}", json={"orderIndex": sent}, headers=api.by())
        wanted = 176187540000000 if sent is None else sent
        assert response.json()["task"]["orderIndex"] == wanted
        assert f'"orderIndex":{wanted},' in (await api.get(f"/api/v3/task/{second}")).text


async def test_a_master_shows_its_hub_and_who_changed_it_or_a_task_of_it_last(api: Api) -> None:
    data = {"id": "a1", "workflow_id": "w1", "hub": "h1", "tasks": [{"id": "c1", "assignees": ["ann"]}, {}]}
    api.command("activity.create", data)
    later(api, "task.process", {"id": "c1"}, "ann")
    master = await shown(api, "a1")
    assert given(master) == {"hub": HUB, "orderIndex": 176187540000000, "updatedBy": "ann@example.com"}
    assert master["updatedTime"] == SECOND


def with_tasks(api: Api) -> None:
    for own, rest in (
        ("t1", {"order_index": 3, "assignees": ["ann"]}),
        ("t2", {"order_index": -0.5, "assignees": ["bob"]}),
        ("t3", {"assignees": ["ann"]}),
        ("t4", {"order_index": 3}),
    ):
        later(api, "task.create", {"id": own, "flow": "Visit", **rest})
    later(api, "activity.create", {"id": "a1", "workflow_id": "w1", "tasks": [{"id": "c1"}, {"id": "c2"}]})
    later(api, "task.complete", {"id": "t3"}, "ann")
    later(api, "task.complete", {"id": "t1"})
    later(api, "task.complete", {"id": "t2"}, "bob")


async def listed(api: Api, **query: Any) -> list[str]:
    response = await api.get("/api/v3/tasks", params={"fields": "_id", **query})
    assert response.status_code == 200, response.text
    return [row["_id"] for row in response.json()["tasks"]["data"]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"sortBy": "orderIndex", "sortOrder": "asc", "taskType": "task"}, ["t2", "t1", "t4", "t3"]),
        ({"sortBy": "orderIndex", "taskType": "task"}, ["t3", "t4", "t1", "t2"]),
        # Masters have the place of their creation.
        ({"sortBy": "orderIndex", "sortOrder": "asc"}, ["t2", "t1", "t4", "t3", "a1", "c1", "c2"]),
        ({"sortBy": "doneTime", "flow": "Visit"}, ["t2", "t1", "t3", "t4"]),
        ({"sortBy": "doneTime", "sortOrder": "asc", "status": "DONE"}, ["t3", "t1", "t2"]),
        ({"sortBy": "doneTime", "limit": 3}, ["t2", "t1", "t3"]),
        ({"doneBy": "ann@example.com"}, ["t1", "t3"]),
        ({"doneBy": "bob"}, ["t2"]),
        ({"doneBy": "Ann"}, ["t1", "t3"]),
        ({"doneBy": "ANN,bob@example.com"}, ["t2", "t1", "t3"]),
        ({"doneBy": "An"}, []),
        ({"doneBy": "nobody"}, []),
    ],
)
async def test_tasks_in_an_order_and_by_who_did_them(api: Api, query: dict[str, Any], found: list[str]) -> None:
    with_tasks(api)
    if "sortBy" not in query:
        query = {**query, "sortBy": "doneTime"}
    assert await listed(api, **query) == found


async def test_a_list_goes_on_after_the_last_row_seen(api: Api) -> None:
    with_tasks(api)
    for sort in ("orderIndex", "doneTime", "title", "createdTime"):
        for order in ("asc", "desc"):
            query = {"sortBy": sort, "sortOrder": order, "fields": "_id,title"}
            whole = (await api.get("/api/v3/tasks", params=query)).json()["tasks"]
            met: list[dict[str, Any]] = []
            url = f"/api/v3/tasks?lazyLoad=1&limit=2&page=3&sortBy={sort}&sortOrder={order}&fields=_id,title"
            while url is not None:
                page = (await api.get(url)).json()["tasks"]
                assert (page["current_page"], page["total"], page["prev_page_url"]) == (1, 7, None)
                assert "lazyLoad" not in page["first_page_url"] + page["last_page_url"]
                met += page["data"]
                url = page["next_page_url"]
                assert page["links"][-1]["url"] == url
                assert url is None or f"cursor={met[-1]['_id']}" in url
            assert met == whole["data"]


@pytest.mark.parametrize("query", ["cursor=nobody", "cursor=%00", "cursor=a%20b"])
async def test_a_cursor_that_is_no_task_is_refused(api: Api, query: str) -> None:
    with_tasks(api)
    assert "cursor" in field_failure(await api.get(f"/api/v3/tasks?lazyLoad=1&{query}"), 400, "request-005")
    field_failure(await api.get(f"/api/v3/tasks?lazyLoad=2&{query}"), 400, "request-005")


async def test_another_tenants_task_is_no_cursor(api: Api) -> None:
    with_tasks(api)
    response = await api.get("/api/v3/tasks?lazyLoad=1&cursor=t1", api.key("other"))
    field_failure(response, 400, "request-005")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"active": "true"}, {"now", "since", "until", "always"}),
        ({"isVisit": "true"}, {"now", "since", "until", "always", "later"}),
        ({"active": "true", "isVisit": "true", "flow": "Visit"}, {"now"}),
        ({"active": "false"}, {"now", "since", "until", "always", "later", "over"}),
    ],
)
async def test_tasks_of_the_present_time(api: Api, query: dict[str, Any], found: set[str]) -> None:
    past, future = "2025-10-30T00:00:00Z", "2025-11-30T00:00:00Z"
    for own, times in (
        ("now", {"start": past, "end": future, "flow": "Visit"}),
        ("since", {"start": past}),
        ("until", {"end": future}),
        ("always", {}),
        ("later", {"start": future}),
        ("over", {"start": past, "end": past}),
    ):
        api.command("task.create", {"id": own, **times})
    assert set(await listed(api, **query)) == found


async def test_nobody_did_what_is_asked_for_with_a_text_that_cannot_be_stored(api: Api) -> None:
    field_failure(await api.get("/api/v3/tasks?doneBy=%00"), 400, "request-005")
