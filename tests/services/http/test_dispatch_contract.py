"""What every endpoint of the dispatch dialect has in common, and that the documents say what the code does."""

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
from services.http.core.models import Request
from services.http.core.operation import Operation
from services.http.dispatch.configuration import NewTargetResolutionPolicy
from services.http.dispatch.errors import status_of
from services.http.dispatch.models import Cancellation, NewTask, TargetChoice
from services.http.dispatch.operations import OPERATIONS
from services.http.dispatch.results import NewResult, ShortResult
from services.keys import PERMISSIONS
from tests.services.http.api import Api
from tests.services.http.dispatch_scene import (
    BODY,
    DISPATCH_CONFIG,
    POLICY,
    PROVIDER,
    RESOLUTION,
    STRATEGY,
    TARGETING,
    failure,
    furnish,
    planned,
    unresolved,
)

DOCUMENT = Path(__file__).parents[3] / "docs" / "dispatch.md"
RESULT = {"activity_id": "a", "result": "COMPLETED"}
REPORT = {
    "activity_id": "a",
    "status": "COMPLETED",
    "occurred_at": "2025-01-16T14:30:00.000Z",
    "task_result": {"result": "success"},
}
A, CONFIG = "/api/activities", "MANAGE_ACTIVITY_CONFIG"


@dataclass(frozen=True)
class Case:
    """An endpoint with a request that succeeds in the scene, and the permission that it needs."""

    method: str
    path: str
    permission: str
    entity: str = ""
    body: Any = None
    status: int = 200

    def at(self, entity: str | None = None) -> str:
        """Return the path of an entity, by default of the one that is there."""
        path = self.path.replace("{id}", self.entity if entity is None else entity)
        return path.replace("{target_id}", "t1")


CASES = [
    Case("POST", f"{A}/tasks", "CREATE_ACTIVITY", body=BODY, status=201),
    Case("GET", A, "VIEW_ACTIVITIES"),
    Case("GET", f"{A}/{{id}}", "VIEW_ACTIVITIES", "a"),
    Case("GET", f"{A}/{{id}}/attributes", "VIEW_ACTIVITIES", "a"),
    Case("GET", f"{A}/{{id}}/target-users", "VIEW_ACTIVITIES", "lost"),
    Case("GET", f"{A}/{{id}}/status-events", "VIEW_ACTIVITIES", "lost"),
    Case("PATCH", f"{A}/{{id}}/cancel", "CANCEL_ACTIVITY", "a", {"reason": "closed"}),
    Case("PATCH", f"{A}/{{id}}/retry-resolution", "CREATE_ACTIVITY", "lost"),
    Case("PATCH", f"{A}/{{id}}/target-users/{{target_id}}/resolve", "CREATE_ACTIVITY", "lost", {"user_id": "u-owner"}),
    Case("POST", f"{A}/tasks/{{id}}/dispatch", "DISPATCH_ACTIVITY", "a", status=204),
    Case("POST", "/api/activity-results/tasks", "CREATE_ACTIVITY", body=RESULT, status=201),
    Case("POST", "/api/activity-results/tasks", "CREATE_ACTIVITY", body=REPORT, status=201),
    *(
        case
        for path, body, entity, change in (
            ("/api/attribute-policies", POLICY, "name", {"fallback": 7}),
            ("/api/target-resolution-policies", TARGETING, "default", {"fallbacks": []}),
            ("/api/dispatch-configurations", {**PROVIDER, "channel": "SMS"}, "SALESMAN", {"timeout_seconds": 3}),
        )
        for case in (
            Case("POST", path, CONFIG, body=body, status=201),
            Case("GET", path, "VIEW_ACTIVITIES"),
            Case("GET", f"{path}/{{id}}", "VIEW_ACTIVITIES", entity),
            Case("PATCH", f"{path}/{{id}}", CONFIG, entity, change),
            Case("DELETE", f"{path}/{{id}}", CONFIG, entity, status=204),
        )
    ),
    *(
        case
        for path, body, status in (
            ("/api/activity-config/attribute-policies", STRATEGY, 200),
            ("/api/activity-config/target-resolution", RESOLUTION, 201),
            ("/api/dispatch-configs", DISPATCH_CONFIG, 201),
        )
        for case in (Case("GET", path, "VIEW_ACTIVITIES"), Case("POST", path, CONFIG, body=body, status=status))
    ),
]


def _name(case: Any) -> str:
    return f"{case.method} {case.path}"


EVERY = pytest.mark.parametrize("case", CASES, ids=_name)
WRITES = [case for case in CASES if case.method != "GET"]
WITH_BODY = [case for case in CASES if case.body is not None]
WITH_ID = [case for case in CASES if case.entity]


def set_scene(api: Api) -> None:
    furnish(api)
    furnish(api, "other")
    fields: dict[str, Any] = {"strategy": "UPFRONT", "source": "commerce.name"}
    api.command("directory.register", {"kind": "attribute", "id": "name", "fields": fields})
    fields = {"criteria": [{"type": "ANY"}]}
    api.command("directory.register", {"kind": "targeting", "id": "default", "fields": fields})
    planned(api, "a", attribute_keys=["name"])
    unresolved(api, "lost")


async def _send(api: Api, case: Case, entity: str | None = None, query: str = "", **rest: Any) -> Any:
    headers = {**api.by(), **rest.pop("headers", {})}
    content = {"json": case.body} if case.body is not None and "content" not in rest else rest
    return await api.client.request(case.method, case.at(entity) + query, headers=headers, **content)


COMPONENTS = Components()
ABOUT = {(one.method, one.path): openapi.about(one, COMPONENTS) for one in OPERATIONS}


def about(case: Case) -> dict[str, Any]:
    """Return what the document says of an endpoint."""
    return ABOUT[case.method, case.path]


def validator(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """Return what holds values against a schema of the document."""
    whole = {**schema, "components": {"schemas": COMPONENTS.schemas}}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def documented(case: Case, response: Any) -> None:
    """Expect an answer to be as the document says."""
    said = about(case)["responses"][str(response.status_code)]
    if response.status_code == 204:
        assert (response.content, "content" in said) == (b"", False)
        return
    assert response.headers["content-type"] == "application/json"
    validator(said["content"]["application/json"]["schema"]).validate(response.json())


def test_every_endpoint_has_a_case() -> None:
    endpoints = {(one.method, one.path, one.permission) for one in OPERATIONS}
    assert {(case.method, case.path, case.permission) for case in CASES} == endpoints


@EVERY
async def test_it_succeeds_and_answers_as_it_is_documented(api: Api, case: Case) -> None:
    response = await _send(api, case, headers={"x-tenant-id": "acme"})
    assert response.status_code == case.status, response.text
    documented(case, response)
    if case.body is not None:
        validator(about(case)["requestBody"]["content"]["application/json"]["schema"]).validate(case.body)


@EVERY
async def test_who_asks_must_be_known_and_allowed(api: Api, case: Case) -> None:
    missing = await api.client.request(case.method, case.at(), json=case.body)
    failure(missing, 401)
    assert missing.headers["www-authenticate"].startswith("Bearer")
    failure(await _send(api, case, headers={"Authorization": "Bearer wrong"}), 401)
    narrow = {"read", "write", case.permission}
    refused = await _send(
        api,
        case,
        headers=api.by(api.key("acme", "system", *[name for name in PERMISSIONS if name not in narrow])),
    )
    assert case.permission in failure(refused, 403)
    for response in (missing, refused):
        documented(case, response)
    assert api.sender.sent == []
    allowed = await _send(api, case, headers=api.by(api.key("acme", "system", case.permission)))
    assert allowed.status_code == case.status


@EVERY
async def test_a_request_is_for_the_tokens_own_tenant(api: Api, case: Case) -> None:
    for tenant in ("other", "nobody", "", "ACME"):
        refused = await _send(api, case, headers={"x-tenant-id": tenant})
        assert failure(refused, 403).endswith("(x-tenant-id)")
        documented(case, refused)
    twice = [*api.by().items(), ("x-tenant-id", "other"), ("x-tenant-id", "acme")]
    failure(await api.client.request(case.method, case.at(), json=case.body, headers=twice), 403)
    assert api.sender.sent == []


@pytest.mark.parametrize("case", WITH_ID, ids=_name)
async def test_another_tenants_id_reads_like_one_that_nobody_has(api: Api, case: Case) -> None:
    headers = api.by(api.key("stranger"))
    theirs = await _send(api, case, headers=headers)
    failure(theirs, 404)
    documented(case, theirs)
    unknown = await _send(api, case, "nobody", headers=headers)
    assert unknown.text == re.sub(rf"\b{case.entity}\b", "nobody", theirs.text)
    for entity in ("no%20id", "x" * 65, "%C3%A4", "%ff", "%00"):
        failure(await _send(api, case, entity), 404)


async def test_a_result_for_another_tenants_activity(api: Api) -> None:
    token = api.key("other")
    answers = [
        await api.post("/api/activity-results/tasks", {**RESULT, "activity_id": name}, token) for name in ("a", "b")
    ]
    for answer in answers:
        failure(answer, 404)
    assert answers[0].text.replace("task a", "task b") == answers[1].text


async def test_lists_hold_nothing_of_another_tenant(api: Api) -> None:
    token = api.key("stranger")
    for case in CASES:
        if case.method == "GET" and not case.entity:
            page = (await api.get(case.path, token)).json()
            shown = page if isinstance(page, list) else [*page["data"], *range(page["meta"]["total"])]
            assert shown == [], case.path


@EVERY
async def test_a_parameter_or_header_that_is_wrong_is_refused(api: Api, case: Case) -> None:
    failure(await _send(api, case, query="?colour=red"), 400)
    if case.method != "GET":
        wrong = await _send(api, case, headers={"Idempotency-Key": "x" * 256})
        assert failure(wrong, 400).endswith("(Idempotency-Key)")
        assert api.sender.sent == []
        return
    failure(await _send(api, case, query="?min_position=x"), 400)
    failure(await _send(api, case, query="?min_position=999999"), 400)
    assert (await _send(api, case, query="?min_position=1")).status_code == 200


@pytest.mark.parametrize("case", WITH_BODY, ids=_name)
async def test_a_body_that_cannot_be_read_is_refused(api: Api, case: Case) -> None:
    as_json = {"Content-Type": "application/json"}
    for content, status in (
        (" ", 400),
        ("{", 400),
        ("[]", 400),
        ("null", 400),
        ('"text"', 400),
        ('{"a":1,"a":2}', 400),
        ('{"a":NaN}', 400),
        ('{"a":' * 40 + "1" + "}" * 40, 400),
        (b'{"a":"\xff"}', 400),
        ('{"a":1e999}', 400),
        ('{"a":' + "9" * 30 + "}", 400),
        ('{"a":"\\u0000"}', 400),
        ('{"\\ud800":1}', 400),
        ('{"a":"' + "x" * 70_000 + '"}', 413),
    ):
        response = await _send(api, case, content=content, headers=as_json)
        failure(response, status)
        documented(case, response)
    text = json.dumps(case.body)
    response = await _send(api, case, content=text, headers={"Content-Type": "text/plain"})
    failure(response, 415)
    documented(case, response)
    assert api.sender.sent == []


@pytest.mark.parametrize("case", WRITES, ids=_name)
async def test_a_broker_that_is_away_and_an_answer_that_is_late(api: Api, case: Case) -> None:
    api.sender.unreachable = True
    away = await _send(api, case)
    failure(away, 503)
    assert away.headers["retry-after"] == "1"
    api.sender.unreachable, api.sender.stopped = False, True
    late = await _send(api, case)
    assert late.status_code == 202, late.text
    assert late.headers["location"] == late.json()["receipt"]
    for response in (away, late):
        documented(case, response)


async def test_what_is_not_served(api: Api) -> None:
    for method, path, status in (
        ("GET", "/api/nothing", 404),
        ("DELETE", f"{A}/a", 405),
        ("PUT", "/api/attribute-policies/name", 405),
        ("GET", f"{A}/a/b/c", 404),
        ("POST", f"{A}/tasks/dispatch", 404),
        ("GET", f"{A}/", 404),
        ("GET", f"{A}/tasks", 404),
    ):
        response = await api.client.request(method, path, headers=api.by())
        assert response.status_code in (status, 405), path
        failure(response, response.status_code)


# The documents.


@pytest.mark.parametrize("operation", OPERATIONS, ids=_name)
def test_examples_are_as_the_schemas_say(operation: Operation) -> None:
    said = ABOUT[operation.method, operation.path]
    assert said["summary"]
    assert said["tags"] == ["dispatch"]
    shown = [response["content"] for response in said["responses"].values() if "content" in response]
    if "requestBody" in said:
        shown.append(said["requestBody"]["content"])
    for content in shown:
        (media,) = content.values()
        assert list(media["schema"]) == ["$ref"]
        given = [media["example"]] if "example" in media else [each["value"] for each in media["examples"].values()]
        for example in given:
            validator(media["schema"]).validate(example)
    wanted = {"400", "401", "403", "500", "503", *({"413", "415"} if "requestBody" in said else ())}
    wanted |= {"404"} if "{id}" in operation.path else set()
    wanted |= {"202", "409"} if operation.method != "GET" else set()
    assert wanted <= set(said["responses"])
    assert {"x-tenant-id"} <= {parameter["name"] for parameter in said["parameters"]}


def test_the_schemas_are_ones() -> None:
    for schema in COMPONENTS.schemas.values():
        jsonschema_rs.meta.validate(schema)


def test_the_document_names_every_endpoint_and_its_permission() -> None:
    rows = re.findall(r"^\| `([A-Z]+ [^`]+)` \| `([A-Z_]+)` \|", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    assert rows == [(f"{one.method} {one.path}", one.permission) for one in OPERATIONS]


def test_the_document_names_every_status_that_a_refusal_has() -> None:
    rows = re.findall(r"^\| ([0-9]{3}(?:, [0-9]{3})*) \|", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    named = {int(status) for row in rows for status in row.split(", ")}
    assert named == {status_of(ApiError(code, "")) for code in STATUS_OF_CODE}
    for code in ("not-ready", "not-unresolved", "target-locked", "terminal"):
        assert status_of(ApiError(code, "")) == 400
    for code in ("idempotency-conflict", "result-final", "taken", "activity-canceled"):
        assert status_of(ApiError(code, "")) == 409


@pytest.mark.parametrize(
    ("request_", "pointer", "told"),
    [
        (NewTask, "", ""),
        (NewTask, "/id", ""),
        (NewTask, "/title", "/reason"),
        (NewTask, "/commerce", "/commerce_id"),
        (NewTask, "/plan", ""),
        (NewTask, "/plan/criteria/0/type", "/target_criteria/0/type"),
        (NewTask, "/plan/suggested_at", "/suggested_execution_time"),
        (NewTask, "/plan/score", "/score"),
        (NewTask, "/attributes/0/key", "/attributes/0/key"),
        (ShortResult, "/id", ""),
        (ShortResult, "/data/a", "/data/a"),
        (NewResult, "/id", ""),
        (NewResult, "/data", "/task_result/payload"),
        (NewResult, "/data/a", "/task_result/payload/a"),
        (NewResult, "/comment", "/task_result/comment"),
        (NewResult, "/report/outcome", "/task_result/result"),
        (NewResult, "/report/follow_up_at", "/task_result/future_scheduled_at"),
        (NewResult, "/report/occurred_at", "/occurred_at"),
        (NewResult, "/report/raw/a", "/raw_payload/a"),
        (NewResult, "/commerce", "/commerce_external_id"),
        (Cancellation, "/reason", "/reason"),
        (TargetChoice, "/target", ""),
        (TargetChoice, "/user", "/user_id"),
        (NewTargetResolutionPolicy, "/fields/criteria/1", "/criteria/1"),
        (NewTargetResolutionPolicy, "/fields", ""),
        (NewTargetResolutionPolicy, "/id", ""),
    ],
)
def test_places_are_told_in_the_dialects_own_names(request_: type[Request], pointer: str, told: str) -> None:
    assert request_.pointer(pointer) == told
