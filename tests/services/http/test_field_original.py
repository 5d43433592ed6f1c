"""What the original's documentation says beside its examples: formats, names and wordings."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.services.http.api import Api, field_failure, with_activity, with_workflow


@pytest.mark.parametrize(
    ("sent", "shown_as"),
    [
        ("2022-07-13 03:16:40", "2022-07-13T03:16:40+00:00"),
        ("2022-07-13T03:16:40", "2022-07-13T03:16:40+00:00"),
        ("2022-07-13T03:16:40.123+07:00", "2022-07-13T03:16:40.123+07:00"),
        ("2022-07-13T03:16:40+07:00", "2022-07-13T03:16:40+07:00"),
    ],
)
async def test_the_published_formats_of_times(api: Api, sent: str, shown_as: str) -> None:
    response = await api.post("/api/v3/task", {"flow": "Visit", "startTime": sent})
    assert (response.status_code, response.json()["task"]["startTime"]) == (201, shown_as)


@pytest.mark.parametrize("sent", ["2022-07-13 24:00:00", "2022-02-30 03:16:40", "2022-07-13 03:16", "2022-07-13"])
async def test_a_time_that_is_none_is_refused(api: Api, sent: str) -> None:
    field_failure(await api.post("/api/v3/task", {"flow": "Visit", "startTime": sent}), 400, "activity-005")


def set_scene(api: Api) -> None:
    with_workflow(api)
    with_activity(api, fields={"reference": "R-1"})


async def _sent(api: Api, method: str, path: str, body: Any) -> httpx.Response:
    return await api.client.request(method, f"/api/v3/task/{path}", json=body, headers=api.by())


async def _shown(api: Api, task: str) -> dict[str, Any]:
    found: dict[str, Any] = (await api.get(f"/api/v3/task/{task}")).json()["task"]
    return found


async def _changed(api: Api, method: str, path: str, body: Any) -> dict[str, Any]:
    """Change a task, and expect the published answer and what is read then to be the same."""
    response = await _sent(api, method, path, body)
    assert response.status_code == 200, response.text
    task: dict[str, Any] = response.json()["task"]
    assert response.json() == {"status": True, "message": "Success", "task": await _shown(api, task["_id"])}
    return task


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("task", ["a1", "a1-t1", "alone"])
async def test_a_document_is_taken_back_as_it_was_read(api: Api, task: str, method: str) -> None:
    api.command("task.create", {"id": "alone", "flow": "Visit", "flow_id": "f1", "fields": {"late": "no", "note": {}}})
    before = await _shown(api, task)
    assert await _changed(api, method, task, before) == before
    assert (await _changed(api, method, task, {**before, "title": "T", "field1": 1}))["field1"] == 1


async def test_each_of_the_services_own_keys_is_refused_by_its_name_if_it_differs(api: Api) -> None:
    for task in ("a1", "a1-t1"):
        before = await _shown(api, task)
        own = {"startTime", "endTime", "assignee", "orderIndex"}
        fixed = {"title", "hubId", *(own if task == "a1-t1" else ())}
        for key in before.keys() - fixed - {"reference", "overdue" if task == "a1-t1" else "", "late"}:
            response = await _sent(api, "PUT", task, {**before, key: "another", "field1": 1})
            assert f"{key} " in field_failure(response, 400, "activity-003") or key == "status"
        assert await _shown(api, task) == before


async def test_a_whole_document_replaces_all_fields_and_any_other_those_that_it_has(api: Api) -> None:
    task = await _changed(api, "PATCH", "a1-t1", {"field1": "Jack Ward", "field2": 2})
    task = await _changed(api, "PUT", "a1-t1", {"field1": "Jo"})
    assert (task["field1"], task["field2"]) == ("Jo", 2)
    api.command("task.save", {"id": "a1-t1", "data": {"field3": 3}})
    whole = {"flow": None, "field2": 5}
    # PATCH changes what it has, whatever it repeats.
    task = await _changed(api, "PATCH", "a1-t1", whole)
    assert (task["field1"], task["field2"], task["field3"]) == ("Jo", 5, 3)
    task = await _changed(api, "PUT", "a1-t1", whole)
    assert [name for name in task if name.startswith("field")] == ["field2"]
    assert task["assignee"] == ["ann@example.com"]


async def test_a_whole_document_completes_a_task(api: Api) -> None:
    before = await _shown(api, "a1-t1")
    assert (await _changed(api, "PUT", "a1-t1", {**before, "status": "DONE"}))["status"] == "DONE"
    field_failure(await _sent(api, "PUT", "a1-t1", await _shown(api, "a1-t1")), 409, "task-002")


async def test_a_task_is_assigned_and_moved(api: Api) -> None:
    assert (await _changed(api, "PUT", "a1-t2/assign", {"assignee": ["leandro@mile.app"]}))["status"] == "ONGOING"
    assert (await _changed(api, "PUT", "a1-t2/assign", {"assignee": []}))["status"] == "UNASSIGNED"
    assert (await _changed(api, "PUT", "a1-t2/move", {"hubId": "h7"}))["hubId"] == "h7"
    assert (await _changed(api, "PUT", "a1/move", {"hubId": "h8"}))["hubId"] == "h8"


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("a1-t1/assign", {}, 400, "activity-001"),
        ("a1-t1/assign", {"assignee": None}, 400, "activity-001"),
        ("a1-t1/assign", {"assignee": [], "title": "T"}, 400, "activity-001"),
        ("a1-t1/assign", {"assignee": ["nobody"]}, 404, "member-001"),
        ("a1/assign", {"assignee": []}, 404, "task-001"),
        ("a1-t1/move", {"hubId": None}, 400, "activity-001"),
        ("a1-t1/move", {"hubId": "no id"}, 400, "activity-005"),
        ("nobody/move", {"hubId": "h1"}, 404, "task-001"),
    ],
)
async def test_what_cannot_be_assigned_or_moved(api: Api, path: str, body: Any, status: int, code: str) -> None:
    before = await _shown(api, "a1-t1")
    field_failure(await _sent(api, "PUT", path, body), status, code)
    assert await _shown(api, "a1-t1") == before


async def test_a_field_may_have_any_name_that_is_not_documented(api: Api) -> None:
    fields = {"overdue": "never", "late": [1], "progress": 5, "subStatus": "x", "currentStep": "y", "workflowId": "z"}
    created = (await api.post("/api/v3/task", {"flow": "Visit", **fields})).json()["task"]
    assert {name: created[name] for name in fields} == fields
    changed = await _changed(api, "PUT", created["_id"], {**created, "late": None})
    assert (changed["late"], changed["overdue"]) == (False, "never")
