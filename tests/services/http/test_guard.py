"""What holds for every request: limits, identity, unknown routes, and errors that say nothing of the inside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from services.broker.sender import Outgoing
from services.commands.wire import Reply
from services.http.core.errors import STATUS_OF_CODE, phrase
from services.store.pool import Pool, Rows
from tests.services.http.api import Api, field_failure, opened, problem
from tests.services.http.ugly import demand_envelope

COMMAND = {"type": "task.create", "data": {}}


async def test_unknown_routes_and_methods(api: Api) -> None:
    for path in ("/", "/v1", "/v1/", "/v1/activities/", "/v1/activities/a1/explain/", "/v2/tasks", "//", "/docs/x"):
        problem(await api.get(path), 404, "not-found")
    response = await api.client.delete("/v1/activities", headers=api.by())
    problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "GET"
    problem(await api.client.patch("/v1/commands", headers=api.by()), 405, "method-not-allowed")


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_a_body_that_is_not_sent_as_json(api: Api, kind: str | None) -> None:
    headers = api.by() | ({} if kind is None else {"Content-Type": kind})
    response = await api.client.post("/v1/commands", content=json.dumps(COMMAND), headers=headers)
    problem(response, 415, "unsupported-media-type")


async def test_json_by_its_other_names(api: Api) -> None:
    for kind in ("application/json; charset=utf-8", "Application/JSON", "application/vnd.api+json"):
        headers = {**api.by(), "Content-Type": kind}
        response = await api.client.post("/v1/commands", content=json.dumps(COMMAND), headers=headers)
        assert response.status_code == 200


class _Chunks:
    """A body of many chunks; counts how many were taken."""

    def __init__(self, count: int) -> None:
        self.count, self.taken = count, 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self.count):
            self.taken += 1
            yield b" " * 1024


async def test_a_body_beyond_the_limit(api: Api) -> None:
    headers = {**api.by(), "Content-Type": "application/json"}
    whole = await api.client.post("/v1/commands", content=b" " * (64 * 1024 + 1), headers=headers)
    problem(whole, 413, "too-large")
    chunks = _Chunks(1000)
    problem(await api.client.post("/v1/commands", content=chunks, headers=headers), 413, "too-large")
    field_failure(await api.client.post("/api/v3/activity", content=_Chunks(1000), headers=headers), 413, "request-003")
    fits = {"type": "task.create", "data": {"fields": {"x": "y" * 60_000}}}
    assert (await api.post("/v1/commands", fits)).status_code == 200


@pytest.mark.parametrize("status", sorted(set(STATUS_OF_CODE.values())))
def test_a_status_has_one_name_under_every_python(status: int) -> None:
    # httpx has names of its own; http.HTTPStatus changed two of them in Python 3.13.
    assert phrase(status) == httpx.codes.get_reason_phrase(status)


async def test_a_command_beyond_the_workers_limit(migrated_url: str) -> None:
    async with opened(migrated_url, command_limit=1024) as api:
        body = {"type": "task.create", "data": {"fields": {"x": "y" * 2000}}}
        problem(await api.post("/v1/commands", body), 413, "too-large")
        assert api.sender.sent == []


async def test_a_request_id_is_kept_or_made_and_a_trace_is_passed_on(api: Api) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    response = await api.post("/v1/commands", COMMAND, headers={"X-Request-Id": "r-1", "Traceparent": trace})
    assert response.headers["x-request-id"] == "r-1"
    assert api.sender.sent[-1].traceparent == trace
    response = await api.post("/v1/commands", COMMAND, headers={"X-Request-Id": "a b", "Traceparent": "x"})
    assert response.headers["x-request-id"] != "a b"
    assert api.sender.sent[-1].traceparent is None


async def test_more_requests_than_the_process_takes(migrated_url: str) -> None:
    async with opened(migrated_url, http_in_flight=2) as api:
        entered, release = asyncio.Semaphore(0), asyncio.Event()

        async def send(outgoing: Outgoing, timeout: float) -> Reply | None:
            entered.release()
            await release.wait()
            return None

        api.sender.send = send  # type: ignore[method-assign]
        slow = [asyncio.create_task(api.post("/v1/commands", COMMAND)) for _ in range(2)]
        for _ in slow:
            await entered.acquire()
        response = await api.get("/v1/tasks")
        problem(response, 503, "overloaded")
        assert response.headers["retry-after"] == "1"
        shed = await api.get("/api/v3/tasks")
        field_failure(shed, 429, "request-006")
        assert shed.headers["retry-after"] == "1"
        assert (await api.client.get("/livez")).status_code == 200
        assert (await api.client.get("/metrics")).status_code == 200
        release.set()
        assert {response.status_code for response in await asyncio.gather(*slow)} == {202}
        assert (await api.get("/v1/tasks")).status_code == 200


async def test_what_fails_inside_stays_inside(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    async def send(outgoing: Outgoing, timeout: float) -> Reply | None:
        raise ZeroDivisionError("the secret of the inside")

    api.sender.send = send  # type: ignore[method-assign]
    response = await api.post("/v1/commands", COMMAND)
    problem(response, 500, "internal")
    assert "secret" not in response.text
    assert response.headers["x-request-id"] in response.json()["detail"]
    body = {"workflowId": "w1", "tasks": []}
    assert "secret" not in field_failure(await api.post("/api/v3/activity", body), 500, "server-001")
    said = capsys.readouterr()
    assert "the secret of the inside" in said.out + said.err


@pytest.mark.parametrize("path", ["/v1/directory/hub", "/v1/directory/hub/h1", "/api/v3/task/t1", "/api/activities/a1"])
async def test_what_fails_is_said_in_the_dialect_however_the_path_was_found(
    api: Api, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths of two parts go through Starlette's own stack, which would answer in plain text."""

    async def fetch(self: Pool, *_: object) -> Rows:
        raise ZeroDivisionError("the secret of the inside")

    headers = api.by()
    assert (await api.client.get("/v1/events", headers=headers)).status_code == 200
    monkeypatch.setattr(Pool, "fetch", fetch)
    response = await api.client.get(path, headers=headers)
    assert response.status_code == 500
    demand_envelope(path, response)
    assert "secret" not in response.text
    assert response.headers["x-request-id"] in response.text
