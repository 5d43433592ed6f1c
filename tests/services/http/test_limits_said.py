"""Each dialect says in its own envelope which value exceeds its limit."""

from __future__ import annotations

from typing import Any

import httpx
import psycopg
import pytest

from domain.limits import MAX_FIELDS_BYTES
from domain.task import TaskCreated
from services.store import codec
from services.store.append import NewEvent, append_in
from tests.services.http.api import NOW, Api, field_failure, problem

LARGE = {"a": "x" * MAX_FIELDS_BYTES}


# Of the process that the fixture `api` runs.
SETTINGS = {"http_body_limit": 4 << 20}


async def patch(api: Api, path: str, body: Any) -> httpx.Response:
    return await api.client.patch(path, json=body, headers=api.by())


async def test_the_native_api(api: Api) -> None:
    too_long = {"type": "task.create", "data": {"id": "t", "title": "x" * 301}}
    problem(await api.post("/v1/commands", too_long), 422, "invalid", pointer="/data/title")
    too_large = {"type": "task.create", "data": {"id": "t", "fields": LARGE}}
    problem(await api.post("/v1/commands", too_large), 413, "too-large", pointer="/data/fields")
    entry = {"id": "m", "fields": {"projects": {"x" * 65: {"is_manager": True}}}}
    problem(await api.post("/v1/directory/member", entry), 422, "invalid", pointer="/fields/projects")


@pytest.mark.parametrize(
    ("body", "status", "code", "place"),
    [
        ({"title": "x" * 301}, 400, "activity-005", "/title"),
        ({"assignee": ["a@x.vn", "x" * 255]}, 400, "activity-005", "/assignee/1"),
        ({"endTime": f"2025-10-31T08:55:00.{'1' * 500}Z"}, 400, "activity-005", "/endTime"),
        ({"flowId": "x" * 201}, 400, "activity-005", "/flowId"),
        ({"note": "x" * MAX_FIELDS_BYTES}, 413, "request-003", "/fields"),
    ],
)
async def test_the_field_dialect(api: Api, body: Any, status: int, code: str, place: str) -> None:
    message = field_failure(await api.post("/api/v3/task", {"flow": "Visit", **body}), status, code)
    assert message.endswith(f"({place})") or place == "/fields"


async def test_the_dispatch_dialect(api: Api) -> None:
    for kind, own in (("commerce", "c"), ("route", "r"), ("operator", "o")):
        api.command("directory.register", {"kind": kind, "id": own})
    body = {
        "reason": "Visit",
        "channel": "SMS",
        "commerce_id": "c",
        "idempotency_key": "k",
        "assigned_route_id": "r",
        "assigned_operator_id": "o",
        "scheduled_at": "2025-10-31T08:55:00Z",
    }
    for name, value in (
        ("reason", "x" * 301),
        ("user_status", "x" * 201),
        ("scheduled_at", "2025-10-31T24:00:00Z"),
        ("attribute_keys", [f"a{number}" for number in range(101)]),
        ("commerce_id", "x" * 65),
    ):
        response = await api.post("/api/activities/tasks", {**body, name: value})
        assert response.status_code == 400
        assert response.json()["message"].endswith(f"(/{name})"), response.text
    assert (await api.post("/api/activities/tasks", body)).status_code == 201


async def test_the_workflow_dialect(api: Api) -> None:
    api.command("task.create", {"id": "t"})
    path = "/api/v3/workflow/activities/t"
    large = await patch(api, path, {"data": LARGE})
    assert (large.status_code, large.json()["errors"][0]["source"]) == (413, {"pointer": "/data"})
    long = await api.post(f"{path}/error", {"data": {"comment": "x" * 2001}})
    assert (long.status_code, long.json()["errors"][0]["source"]) == (422, {"pointer": "/data/comment"})


async def test_a_page_shows_what_was_stored_before_there_were_limits(api: Api) -> None:
    """What a list of people names is asked of the directory only if it can be there."""
    with psycopg.connect(api.url) as conn:
        created = TaskCreated("t", "x" * 1001, whitelist=("x" * 1001, "ann@example.com"), roles=("x" * 1001,))
        metadata = codec.Metadata("e", "c", "c", "c", "system", NOW)
        append_in(conn, [NewEvent("acme/task-t", 1, "task.created", created, metadata)])
    api.sender.follow()
    for path in ("/api/v3/workflow/activities", "/api/v3/workflow/activities/t", "/api/activities/t", "/api/v3/task/t"):
        assert (await api.get(path)).status_code == 200
    found = await api.get("/api/v3/workflow/activities", params={"filter[created_at__lt]": "2025-10-31T24:00:00Z"})
    assert found.status_code == 422
