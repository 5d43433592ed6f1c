"""What a tenant configures of dispatch: three kinds of entries, created, changed and deleted by their own names."""

from __future__ import annotations

from typing import Any

import pytest

from tests.services.http.api import Api
from tests.services.http.dispatch_scene import BODY, failure, furnish

POLICIES, TARGETING, PROVIDERS = (
    "/api/attribute-policies",
    "/api/target-resolution-policies",
    "/api/dispatch-configurations",
)
OWNER = {"type": "ROLE_MATCH", "priority": 1, "role": "OWNER"}


@pytest.mark.parametrize(
    ("path", "new", "shown", "change", "changed"),
    [
        (
            POLICIES,
            {"key": "hours", "strategy": "ON_DISPATCH", "source": "commerce.hours", "fallback": [9, 17]},
            {"key": "hours", "strategy": "ON_DISPATCH", "source": "commerce.hours", "fallback": [9, 17]},
            {"strategy": "CALLER_PROVIDED", "source": None},
            {"strategy": "CALLER_PROVIDED", "source": None},
        ),
        (
            TARGETING,
            {"channel": "default", "criteria": [OWNER, {"type": "ANY"}]},
            {
                "channel": "default",
                "resolutionStrategy": "ON_CREATION",
                "criteria": [OWNER, {"type": "ANY", "priority": 0, "role": None}],
                "fallbacks": [],
            },
            {"criteria": [OWNER], "fallbacks": [{"type": "LAST_CONTACTED_ALL_CHANNELS", "priority": 3}]},
            {
                "criteria": [OWNER],
                "fallbacks": [{"type": "LAST_CONTACTED_ALL_CHANNELS", "priority": 3, "role": None}],
            },
        ),
        (
            PROVIDERS,
            {"channel": "SMS", "provider": "http", "url": "https://sms.example/send", "secret": "sms"},
            {
                "channel": "SMS",
                "provider": "http",
                "url": "https://sms.example/send",
                "secret": "sms",
                "credentials": False,
                "timeoutSeconds": None,
                "backoffSeconds": None,
            },
            {"secret": None, "timeout_seconds": 2.5, "backoff_seconds": 60},
            {"secret": None, "timeoutSeconds": 2.5, "backoffSeconds": 60},
        ),
    ],
)
async def test_an_entry_lives(
    api: Api, path: str, new: Any, shown: dict[str, Any], change: Any, changed: dict[str, Any]
) -> None:
    created = await api.post(path, new)
    assert created.status_code == 201, created.text
    entry = created.json()
    assert list(entry) == [*shown, "createdAt", "updatedAt"]
    assert {name: entry[name] for name in shown} == shown
    (entry_id,) = (shown[name] for name in ("key", "channel") if name in shown)
    assert (await api.get(f"{path}/{entry_id}")).json() == entry
    page = (await api.get(f"{path}?per_page=1")).json()
    assert page == {"data": [entry], "meta": {"page": 1, "limit": 1, "total": 1, "totalPages": 1}}
    assert (await api.get(f"{path}?page=2")).json()["data"] == []
    # The same again changes nothing; another one of the id is refused.
    assert (await api.post(path, new)).json() == entry
    conflict = {**new, **{name: value for name, value in change.items() if value is not None}}
    failure(await api.post(path, conflict), 409)
    patched = await api.client.patch(f"{path}/{entry_id}", json=change, headers=api.by())
    assert patched.status_code == 200, patched.text
    assert {name: patched.json()[name] for name in shown} == {**shown, **changed}
    assert (await api.get(f"{path}/{entry_id}")).json() == patched.json()
    for status in (204, 404):
        deleted = await api.client.delete(f"{path}/{entry_id}", headers=api.by())
        assert deleted.status_code == status, deleted.text
    failure(await api.get(f"{path}/{entry_id}"), 404)
    failure(await api.client.patch(f"{path}/{entry_id}", json=change, headers=api.by()), 404)
    assert (await api.get(path)).json()["meta"]["total"] == 0
    assert (await api.post(path, new)).status_code == 201


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        (POLICIES, {"strategy": "UPFRONT", "source": "commerce"}, "/key"),
        (POLICIES, {"key": "a b", "strategy": "UPFRONT", "source": "commerce"}, ""),
        (POLICIES, {"key": "a", "strategy": "LATER", "source": "commerce"}, "/strategy"),
        (POLICIES, {"key": "a", "strategy": "UPFRONT"}, "/source"),
        (POLICIES, {"key": "a", "strategy": "UPFRONT", "source": "weather"}, "/source"),
        (TARGETING, {"channel": "EMAIL"}, "/criteria"),
        (TARGETING, {"channel": "EMAIL", "criteria": []}, "/criteria"),
        (TARGETING, {"channel": "EMAIL", "criteria": [{"type": "ROLE_MATCH"}]}, "/criteria/0/role"),
        (TARGETING, {"channel": "EMAIL", "criteria": [{"type": "ANY", "priority": True}]}, "/criteria/0/priority"),
        (TARGETING, {"channel": "EMAIL", "criteria": [{"type": "ANY", "role": 1}]}, "/criteria/0/role"),
        (TARGETING, {"channel": "EMAIL", "criteria": [OWNER], "fallbacks": {}}, "/fallbacks"),
        (PROVIDERS, {"channel": "EMAIL", "provider": "pigeon"}, "/provider"),
        (PROVIDERS, {"channel": "EMAIL", "provider": "http"}, "/url"),
        (PROVIDERS, {"channel": "EMAIL", "provider": "http", "url": "ftp://x"}, "/url"),
        (PROVIDERS, {"channel": "EMAIL", "provider": "console", "url": True}, "/url"),
        (PROVIDERS, {"channel": "EMAIL", "provider": "console", "secret": "not a name"}, "/secret"),
        (PROVIDERS, {"channel": "EMAIL", "provider": "console", "credentials": []}, "/credentials"),
        (PROVIDERS, {"channel": "EMAIL", "provider": "console", "credentials": {"token": "é"}}, "/credentials/token"),
        (PROVIDERS, {"channel": "EMAIL", "provider": "console", "timeout_seconds": 31}, "/timeout_seconds"),
        (PROVIDERS, {"channel": "EMAIL", "provider": "console", "timeoutSeconds": 3}, "timeoutSeconds"),
    ],
)
async def test_what_cannot_stand_in_an_entry_is_refused_with_its_place(
    api: Api, path: str, body: Any, place: str
) -> None:
    message = failure(await api.post(path, body), 400)
    assert message.endswith(f"({place})") if place else message
    assert (await api.get(path)).json()["data"] == []


@pytest.mark.parametrize("query", ["page=0", "limit=101", "per_page=x", "retired=true"])
async def test_a_list_is_asked_for_with_what_it_knows(api: Api, query: str) -> None:
    failure(await api.get(f"{POLICIES}?{query}"), 400)


async def test_what_is_configured_holds_for_the_next_activity(api: Api) -> None:
    furnish(api)
    await api.post(POLICIES, {"key": "shop", "strategy": "UPFRONT", "source": "commerce.name"})
    await api.post(TARGETING, {"channel": "SALESMAN", "criteria": [OWNER]})
    activity = (await api.post("/api/activities/tasks", {**BODY, "attribute_keys": ["shop"]})).json()["id"]
    attributes = (await api.get(f"/api/activities/{activity}/attributes")).json()
    assert [(each["key"], each["value"]) for each in attributes] == [("shop", "Corner shop")]
    targets = (await api.get(f"/api/activities/{activity}/target-users")).json()
    assert [target["commerceUserId"] for target in targets] == ["u-owner"]
    await api.client.delete(f"{PROVIDERS}/SALESMAN", headers=api.by())
    sent = await api.client.post(f"/api/activities/tasks/{activity}/dispatch", headers=api.by())
    assert "no provider" in failure(sent, 404)


async def test_an_entry_of_the_directory_api_is_the_same_entry(api: Api) -> None:
    api.command(
        "directory.register",
        {"kind": "dispatch", "id": "PUSH", "fields": {"provider": "console", "owner": "team-7"}},
    )
    shown = (await api.get(f"{PROVIDERS}/PUSH")).json()
    # Fields that others gave it are theirs alone, and stay.
    assert "owner" not in shown
    await api.client.patch(f"{PROVIDERS}/PUSH", json={"timeout_seconds": 1}, headers=api.by())
    entry = (await api.get("/v1/directory/dispatch/PUSH")).json()
    assert entry["fields"] == {"provider": "console", "owner": "team-7", "timeout_seconds": 1}


async def test_a_projects_manager_changes_nothing_of_what_holds_for_the_tenant(api: Api) -> None:
    fields = {"projects": {"p": {"is_manager": True}}}
    api.command("directory.register", {"kind": "member", "id": "max", "fields": fields})
    manager = api.key("acme", "max", "MANAGE_ACTIVITY_CONFIG", "read", "write")
    new = {"channel": "SMS", "provider": "http", "url": "https://elsewhere.example/take"}
    failure(await api.post(PROVIDERS, new, manager), 403)
    own = {"fields": {"projects": {**fields["projects"], "q": {"is_manager": True}}}}
    for path, status in (("/v1/directory/member/max", 403), ("/v1/directory/member/zed", 404)):
        changed = await api.client.patch(path, json=own, headers=api.by(manager))
        assert changed.status_code == status
