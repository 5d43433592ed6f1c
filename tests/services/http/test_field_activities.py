"""Activities, workflows and flows under the paths that the original has for them beside tasks."""

from __future__ import annotations

from typing import Any

import pytest

from tests.services.http.api import Api, field_failure, with_activity, with_workflow

ACTIVITIES = "/api/v3/activities"
SEARCH = "/api/v3/internal/workflows/search"


async def test_activities_are_listed_in_the_originals_shape(api: Api) -> None:
    with_workflow(api)
    for own in ("a1", "a2", "a3"):
        with_activity(api, own)
    api.command("activity.cancel", {"id": "a2"})
    body = (await api.get(ACTIVITIES, params={"pageSize": 2})).json()
    assert (list(body), body["code"], list(body["data"])) == (
        ["status", "code", "data"],
        200,
        ["activities", "total", "currentPage", "lastPage", "perPage"],
    )
    data = body["data"]
    assert [each["_id"] for each in data.pop("activities")] == ["a3", "a2"]
    assert data == {"total": 3, "currentPage": 1, "lastPage": 2, "perPage": 2}
    workflow = (await api.get("/api/v3/task/a1")).json()["task"]["workflowId"]
    for path, query, wanted in (
        (ACTIVITIES, {"page": 2, "pageSize": 2}, ["a1"]),
        (ACTIVITIES, {"sort": "createdTime", "order": "asc"}, ["a1", "a2", "a3"]),
        (ACTIVITIES, {"status": "CANCELED"}, ["a2"]),
        (ACTIVITIES, {"workflowId": workflow, "status": "CANCELED"}, ["a2"]),
        (ACTIVITIES, {"workflowId": "other"}, []),
        (ACTIVITIES, {"hubId": "nowhere"}, []),
        (f"{ACTIVITIES}/workflow/{workflow}", {"sort": "createdTime"}, ["a3", "a2", "a1"]),
    ):
        found = (await api.get(path, params=query)).json()["data"]["activities"]
        assert [each["_id"] for each in found] == wanted, query
    (row,) = (await api.get(ACTIVITIES, params={"fields": "status", "status": "CANCELED"})).json()["data"]["activities"]
    assert row == {"_id": "a2", "status": "CANCELED", "organizationId": "acme"}
    assert field_failure(await api.get(f"{ACTIVITIES}/workflow/other"), 404, "workflow-033") == "Workflow not found"
    assert (await api.get(ACTIVITIES, api.key("other"))).json()["data"]["total"] == 0
    for query in ({"pageSize": 0}, {"sort": "colour"}, {"order": "up"}, {"limit": 5}):
        assert field_failure(await api.get(ACTIVITIES, params=query), 400, "request-005")


async def test_one_activity_is_read_and_deleted(api: Api) -> None:
    with_workflow(api)
    with_activity(api)
    body = (await api.get("/api/v3/activity/a1")).json()
    assert (list(body), body["data"]) == (
        ["status", "code", "data"],
        (await api.get("/api/v3/task/a1")).json()["task"],
    )
    few = (await api.get("/api/v3/activity/a1?fields=status,subId")).json()["data"]
    assert sorted(few) == ["_id", "organizationId", "status", "subId"]
    child = few["subId"][0]
    for own in (child, "nobody", "no id"):
        for answer in (await api.get(f"/api/v3/activity/{own}"), await _delete(api, own)):
            assert field_failure(answer, 404, "activity-033").startswith("Activity not found")
    answer = await _delete(api, "a1")
    assert answer.json() == {"status": True, "code": 200, "message": "Activity deleted successfully"}
    assert (await api.get(f"/api/v3/task/{child}")).json()["task"]["status"] == "CANCELED"


async def _delete(api: Api, own: str) -> Any:
    return await api.client.delete(f"/api/v3/activity/{own}", headers=api.by())


async def test_workflows_are_searched(api: Api) -> None:
    api.command("directory.register", {"kind": "member", "id": "bea", "fields": {"email": "bea@example.com"}})
    for own, name, count in (("w1", "Pickup to delivery", 2), ("w2", "PICKUP alone", 1), ("w3", "Survey", 3)):
        steps = [{"name": f"Step {number}"} for number in range(count)]
        api.command("workflow.define", {"id": own, "name": name, "steps": steps})
    body = (await api.get(SEARCH, params={"q": "pickup", "stepsCountMax": 5})).json()
    assert [each["_id"] for each in body.pop("data")] == ["w2", "w1"]
    assert body == {
        "status": True,
        "code": 200,
        "message": "Search results retrieved successfully",
        "pagination": {"current_page": 1, "per_page": 10, "total": 2, "last_page": 1},
        "search": {"query": "pickup", "filters": {"stepsCountMax": 5}},
    }
    for query, wanted in (
        ({}, ["w2", "w1", "w3"]),
        ({"stepsCountMin": 2, "stepsCountMax": 2}, ["w1"]),
        ({"createdBy": "bea@example.com"}, []),
        ({"createdBy": "system"}, ["w2", "w1", "w3"]),
        ({"limit": 1, "page": 3}, ["w3"]),
        ({"q": "%"}, []),
    ):
        found = (await api.get(SEARCH, params=query)).json()  # type: ignore[arg-type]
        assert [each["_id"] for each in found["data"]] == wanted, query
    for query in ({"stepsCountMin": 0}, {"limit": 101}, {"q": "\0"}, {"createdBy": "no one"}, {"name": "x"}):
        assert field_failure(await api.get(SEARCH, params=query), 400, "request-005")  # type: ignore[arg-type]


async def test_the_fields_that_a_step_may_be_filled_from(api: Api) -> None:
    mapping = [{"step": 0, "from_field": "parcel", "to_field": "package"}]
    steps = [{"name": "Pickup", "flow": "Pickup", "flow_id": "f1"}, {"name": "Delivery", "field_mapping": mapping}]
    api.command("workflow.define", {"id": "w1", "name": "Door to door", "steps": steps})
    at = "/api/v3/workflow/w1/steps/{}/field-mapping-data"
    body = (await api.get(at.format(1))).json()
    assert (body["code"], body["message"]) == (200, "Field mapping data retrieved successfully")
    data = body["data"]
    assert [part["id"] for part in data["currentStep"]["fields"]] == ["package"]
    (before,) = data["previousSteps"]
    assert (before["stepOrder"], before["flowId"], before["flowName"]) == (0, "f1", "Pickup")
    assert [part["id"] for part in before["fields"]] == ["parcel"]
    assert data["existingMappings"] == [
        {"sourceField": "parcel", "sourceStep": 0, "targetField": "package", "sourceType": "step"}
    ]
    assert (await api.get(at.format(0))).json()["data"]["previousSteps"] == []
    for order in (2, "one", "-1", "01", "%C2%B2"):
        assert field_failure(await api.get(at.format(order)), 404, "workflow-033") == "Step not found"
    assert field_failure(await api.get(at.replace("w1", "w9").format(0)), 404, "workflow-033")


async def test_how_a_task_of_a_flow_is_created(api: Api) -> None:
    mapping = [{"step": 0, "from_field": "parcel", "to_field": "package"}]
    steps = [{"name": "Pickup", "flow": "Pickup"}, {"name": "Delivery", "flow": "Delivery", "field_mapping": mapping}]
    api.command("workflow.define", {"id": "w1", "name": "Door to door", "steps": steps})
    body = (await api.get("/api/v3/flow/Delivery/task")).json()
    assert (body["message"], body["data"]["flowName"]) == ("Success.", "Delivery")
    fields = {each["field"]: each for each in body["data"]["flowFields"]}
    assert list(fields) == ["flow", "startTime", "endTime", "assignee", "package"]
    assert [name for name, each in fields.items() if each["required"]] == ["flow"]
    made = await api.post("/api/v3/task", body["data"]["bodyRequest"])
    assert (made.status_code, made.json()["task"]["package"]) == (201, "package")
    assert field_failure(await api.get("/api/v3/flow/nothing/task"), 404, "flow-001") == "Data not found"


HUB = {"name": "Dukuh Atas", "address": "Jalan Setia Budi", "lat": "-6.205870636762187", "lng": "106.82562818235002"}


async def test_hubs_are_registered_changed_and_retired(api: Api) -> None:
    made = await api.post("/api/v3/hub", {**HUB, "colour": "red"})
    assert made.status_code == 200
    hub = made.json()["data"]
    assert (list(made.json()), hub["lat"], hub["lng"]) == (["status", "data"], -6.205870636762187, 106.82562818235002)
    at = f"/api/v3/hub/{hub['_id']}"
    assert (await api.get(at)).json()["data"] == hub
    # A document that was read is taken back.
    changed = await api.client.put(at, json={**hub, "name": "Bogor", "colour": None}, headers=api.by())
    assert (list(changed.json()), changed.json()["message"]) == (["status", "property", "message"], "Success")
    assert (changed.json()["property"]["name"], "colour" in changed.json()["property"]) == ("Bogor", False)
    task = (await api.post("/api/v3/task", {"flow": "Visit", "hubId": hub["_id"]})).json()["task"]
    gone = await api.client.delete(at, headers=api.by())
    assert (gone.status_code, gone.json()) == (200, {"status": True})
    for answer in (
        await api.get(at),
        await api.client.put(at, json=HUB, headers=api.by()),
        await api.client.delete(at, headers=api.by()),
    ):
        assert field_failure(answer, 404, "hub-001") == "Data not found"
    assert (await api.get(f"/api/v3/task/{task['_id']}")).json()["task"]["hubId"] == hub["_id"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": None},
        {"name": ""},
        {**HUB, "lat": "north"},
        {**HUB, "lat": 91},
        {**HUB, "lng": True},
        {**HUB, "lng": "1e999"},
        {**HUB, "_id": "h9"},
        {**HUB, "address": 7},
        {**HUB, "name": "x" * 201},
    ],
)
async def test_a_hub_that_is_none_is_refused(api: Api, body: dict[str, Any]) -> None:
    answer = await api.post("/api/v3/hub", body)
    assert answer.status_code == 400
    assert (await api.get("/api/v3/hubs")).json()["data"] == []


async def test_only_those_may_register_a_hub_who_may_in_the_directory(api: Api) -> None:
    api.command("directory.register", {"kind": "member", "id": "bea", "fields": {"email": "bea@example.com"}})
    token = api.key("acme", "bea")
    assert field_failure(await api.post("/api/v3/hub", HUB, token), 403, "auth-002")
    changed = await api.client.patch("/api/v3/user/bea", json={"name": "Bea"}, headers=api.by(token))
    assert field_failure(changed, 403, "auth-002")


async def test_users_are_read_by_e_mail_and_changed(api: Api) -> None:
    fields = {"email": "bea@example.com", "name": "Bea", "actor_roles": ["driver"]}
    api.command("directory.register", {"kind": "member", "id": "bea", "fields": fields})
    user = (await api.get("/api/v3/user/email/BEA@example.com")).json()["user"]
    assert user == (await api.get("/api/v3/user/bea")).json()["user"]
    for other in ("cy@example.com", "bea", "account:1", "%00", "a b"):
        assert field_failure(await api.get(f"/api/v3/user/email/{other}"), 404, "member-001") == "Data not found"

    async def change(method: str, body: Any, own: str = "bea") -> Any:
        return await api.client.request(method, f"/api/v3/user/{own}", json=body, headers=api.by())

    answer = await change("PUT", {**user, "name": "Beatrix", "phoneNumber": "+62812", "hubId": ["h1"]})
    body = answer.json()
    assert (body["message"], body["statusCode"]) == ("Data has been updated successfully.", 200)
    assert {name: body["data"][name] for name in ("name", "phoneNumber", "hubId", "email")} == {
        "name": "Beatrix",
        "phoneNumber": "+62812",
        "hubId": ["h1"],
        "email": "bea@example.com",
    }
    assert (await change("PATCH", {"email": "b@example.com"})).json()["data"]["email"] == "b@example.com"
    assert field_failure(await change("PUT", {"email": "b@example.com"}), 400, "activity-001")
    for wrong in ({"status": "inactive"}, {"account_id": 9}, {"actor_roles": []}, {"projects": {}}):
        assert field_failure(await change("PATCH", wrong), 400, "activity-003")
    assert field_failure(await change("PATCH", {"name": "X"}, "nobody"), 404, "member-001") == "Data not found"
    assert field_failure(await api.get("/api/v3/user/email/bea@example.com"), 404, "member-001")


async def test_a_document_of_a_hub_that_nobody_has_registered(api: Api) -> None:
    hub = (await api.post("/api/v3/hub", {"name": "North"})).json()["data"]
    response = await api.client.put("/api/v3/hub/nobody", json={**hub, "name": "South"}, headers=api.by())
    assert field_failure(response, 404, "hub-001") == "Data not found"
