"""Configuration in the original's own words: arrays, and a POST that creates what is not there and changes what is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.services.http.api import Api
from tests.services.http.dispatch_scene import BODY, DISPATCH_CONFIG, RESOLUTION, STRATEGY, failure, furnish, read

ATTRIBUTES = "/api/activity-config/attribute-policies"
TARGETS = "/api/activity-config/target-resolution"
PROVIDERS = "/api/dispatch-configs"
CREATE = "/api/activities/tasks"


set_scene = furnish


async def _all(api: Api, path: str) -> Any:
    response = await api.get(path)
    assert response.status_code == 200, response.text
    return response.json()


async def test_the_attributes_of_the_page(api: Api) -> None:
    shown = {
        "id": "commerce_info",
        "attributeKeyId": "commerce_info",
        "strategy": "UPFRONT",
        "resolutionStrategy": "UPFRONT",
        "resolverType": "INTERNAL_SERVICE",
        "attributeKey": {"key": "commerce_info", "label": "Commerce Info"},
        "source": "commerce",
        "fallback": None,
    }
    first = await api.post(ATTRIBUTES, STRATEGY)
    assert (first.status_code, first.json()) == (200, shown)
    assert await _all(api, ATTRIBUTES) == [shown]
    created = (await api.post(CREATE, {**BODY, "attribute_keys": ["commerce_info"]})).json()
    assert (await api.get(f"/v1/tasks/{created['id']}")).json()["attributes"]["commerce_info"]["name"] == "Corner shop"
    changed = {**STRATEGY, "resolution_strategy": "ON_DISPATCH", "source": "commerce.name", "fallback": "a shop"}
    second = (await api.post(ATTRIBUTES, changed)).json()
    assert (second["resolutionStrategy"], second["source"], second["fallback"]) == (
        "ON_DISPATCH",
        "commerce.name",
        "a shop",
    )
    # What is left out is gone: the entry is what was sent last.
    assert (await api.post(ATTRIBUTES, STRATEGY)).json() == shown
    assert len(await _all(api, ATTRIBUTES)) == 1


async def test_what_the_caller_provides(api: Api) -> None:
    given = {**STRATEGY, "resolution_strategy": "CALLER_PROVIDED", "resolver_type": "CALLER_PROVIDED"}
    shown = (await api.post(ATTRIBUTES, {**given, "attribute_key_id": "promotions"})).json()
    assert (shown["resolverType"], shown["source"]) == ("CALLER_PROVIDED", None)


async def test_older_clients_write_camel_case(api: Api) -> None:
    older = {"attributeKeyId": "route_info", "strategy": "UPFRONT", "resolverType": "INTERNAL_SERVICE"}
    assert (await api.post(ATTRIBUTES, older)).json()["source"] == "route"
    older = {"dispatchProviderId": "console", "channel": "SMS", "baseUrl": None, "settings": {}}
    assert (await api.post(PROVIDERS, older)).json()["dispatchProvider"]["code"] == "CONSOLE"
    both = await api.post(ATTRIBUTES, {**STRATEGY, "attributeKeyId": "route_info"})
    assert "two of its names" in failure(both, 400)


async def test_the_target_resolution_of_the_page(api: Api) -> None:
    shown = {
        "id": "default",
        "channel": None,
        "resolutionStrategy": "ON_CREATION",
        "fallbackToCommerceRep": True,
        "fallbackToOwner": True,
        "priority": 0,
        "isActive": True,
        "criteria": [
            {
                "id": "default-0",
                "criteriaType": "ROLE_MATCH",
                "criteriaConfig": {"role": "COMMERCE_REP"},
                "priority": 0,
            },
            {"id": "default-1", "criteriaType": "LAST_CONTACTED_SAME_CHANNEL", "criteriaConfig": {}, "priority": 1},
        ],
    }
    first = await api.post(TARGETS, RESOLUTION)
    assert (first.status_code, first.json()) == (201, shown)
    other = await api.post(TARGETS, {**RESOLUTION, "channel": "SMS", "priority": -1, "fallback_to_owner": False})
    assert (other.json()["channel"], other.json()["fallbackToOwner"]) == ("SMS", False)
    assert [each["id"] for each in await _all(api, TARGETS)] == ["SMS", "default"]
    # Nobody is a representative, so the owner is the target.
    created = (await api.post(CREATE, BODY)).json()
    (target,) = (await api.get(f"/v1/tasks/{created['id']}")).json()["targets"]
    assert target["user"] == "u-owner"
    await api.post(TARGETS, {**RESOLUTION, "fallback_to_owner": False})
    lost = (await api.post(CREATE, {**BODY, "idempotency_key": "k-2"})).json()
    assert (await read(api, lost["id"]))["status"] == "UNRESOLVED"


async def test_the_criteria_of_an_activity_in_the_words_of_the_page(api: Api) -> None:
    wanted = [{"type": "ROLE_MATCH", "config": {"role": "OWNER"}, "priority": 1}]
    created = (await api.post(CREATE, {**BODY, "target_criteria": wanted})).json()
    shown = await read(api, created["id"])
    assert shown["targetCriteria"] == [{"type": "ROLE_MATCH", "priority": 1, "role": "OWNER"}]
    twice = [{"type": "ROLE_MATCH", "config": {"role": "OWNER"}, "role": "CLERK"}]
    refused = await api.post(CREATE, {**BODY, "idempotency_key": "k-2", "target_criteria": twice})
    assert failure(refused, 400).endswith("(/target_criteria/0/role)")


async def test_the_provider_of_the_page(api: Api) -> None:
    shown = {
        "id": "SALESMAN",
        "dispatchProviderId": "http",
        "channel": "SALESMAN",
        "baseUrl": "https://provider.example.com",
        "settings": {},
        "credentials": False,
        "isActive": True,
        "dispatchProvider": {"code": "HTTP", "name": "HTTP Provider"},
    }
    # It changes the one that is there.
    response = await api.post(PROVIDERS, DISPATCH_CONFIG)
    assert (response.status_code, response.json()) == (201, shown)
    settings = {"secret": "main", "timeout_seconds": 3}
    changed = await api.post(PROVIDERS, {**DISPATCH_CONFIG, "settings": settings})
    assert changed.json()["settings"] == settings
    assert await _all(api, PROVIDERS) == [{**shown, "settings": settings}]
    deleted = await api.client.delete("/api/dispatch-configurations/SALESMAN", headers=api.by())
    assert (deleted.status_code, await _all(api, PROVIDERS)) == (204, [])
    assert (await api.post(PROVIDERS, DISPATCH_CONFIG)).json() == shown


async def test_of_two_who_write_at_once_one_has_the_last_word(api: Api) -> None:
    bodies = [
        {**DISPATCH_CONFIG, "settings": {"secret": "main"}, "credentials": {"apiKey": "a"}},
        {**DISPATCH_CONFIG, "base_url": "https://other.example.com", "settings": {"timeout_seconds": 3}},
    ]
    for _ in range(5):
        api.sender.sent.clear()
        answers = await asyncio.gather(*(api.post(PROVIDERS, body) for body in bodies * 2))
        assert [answer.status_code for answer in answers] == [201] * 4
        # Each is one command, so nothing of one can be mixed with another.
        assert [sent.name for sent in api.sender.sent] == ["directory.put"] * 4
        (found,) = await _all(api, PROVIDERS)
        wanted = [(body["base_url"], body["settings"], "credentials" in body) for body in bodies]
        assert (found["baseUrl"], found["settings"], found["credentials"]) in wanted
        await api.client.delete("/api/dispatch-configurations/SALESMAN", headers=api.by())


async def test_a_key_makes_a_repetition_the_same_command(api: Api) -> None:
    key = {"Idempotency-Key": "once"}
    for body in (DISPATCH_CONFIG, {**DISPATCH_CONFIG, "base_url": "https://other.example.com"}):
        answers = [await api.post(PROVIDERS, body, headers=key) for _ in range(2)]
        if body is DISPATCH_CONFIG:
            assert [answer.status_code for answer in answers] == [201, 201]
            await api.post(PROVIDERS, {**body, "settings": {"timeout_seconds": 3}})
    assert failure(answers[0], 409)
    assert [each["settings"] for each in await _all(api, PROVIDERS)] == [{"timeout_seconds": 3}]


async def test_only_the_system_configures(api: Api) -> None:
    api.command(
        "directory.register", {"kind": "member", "id": "max", "fields": {"projects": {"p": {"is_manager": True}}}}
    )
    for path, body in ((PROVIDERS, DISPATCH_CONFIG), (TARGETS, RESOLUTION), (ATTRIBUTES, STRATEGY)):
        failure(await api.post(path, body, api.key("acme", "max")), 403)


async def test_a_dispatch_without_a_provider(api: Api) -> None:
    created = (await api.post(CREATE, {**BODY, "channel": "SMS"})).json()
    assert "no provider" in failure(await api.post(f"{CREATE}/{created['id']}/dispatch", None), 404)
    await api.post(PROVIDERS, {"dispatch_provider_id": "console", "channel": "SMS"})
    assert (await api.post(f"{CREATE}/{created['id']}/dispatch", None)).status_code == 204


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        (ATTRIBUTES, {**STRATEGY, "attribute_key_id": "promotions"}, "/source"),
        (ATTRIBUTES, {**STRATEGY, "attribute_key_id": ""}, "/attribute_key_id"),
        (ATTRIBUTES, {**STRATEGY, "resolver_type": "CLIENT_HOOK"}, "/resolver_type"),
        (ATTRIBUTES, {**STRATEGY, "resolver_type": "CALLER_PROVIDED"}, "/resolution_strategy"),
        (ATTRIBUTES, {**STRATEGY, "resolution_strategy": None}, "/resolution_strategy"),
        (TARGETS, {**RESOLUTION, "resolution_strategy": "UPFRONT"}, "/resolution_strategy"),
        (TARGETS, {**RESOLUTION, "criteria": []}, "/criteria"),
        (TARGETS, {**RESOLUTION, "criteria": [{"type": "ROLE_MATCH", "config": {}}]}, "/criteria/0/role"),
        (TARGETS, {**RESOLUTION, "criteria": [{"type": "NEAREST"}]}, "/criteria/0/type"),
        (TARGETS, {**RESOLUTION, "fallback_to_owner": "yes"}, "/fallback_to_owner"),
        (PROVIDERS, {**DISPATCH_CONFIG, "base_url": None}, "/base_url"),
        (PROVIDERS, {**DISPATCH_CONFIG, "base_url": "ftp://x"}, "/base_url"),
        (PROVIDERS, {**DISPATCH_CONFIG, "dispatch_provider_id": "YOM"}, "/dispatch_provider_id"),
        (PROVIDERS, {**DISPATCH_CONFIG, "credentials": {"apiKey": 7}}, "/credentials/apiKey"),
        (PROVIDERS, {**DISPATCH_CONFIG, "credentials": {"apiKey": "a", "colour": "b"}}, "/credentials/colour"),
        (PROVIDERS, {**DISPATCH_CONFIG, "credentials": {}}, "/credentials"),
        (PROVIDERS, {**DISPATCH_CONFIG, "credentials": "sk-xxx"}, "/credentials"),
        (PROVIDERS, {**DISPATCH_CONFIG, "settings": {"timeout_seconds": 99}}, "/settings/timeout_seconds"),
        (PROVIDERS, {**DISPATCH_CONFIG, "settings": {"colour": 1}}, "/settings/colour"),
    ],
)
async def test_what_is_refused_changes_nothing(api: Api, path: str, body: Any, place: str) -> None:
    before = await _all(api, path)
    assert place.rpartition("/")[2] in failure(await api.post(path, body), 400)
    assert await _all(api, path) == before
