"""What a key may do by its permissions, and its actor by the rights of the domain, through every dialect and AMQP."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from domain import lifecycle
from services import keys
from services.broker.sender import Outgoing
from services.cli.app import app
from tests.services.http.api import Api

RESULTS = "/api/activity-results/tasks"
ADMIN = {"tenant_admin": True}
LEADS = {"p": {"is_manager": True}}


def people(api: Api) -> None:
    for name, fields in (("max", {"projects": LEADS}), ("eve", ADMIN)):
        api.command("directory.register", {"kind": "member", "id": name, "fields": fields})


def task(api: Api, **more: Any) -> None:
    api.command("task.create", {"id": "a", **more})


async def test_an_agents_key_neither_cancels_nor_overrides_by_a_result(api: Api) -> None:
    tokens = {role: api.key("acme", "system", *keys.ROLES[role]) for role in keys.ROLES}
    cancel = {"activity_id": "a", "result": "CANCELED"}
    override = {"activity_id": "a", "result": "NOT_EXECUTED", "hard_override": True}
    task(api)
    for body in (cancel, override):
        refused = await api.post(RESULTS, body, tokens["agent"])
        assert (refused.status_code, "permission" in refused.text) == (403, True)
    # In the long form, and where systems report, it is the same.
    long = {
        "activity_id": "a",
        "commerce_external_id": "c",
        "status": "EFFECTIVE",
        "occurred_at": "2025-01-16T14:30:00Z",
        "hard_override": True,
        "task_result": {"result": "x"},
    }
    for path, role in ((RESULTS, "agent"), ("/api/integration/activity-results/tasks", "integration")):
        refused = await api.post(path, long, tokens[role])
        assert (refused.status_code, "OVERRIDE_ACTIVITY_RESULT" in refused.text) == (403, True)
    done = await api.post(RESULTS, {"activity_id": "a", "result": "COMPLETED"}, tokens["agent"])
    assert done.status_code == 201
    assert (await api.post(RESULTS, override, tokens["dispatcher"])).status_code == 403
    assert (await api.post(RESULTS, override, tokens["manager"])).status_code == 201
    api.command("task.create", {"id": "b"})
    assert (await api.post(RESULTS, {**cancel, "activity_id": "b"}, tokens["dispatcher"])).status_code == 201


def test_the_parts_of_commands_that_need_a_permission_are_the_domains() -> None:
    assert set(keys.PART_PERMISSIONS) | {"task.submit-result NOT_EXECUTED"} == set(lifecycle.PARTS)
    assert set(keys.PART_PERMISSIONS.values()) <= set(keys.PERMISSIONS)
    apart = {"impersonate", "operate", "webhooks", "audit", "keys", "tenants"}
    assert set(keys.PERMISSIONS) - apart == keys.granted_by(["read", "write"])


def test_the_command_line_names_every_permission_and_role() -> None:
    # Terminals wrap the help, so words are compared.
    told = CliRunner().invoke(app, ["keys", "create", "--help"], env={"COLUMNS": "200"})
    words = set(re.findall(r"[A-Za-z_]+", told.output))
    assert {name for name in keys.PERMISSIONS if name.islower()} | set(keys.ROLES) <= words


PROVIDER = {"provider": "http", "url": "https://evil.example/"}
# Method, path and body, by what would come of it.
ATTACKS: dict[str, tuple[str, str, Any]] = {
    "himself a tenant-admin": ("PATCH", "/v1/directory/member/max", {"fields": ADMIN}),
    "by any command": (
        "POST",
        "/v1/commands",
        {"type": "directory.change", "data": {"kind": "member", "id": "max", "fields": ADMIN}},
    ),
    "himself a manager of another project": (
        "PATCH",
        "/v1/directory/member/max",
        {"fields": {"projects": {**LEADS, "q": {"is_manager": True}}}},
    ),
    "a provider of his own": ("POST", "/v1/directory/dispatch", {"id": "SMS", "fields": PROVIDER}),
    "a provider of his own in the dispatch API": (
        "POST",
        "/api/dispatch-configurations",
        {"channel": "SMS", "provider": "http", "url": PROVIDER["url"]},
    ),
    "a hub": ("POST", "/api/v3/hub", {"name": "Mine"}),
    "a project": (
        "POST",
        "/api/v3/workflow/projects",
        {"data": {"type": "workflow/projects", "attributes": {"name": "Mine"}}},
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_manager_of_one_project_gives_himself_nothing_of_the_tenant(api: Api, attack: str) -> None:
    people(api)
    method, path, body = ATTACKS[attack]
    by = {name: api.by(api.key("acme", name)) for name in ("max", "eve")}
    kind = {"Content-Type": "application/vnd.api+json"} if "workflow" in path else {}
    content = msgspec.json.encode(body)
    headers = {"Content-Type": "application/json", **kind}
    refused = await api.client.request(method, path, content=content, headers={**by["max"], **headers})
    assert refused.status_code == 403, refused.text
    allowed = await api.client.request(method, path, content=content, headers={**by["eve"], **headers})
    assert allowed.status_code in (200, 201), allowed.text


async def test_over_amqp_the_named_actor_has_no_more_rights(api: Api) -> None:
    people(api)
    data = msgspec.json.encode({"kind": "member", "id": "max", "fields": ADMIN})
    (refused,) = api.sender.work([Outgoing("directory.change", data, "acme", actor="max")])
    assert refused.error is not None
    assert (refused.error.code, refused.error.pointer) == ("forbidden", "/fields/tenant_admin")
    (allowed,) = api.sender.work([Outgoing("directory.change", data, "acme", actor="eve")])
    assert allowed.accepted


async def test_a_tenant_admin_is_shown_what_he_can_do(api: Api) -> None:
    people(api)
    task(api, assignees=["eve"])
    for name, more in (("eve", {"task.cancel", "task.complete"}), ("max", {"task.cancel"})):
        shown = (await api.get("/v1/tasks/a", api.key("acme", name))).json()
        assert more <= set(shown["allowed_actions"])
