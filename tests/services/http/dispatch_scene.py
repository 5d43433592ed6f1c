"""What the tests of the dispatch dialect play in: a shop with people, a route, an operator, activities of each kind."""

from __future__ import annotations

from typing import Any

import httpx

from tests.services.http.api import Api

BODY: dict[str, Any] = {
    "reason": "Monthly visit",
    "channel": "SALESMAN",
    "commerce_id": "shop",
    "idempotency_key": "k-1",
    "assigned_route_id": "north",
    "assigned_operator_id": "op-1",
    "scheduled_at": "2025-01-16T09:00:00.000Z",
}
CLERK = {"type": "ROLE_MATCH", "priority": 1, "role": "CLERK"}
OWNER = {"type": "ROLE_MATCH", "priority": 2, "role": "OWNER"}
# A page of each part of the dialect's configuration, with the id that it has.
POLICY = {"key": "shop_name", "strategy": "UPFRONT", "source": "commerce.name", "fallback": "a shop"}
TARGETING = {"channel": "EMAIL", "criteria": [{"type": "ANY"}], "fallbacks": [OWNER]}
PROVIDER = {"channel": "SALESMAN", "provider": "console", "backoff_seconds": 10}
# The same in the original's own words.
STRATEGY = {
    "attribute_key_id": "commerce_info",
    "resolution_strategy": "UPFRONT",
    "resolver_type": "INTERNAL_SERVICE",
}
RESOLUTION = {
    "resolution_strategy": "ON_CREATION",
    "fallback_to_commerce_rep": True,
    "fallback_to_owner": True,
    "priority": 0,
    "criteria": [
        {"type": "ROLE_MATCH", "config": {"role": "COMMERCE_REP"}, "priority": 0},
        {"type": "LAST_CONTACTED_SAME_CHANNEL", "config": {}, "priority": 1},
    ],
}
DISPATCH_CONFIG = {
    "dispatch_provider_id": "http",
    "channel": "SALESMAN",
    "base_url": "https://provider.example.com",
    "settings": {},
}


def furnish(api: Api, tenant: str = "acme") -> None:
    """Register what an activity refers to, and a provider for its channel."""
    users = [
        {"id": "u-owner", "role": "OWNER"},
        {"id": "u-cook", "role": "COOK", "locked": "asked not to be called"},
    ]
    for kind, entry_id, fields in (
        ("commerce", "shop", {"name": "Corner shop", "users": users}),
        ("route", "north", {"name": "North"}),
        ("operator", "op-1", {"name": "Op One"}),
        ("dispatch", "SALESMAN", {"provider": "console"}),
    ):
        api.command("directory.register", {"kind": kind, "id": entry_id, "fields": fields}, tenant)


def planned(api: Api, task_id: str, tenant: str = "acme", **plan: Any) -> None:
    """Create a task that goes out over a channel."""
    title = plan.pop("reason", "Visit")
    data = {"id": task_id, "title": title, "commerce": "shop", "route": "north", "operator": "op-1"}
    api.command("task.create", {**data, "plan": {"channel": "SALESMAN", **plan}}, tenant)


def unresolved(api: Api, task_id: str, tenant: str = "acme") -> None:
    """Create a task whose targets are not found: one criterion fits nobody, the other somebody who is locked."""
    cook = {"type": "ROLE_MATCH", "priority": 2, "role": "COOK"}
    planned(api, task_id, tenant, criteria=[CLERK, cook])


def report(api: Api, task_id: str, attempt: int, succeeded: bool, tenant: str = "acme", **rest: Any) -> None:
    """Say what came of an attempt, as the service does."""
    api.command("task.report-dispatch", {"id": task_id, "attempt": attempt, "succeeded": succeeded, **rest}, tenant)


def failure(response: httpx.Response, status: int, **extra: Any) -> str:
    """Expect the dispatch dialect's envelope, and return its message."""
    assert response.status_code == status, response.text
    body = response.json()
    assert list(body) == ["statusCode", "message", "error", *extra]
    assert body["statusCode"] == status
    assert body["error"] == response.reason_phrase
    assert {name: body[name] for name in extra} == extra
    message: str = body["message"]
    assert message
    return message


async def read(api: Api, task_id: str, part: str = "") -> Any:
    """Return an activity, or a part of it that has an address of its own."""
    response = await api.get(f"/api/activities/{task_id}{part}")
    assert response.status_code == 200, response.text
    return response.json()
