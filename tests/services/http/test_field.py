"""The field dialect: creating, its failures, idempotency, and the list of tasks."""

from __future__ import annotations

import copy
from typing import Any

import psycopg
import pytest

from services.http.field.errors import FAILURES
from services.http.field.models import activity_status, task_status
from tests.services.http.api import Api, field_failure, with_activity, with_workflow

START, END = "2025-10-31T08:55:00.000+07:00", "2025-11-01T08:55:00.000+07:00"
BODY: dict[str, Any] = {
    "workflowId": "w1",
    "tasks": [{"assignee": ["ann@example.com"], "startTime": START, "endTime": END, "parcel": {"kg": 2}}, {}],
}


set_scene = with_workflow


def _with(**task: Any) -> dict[str, Any]:
    body = copy.deepcopy(BODY)
    body["tasks"][0] |= task
    return body


def _activities(api: Api) -> int:
    with psycopg.connect(api.url) as conn:
        row = conn.execute("SELECT count(*) FROM stored_events WHERE topic = 'activity.created'").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ([], 400, "activity-001"),
        ({}, 400, "activity-001"),
        ({"workflowId": "w1"}, 400, "activity-001"),
        ({"workflowId": 7, "tasks": []}, 400, "activity-001"),
        ({"workflowId": "w1", "tasks": {}}, 400, "activity-001"),
        ({"workflowId": "w1", "tasks": [[], {}]}, 400, "activity-001"),
        ({"workflowId": "w1", "tasks": []}, 400, "activity-002"),
        ({"workflowId": "w1", "tasks": [{}]}, 400, "activity-002"),
        ({"workflowId": "w1", "tasks": [{}, {}, {}]}, 400, "activity-002"),
        ({**BODY, "workflowId": "w2"}, 404, "workflow-033"),
        ({**BODY, "workflowId": "no id"}, 404, "workflow-033"),
        ({**BODY, "status": "DONE"}, 400, "activity-003"),
        (_with(status="DONE"), 400, "activity-003"),
        (_with(startTime=END, endTime=START), 400, "activity-004"),
        (_with(startTime="tomorrow"), 400, "activity-005"),
        (_with(startTime="2025-10-31 08:55"), 400, "activity-005"),
        (_with(assignee="nobody"), 404, "member-001"),
        (_with(assignee=["a b@c"]), 400, "activity-005"),
        (_with(assignee=["nobody"]), 404, "member-001"),
        (_with(hubId=7), 400, "activity-001"),
        (_with(note="a\0"), 422, "activity-008"),
    ],
)
async def test_a_request_that_cannot_be_met_writes_nothing(api: Api, body: Any, status: int, code: str) -> None:
    field_failure(await api.post("/api/v3/activity", body), status, code)
    assert _activities(api) == 0


async def test_default_people_who_are_gone_are_left_out_and_named(api: Api) -> None:
    person = {"kind": "member", "id": "ann", "fields": {"email": "ann@example.com"}}
    api.command("directory.register", person)
    step = {"name": "Pickup", "assignees": ["ann", "bob@example.com"]}
    api.command("workflow.define", {"id": "w2", "name": "Default people", "steps": [step]})
    api.command("directory.retire", {"kind": "member", "id": "ann"})
    body = {"workflowId": "w2", "tasks": [{}]}
    created = await api.post("/api/v3/activity", body)
    assert created.status_code == 201, created.text
    data = created.json()["data"]
    gone = [{"step": 0, "assignee": "ann@example.com", "reason": "was retired"}]
    assert (data["assignee"], data["leftOut"]) == (["bob@example.com"], gone)
    assert (await api.get(f"/api/v3/task/{data['_id']}")).json()["task"]["leftOut"] == gone
    native = [{"step": 0, "member": "ann", "reason": "was retired"}]
    for path in (f"/v1/activities/{data['_id']}", f"/v1/activities/{data['_id']}/explain"):
        assert (await api.get(path)).json()["left_out"] == native
    history = (await api.get(f"/v1/activities/{data['_id']}/history")).json()["data"]
    assert history[0]["data"]["left_out"] == native
    field_failure(await api.post("/api/v3/activity", {**body, "leftOut": []}), 400, "activity-003")


async def test_the_place_of_a_fault_is_told_in_the_dialects_own_names(api: Api) -> None:
    response = await api.post("/api/v3/activity", _with(startTime=END, endTime=START))
    assert field_failure(response, 400, "activity-004").endswith("(/tasks/0/endTime)")
    response = await api.post("/api/v3/activity", _with(assignee=["nobody"]))
    assert field_failure(response, 404, "member-001").endswith("(/tasks/0/assignee/0)")


async def test_a_foreign_workflow_reads_like_an_unknown_one(api: Api) -> None:
    with_workflow(api, "other", id="theirs")
    answers = [await api.post("/api/v3/activity", {**BODY, "workflowId": name}) for name in ("theirs", "nobody")]
    for answer in answers:
        field_failure(answer, 404, "workflow-033")
    assert answers[0].text.replace("theirs", "nobody") == answers[1].text


async def test_hubs_are_checked_once_a_tenant_has_some(api: Api) -> None:
    assert (await api.post("/api/v3/activity", {**BODY, "hubId": "h1"})).status_code == 201
    api.command("directory.register", {"kind": "hub", "id": "h2", "fields": {}})
    field_failure(await api.post("/api/v3/activity", {**BODY, "hubId": "h1"}), 404, "hub-001")
    created = (await api.post("/api/v3/activity", {**BODY, "hubId": "h2"})).json()["data"]
    assert created["hubId"] == "h2"
    children = [(await api.get(f"/api/v3/task/{child}")).json()["task"] for child in created["subId"]]
    assert [child["hubId"] for child in children] == ["h2", "h2"]


async def test_what_is_missing_stays_missing_and_what_is_not_known_is_a_field(api: Api) -> None:
    response = await api.post("/api/v3/activity", {"workflowId": "w1", "tasks": [{"a": 1}, {}], "reference": "R-1"})
    data = response.json()["data"]
    assert data["status"] == "UNASSIGNED"
    assert (data["startTime"], data["endTime"], data["assignee"], data["hubId"]) == (None, None, [], None)
    assert data["reference"] == "R-1"
    assert data["createdBy"] == "system"
    assert (await api.get(f"/api/v3/task/{data['subId'][0]}")).json()["task"]["a"] == 1


async def test_default_people_and_nobody_on_purpose(api: Api) -> None:
    api.command(
        "workflow.define",
        {"id": "w2", "name": "Two", "steps": [{"name": "A", "assignees": ["bob@example.com"]}, {"name": "B"}]},
    )
    absent = (await api.post("/api/v3/activity", {"workflowId": "w2", "tasks": [{}, {}]})).json()["data"]
    nobody = (await api.post("/api/v3/activity", {"workflowId": "w2", "tasks": [{"assignee": []}, {}]})).json()["data"]
    assert (absent["assignee"], nobody["assignee"]) == (["bob@example.com"], [])


async def test_a_member_without_an_email_is_shown_by_id(api: Api) -> None:
    api.command("directory.register", {"kind": "member", "id": "zoe", "fields": {}})
    response = await api.post("/api/v3/activity", _with(assignee=["zoe", "ann@example.com"]))
    assert response.json()["data"]["assignee"] == ["zoe", "ann@example.com"]


@pytest.mark.parametrize(
    "late", [set(), {"activities"}, {"tasks"}, {"directory"}, {"activities", "tasks", "directory"}]
)
async def test_a_late_view_changes_nothing_of_the_answer(api: Api, late: set[str]) -> None:
    api.sender.late = late
    data = (await api.post("/api/v3/activity", BODY)).json()["data"]
    assert data["assignee"] == ["ann@example.com"]
    assert (data["status"], data["startTime"], data["endTime"]) == ("ONGOING", START, END)
    assert len(data["subId"]) == 2


async def test_one_key_makes_one_activity_with_the_worker_stopped_in_between(api: Api) -> None:
    headers = {"Idempotency-Key": "order 7"}
    api.sender.stopped = True
    lost = [await api.post("/api/v3/activity", BODY, headers=headers) for _ in range(2)]
    for response in lost:
        assert response.status_code == 202
        body = response.json()
        assert list(body) == ["status", "code", "message", "data"]
        assert response.headers["location"] == body["data"]["receipt"]
    await api.sender.catch_up()
    created = await api.post("/api/v3/activity", BODY, headers=headers)
    assert created.status_code == 201
    assert _activities(api) == 1
    receipts = [(await api.get(response.headers["location"])).json() for response in lost]
    assert receipts[0]["events"] == receipts[1]["events"] != []


async def test_a_create_that_was_refused_gives_its_key_back(api: Api) -> None:
    headers = {"Idempotency-Key": "k"}
    body = {**BODY, "workflowId": "soon"}
    field_failure(await api.post("/api/v3/activity", body, headers=headers), 404, "workflow-033")
    api.command("workflow.define", {"id": "soon", "name": "Soon", "steps": [{"name": "A"}, {"name": "B"}]})
    assert (await api.post("/api/v3/activity", body, headers=headers)).status_code == 201


async def test_the_list_holds_masters_and_children(api: Api) -> None:
    for number in range(3):
        with_activity(api, f"a{number}", hub="h1" if number == 0 else None)
    api.command("task.create", {"id": "alone", "title": "Alone", "flow_id": "f1"})

    async def ids(query: str) -> list[str]:
        response = await api.get(f"/api/v3/tasks?{query}")
        assert response.status_code == 200, response.text
        return [task["_id"] for task in response.json()["tasks"]["data"]]

    assert len(await ids("")) == 10
    assert set(await ids("taskType=activityMaster")) == {"a0", "a1", "a2"}
    assert set(await ids("parentId=a1")) == {"a1-t1", "a1-t2"}
    assert await ids("parentId=a1&taskType=activityMaster") == []
    assert await ids("taskType=task") == ["alone"]
    assert await ids("flowId=f1") == ["alone"]
    assert set(await ids("hubId=h1")) == {"a0", "a0-t1", "a0-t2"}
    assert set(await ids("status=ONGOING")) == {"a0", "a1", "a2", "a0-t1", "a1-t1", "a2-t1"}
    assert set(await ids("status=UNASSIGNED")) == {"a0-t2", "a1-t2", "a2-t2", "alone"}
    api.command("task.complete", {"id": "a0-t1"})
    api.command("task.cancel", {"id": "alone"})
    assert await ids("status=DONE") == ["a0-t1"]
    assert await ids("status=CANCELED") == ["alone"]
    assert await ids("status=FAILED") == []
    rising = await ids("sortBy=title&sortOrder=asc")
    assert rising == (await ids("sortBy=title&sortOrder=desc"))[::-1]
    # An order that is empty is the default one.
    assert await ids("sortBy=&sortOrder=") == await ids("")
    assert rising[0] == "alone"


async def test_pages_of_the_list(api: Api) -> None:
    for number in range(3):
        with_activity(api, f"a{number}")
    pages = [(await api.get(f"/api/v3/tasks?limit=4&page={page}")).json()["tasks"] for page in (1, 2, 3, 4)]
    seen = [task["_id"] for page in pages for task in page["data"]]
    assert len(seen) == len(set(seen)) == 9
    assert [(page["current_page"], page["from"], page["to"]) for page in pages] == [
        (1, 1, 4),
        (2, 5, 8),
        (3, 9, 9),
        (4, None, None),
    ]
    assert (await api.get("/api/v3/tasks?page=1000000&limit=500")).json()["tasks"]["data"] == []
    assert {(page["last_page"], page["per_page"], page["total"]) for page in pages} == {(3, 4, 9)}
    assert pages[0]["next_page_url"] == "http://foldwork.test/api/v3/tasks?limit=4&page=2"
    assert pages[2]["next_page_url"] is None
    query = "taskType=activityMaster&limit=2&page=2&fields=title,status"
    masters = (await api.get(f"/api/v3/tasks?{query}")).json()["tasks"]
    assert masters["data"] == [{"_id": "a0", "title": "Pickup to Delivery", "status": "ONGOING"}]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "page=0", "status=ACTIVE", "taskType=x", "sortBy=_id", "sortOrder=up",
     "colour=1", "hubId=a&hubId=b", "hubId=%00"],
)  # fmt: skip
async def test_a_question_that_cannot_be_asked(api: Api, query: str) -> None:
    field_failure(await api.get(f"/api/v3/tasks?{query}"), 400, "request-005")


@pytest.mark.parametrize(
    ("status", "assignees", "dispatch", "shown"),
    [
        ("canceled", ["m"], "DISPATCHED", "CANCELED"),
        ("failed", ["m"], "NONE", "FAILED"),
        ("completed", [], "NONE", "DONE"),
        ("paused", [], "NONE", "ONGOING"),
        ("active", [], "NONE", "ONGOING"),
        ("open", [], "DISPATCHED", "ONGOING"),
        ("open", ["m"], "NONE", "ONGOING"),
        ("open", [], "REQUESTED", "UNASSIGNED"),
        ("open", [], "NONE", "UNASSIGNED"),
    ],
)
def test_a_status_is_a_function_of_the_facts(status: str, assignees: list[str], dispatch: str, shown: str) -> None:
    assert task_status({"status": status, "assignees": assignees, "dispatch": dispatch}) == shown


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ("open", "UNASSIGNED"),
        ("active", "ONGOING"),
        ("paused", "ONGOING"),
        ("completed", "DONE"),
        ("failed", "FAILED"),
        ("canceled", "CANCELED"),
    ],
)
def test_a_masters_status_is_a_function_of_the_roll_up(status: str, shown: str) -> None:
    assert activity_status({"status": status}) == shown


def test_every_status_of_the_page_has_a_code() -> None:
    assert {400, 401, 403, 404, 409, 413, 422, 429} <= {failure.status for failure in FAILURES.values()}
