"""Workflows in the field dialect: their rules, their versions, and what uses them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from services.http.core.app import OPERATIONS
from services.http.field.workflow_operations import RESERVED
from tests.services.http.api import Api, field_failure

LIST, ONE = "/api/v3/internal/workflows", "/api/v3/workflow"
STEP = {
    "name": "Pickup",
    "flow": "Pickup",
    "flowId": "f1",
    "assignee": ["ann@example.com"],
    "statusMapping": "Picked up",
    "fieldMapping": [],
    "roles": [],
    "whitelist": [],
    "blacklist": [],
}
NEXT = {**STEP, "name": "Delivery", "flowId": "f2", "assignee": [], "statusMapping": None}
BODY: dict[str, Any] = {
    "name": "Pickup to Delivery",
    "steps": [STEP, {**NEXT, "fieldMapping": [{"step": 0, "fromField": "parcel", "toField": "package"}]}],
    "gating": "sequential",
    "failure": "fail_fast",
}


async def call(api: Api, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    """Make a request of the system's."""
    return await api.client.request(method, path, json=body, headers={**api.by(), **headers})


async def defined(api: Api, **rest: Any) -> dict[str, Any]:
    """Define a workflow."""
    response = await api.post(LIST, {**BODY, **rest})
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()["workflow"]
    return found


def _steps(count: int) -> list[dict[str, Any]]:
    return [{"name": f"Step {number}"} for number in range(count)]


async def test_a_workflow_is_shown_as_it_was_sent(api: Api) -> None:
    response = await api.post(LIST, BODY)
    assert response.status_code == 201
    body = response.json()
    assert list(body) == ["status", "code", "message", "workflow"]
    workflow = body["workflow"]
    assert {name: workflow[name] for name in BODY} == BODY
    assert (workflow["version"], workflow["projectId"], workflow["organizationId"]) == (1, None, "acme")
    assert (workflow["createdBy"], workflow["createdTime"]) == ("system", "2025-10-31T01:50:00.000Z")
    assert (await api.get(f"{ONE}/{workflow['_id']}")).json()["workflow"] == workflow


@pytest.mark.parametrize(
    ("body", "status", "code", "place"),
    [
        ([], 400, "activity-001", ""),
        ({}, 400, "activity-001", "/name"),
        ({"name": "Two"}, 400, "activity-001", "/steps"),
        ({**BODY, "colour": "red"}, 400, "activity-001", "no colour"),
        ({**BODY, "version": 2}, 400, "activity-003", "/version"),
        ({**BODY, "_id": "w1"}, 400, "activity-003", "/_id"),
        ({**BODY, "name": 7}, 400, "activity-001", "/name"),
        ({**BODY, "name": "x"}, 400, "workflow-037", "/name"),
        ({**BODY, "name": "x" * 101}, 400, "workflow-037", "/name"),
        ({**BODY, "name": " padded "}, 400, "workflow-037", "/name"),
        ({**BODY, "steps": {}}, 400, "activity-001", "/steps"),
        ({**BODY, "steps": []}, 400, "workflow-037", "/steps"),
        ({**BODY, "steps": _steps(11)}, 400, "workflow-037", "/steps"),
        ({**BODY, "steps": ["Pickup"]}, 400, "activity-001", "/steps/0"),
        ({**BODY, "steps": [{}]}, 400, "activity-001", "/steps/0/name"),
        ({**BODY, "steps": [{"name": "A", "assignees": []}]}, 400, "activity-001", "no assignees (/steps/0)"),
        ({**BODY, "steps": [{**STEP, "statusMapping": {"DONE": 1}}]}, 400, "activity-001", "0/statusMapping/DONE"),
        ({**BODY, "steps": [STEP, {**NEXT, "flowId": "f1"}]}, 400, "workflow-037", "/steps/1/flowId"),
        ({**BODY, "steps": [{**STEP, "assignee": ["nobody"]}]}, 404, "member-001", "/steps/0/assignee/0"),
        ({**BODY, "steps": [{**STEP, "assignee": ["a b@c"]}]}, 400, "activity-005", "/steps/0/assignee/0"),
        (
            {**BODY, "steps": [STEP, {**NEXT, "fieldMapping": [{"step": 1, "fromField": "a", "toField": "b"}]}]},
            400,
            "workflow-037",
            "/steps/1/fieldMapping/0/step",
        ),
        (
            {**BODY, "steps": [STEP, {**NEXT, "fieldMapping": [{"step": 0, "fromField": "", "toField": "b"}]}]},
            400,
            "workflow-037",
            "/steps/1/fieldMapping/0/fromField",
        ),
        (
            {**BODY, "steps": [STEP, {**NEXT, "fieldMapping": [{"step": 0, "from_field": "a", "toField": "b"}]}]},
            400,
            "activity-001",
            "no from_field (/steps/1/fieldMapping/0)",
        ),
        ({**BODY, "steps": [{**STEP, "statusMapping": 7}]}, 400, "activity-001", "/steps/0/statusMapping"),
        ({**BODY, "customStatuses": [{"name": "Lost"}]}, 400, "workflow-037", "/customStatuses/0/name"),
        ({**BODY, "customStatuses": ["Done"]}, 400, "activity-001", "/customStatuses/0"),
        ({**BODY, "customStatuses": [{"isDefault": True}]}, 400, "activity-001", "/customStatuses/0/name"),
        ({**BODY, "customStatuses": [{"name": "Done", "isDefault": False}]}, 400, "workflow-037", "0/isDefault"),
        ({**BODY, "customStatuses": [{"name": "Picked up", "isDefault": True}]}, 400, "workflow-037", "0/isDefault"),
        ({**BODY, "gating": "sometimes"}, 400, "activity-001", "/gating"),
        ({**BODY, "failure": None}, 400, "activity-001", "/failure"),
        ({**BODY, "projectId": "nowhere"}, 404, "project-001", "/projectId"),
        ({**BODY, "name": "a\0"}, 422, "activity-008", "/name"),
    ],
)  # fmt: skip
async def test_a_workflow_that_cannot_be(api: Api, body: Any, status: int, code: str, place: str) -> None:
    message = field_failure(await api.post(LIST, body), status, code)
    assert place in message
    assert (await api.get(LIST)).json()["workflows"]["total"] == 0


async def test_a_name_is_unique_in_the_organization(api: Api) -> None:
    first = await defined(api)
    field_failure(await api.post(LIST, {**BODY, "name": "PICKUP to delivery"}), 409, "workflow-034")
    second = await defined(api, name="Second")
    field_failure(await call(api, "PUT", f"{ONE}/{second['_id']}", {"name": BODY["name"]}), 409, "workflow-034")
    assert (await api.post(LIST, BODY, api.key("other"))).status_code == 201
    assert (await call(api, "DELETE", f"{ONE}/{first['_id']}")).status_code == 200
    assert (await call(api, "PUT", f"{ONE}/{second['_id']}", {"name": BODY["name"]})).status_code == 200


async def test_ten_steps_are_the_most(api: Api) -> None:
    assert len((await defined(api, steps=_steps(10)))["steps"]) == 10


async def test_a_workflow_changes_but_for_its_number_of_steps(api: Api) -> None:
    workflow = await defined(api)
    at = f"{ONE}/{workflow['_id']}"
    response = await call(api, "PUT", at, {"name": "Door to Door", "gating": "none"})
    assert list(response.json()) == ["status", "message", "workflow"]
    changed = response.json()["workflow"]
    assert changed == {**workflow, "name": "Door to Door", "gating": "none", "version": 2}
    assert (await api.get(at)).json()["workflow"] == changed
    steps = [{**STEP, "assignee": ["bob@example.com"]}, {"name": "Delivery"}]
    third = (await call(api, "PUT", at, {"steps": steps})).json()["workflow"]
    assert (third["steps"][0]["assignee"], third["steps"][1]["flowId"], third["version"]) == (
        ["bob@example.com"],
        None,
        3,
    )
    assert (await call(api, "PUT", at, {})).json()["workflow"] == third
    for steps in (_steps(1), _steps(3)):
        field_failure(await call(api, "PUT", at, {"steps": steps}), 400, "workflow-036")
    assert "projectId" in field_failure(await call(api, "PUT", at, {"projectId": None}), 400, "workflow-036")
    for body, code in (
        ([], "activity-001"),
        ({"name": None}, "activity-001"),
        ({"steps": None}, "activity-001"),
        ({"createdBy": "x"}, "activity-003"),
        ({"name": "x"}, "workflow-037"),
    ):
        field_failure(await call(api, "PUT", at, body), 400, code)
    assert (await api.get(at)).json()["workflow"] == third


async def test_an_activity_keeps_the_steps_that_it_was_made_with(api: Api) -> None:
    workflow = await defined(api)
    body = {"workflowId": workflow["_id"], "tasks": [{}, {}]}
    before = (await api.post("/api/v3/activity", body)).json()["data"]
    await call(api, "PUT", f"{ONE}/{workflow['_id']}", {"steps": [{"name": "First"}, {"name": "Last"}]})
    after = (await api.post("/api/v3/activity", body)).json()["data"]
    titles = [
        [(await api.get(f"/api/v3/task/{task}")).json()["task"]["title"] for task in made["subId"]]
        for made in (before, after)
    ]
    assert titles == [["Pickup", "Delivery"], ["First", "Last"]]


async def test_what_is_used_stays_and_what_is_not_goes(api: Api) -> None:
    used, unused = await defined(api), await defined(api, name="Unused")
    await api.post("/api/v3/activity", {"workflowId": used["_id"], "tasks": [{}, {}]})
    field_failure(await call(api, "DELETE", f"{ONE}/{used['_id']}"), 409, "workflow-035")
    gone = await call(api, "DELETE", f"{ONE}/{unused['_id']}")
    assert list(gone.json()) == ["status", "message", "workflow"]
    assert gone.json()["workflow"] == unused
    at = f"{ONE}/{unused['_id']}"
    for method, body in (("GET", None), ("PUT", {"name": "Back"}), ("DELETE", None)):
        field_failure(await call(api, method, at, body), 404, "workflow-033")
    made = await api.post("/api/v3/activity", {"workflowId": unused["_id"], "tasks": [{}, {}]})
    field_failure(made, 404, "workflow-033")
    assert (await api.get(LIST)).json()["workflows"]["total"] == 1


async def test_pages_of_the_list(api: Api) -> None:
    for number in range(5):
        api.command("workflow.define", {"id": f"w{number}", "name": f"Name {number}", "steps": _steps(1)})
    pages = [(await api.get(f"{LIST}?limit=2&page={page}")).json()["workflows"] for page in (1, 2, 3, 4)]
    assert [[found["_id"] for found in page["data"]] for page in pages] == [["w0", "w1"], ["w2", "w3"], ["w4"], []]
    assert [(page["from"], page["to"], page["total"], page["last_page"]) for page in pages] == [
        (1, 2, 5, 3),
        (3, 4, 5, 3),
        (5, 5, 5, 3),
        (None, None, 5, 3),
    ]
    assert pages[0]["next_page_url"] == f"http://foldwork.test{LIST}?limit=2&page=2"
    assert pages[0]["data"][0] == (await api.get(f"{ONE}/w0")).json()["workflow"]
    assert (await api.get(f"{LIST}?page=1000000&limit=500")).json()["workflows"]["data"] == []
    for query in ("limit=0", "limit=1001", "page=0", "page=x", "name=x"):
        field_failure(await api.get(f"{LIST}?{query}"), 400, "request-005")


@pytest.mark.parametrize("late", [set(), {"directory"}])
async def test_a_late_view_changes_nothing_of_the_answers(api: Api, late: set[str]) -> None:
    earlier, other = await defined(api, name="Earlier"), await defined(api, name="Other")
    api.sender.late = late
    workflow = await defined(api)
    assert (workflow["steps"][0]["assignee"], workflow["version"]) == (["ann@example.com"], 1)
    at = f"{ONE}/{earlier['_id']}"
    changed = (await call(api, "PUT", at, {"name": "Later"})).json()["workflow"]
    assert (changed["name"], changed["version"]) == ("Later", 2)
    assert (await call(api, "DELETE", f"{ONE}/{other['_id']}")).json()["workflow"] == other


def test_the_ids_that_are_left_out_are_those_at_which_another_dialect_begins() -> None:
    parts = {one.path.removeprefix(f"{ONE}/").split("/")[0] for one in OPERATIONS if one.path.startswith(f"{ONE}/")}
    assert parts - {"{id}"} == RESERVED


async def test_another_dialect_lives_at_these_ids(api: Api) -> None:
    for number, name in enumerate(sorted(RESERVED)):
        api.command("workflow.define", {"id": name, "name": f"Name {number}", "steps": _steps(1)})
        for method, body in (("PUT", {"name": "Other"}), ("DELETE", None)):
            refused = await call(api, method, f"{ONE}/{name}", body)
            assert refused.status_code == 404
            # In the envelope of that dialect.
            assert refused.json()["errors"][0]["status"] == "404"
    assert (await api.get(LIST)).json()["workflows"]["total"] == len(RESERVED)


DEFAULTS = [{"name": name, "isDefault": True} for name in ("Unassigned", "Ongoing", "Done")]


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("Picked up", "Picked up"),
        ({"DONE": "Picked up"}, "Picked up"),
        ("", None),
        ({}, None),
        (None, None),
        ({"DONE": "Picked up", "ONGOING": "On its way"}, {"DONE": "Picked up", "ONGOING": "On its way"}),
        ({"ONGOING": "On its way"}, {"ONGOING": "On its way"}),
    ],
)
async def test_the_sub_status_of_a_step_is_a_text(api: Api, sent: Any, shown: Any) -> None:
    workflow = await defined(api, steps=[{"name": "Pickup", "statusMapping": sent, "assignee": "ann@example.com"}])
    (step,) = workflow["steps"]
    assert (step["statusMapping"], step["assignee"]) == (shown, ["ann@example.com"])
    changed = await call(api, "PUT", f"{ONE}/{workflow['_id']}", {"steps": workflow["steps"]})
    assert changed.json()["workflow"] == workflow
    label = [{"name": "Picked up", "isDefault": False}] if "Picked up" in str(shown) else []
    assert workflow["customStatuses"] == [*DEFAULTS, *label]


async def test_sub_statuses_are_sent_with_the_steps_that_have_them(api: Api) -> None:
    statuses = [*DEFAULTS, {"name": "Picked up", "isDefault": False}]
    workflow = await defined(api, customStatuses=statuses)
    assert workflow["customStatuses"] == statuses
    path, names = f"{ONE}/{workflow['_id']}", {"customStatuses": [{"name": "Done"}, {"name": "Picked up"}]}
    answer = await call(api, "PUT", path, {**names, "steps": workflow["steps"]})
    assert answer.json()["workflow"] == workflow
    assert "send the steps" in field_failure(await call(api, "PUT", path, names), 400, "workflow-037")
    assert (await call(api, "PUT", path, {"customStatuses": DEFAULTS})).status_code == 200
