"""The field dialect's tasks: created alone, changed, completed and deleted, and what a master makes of it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.services.http.api import Api, field_failure, with_activity, with_workflow

START, END = "2025-10-31T08:55:00.000+07:00", "2025-11-01T08:55:00.000+07:00"
PAST = "2025-10-30T08:55:00.000+07:00"
TASK: dict[str, Any] = {
    "flow": "Visit",
    "flowId": "f1",
    "assignee": ["ann@example.com"],
    "startTime": START,
    "endTime": END,
    "hubId": "h1",
    "parcel": {"kg": 2},
}
# What the service gives by itself.
OWN = ("hub", "assignedTo", "assignedBy", "assignedTime", "doneBy", "doneTime", "updatedBy")


async def put(api: Api, task: str, body: Any, token: str | None = None, **headers: str) -> httpx.Response:
    """Change a task."""
    return await api.client.put(f"/api/v3/task/{task}", json=body, headers={**api.by(token), **headers})


async def changed(api: Api, task: str, body: Any) -> dict[str, Any]:
    """Change a task, and expect the answer and what is read then to be the same."""
    response = await put(api, task, body)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert list(answer) == ["status", "message", "task"]
    assert answer["task"] == await shown(api, task)
    found: dict[str, Any] = answer["task"]
    return found


async def shown(api: Api, task: str) -> dict[str, Any]:
    """Read a task."""
    found: dict[str, Any] = (await api.get(f"/api/v3/task/{task}")).json()["task"]
    return found


async def delete(api: Api, task: str, token: str | None = None) -> httpx.Response:
    """Delete a task."""
    return await api.client.delete(f"/api/v3/task/{task}", headers=api.by(token))


def set_scene(api: Api) -> None:
    with_workflow(api)
    with_activity(api, fields={"reference": "R-1"})


def _commands(api: Api) -> list[str]:
    return [outgoing.name for outgoing in api.sender.sent]


async def test_a_task_that_stands_alone(api: Api) -> None:
    response = await api.post("/api/v3/task", TASK)
    assert response.status_code == 201
    body = response.json()
    assert list(body) == ["status", "message", "task"]
    assert (body["status"], body["message"]) == (True, "Task has been created")
    task = body["task"]
    assert {name: task[name] for name in TASK} == TASK
    assert (task["taskType"], task["parentId"], task["status"], task["title"]) == ("task", None, "ONGOING", "Visit")
    assert (task["late"], task["overdue"], task["organizationId"]) == (False, False, "acme")
    assert await shown(api, task["_id"]) == task
    nobody = (await api.post("/api/v3/task", {"flow": "Visit", "title": "Second"})).json()["task"]
    assert (nobody["status"], nobody["title"], nobody["assignee"]) == ("UNASSIGNED", "Second", [])


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ([], 400, "activity-001"),
        ({}, 400, "activity-001"),
        ({**TASK, "flow": ""}, 400, "activity-001"),
        ({**TASK, "flow": 7}, 400, "activity-001"),
        ({**TASK, "flowId": 7}, 400, "activity-001"),
        ({**TASK, "assignee": 7}, 400, "activity-001"),
        ({**TASK, "assignee": [7]}, 400, "activity-001"),
        ({**TASK, "assignee": "ann@example.com, nobody"}, 404, "member-001"),
        ({**TASK, "orderIndex": "10"}, 400, "activity-001"),
        ({**TASK, "orderIndex": True}, 400, "activity-001"),
        ({**TASK, "orderIndex": 2**53 + 1}, 400, "activity-005"),
        ({**TASK, "orderIndex": -1e300}, 400, "activity-005"),
        *(({**TASK, key: None if key == "hub" else "x"}, 400, "activity-003") for key in OWN),
        ({**TASK, "_id": "t9"}, 400, "activity-003"),
        ({**TASK, "status": "DONE"}, 400, "activity-003"),
        ({**TASK, "parentId": "a1"}, 400, "activity-003"),
        ({**TASK, "startTime": END, "endTime": START}, 400, "activity-004"),
        ({**TASK, "endTime": "2025-10-31"}, 400, "activity-005"),
        ({**TASK, "hubId": "no id"}, 400, "activity-005"),
        ({**TASK, "assignee": ["nobody"]}, 404, "member-001"),
        ({**TASK, "assignee": [f"a{number}@example.com" for number in range(51)]}, 400, "activity-005"),
        ({**TASK, "note": "\0"}, 422, "activity-008"),
        ({**TASK, "note": 2**70}, 422, "activity-008"),
    ],
)
async def test_a_task_that_cannot_be_created(api: Api, body: Any, status: int, code: str) -> None:
    field_failure(await api.post("/api/v3/task", body), status, code)


async def test_one_command_changes_all_that_is_asked_for(api: Api) -> None:
    task = await changed(
        api,
        "a1-t1",
        {
            "title": "Collect",
            "hubId": "h7",
            "startTime": START,
            "endTime": END,
            "assignee": ["bob@example.com"],
            "parcel": {"kg": 3},
            "note": None,
        },
    )
    assert _commands(api) == ["task.change"]
    assert (task["title"], task["hubId"], task["startTime"], task["endTime"]) == ("Collect", "h7", START, END)
    assert (task["assignee"], task["parcel"], task["status"]) == (["bob@example.com"], {"kg": 3}, "ONGOING")
    assert "note" not in task
    master = await shown(api, "a1")
    assert (master["assignee"], master["startTime"], master["endTime"]) == (["bob@example.com"], START, END)


async def test_what_is_left_out_stays_and_null_takes_a_field_away(api: Api) -> None:
    await changed(api, "a1-t1", {"colour": "red", "size": 0, "endTime": END})
    task = await changed(api, "a1-t1", {"colour": None})
    assert "colour" not in task
    assert (task["size"], task["endTime"], task["assignee"]) == (0, END, ["ann@example.com"])
    assert (await changed(api, "a1-t1", {"assignee": []}))["status"] == "UNASSIGNED"
    assert await changed(api, "a1-t1", {}) == await shown(api, "a1-t1")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ([], 400, "activity-001"),
        ({"title": 7}, 400, "activity-001"),
        ({"endTime": 7}, 400, "activity-001"),
        ({"hubId": 7}, 400, "activity-001"),
        ({"assignee": [None]}, 400, "activity-001"),
        ({"assignee": 7}, 400, "activity-001"),
        ({"orderIndex": []}, 400, "activity-001"),
        ({"orderIndex": 1e16}, 400, "activity-005"),
        *(({key: "x"}, 400, "activity-003") for key in OWN),
        ({"status": "UNASSIGNED"}, 400, "activity-003"),
        ({"status": None}, 400, "activity-003"),
        ({"status": ["DONE"]}, 400, "activity-003"),
        ({"parentId": "a2"}, 400, "activity-003"),
        ({"flow": "Other"}, 400, "activity-003"),
        ({"createdBy": "ann@example.com"}, 400, "activity-003"),
        ({"endTime": "soon"}, 400, "activity-005"),
        ({"startTime": END, "endTime": START}, 400, "activity-004"),
        ({"endTime": PAST}, 400, "activity-004"),
        ({"startTime": "2025-12-01T00:00:00Z"}, 400, "activity-004"),
        ({"assignee": ["nobody"]}, 404, "member-001"),
        ({"note": "\ud800"}, 422, "activity-008"),
    ],
)
async def test_a_change_that_cannot_be_made_changes_nothing(api: Api, body: Any, status: int, code: str) -> None:
    api.command("task.change", {"id": "a1-t1", "start": START, "end": END})
    before = await shown(api, "a1-t1")
    content = json.dumps(body)
    headers = {**api.by(), "Content-Type": "application/json"}
    response = await api.client.put("/api/v3/task/a1-t1", content=content, headers=headers)
    field_failure(response, status, code)
    assert await shown(api, "a1-t1") == before


async def test_null_takes_away_what_it_stands_for(api: Api) -> None:
    given = {
        "title": "T",
        "hubId": "h",
        "startTime": START,
        "endTime": END,
        "assignee": ["ann@example.com"],
        "note": "n",
    }
    task = await changed(api, "a1-t1", given)
    assert {name: task[name] for name in given} == given
    task = await changed(api, "a1-t1", dict.fromkeys(given))
    gone = {"title": None, "hubId": None, "startTime": None, "endTime": None, "assignee": []}
    assert {name: task[name] for name in gone} == gone
    assert "note" not in task
    master = await changed(api, "a1", {"hubId": "h", "note": "n"})
    assert (master["hubId"], master["note"], master["startTime"]) == ("h", "n", None)
    master = await changed(api, "a1", {"hubId": None, "note": None})
    assert (master["hubId"], "note" in master) == (None, False)
    response = await api.client.put("/api/v3/task/a1", json={"title": None}, headers=api.by())
    field_failure(response, 400, "activity-005")
    assert (await shown(api, "a1"))["title"] == master["title"]


async def test_a_task_is_completed_with_its_last_fields(api: Api) -> None:
    task = await changed(api, "a1-t1", {"status": "DONE", "signature": "JS"})
    assert (task["status"], task["signature"], task["late"]) == ("DONE", "JS", False)
    master = await shown(api, "a1")
    assert (master["status"], master["currentStep"], master["progress"]["percent"]) == ("ONGOING", 1, 50)
    # Whoever gets the task in the same request completes it.
    await changed(api, "a1-t2", {"status": "DONE", "assignee": ["ann@example.com"]})
    assert (await shown(api, "a1"))["status"] == "DONE"
    assert _commands(api) == ["task.change", "task.change"]
    field_failure(await put(api, "a1-t1", {"note": 1}), 409, "task-002")


async def test_what_nobody_has_is_completed_by_nobody_and_nothing_else_of_the_request_is_done(api: Api) -> None:
    field_failure(await put(api, "a1-t2", {"status": "DONE", "note": 1}), 403, "task-005")
    assert "note" not in await shown(api, "a1-t2")


async def test_only_an_assignee_completes(api: Api) -> None:
    for member in ("ann", "bob"):
        data = {"kind": "member", "id": member, "fields": {"email": f"{member}@acme.test"}}
        api.command("directory.register", data)
    api.command("task.create", {"id": "anns", "assignees": ["ann"]})
    ann, bob = (api.key("acme", member, "read", "write") for member in ("ann", "bob"))
    field_failure(await put(api, "anns", {"status": "DONE"}, bob), 403, "auth-002")
    assert (await put(api, "anns", {"status": "DONE"}, ann)).json()["task"]["status"] == "DONE"


@pytest.mark.parametrize("policy", [None, "flag", "allow", "reject"])
async def test_completing_late_is_up_to_the_organization(api: Api, policy: str | None) -> None:
    if policy is not None:
        fields = {"value": policy}
        api.command("directory.register", {"kind": "policy", "id": "late-completion", "fields": fields})
    api.command("task.create", {"id": "past", "assignees": ["ann@example.com"], "end": PAST})
    response = await put(api, "past", {"status": "DONE"})
    if policy == "reject":
        field_failure(response, 409, "task-003")
        assert (await shown(api, "past"))["status"] == "ONGOING"
    else:
        assert response.json()["task"]["status"] == "DONE"
        assert response.json()["task"]["late"] is (policy != "allow")


async def test_what_is_overdue_says_so(api: Api) -> None:
    api.command("task.change", {"id": "a1-t1", "end": PAST})
    assert (await shown(api, "a1-t1"))["overdue"] is False
    api.command("task.wake", {"id": "a1-t1", "kind": "overdue", "due": PAST})
    assert ((await shown(api, "a1-t1"))["overdue"], (await shown(api, "a1"))["overdue"]) == (True, True)
    assert (await changed(api, "a1-t1", {"endTime": END}))["overdue"] is False


async def test_steps_one_after_another(api: Api) -> None:
    with_workflow(api, id="w2", name="In order", gating="sequential")
    tasks = [{"assignee": ["ann@example.com"]}, {"assignee": ["bob@example.com"]}]
    body = {"workflowId": "w2", "tasks": tasks}
    first, second = (await api.post("/api/v3/activity", body)).json()["data"]["subId"]
    field_failure(await put(api, second, {"status": "DONE"}), 409, "task-004")
    await changed(api, first, {"status": "DONE"})
    assert (await changed(api, second, {"status": "DONE"}))["status"] == "DONE"


async def test_fields_go_on_to_later_steps_and_labels_to_the_master(api: Api) -> None:
    steps = [
        {"name": "Pickup", "statusMapping": {"DONE": "Picked up"}},
        {
            "name": "Delivery",
            "fieldMapping": [
                {"step": 0, "fromField": "parcel", "toField": "package"},
                {"step": 0, "fromField": "note", "toField": "remark"},
            ],
        },
    ]
    made = await api.post("/api/v3/internal/workflows", {"name": "Mapped", "steps": steps})
    body = {
        "workflowId": made.json()["workflow"]["_id"],
        "tasks": [{"assignee": ["ann@example.com"]}, {"remark": "own"}],
    }
    activity = (await api.post("/api/v3/activity", body)).json()["data"]
    assert "subStatus" not in activity
    first, second = activity["subId"]
    await changed(api, first, {"status": "DONE", "parcel": {"kg": 2}, "note": "fragile"})
    later = await shown(api, second)
    assert (later["package"], later["remark"]) == ({"kg": 2}, "own")
    assert (await shown(api, activity["_id"]))["subStatus"] == "Picked up"


async def test_a_master_changes_in_what_is_its_own(api: Api) -> None:
    master = await changed(api, "a1", {"title": "Order 7", "hubId": "h1", "reference": None, "colour": "red"})
    assert (master["title"], master["hubId"], master["colour"]) == ("Order 7", "h1", "red")
    assert "reference" not in master
    assert _commands(api) == ["activity.change"]


@pytest.mark.parametrize(
    "body",
    [{"status": "DONE"}, {"startTime": START}, {"endTime": END}, {"assignee": []}, {"subId": []}, {"tasks": []},
     {"workflowId": "w2"}, {"progress": {}}, {"subStatus": "x"}, {"_id": "a2"}, {"orderIndex": 1}, {"hub": {}},
     {"updatedBy": "x"}],
)  # fmt: skip
async def test_what_follows_from_the_tasks_cannot_be_set(api: Api, body: Any) -> None:
    field_failure(await put(api, "a1", body), 400, "activity-003")
    assert _commands(api) == []


async def test_hubs_are_checked_on_both(api: Api) -> None:
    api.command("directory.register", {"kind": "hub", "id": "h2", "fields": {}})
    for task in ("a1", "a1-t1"):
        assert "hubId" in field_failure(await put(api, task, {"hubId": "h1"}), 404, "hub-001")
        assert (await changed(api, task, {"hubId": "h2"}))["hubId"] == "h2"


async def test_deleting_cancels(api: Api) -> None:
    api.command("task.complete", {"id": "a1-t1"})
    field_failure(await delete(api, "a1-t2"), 409, "task-006")
    response = await delete(api, "a1")
    assert response.status_code == 200
    assert list(response.json()) == ["status", "message", "task"]
    master = response.json()["task"]
    assert (master["status"], master) == ("CANCELED", await shown(api, "a1"))
    assert [(await shown(api, task))["status"] for task in master["subId"]] == ["DONE", "CANCELED"]
    field_failure(await delete(api, "a1"), 409, "task-002")
    field_failure(await put(api, "a1", {"title": "x"}), 409, "task-002")

    api.command("task.create", {"id": "alone", "assignees": ["ann@example.com"]})
    task = (await delete(api, "alone")).json()["task"]
    assert (task["status"], task["assignee"]) == ("CANCELED", [])
    field_failure(await delete(api, "alone"), 409, "task-002")
    assert _commands(api) == ["activity.cancel", "activity.cancel", "activity.change", "task.cancel", "task.cancel"]


@pytest.mark.parametrize(
    "late", [set(), {"tasks"}, {"activities"}, {"directory"}, {"activities", "tasks", "directory"}]
)
async def test_a_late_view_changes_nothing_of_the_answers(api: Api, late: set[str]) -> None:
    api.sender.late = late
    task = (await api.post("/api/v3/task", {**TASK, "assignee": ["new@example.com"]})).json()["task"]
    assert task["assignee"] == ["new@example.com"]
    response = await put(api, "a1-t1", {"title": "Second", "assignee": ["last@example.com"], "status": "DONE"})
    answer = response.json()["task"]
    assert (answer["title"], answer["assignee"], answer["status"]) == ("Second", ["last@example.com"], "DONE")
    master = (await put(api, "a1", {"title": "Order 7"})).json()["task"]
    assert (master["title"], master["status"]) == ("Order 7", "ONGOING")
    assert (await delete(api, "a1")).json()["task"]["status"] == "CANCELED"


async def test_what_no_view_has_yet_is_changed_and_shown(api: Api) -> None:
    api.sender.late = {"tasks", "activities"}
    task = (await api.post("/api/v3/task", TASK)).json()["task"]
    response = await put(api, task["_id"], {"title": "Second"})
    assert response.json()["task"] == {**task, "title": "Second"}
    body = {"workflowId": "w1", "tasks": [{"assignee": ["ann@example.com"]}, {}]}
    master = (await api.post("/api/v3/activity", body)).json()["data"]
    await put(api, master["subId"][0], {"status": "DONE"})
    answer = (await put(api, master["_id"], {"title": "Order 7"})).json()["task"]
    assert (answer["title"], answer["progress"]["completed"]) == ("Order 7", 1)


async def test_an_id_names_an_activity_or_a_task_and_never_both(api: Api) -> None:
    for name, data in (
        ("task.create", {"id": "a1"}),
        ("activity.create", {"id": "a1-t1", "workflow_id": "w1", "tasks": [{}, {}]}),
        ("activity.create", {"workflow_id": "w1", "tasks": [{"id": "a1"}, {}]}),
    ):
        refused = (await api.post("/v1/commands", {"type": name, "data": data})).json()
        assert refused["code"] == "taken", name
    assert (await changed(api, "a1", {"note": 1}))["taskType"] == "activityMaster"
