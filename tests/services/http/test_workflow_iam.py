"""The log-in of the workflow dialect: which keys it takes, what it answers, and what it refuses."""

from __future__ import annotations

from typing import Any

import httpx
import jsonschema_rs
import psycopg
import pytest

from services import keys
from services.http.core import openapi
from services.http.core.components import Components
from services.http.workflow.errors import JSON_API
from services.http.workflow.iam import OPERATIONS
from tests.services.http.api import Api
from tests.services.http.workflow_scene import furnish

LOG_IN, ME = "/api/v3/iam/auth/api/login", "/api/v3/iam/accounts/me"
COMPONENTS = Components()
SAID = openapi.about(OPERATIONS[0], COMPONENTS)

set_scene = furnish


async def log_in(api: Api, body: Any) -> httpx.Response:
    response = await api.client.post(LOG_IN, json=body)
    assert response.headers["content-type"] == JSON_API
    (documented,) = SAID["responses"][str(response.status_code)]["content"].values()
    jsonschema_rs.validate({**documented["schema"], "components": {"schemas": COMPONENTS.schemas}}, response.json())
    return response


async def test_the_token_is_good_for_the_account(api: Api) -> None:
    for actor, account in (("ann", "42"), ("system", "system"), ("stranger", "stranger")):
        key = api.key("acme", actor)
        body = (await log_in(api, {"key": key})).json()
        assert body["meta"] == {"token": key}
        me = await api.get(ME, body["meta"]["token"])
        assert me.json() == {"data": body["data"]}
        assert (body["data"]["id"], body["data"]["attributes"]["permissions"][-2:]) == (account, ["read", "write"])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ("key", ""),
        ([], ""),
        ({}, "/key"),
        ({"key": ""}, "/key"),
        ({"key": None}, "/key"),
        ({"key": 7}, "/key"),
        ({"key": "x" * 257}, "/key"),
        ({"key": "x", "colour": 1}, "/colour"),
    ],
)
async def test_a_body_that_is_no_log_in_is_refused(api: Api, body: Any, pointer: str) -> None:
    refused = await log_in(api, body)
    (error,) = refused.json()["errors"]
    assert (refused.status_code, error["source"]) == (422, {"pointer": pointer})
    assert error["detail"] in refused.json()["message"]


async def test_a_key_that_is_not_good_any_more_is_refused(api: Api) -> None:
    with psycopg.connect(api.url) as conn:
        info, revoked = keys.create(conn, "acme", "ann")
        keys.revoke(conn, info.id)
    retired = api.key("acme", "bob")
    api.command("directory.retire", {"kind": "member", "id": "bob"})
    for key in (revoked, retired, "PULSE_00ff", "fw_0_x", "\u00fc", "a b", "\n"):
        refused = await log_in(api, {"key": key})
        assert refused.status_code == 401
        assert len(refused.json()["message"]) > len(key)
        assert key == "\n" or key not in refused.text
    assert refused.headers["www-authenticate"].startswith("Bearer")


async def test_a_wrong_address_is_said_in_the_same_envelope(api: Api) -> None:
    for method, path, status in (("GET", LOG_IN, 405), ("POST", ME, 405), ("GET", "/api/v3/iam/accounts", 404)):
        refused = await api.client.request(method, path, headers=api.by())
        assert (refused.status_code, list(refused.json())) == (status, ["errors", "message"])
