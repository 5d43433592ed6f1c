"""What holds for every request: limits, identity, unknown routes, and errors that say nothing of the inside."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from services.broker.sender import Outgoing
from services.commands.wire import Reply
from services.http.core.errors import STATUS_OF_CODE, phrase
from tests.services.http.api import Api, field_failure, opened, problem

COMMAND = {"type": "task.create", "data": {}}


async def test_unknown_routes_and_methods(api: Api) -> None:
    for path in ("/", "/v1", "/v1/", "/v1/activities/", "/v1/activities/a1/explain/", "/v2/tasks", "//", "/docs/x"):
        problem(await api.get(path), 404, "not-found")
    response = await api.client.delete("/v1/activities", headers=api.by())
    problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "GET, HEAD"
    problem(await api.client.patch("/v1/commands", headers=api.by()), 405, "method-not-allowed")


async def test_a_body_of_nearly_the_limit_is_taken(api: Api) -> None:
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


async def test_what_fails_in_the_sender_stays_inside(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
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
