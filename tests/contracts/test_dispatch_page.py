"""The dispatch page's own examples, repeated word for word; only the address, the token and the tenant are others."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from services import keys
from tests.eventually import PATIENCE
from tests.services.http.api import Api
from tests.services.http.served import Served, served

TENANT = "tenant-7"
# The page's own command.
CURL = r"""curl -X POST https://api.reten.ai/api/activities/tasks \
-H "Authorization: Bearer <token>" \
-H "x-tenant-id: <tenant-id>" \
-H "Content-Type: application/json" \
-d '{
"reason": "Monthly visit",
"channel": "SALESMAN",
"commerce_id": "880e8400-e29b-41d4-a716-446655440000",
"idempotency_key": "task-2025-01-15-001",
"assigned_route_id": "dd0e8400-e29b-41d4-a716-446655440000",
"assigned_operator_id": "cc0e8400-e29b-41d4-a716-446655440000",
"scheduled_at": "2025-01-16T09:00:00.000Z",
"attribute_keys": ["commerce_info", "promotions"]
}'"""
JAVASCRIPT = r"""const response = await fetch("https://api.reten.ai/api/activities/tasks", {
method: "POST",
headers: {
"Authorization": "Bearer <token>",
"x-tenant-id": "<tenant-id>",
"Content-Type": "application/json",
},
body: JSON.stringify({
reason: "Monthly visit",
channel: "SALESMAN",
commerce_id: "880e8400-e29b-41d4-a716-446655440000",
idempotency_key: "task-2025-01-15-001",
assigned_route_id: "dd0e8400-e29b-41d4-a716-446655440000",
assigned_operator_id: "cc0e8400-e29b-41d4-a716-446655440000",
scheduled_at: "2025-01-16T09:00:00.000Z",
attribute_keys: ["commerce_info", "promotions"],
}),
});
const task = await response.json();"""
PYTHON = r"""import requests
response = requests.post(
"https://api.reten.ai/api/activities/tasks",
headers={
"Authorization": "Bearer <token>",
"x-tenant-id": "<tenant-id>",
},
json={
"reason": "Monthly visit",
"channel": "SALESMAN",
"commerce_id": "880e8400-e29b-41d4-a716-446655440000",
"idempotency_key": "task-2025-01-15-001",
"assigned_route_id": "dd0e8400-e29b-41d4-a716-446655440000",
"assigned_operator_id": "cc0e8400-e29b-41d4-a716-446655440000",
"scheduled_at": "2025-01-16T09:00:00.000Z",
"attribute_keys": ["commerce_info", "promotions"],
},
)
task = response.json()"""
RESPONSE = """{
"id": "ee0e8400-e29b-41d4-a716-446655440000",
"type": "TASK",
"channel": "SALESMAN",
"status": "READY",
"taskDetails": {
"assignedRouteId": "dd0e8400-e29b-41d4-a716-446655440000",
"assignedOperatorId": "cc0e8400-e29b-41d4-a716-446655440000"
}
}"""


def furnish(api: Api) -> None:
    """Register what the page's examples refer to, and make the token that they use."""
    for kind, entry_id in (
        ("commerce", "880e8400-e29b-41d4-a716-446655440000"),
        ("route", "dd0e8400-e29b-41d4-a716-446655440000"),
        ("operator", "cc0e8400-e29b-41d4-a716-446655440000"),
    ):
        api.command("directory.register", {"kind": kind, "id": entry_id, "fields": {}}, TENANT)
    policy = {"strategy": "UPFRONT", "source": "commerce", "fallback": {}}
    api.command("directory.register", {"kind": "attribute", "id": "commerce_info", "fields": policy}, TENANT)
    with psycopg.connect(api.url) as conn:
        _, api.tokens["page"] = keys.create(conn, TENANT, "system", ["CREATE_ACTIVITY"])


set_scene = furnish


@pytest.fixture
def service(migrated_url: str) -> Iterator[Served]:
    with served(migrated_url) as running:
        furnish(running.api)
        yield running


def _filled(api: Api, text: str) -> str:
    """Return a text of the page with its two places filled in."""
    assert text.count("<token>") == text.count("<tenant-id>") == 1
    return text.replace("<token>", api.tokens["page"]).replace("<tenant-id>", TENANT)


def _from_curl(api: Api) -> tuple[str, str, dict[str, str], str]:
    """Return what the page's command sends: method, path, headers, body."""
    words = shlex.split(_filled(api, CURL).replace("\\\n", " "))
    assert words[0] == "curl"
    options: dict[str, list[str]] = {}
    rest = iter(words[1:])
    url = ""
    for word in rest:
        if word.startswith("-"):
            options.setdefault(word, []).append(next(rest))
        else:
            url = word
    headers = dict(text.split(": ", 1) for text in options["-H"])
    return options["-X"][0], urlsplit(url).path, headers, options["-d"][0]


def _from_javascript(api: Api) -> tuple[str, str, dict[str, str], str]:
    """Return what the page's script sends. Its literals are JSON but for bare names and commas at the end."""
    found = re.fullmatch(
        r'const response = await fetch\("(.+?)", (\{.*\})\);\nconst task = await response\.json\(\);',
        _filled(api, JAVASCRIPT),
        re.DOTALL,
    )
    assert found is not None
    text = re.sub(r"JSON\.stringify\((\{.*?\})\)", r"\1", found[2], flags=re.DOTALL)
    text = re.sub(r"^(\w+):", r'"\1":', text, flags=re.MULTILINE)
    given = json.loads(re.sub(r",(\s*[}\]])", r"\1", text))
    # As a script's engine writes it: without a space.
    body = json.dumps(given["body"], separators=(",", ":"), ensure_ascii=False)
    return given["method"], urlsplit(found[1]).path, given["headers"], body


def _with_place(text: str) -> str:
    """Return the answer as the page prints it, with the page's own id in its place."""
    shown = json.loads(text)
    page = json.loads(RESPONSE)
    assert shown["id"] != page["id"]
    shown["id"] = page["id"]
    # The page prints one key a line, and none of them indented.
    return re.sub(r"^ +", "", json.dumps(shown, indent=2, ensure_ascii=False), flags=re.MULTILINE)


@pytest.mark.parametrize("example", [_from_curl, _from_javascript])
async def test_the_example_of_the_page(api: Api, example: Any) -> None:
    method, path, headers, body = example(api)
    response = await api.client.request(method, path, content=body, headers=headers)
    assert response.status_code == 201, response.text
    assert _with_place(response.text) == RESPONSE


async def test_all_three_say_the_same(api: Api) -> None:
    curl, script = _from_curl(api), _from_javascript(api)
    assert curl[:3] == script[:3]
    assert json.loads(curl[3]) == json.loads(script[3])
    found = re.search(r"json=(\{.*\}),\n\)", PYTHON, re.DOTALL)
    assert found is not None
    assert json.loads(re.sub(r",(\s*[}\]])", r"\1", found[1])) == json.loads(curl[3])


async def test_the_example_of_the_page_from_the_commands_own_events(api: Api) -> None:
    api.sender.late = {"activities", "tasks", "directory"}
    method, path, headers, body = _from_curl(api)
    response = await api.client.request(method, path, content=body, headers=headers)
    assert _with_place(response.text) == RESPONSE


async def test_what_the_page_sends_is_there_again(api: Api) -> None:
    method, path, headers, body = _from_curl(api)
    created = (await api.client.request(method, path, content=body, headers=headers)).json()
    token, sent = api.key(TENANT), json.loads(body)
    read = (await api.get(f"/api/activities/{created['id']}", token)).json()
    assert list(read.items())[: len(created)] == list(created.items())
    assert read["reason"] == sent["reason"]
    assert read["commerceId"] == sent["commerce_id"]
    assert read["scheduledAt"] == sent["scheduled_at"]
    assert read["attributeKeys"] == sent["attribute_keys"]
    attributes = (await api.get(f"/api/activities/{created['id']}/attributes", token)).json()
    # Of what nobody knows anything, there is no value.
    assert [(each["key"], each["value"], each["resolutionStatus"]) for each in attributes] == [
        ("commerce_info", {}, "RESOLVED"),
        ("promotions", None, "FAILED"),
    ]


async def test_the_errors_of_the_page(api: Api) -> None:
    method, path, headers, body = _from_curl(api)
    sent = json.loads(body)

    async def answered(**changed: Any) -> tuple[int, dict[str, Any]]:
        content = json.dumps({**sent, **changed})
        response = await api.client.request(method, path, content=content, headers=headers)
        return response.status_code, response.json()

    assert (await answered(channel=None))[0] == 400
    for name in ("commerce_id", "assigned_route_id", "assigned_operator_id"):
        assert (await answered(**{name: "ff0e8400-e29b-41d4-a716-446655440000"}))[0] == 404
    status, created = await answered()
    assert status == 201
    status, refused = await answered()
    assert status == 409
    assert refused["existingId"] == created["id"]
    assert list(refused) == ["statusCode", "message", "error", "existingId", "samePayload"]


def test_the_python_client_of_the_page_runs_as_it_is_printed(service: Served) -> None:
    address = "https://api.reten.ai"
    assert PYTHON.count(address) == 1
    program = _filled(service.api, PYTHON).replace(address, service.url)
    # What it found is for the test to see; the client itself is the page's own.
    program += "\nimport sys\nsys.stdout.write(f'{response.status_code} {response.text}')\n"
    direct = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE, check=False, env=direct
    )
    assert done.returncode == 0, done.stderr
    status, _, text = done.stdout.partition(" ")
    assert (status, _with_place(text)) == ("201", RESPONSE)
    token = service.api.key(TENANT)
    url = f"{service.url}/api/activities/{json.loads(text)['id']}"
    read = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, trust_env=False)
    assert read.json()["status"] == "READY"
