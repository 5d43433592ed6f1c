"""The workflow page's own schemas, word for word, as checks: every endpoint, what it takes, and what it answers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from tests.services.http.house import House, opened

ENDPOINTS = """
- get /api/v3/workflow/activities
- patch /api/v3/workflow/activities/:id
- patch /api/v3/workflow/activities/:id/assign
- post /api/v3/workflow/activities/:id/cancel
- patch /api/v3/workflow/activities/:id/complete
- post /api/v3/workflow/activities/:id/error
- patch /api/v3/workflow/activities/:id/process
- patch /api/v3/workflow/activities/:id/reassign
- patch /api/v3/workflow/activities/:id/unassign
- get /api/v3/workflow/activities/:resource_id
"""
LIST_INPUT = """
type InputSchema = {
page?: {
// The page number, default to 1
number?: number;
// The number of items per page, default to 1000
size?: number;
};
// The sort order, comma separated list of fields. See sorting section for more details
sort?: string;
// Set to true to return the total number of items in the collection
count?: boolean;
filter?: {
id?: any;
assigned_account_id?: any;
name?: any;
status?: any;
started_at?: any;
completed_at?: any;
try_resolve_at?: any;
actor_roles?: any;
whitelisted_ids?: any;
blacklisted_ids?: any;
working_seconds?: any;
live_seconds?: any;
pipeline_seconds?: any;
project_id?: any;
data?: any;
output?: any;
indicators?: any;
created_at?: any;
work_unit_id?: any;
name?: any;
work_unit_id?: any;
name__in?: any;
actor_roles__contains?: any;
assigned_account_id__in?: any;
status__in?: any;
completed_at__gte?: any;
completed_at__lte?: any;
id__in?: any;
};
// The related resources to include in the response. Allowed resources are:
// - `project`
// - `work_unit`
// - `node`
included?: Array<string>;
// The fields to include in the response.
// The key is the resource type and the value is an array of fields.
fields?: { [key: string]: Array<any> };
};
"""
LIST_OUTPUT = """
type OutputSchema = {
data: Array<{
type: string;
id?: string;
attributes?: {
id?: string;
assigned_account_id?: number;
name?: string;
status?: string;
started_at?: Date;
completed_at?: Date;
try_resolve_at?: Date;
actor_roles?: Array<any>;
whitelisted_ids?: Array<any>;
blacklisted_ids?: Array<any>;
working_seconds?: number;
live_seconds?: number;
pipeline_seconds?: number;
data?: Record<string, any>;
output?: Record<string, any>;
indicators?: Record<string, any>;
created_at?: Date;
};
relationships?: Record<string, any>;
}>;
included?: Array<Record<string, any>>;
};
"""
GET_INPUT = """
type InputSchema = {
resource_id: string;
included?: Array<string>;
fields?: { [key: string]: Array<any> };
};
"""
GET_OUTPUT = """
type OutputSchema = {
data: {
type: string;
id?: string;
attributes?: {
id?: string;
assigned_account_id?: number;
name?: string;
status?: string;
started_at?: Date;
completed_at?: Date;
try_resolve_at?: Date;
actor_roles?: Array<any>;
whitelisted_ids?: Array<any>;
blacklisted_ids?: Array<any>;
working_seconds?: number;
live_seconds?: number;
pipeline_seconds?: number;
data?: Record<string, any>;
output?: Record<string, any>;
indicators?: Record<string, any>;
created_at?: Date;
};
relationships?: Record<string, any>;
};
included?: Array<Record<string, any>>;
};
"""
INPUTS = {
    "patch :id": """
type InputSchema = {
id: string;
// The data to save the activity with. Related to activity type.
data: Record<string, any>;
};
""",
    "patch :id/assign": """
type InputSchema = {
id: string;
// The account id to assign the activity to. Must be a member of the project
account_id?: number;
// Whether to start working on the activity
start_working: boolean;
// Whether this is self-assigning. Default is false.
self_assigning?: boolean;
};
""",
    "post :id/cancel": "type InputSchema = { id: string };",
    "patch :id/complete": """
type InputSchema = {
id: string;
// The data to complete the activity with. Related to activity type.
data: Record<string, any>;
};
""",
    "post :id/error": "type InputSchema = { id: string; data?: { comment: string } };",
    "patch :id/process": "type InputSchema = { id: string };",
    "patch :id/reassign": "type InputSchema = { id: string; account_id: number };",
    "patch :id/unassign": "type InputSchema = { id: string };",
}


@dataclass
class Shape:
    """A type of the page: what it is, its members, and of those the ones that must be there."""

    kind: str
    members: dict[str, Shape] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    items: Shape | None = None


def parsed(text: str) -> Shape:
    """Read a type in the page's own words."""
    plain = re.sub(r"//[^\n]*", "", text).strip().removesuffix(";")
    tokens = re.findall(r"\w+|[{}<>\[\]?:;,]", plain.partition("=")[2])
    shape = _type(tokens)
    assert not tokens
    return shape


def _type(tokens: list[str]) -> Shape:
    first = tokens.pop(0)
    if first == "Array":
        _expect(tokens, "<")
        items = _type(tokens)
        _expect(tokens, ">")
        return Shape("array", items=items)
    if first == "Record":
        _expect(tokens, "<", "string", ",", "any", ">")
        return Shape("record")
    if first != "{":
        return Shape(first)
    shape = Shape("object")
    while tokens[0] != "}":
        name = tokens.pop(0)
        if name == "[":
            _expect(tokens, "key", ":", "string", "]", ":")
            _type(tokens)
            shape.kind = "record"
            continue
        if tokens[0] == "?":
            tokens.pop(0)
        else:
            shape.required.add(name)
        _expect(tokens, ":")
        shape.members[name] = _type(tokens)
        if tokens[0] == ";":
            tokens.pop(0)
    _expect(tokens, "}")
    return shape


def _expect(tokens: list[str], *wanted: str) -> None:
    assert tuple(tokens[: len(wanted)]) == wanted
    del tokens[: len(wanted)]


def conforms(value: Any, shape: Shape, place: str = "") -> None:
    """Demand that a value is of a type; what is optional may be null, as JSON has no `undefined`."""
    fits = {
        "string": lambda: isinstance(value, str),
        "number": lambda: isinstance(value, (int, float)) and not isinstance(value, bool),
        "boolean": lambda: isinstance(value, bool),
        "Date": lambda: isinstance(value, str) and value.endswith("Z") and bool(datetime.fromisoformat(value)),
        "record": lambda: isinstance(value, dict),
        "object": lambda: isinstance(value, dict),
        "array": lambda: isinstance(value, list),
        "any": lambda: True,
    }
    assert fits[shape.kind](), f"{place} is {value!r}, not {shape.kind}"
    if shape.kind == "array":
        assert shape.items is not None
        for index, item in enumerate(value):
            conforms(item, shape.items, f"{place}/{index}")
    for name, member in shape.members.items():
        if value.get(name) is None and name not in shape.required:
            continue
        conforms(value[name], member, f"{place}/{name}")


_BASE = "/api/v3/workflow/activities"


@pytest.fixture
async def house(migrated_url: str) -> AsyncIterator[House]:
    """Activities in every state, with and without all that may be there."""
    async with opened(migrated_url) as running:
        running.command("directory.register", {"kind": "project", "id": "p", "fields": {"name": "North"}})
        for number, member in ((42, "ann"), (43, "bob")):
            fields = {"account_id": number, "actor_roles": ["driver"], "projects": {"p": {"is_manager": True}}}
            running.command("directory.register", {"kind": "member", "id": member, "fields": fields})
        steps = [{"name": "Pickup", "flow": "survey", "roles": ["driver"]}, {"name": "Delivery"}]
        workflow = {"id": "w", "name": "Pickup to Delivery", "steps": steps, "project": "p"}
        running.command("workflow.define", workflow)
        tasks = [{"id": "one", "assignees": ["ann"], "fields": {"customer": "Doe"}}, {"id": "two"}]
        running.command("activity.create", {"id": "unit", "workflow_id": "w", "tasks": tasks})
        running.command("task.process", {"id": "one"})
        rest = {"whitelist": ["ann"], "blacklist": ["bob"], "roles": ["driver"], "project": "p"}
        running.command("task.create", {"id": "done", "title": "Done", "assignees": ["ann"], **rest})
        running.command("task.complete", {"id": "done", "data": {"signed": True}})
        yield running


async def _send(house: House, method: str, path: str, body: Any = None) -> Any:
    return await house.client.request(method, f"{_BASE}{path}", headers=house.by(), json=body)


def test_every_endpoint_of_the_page_is_there(house: House) -> None:
    served = {(method.lower(), path) for path, each in house.app.openapi()["paths"].items() for method in each}
    listed = re.findall(r"- (\w+) (\S+)", ENDPOINTS)
    assert len(listed) == 10
    for method, path in listed:
        assert (method, re.sub(r":(resource_)?id", "{id}", path)) in served


def _attributes(shape: Shape) -> list[str]:
    data = shape.members["data"]
    return list((data.items or data).members["attributes"].members)


async def test_the_list_answers_as_its_schema_says_in_the_order_of_the_page(house: House) -> None:
    shape = parsed(LIST_OUTPUT)
    body = (await _send(house, "get", "?included=project,work_unit,node&sort=id")).json()
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


async def test_one_answers_as_its_schema_says(house: House) -> None:
    shape = parsed(GET_OUTPUT)
    assert _attributes(shape) == _attributes(parsed(LIST_OUTPUT))
    listed = {found["id"]: found for found in (await _send(house, "get", "")).json()["data"]}
    for entity, resource in listed.items():
        body = (await _send(house, "get", f"/{entity}?included[]=project&included[]=node")).json()
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


async def test_every_parameter_of_the_list_is_taken(house: House) -> None:
    shape = parsed(LIST_INPUT)
    assert list(shape.members) == ["page", "sort", "count", "filter", "included", "fields"]
    assert set(shape.members["filter"].members) >= set(VALUES)
    for name in shape.members["filter"].members:
        value = VALUES[name.partition("__")[0]]
        response = await house.get(_BASE, params={f"filter[{name}]": value})
        assert response.status_code == 200, response.text
        assert response.json()["data"], name
    for parameter, value in {"page[number]": "1", "page[size]": "2", "sort": "-name,id", "count": "true"}.items():
        assert (await house.get(_BASE, params={parameter: value})).status_code == 200
    body = (await house.get(_BASE, params={"page[size]": "2", "count": "true"})).json()
    assert (len(body["data"]), body["meta"]["count"]) == (2, 3)
    sparse = (await house.get(_BASE, params={"fields[workflow/activities]": "status,name"})).json()
    assert [list(found["attributes"]) for found in sparse["data"]] == [["name", "status"]] * 3


def _example(name: str, shape: Shape) -> Any:
    if shape.kind == "object":
        return {key: _example(key, member) for key, member in shape.members.items()}
    return {"record": {"any": [1, None]}, "number": 43, "boolean": False, "string": "nobody at home"}[shape.kind]


WRONG: dict[str, Any] = {"record": [], "number": "43", "boolean": "yes", "string": 7, "object": "x"}


@pytest.mark.parametrize("endpoint", INPUTS)
async def test_every_body_of_the_page_is_taken_and_what_its_schema_forbids_is_not(house: House, endpoint: str) -> None:
    method, _, path = endpoint.partition(" ")
    shape = parsed(INPUTS[endpoint])
    if endpoint == "patch :id/assign":
        house.command("task.unassign", {"id": "one"})
    if endpoint == "patch :id/process":
        house.command("task.pause", {"id": "one"})
    place = path.replace(":id", "/one", 1)
    whole = {**_example("", shape), "id": "one"}
    for name, member in shape.members.items():
        wrong = {**whole, name: "two" if name == "id" else WRONG[member.kind]}
        refused = [wrong] if name not in shape.required - {"id"} else [wrong, whole | {}]
        if len(refused) > 1:
            del refused[1][name]
        for body in refused:
            response = await _send(house, method, place, body)
            assert response.status_code == 422, (body, response.text)
            (error,) = response.json()["errors"]
            assert list(error) == ["status", "title", "detail", "source"]
            assert error["source"]["pointer"].startswith(f"/{name}")
    response = await _send(house, method, place, whole)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/vnd.api+json"
    conforms(response.json(), parsed(GET_OUTPUT))
    assert response.json() == (await _send(house, "get", "/one")).json()
