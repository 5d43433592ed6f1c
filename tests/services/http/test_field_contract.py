"""What every endpoint of the field dialect has in common, and that the documents say what the code does."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from services.http.core import openapi
from services.http.core.components import Components
from services.http.core.errors import STATUS_OF_CODE, ApiError
from services.http.core.operation import Operation
from services.http.field.errors import FAILURES, failed_code
from services.http.field.operations import OPERATIONS
from tests.services.http.api import Api, field_failure, with_activity, with_workflow

DOCUMENT = Path(__file__).parents[3] / "docs" / "field.md"
DAY = {"startTime": "2025-10-31T08:55:00.000+07:00", "endTime": "2025-11-01T08:55:00.000+07:00"}


@dataclass(frozen=True)
class Case:
    """An endpoint with a request that succeeds in the scene, and what another tenant's id is refused with."""

    method: str
    path: str
    entity: str = ""
    body: Any = None
    status: int = 200
    unknown: str = "task-001"
    actor: str = "system"

    def at(self, entity: str | None = None) -> str:
        """Return the path of an entity, by default of the one that is there."""
        return self.path.replace("{id}", self.entity if entity is None else entity)


CASES = [
    Case("POST", "/api/v3/activity", body={"workflowId": "w1", "tasks": [{}, {}]}, status=201),
    Case("POST", "/api/v3/task", body={"flow": "Visit", **DAY}, status=201),
    Case("POST", "/api/v3/tasks/bulk", body={"tasks": [{"refId": "r", "flow": "Visit"}]}, status=201),
    Case("GET", "/api/v3/tasks"),
    Case("GET", "/api/v3/task/{id}", "a1"),
    Case("GET", "/api/v3/task/{id}", "a1-t1"),
    Case("PUT", "/api/v3/task/{id}", "a1-t1", {"status": "DONE"}),
    Case("PUT", "/api/v3/task/{id}", "a1", {"title": "Order 7"}),
    Case("PATCH", "/api/v3/task/{id}", "a1-t1", {"field1": "Jack Ward"}),
    Case("PATCH", "/api/v3/task/{id}", "a1", {"title": "Order 7"}),
    Case("PUT", "/api/v3/task/{id}/assign", "a1-t1", {"assignee": ["leandro@mile.app"]}),
    Case("PUT", "/api/v3/task/{id}/move", "a1-t1", {"hubId": "h7"}),
    Case("DELETE", "/api/v3/task/{id}", "a1"),
    Case("DELETE", "/api/v3/task/{id}", "alone"),
    Case("GET", "/api/v3/internal/workflows"),
    Case("POST", "/api/v3/internal/workflows", body={"name": "Visit", "steps": [{"name": "Arrive"}]}, status=201),
    Case("GET", "/api/v3/workflow/{id}", "w1", unknown="workflow-033"),
    Case("PUT", "/api/v3/workflow/{id}", "w1", {"name": "Door to Door"}, unknown="workflow-033"),
    Case("DELETE", "/api/v3/workflow/{id}", "w2", unknown="workflow-033"),
    Case("GET", "/api/v3/flows"),
    Case("GET", "/api/v3/flow/{id}", "f1", unknown="flow-001"),
    Case("GET", "/api/v3/flow/{id}/fields", "f1", unknown="flow-001"),
    Case("GET", "/api/v3/hubs"),
    Case("GET", "/api/v3/hub/{id}", "h7", unknown="hub-001"),
    Case("GET", "/api/v3/users"),
    Case("GET", "/api/v3/user/{id}", "bob", unknown="member-001"),
    Case("GET", "/api/v3/user", actor="bob"),
]
EVERY = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.method} {case.at()}")
WRITES = [case for case in CASES if case.body is not None]
WITH_ID = [case for case in CASES if case.entity]


def set_scene(api: Api) -> None:
    with_workflow(api)
    steps = [{"name": "Pickup", "flow": "Pickup", "flow_id": "f1"}, {"name": "Delivery"}]
    with_workflow(api, id="w2", name="Unused", steps=steps)
    api.command("directory.register", {"kind": "hub", "id": "h7", "fields": {"name": "Neo Soho"}})
    api.command("directory.register", {"kind": "member", "id": "bob", "fields": {"email": "bob@example.com"}})
    with_activity(api)
    api.command("task.create", {"id": "alone"})


async def _send(api: Api, case: Case, entity: str | None = None, query: str = "", **rest: Any) -> Any:
    own = None if case.actor == "system" else api.key("acme", case.actor)
    headers = {**api.by(own), **rest.pop("headers", {})}
    content = {"json": case.body} if case.body is not None and "content" not in rest else rest
    return await api.client.request(case.method, case.at(entity) + query, headers=headers, **content)


COMPONENTS = Components()
ABOUT = {(one.method, one.path): openapi.about(one, COMPONENTS) for one in OPERATIONS}


def test_every_endpoint_has_a_case() -> None:
    assert {(case.method, case.path) for case in CASES} == {(one.method, one.path) for one in OPERATIONS}


@EVERY
async def test_it_succeeds_and_answers_as_it_is_documented(api: Api, case: Case) -> None:
    response = await _send(api, case)
    assert response.status_code == case.status, response.text
    assert response.headers["content-type"] == "application/json"
    _validate(_operation(case)["responses"][str(case.status)], response.json())
    if case.body is not None:
        _validate(_operation(case)["requestBody"], case.body)


@EVERY
async def test_no_answer_in_time_is_documented(api: Api, case: Case) -> None:
    api.sender.stopped = True
    response = await _send(api, case)
    if case.method == "GET":
        assert response.status_code == 200
    else:
        assert response.status_code == 202
        _validate(_operation(case)["responses"]["202"], response.json())


@EVERY
async def test_who_asks_must_be_known_and_allowed(api: Api, case: Case) -> None:
    missing = await api.client.request(case.method, case.at(), json=case.body)
    field_failure(missing, 401, "auth-001")
    field_failure(await _send(api, case, headers={"Authorization": "Bearer wrong"}), 401, "auth-001")
    token = api.key("acme", "system", "write" if case.method == "GET" else "read")
    refused = await _send(api, case, headers=api.by(token))
    assert ("read" if case.method == "GET" else "write") in field_failure(refused, 403, "auth-002")
    for response in (missing, refused):
        _validate(_operation(case)["responses"][str(response.status_code)], response.json())


@pytest.mark.parametrize("case", WITH_ID, ids=lambda case: f"{case.method} {case.at()}")
async def test_another_tenants_id_reads_like_one_that_nobody_has(api: Api, case: Case) -> None:
    headers = api.by(api.key("other"))
    theirs = await _send(api, case, headers=headers)
    field_failure(theirs, 404, case.unknown)
    unknown = await _send(api, case, "nobody", headers=headers)
    assert unknown.text == theirs.text.replace(case.entity, "nobody")
    for entity in ("%00", "no%20id", "x" * 65, "%C3%A4"):
        field_failure(await _send(api, case, entity), 404, case.unknown)


async def test_lists_hold_nothing_of_another_tenant(api: Api) -> None:
    token = api.key("other")
    for path, name in (("tasks", "tasks"), ("internal/workflows", "workflows"), ("tasks?parentId=a1", "tasks")):
        page = (await api.get(f"/api/v3/{path}", token)).json()[name]
        assert (page["total"], page["data"]) == (0, []), path


@EVERY
async def test_a_parameter_that_nobody_knows_is_refused(api: Api, case: Case) -> None:
    field_failure(await _send(api, case, query="?colour=red"), 400, "request-005")
    bad = await _send(api, case, headers={"Idempotency-Key": "x" * 256})
    if case.method == "GET":
        assert bad.status_code == 200
        field_failure(await _send(api, case, query="?min_position=x"), 400, "request-005")
        field_failure(await _send(api, case, query="?min_position=999999"), 400, "request-005")
        assert (await _send(api, case, query="?min_position=1")).status_code == 200
        api.sender.late = {"activities", "tasks", "directory"}
        position = api.command("task.create", {}).position
        field_failure(await _send(api, case, query=f"?min_position={position}"), 503, "server-002")
    else:
        field_failure(bad, 400, "request-005")


@pytest.mark.parametrize("case", WRITES, ids=lambda case: f"{case.method} {case.at()}")
async def test_a_body_that_cannot_be_read_is_refused(api: Api, case: Case) -> None:
    as_json = {"Content-Type": "application/json"}
    for content, status, code in (
        ("", 400, "activity-001"),
        ("{", 400, "activity-001"),
        ("[]", 400, "activity-001"),
        ("null", 400, "activity-001"),
        ('"text"', 400, "activity-001"),
        ('{"a":1,"a":2}', 400, "activity-001"),
        ('{"a":NaN}', 400, "activity-001"),
        ('{"a":' * 40 + "1" + "}" * 40, 400, "activity-001"),
        (b'{"a":"\xff"}', 400, "activity-001"),
        ('{"a":1e999}', 422, "activity-008"),
        ('{"a":' + "9" * 30 + "}", 422, "activity-008"),
        ('{"a":"\\u0000"}', 422, "activity-008"),
        ('{"\\ud800":1}', 422, "activity-008"),
        ('{"a":"' + "x" * 70_000 + '"}', 413, "request-003"),
    ):
        response = await _send(api, case, content=content, headers=as_json)
        field_failure(response, status, code)
        _validate(_operation(case)["responses"][str(status)], response.json())
    text = json.dumps(case.body)
    field_failure(await _send(api, case, content=text, headers={"Content-Type": "text/plain"}), 415, "request-004")
    assert api.sender.sent == []


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.method != "GET"], ids=lambda case: f"{case.method} {case.at()}"
)
async def test_a_broker_that_is_away_is_said(api: Api, case: Case) -> None:
    api.sender.unreachable = True
    response = await _send(api, case)
    field_failure(response, 503, "server-002")
    _validate(_operation(case)["responses"]["503"], response.json())


def _operation(case: Case) -> dict[str, Any]:
    return ABOUT[case.method, case.path]


def _validate(documented: dict[str, Any], body: Any) -> None:
    (media,) = documented["content"].values()
    assert list(media["schema"]) == ["$ref"]
    # In one document with what it refers to, so that references are found.
    schema = {**media["schema"], "components": {"schemas": COMPONENTS.schemas}}
    jsonschema_rs.Draft202012Validator(schema, validate_formats=True).validate(body)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: f"{one.method} {one.path}")
def test_examples_are_as_the_schemas_say(operation: Operation) -> None:
    about = ABOUT[operation.method, operation.path]
    assert about["summary"]
    bodies = [about["requestBody"]] if operation.method in ("POST", "PUT", "PATCH") else []
    assert ("requestBody" in about) is bool(bodies)
    for documented in (*about["responses"].values(), *bodies):
        (media,) = documented["content"].values()
        _validate(documented, media["example"])
    wanted = {"401", "403", "429", "500", "503", *({"413", "415", "422"} if bodies else ())}
    assert wanted <= set(about["responses"])


@pytest.mark.parametrize("name", sorted(COMPONENTS.schemas))
def test_every_schema_is_one(name: str) -> None:
    jsonschema_rs.meta.validate(COMPONENTS.schemas[name])


def test_the_document_names_every_endpoint_and_every_failed_code_as_the_code_does() -> None:
    text = DOCUMENT.read_text("utf-8")
    for operation in OPERATIONS:
        assert f"`{operation.method} {operation.path}`" in text
    rows = re.findall(r"^\| `([a-z]+-[0-9]{3})` \| ([0-9]{3}) \| (.+) \|$", text, re.MULTILINE)
    assert rows == [(code, str(failure.status), failure.meaning) for code, failure in FAILURES.items()]


def test_the_document_says_of_each_of_the_originals_endpoints_whether_it_is_served() -> None:
    text = DOCUMENT.read_text("utf-8")
    rows = re.findall(r"^\| `([A-Z]+) (/[^`]*)` \| (works|differs|no) \|", text, re.MULTILINE)
    served = {(one.method, re.sub(r"\{\w+\}", "{id}", one.path.removeprefix("/api/v3"))) for one in OPERATIONS}
    found = {(method, path.rstrip("/")): word for method, path, word in rows}
    assert {endpoint for endpoint, word in found.items() if word != "no"} == served
    words = [word for _, _, word in rows]
    said = re.search(r"Of (\d+) endpoints, (\d+) work, (\d+) work differently and (\d+) are not there", text)
    assert said is not None
    assert [*map(int, said.groups())] == [len(words), *map(words.count, ("works", "differs", "no"))]


def test_every_refusal_has_a_failed_code_of_the_right_kind() -> None:
    for code, status in STATUS_OF_CODE.items():
        found = FAILURES[failed_code(ApiError(code, "detail"))]
        # In this dialect shapes are 400, and a process with too many requests says so.
        kind = {"overloaded": 4}.get(code, status // 100)
        assert found.status // 100 == kind, code
