"""What the dispatch dialect adds to the contract of all dialects, and that its page says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.http.core.errors import STATUS_OF_CODE, ApiError
from services.http.core.models import Request
from services.http.dispatch.configuration import NewTargetResolutionPolicy
from services.http.dispatch.dialect import SPOKEN
from services.http.dispatch.errors import status_of
from services.http.dispatch.models import Cancellation, NewTask, TargetChoice
from services.http.dispatch.operations import OPERATIONS
from services.http.dispatch.results import NewResult, ShortResult
from tests.services.http.api import Api
from tests.services.http.contract import CASES, Case, documented, name_of, send
from tests.services.http.dispatch_scene import failure, furnish, planned

DOCUMENT = Path(__file__).parents[3] / "docs" / "dispatch.md"


# The scene of the contract is set in a loop of the module's own.
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", [case for case in CASES if case.operation.dialect is SPOKEN], ids=name_of)
async def test_a_request_is_for_the_tokens_own_tenant(scene_api: Api, case: Case) -> None:
    own = scene_api.by()
    for tenant in ("other", "nobody", "", "ACME"):
        refused = await send(scene_api, case, headers={"x-tenant-id": tenant})
        assert failure(refused, 403).endswith("(x-tenant-id)")
        documented(case, refused)
    twice = [*own.items(), ("x-tenant-id", "other"), ("x-tenant-id", "acme")]
    failure(await scene_api.client.request(case.operation.method, case.at(), headers=twice), 400)
    assert scene_api.sender.sent == []
    scene_api.sender.stopped = True
    assert (await send(scene_api, case, headers={"x-tenant-id": "acme"})).status_code < 300


async def test_a_result_for_another_tenants_activity(api: Api) -> None:
    furnish(api)
    planned(api, "a")
    token = api.key("other")
    body = {"result": "COMPLETED"}
    answers = [
        await api.post("/api/activity-results/tasks", {**body, "activity_id": name}, token) for name in ("a", "b")
    ]
    for answer in answers:
        failure(answer, 404)
    assert answers[0].text.replace("task a", "task b") == answers[1].text


def test_the_document_names_every_endpoint_and_its_permission() -> None:
    rows = re.findall(r"^\| `([A-Z]+ [^`]+)` \| `([A-Z_]+)` \|", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    assert rows == [(f"{one.method} {one.path}", one.permission) for one in OPERATIONS]


def test_the_document_says_of_each_of_the_originals_endpoints_whether_it_is_served() -> None:
    text = DOCUMENT.read_text("utf-8")
    rows = re.findall(r"^\| `([A-Z]+) (/[^`]*)` \| (works|differs|no) \|", text, re.MULTILINE)
    served = {(one.method, re.sub(r"\{\w+\}", "{id}", one.path)) for one in OPERATIONS}
    there = {(method, path) for method, path, word in rows if word != "no"}
    assert there <= served
    assert not {(method, path) for method, path, word in rows if word == "no"} & served
    # What the service has beside them.
    own = re.compile(r"/api/(attribute-policies|target-resolution-policies|dispatch-configurations)(/\{id\})?")
    assert all(own.fullmatch(path) for _, path in served - there)
    words = [word for _, _, word in rows]
    said = re.search(r"Of (\d+) endpoints .*, (\d+) work, (\d+) work differently and (\d+)\s+are not there", text)
    assert said is not None
    assert [*map(int, said.groups())] == [len(set(rows)), *map(words.count, ("works", "differs", "no"))]


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
