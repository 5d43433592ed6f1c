"""The workflow page's own schemas as checks: every endpoint, what it takes, and what it answers."""

from __future__ import annotations

import re
from typing import Any

import pytest

from services.http.core.app import document
from tests.contracts.workflow_page import (
    ENDPOINTS,
    GET_OUTPUT,
    INPUTS,
    LIST_INPUT,
    LIST_OUTPUT,
    Shape,
    conforms,
    parsed,
)
from tests.services.http.api import Api

_BASE = "/api/v3/workflow/activities"


def set_scene(api: Api) -> None:
    """Activities in every state, with and without all that may be there."""
    api.command("directory.register", {"kind": "project", "id": "p", "fields": {"name": "North"}})
    for number, member in ((42, "ann"), (43, "bob")):
        fields = {"account_id": number, "actor_roles": ["driver"], "projects": {"p": {"is_manager": True}}}
        api.command("directory.register", {"kind": "member", "id": member, "fields": fields})
    steps = [{"name": "Pickup", "flow": "survey", "roles": ["driver"]}, {"name": "Delivery"}]
    workflow = {"id": "w", "name": "Pickup to Delivery", "steps": steps, "project": "p"}
    api.command("workflow.define", workflow)
    tasks = [{"id": "one", "assignees": ["ann"], "fields": {"customer": "Doe"}}, {"id": "two"}]
    api.command("activity.create", {"id": "unit", "workflow_id": "w", "tasks": tasks})
    api.command("task.process", {"id": "one"})
    rest = {"whitelist": ["ann"], "blacklist": ["bob"], "roles": ["driver"], "project": "p"}
    api.command("task.create", {"id": "done", "title": "Done", "assignees": ["ann"], **rest})
    api.command("task.complete", {"id": "done", "data": {"signed": True}})


async def _send(api: Api, method: str, path: str, body: Any = None) -> Any:
    return await api.client.request(method, f"{_BASE}{path}", headers=api.by(), json=body)


def test_every_endpoint_of_the_page_is_there(api: Api) -> None:
    served = {(method.lower(), path) for path, each in document()["paths"].items() for method in each}
    listed = re.findall(r"- (\w+) (\S+)", ENDPOINTS)
    assert len(listed) == 10
    for method, path in listed:
        assert (method, re.sub(r":(resource_)?id", "{id}", path)) in served


def _attributes(shape: Shape) -> list[str]:
    data = shape.members["data"]
    return list((data.items or data).members["attributes"].members)


async def test_the_list_answers_as_its_schema_says_in_the_order_of_the_page(api: Api) -> None:
    shape = parsed(LIST_OUTPUT)
    body = (await _send(api, "get", "?included=project,work_unit,node&sort=id")).json()
    conforms(body, shape)
    assert [resource["id"] for resource in body["data"]] == ["done", "one", "two"]
    assert {found["type"] for found in body["included"]} == {
        "workflow/projects",
        "workflow/work_units",
        "workflow/nodes",
    }
    for resource in body["data"]:
        assert list(resource) == ["type", "id", "attributes", "relationships"]
        assert resource["type"] == "workflow/activities"
        assert list(resource["attributes"]) == _attributes(shape)
        assert list(resource["relationships"]) == ["project", "work_unit", "node"]
        for related in resource["relationships"].values():
            assert list(related) == ["data"]
            assert related["data"] is None or list(related["data"]) == ["type", "id"]
    # Whatever the page types is there at least once, so that nothing is checked by its being null alone.
    for name in _attributes(shape):
        if name != "try_resolve_at":
            assert any(resource["attributes"][name] is not None for resource in body["data"]), name


async def test_one_answers_as_its_schema_says(api: Api) -> None:
    shape = parsed(GET_OUTPUT)
    assert _attributes(shape) == _attributes(parsed(LIST_OUTPUT))
    listed = {found["id"]: found for found in (await _send(api, "get", "")).json()["data"]}
    for entity, resource in listed.items():
        body = (await _send(api, "get", f"/{entity}?included[]=project&included[]=node")).json()
        conforms(body, shape)
        assert body["data"] == resource
        assert list(body) == ["data", "included"]


VALUES: dict[str, str] = {
    "id": "one",
    "assigned_account_id": "42",
    "name": "Done",
    "status": "completed",
    "started_at": "2025-10-31T01:50:00Z",
    "completed_at": "2025-10-31T01:50:00Z",
    "try_resolve_at": "",
    "actor_roles": "driver",
    "whitelisted_ids": "42",
    "blacklisted_ids": "43",
    "working_seconds": "0",
    "live_seconds": "0",
    "pipeline_seconds": "0",
    "project_id": "p",
    "data": '{"customer":"Doe"}',
    "output": '{"signed":true}',
    "indicators": '{"overdue":false,"late":false,"unresolved":false,"dispatched":false}',
    "created_at": "2025-10-31T01:50:00Z",
    "work_unit_id": "unit",
}


async def test_every_parameter_of_the_list_is_taken(api: Api) -> None:
    shape = parsed(LIST_INPUT)
    assert list(shape.members) == ["page", "sort", "count", "filter", "included", "fields"]
    assert set(shape.members["filter"].members) >= set(VALUES)
    for name in shape.members["filter"].members:
        value = VALUES[name.partition("__")[0]]
        response = await api.get(_BASE, params={f"filter[{name}]": value})
        assert response.status_code == 200, response.text
        assert response.json()["data"], name
    for parameter, value in {"page[number]": "1", "page[size]": "2", "sort": "-name,id", "count": "true"}.items():
        assert (await api.get(_BASE, params={parameter: value})).status_code == 200
    body = (await api.get(_BASE, params={"page[size]": "2", "count": "true"})).json()
    assert (len(body["data"]), body["meta"]["count"]) == (2, 3)
    sparse = (await api.get(_BASE, params={"fields[workflow/activities]": "status,name"})).json()
    assert [list(found["attributes"]) for found in sparse["data"]] == [["name", "status"]] * 3


def _example(name: str, shape: Shape) -> Any:
    if shape.kind == "object":
        return {key: _example(key, member) for key, member in shape.members.items()}
    return {"record": {"any": [1, None]}, "number": 43, "boolean": False, "string": "nobody at home"}[shape.kind]


WRONG: dict[str, Any] = {"record": [], "number": "forty", "boolean": "yes", "string": 7, "object": "x"}


@pytest.mark.parametrize("endpoint", INPUTS)
async def test_every_body_of_the_page_is_taken_and_what_its_schema_forbids_is_not(api: Api, endpoint: str) -> None:
    method, _, path = endpoint.partition(" ")
    shape = parsed(INPUTS[endpoint])
    if endpoint == "patch :id/assign":
        api.command("task.unassign", {"id": "one"})
    if endpoint == "patch :id/process":
        api.command("task.pause", {"id": "one"})
    place = path.replace(":id", "/one", 1)
    whole = {**_example("", shape), "id": "one"}
    for name, member in shape.members.items():
        wrong = {**whole, name: "two" if name == "id" else WRONG[member.kind]}
        refused = [wrong] if name not in shape.required - {"id"} else [wrong, whole | {}]
        if len(refused) > 1:
            del refused[1][name]
        for body in refused:
            response = await _send(api, method, place, body)
            assert response.status_code == 422, (body, response.text)
            (error,) = response.json()["errors"]
            assert list(error) == ["status", "title", "detail", "source"]
            assert error["source"]["pointer"].startswith(f"/{name}")
    response = await _send(api, method, place, whole)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/vnd.api+json"
    conforms(response.json(), parsed(GET_OUTPUT))
    assert response.json() == (await _send(api, "get", "/one")).json()
