"""What a client may choose from: attributes, providers with their channels, statuses of customers."""

from __future__ import annotations

from typing import Any

import pytest

from domain.directory.settings import CHANNELS
from tests.services.http.api import Api
from tests.services.http.dispatch_scene import failure

STATUSES, PROVIDERS = "/api/user-retention-statuses", "/api/dispatch-providers"
CHURNED = {"code": "churned", "label": "Abandonado", "description": "Cliente ha abandonado"}


async def listed(api: Api, path: str, token: str | None = None) -> list[dict[str, Any]]:
    response = await api.get(path, token)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()
    return found


async def test_attributes_are_those_of_the_tenant_and_those_that_need_no_source(api: Api) -> None:
    for key, fields in (
        ("promotions", {"strategy": "CALLER_PROVIDED"}),
        ("route_info", {"strategy": "UPFRONT", "source": "route.name"}),
        ("gone", {"strategy": "CALLER_PROVIDED"}),
    ):
        api.command("directory.register", {"kind": "attribute", "id": key, "fields": fields})
    api.command("directory.retire", {"kind": "attribute", "id": "gone"})
    own = await listed(api, "/api/activity-config/attribute-keys")
    assert [(row["key"], row["description"]) for row in own] == [
        ("commerce_info", "Taken from commerce"),
        ("operator_info", "Taken from operator"),
        ("promotions", "Provided by the caller"),
        ("route_info", "Taken from route.name"),
    ]
    assert own[0] == {
        "key": "commerce_info", "label": "Commerce Info", "id": "commerce_info", "description": "Taken from commerce",
    }  # fmt: skip
    others = await listed(api, "/api/activity-config/attribute-keys", api.key("other"))
    assert [row["key"] for row in others] == ["commerce_info", "operator_info", "route_info"]
    # What is listed can be configured as it is.
    policy = {"attribute_key_id": own[1]["id"], "resolution_strategy": "UPFRONT", "resolver_type": "INTERNAL_SERVICE"}
    assert (await api.post("/api/activity-config/attribute-policies", policy)).status_code == 200


async def test_providers_take_the_channels_of_the_tenant(api: Api) -> None:
    providers = await listed(api, PROVIDERS)
    assert [(each["id"], each["code"], each["protocolType"], each["isActive"]) for each in providers] == [
        ("http", "HTTP", "REST", True),
        ("console", "CONSOLE", "LOG", True),
    ]
    assert all([row["channel"] for row in each["channelDefinitions"]] == [*CHANNELS] for each in providers)
    settings = providers[0]["channelDefinitions"][0]["settingsSchema"]
    assert [(each["key"], each["type"], each["required"]) for each in settings] == [
        ("secret", "text", False),
        ("timeout_seconds", "number", False),
        ("backoff_seconds", "number", False),
    ]
    credentials = providers[0]["channelDefinitions"][0]["credentialSchema"]
    assert [each["key"] for each in credentials] == list(credentials_of_providers.NAMES)
    api.command("directory.register", {"kind": "policy", "id": "channels", "fields": {"value": ["FAX"]}})
    (fax,) = await listed(api, f"{PROVIDERS}/console/channel-definitions")
    assert fax == {
        "channel": "FAX", "credentialSchema": [], "settingsSchema": [], "id": "console-FAX",
        "dispatchProviderId": "console", "createdAt": None, "updatedAt": None,
    }  # fmt: skip
    api.command("directory.retire", {"kind": "policy", "id": "channels"})
    assert len(await listed(api, f"{PROVIDERS}/http/channel-definitions")) == len(CHANNELS)


@pytest.mark.parametrize("provider", ["HTTP", "nobody", "%00", "x" * 100])
async def test_a_provider_that_is_none(api: Api, provider: str) -> None:
    failure(await api.get(f"{PROVIDERS}/{provider}/channel-definitions"), 404)


async def test_statuses_of_customers(api: Api) -> None:
    made = await api.post(STATUSES, CHURNED)
    assert made.status_code == 201, made.text
    shown = made.json()
    assert list(shown) == ["id", "code", "label", "description", "isActive", "createdAt", "updatedAt"]
    assert (shown["id"], shown["code"], shown["label"], shown["isActive"]) == ("churned", "churned", "Abandonado", True)
    assert (await api.post(STATUSES, CHURNED)).json() == shown
    failure(await api.post(STATUSES, {**CHURNED, "label": "Gone"}), 409)
    assert (await api.post(STATUSES, {"code": "active", "label": "Activo"})).json()["description"] is None
    api.command("directory.retire", {"kind": "retention", "id": "churned"})
    assert [(row["code"], row["isActive"]) for row in await listed(api, STATUSES)] == [
        ("active", True),
        ("churned", False),
    ]
    assert [row["code"] for row in await listed(api, f"{STATUSES}?active_only=true")] == ["active"]
    assert len(await listed(api, f"{STATUSES}?active_only=false")) == 2
    assert await listed(api, STATUSES, api.key("other")) == []


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"code": None}, "/code"),
        ({"code": "at risk"}, "/code"),
        ({"code": 7}, "/code"),
        ({"label": ""}, "/label"),
        ({"label": "x" * 201}, "/label"),
        ({"label": None}, "/label"),
        ({"description": 7}, "/description"),
        ({"description": "x" * 2001}, "/description"),
        ({"isActive": True}, "isActive"),
    ],
)
async def test_a_status_that_is_none(api: Api, change: Any, place: str) -> None:
    assert place in failure(await api.post(STATUSES, {**CHURNED, **change}), 400)
    assert await listed(api, STATUSES) == []


async def test_a_query_of_statuses_that_cannot_be_asked(api: Api) -> None:
    for query in ("active_only=yes", "active_only=1", "active_only=true&active_only=true", "page=1"):
        failure(await api.get(f"{STATUSES}?{query}"), 400)


async def test_a_tenants_configuration_is_its_systems_alone(api: Api) -> None:
    api.command("directory.register", {"kind": "member", "id": "ann"})
    failure(await api.post(STATUSES, CHURNED, api.key("acme", "ann", "MANAGE_ACTIVITY_CONFIG")), 403)
