"""Every write with every ugly value: what is refused was not sent, and what was sent is what a worker takes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from domain import COMMANDS
from tests.services.http.api import Api, incoming, with_activity, with_workflow
from tests.services.http.ugly import BODIES, DIGITS, DOCUMENT, VALUES, Json, bodies_of, demand_envelope, operations
from tests.services.http.ugly import resolved as schema_of

WRITES = operations("post", "put", "patch", "delete")
WITH_BODY = [each for each in WRITES if "requestBody" in each[2]]
HEADERS: tuple[dict[str, Any], ...] = (
    *({"content-length": length} for length in (DIGITS, "99999999999999999999")),
    *({"idempotency-key": key} for key in ("", "x" * 256, "a\tb", "\u00e9".encode("latin-1"), b"\xff")),
)


def _names(cases: list[tuple[str, str, Json]]) -> list[str]:
    return [f"{method} {path}" for method, path, _ in cases]


def _address(path: str) -> str:
    own = "a1" if path.startswith("/api/v3/task/") else "w1" if "workflow/{id}" in path else "a1-t1"
    return path.replace("{kind}", "hub").replace("{id}", own).replace("{target_id}", "t")


async def _send(api: Api, method: str, path: str, body: bytes, **headers: Any) -> Any:
    headers = {**api.by(), "content-type": "application/json", **headers}
    given = {name: value for name, value in headers.items() if value is not None}
    return await api.client.request(method, _address(path), content=body, headers=given)


async def _demand_carried(api: Api) -> None:
    """Expect that the workers take all that was sent, and decide on it."""
    for command in api.sender.waiting:
        assert 1 <= len(command.routing_key.encode()) <= 255, command.routing_key
        incoming(command)
    await api.sender.catch_up()


@pytest.fixture
def stopped(api: Api) -> Api:
    """An API where commands wait, so that what was sent can be looked at."""
    with_workflow(api)
    with_activity(api)
    api.sender.stopped = True
    return api


@pytest.mark.parametrize(("method", "path", "said"), WITH_BODY, ids=_names(WITH_BODY))
async def test_what_is_no_request_is_refused_and_not_sent(stopped: Api, method: str, path: str, said: Json) -> None:
    required = said["requestBody"].get("required", False)
    for body in BODIES if required else [body for body in BODIES if body]:
        response = await _send(stopped, method, path, body)
        assert 400 <= response.status_code < 500, f"{body[:100]!r}: {response.text}"
        demand_envelope(path, response)
    for kind in (None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", b"\xff"):
        response = await _send(stopped, method, path, b"{}", **{"content-type": kind})
        assert response.status_code == 415, f"{kind!r}: {response.text}"
        demand_envelope(path, response)
    assert stopped.sender.sent == []
    body = json.dumps(next(bodies_of(said), {})).encode()
    for headers in HEADERS:
        response = await _send(stopped, method, path, body, **headers)
        assert response.status_code < 500, f"{headers}: {response.text}"
    await _demand_carried(stopped)


@pytest.mark.parametrize(("method", "path", "said"), WITH_BODY, ids=_names(WITH_BODY))
async def test_what_is_accepted_is_carried(stopped: Api, method: str, path: str, said: Json) -> None:
    for body in bodies_of(said):
        sent = len(stopped.sender.sent)
        response = await _send(stopped, method, path, json.dumps(body).encode())
        assert response.status_code < 500, f"{str(body)[:300]}: {response.text}"
        if response.status_code >= 400:
            demand_envelope(path, response)
            assert len(stopped.sender.sent) == sent
    await _demand_carried(stopped)


@pytest.mark.parametrize("name", COMMANDS)
async def test_every_command_with_any_value_is_refused_or_carried(stopped: Api, name: str) -> None:
    command = schema_of(DOCUMENT["components"]["schemas"][f"command.{name}"])
    data = schema_of(command["properties"]["data"])
    basis = dict.fromkeys(data.get("required", ()), "a1-t1")
    for field in data["properties"]:
        for value in VALUES:
            body = json.dumps({"type": name, "data": {**basis, field: value}}).encode()
            response = await _send(stopped, "post", "/v1/commands", body)
            assert response.status_code < 500, f"{field}: {str(value)[:100]}: {response.text}"
    await _demand_carried(stopped)


@pytest.mark.parametrize("key", ["id", "actor", "expected_version", "routing_key", "type", "data"])
async def test_what_stands_around_a_command_is_refused_or_carried(stopped: Api, key: str) -> None:
    for value in (*VALUES, "x" * 255, "x" * 256, "\u00e9" * 200, "\u00e9" * 100):
        body = json.dumps({"type": "task.create", "data": {}, key: value}).encode()
        response = await _send(stopped, "post", "/v1/commands", body)
        assert response.status_code < 500, f"{str(value)[:100]}: {response.text}"
    await _demand_carried(stopped)
