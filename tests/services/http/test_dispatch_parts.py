"""The parts of an activity as the original shows them: attributes with how they were resolved, targets, events."""

from __future__ import annotations

from typing import Any

from tests.services.http.api import Api
from tests.services.http.dispatch_scene import CLERK, OWNER, furnish, planned, read, report

AT = "2025-10-31T01:50:00.000Z"


def set_scene(api: Api) -> None:
    furnish(api)
    users = [
        {"id": "u-owner", "role": "OWNER", "first_name": "Maria", "last_name": "Garcia"},
        {"id": "u-cook", "role": "COOK", "locked": "asked not to be called"},
    ]
    api.command("directory.change", {"kind": "commerce", "id": "shop", "fields": {"users": users}})


async def test_the_attributes_of_the_page(api: Api) -> None:
    policies: dict[str, dict[str, Any]] = {
        "name": {"strategy": "UPFRONT", "source": "commerce.name"},
        "city": {"strategy": "ON_DISPATCH", "source": "commerce.city"},
        "size": {"strategy": "UPFRONT", "source": "commerce.size", "fallback": "small"},
    }
    for key, fields in policies.items():
        api.command("directory.register", {"kind": "attribute", "id": key, "fields": fields})
    planned(api, "a", attribute_keys=["name", "city", "size", "promotions"])
    rows = await read(api, "a", "/attributes")
    assert rows[0] == {
        "id": "a-name",
        "activityId": "a",
        "attributeKeyId": "name",
        "key": "name",
        "value": "Corner shop",
        "resolutionStatus": "RESOLVED",
        "resolverType": "INTERNAL_SERVICE",
        "resolvedAt": rows[0]["createdAt"],
        "errorMessage": None,
        "createdAt": rows[0]["createdAt"],
        "updatedAt": rows[0]["createdAt"],
    }
    assert [(row["key"], row["resolutionStatus"], row["resolverType"], row["value"]) for row in rows[1:]] == [
        ("city", "PENDING", None, None),
        ("size", "FALLBACK", "INTERNAL_SERVICE", "small"),
        ("promotions", "FAILED", "CALLER_PROVIDED", None),
    ]
    assert [row["errorMessage"] for row in rows[1:]] == [None, None, "no value was found"]
    api.command("task.dispatch", {"id": "a"})
    (city,) = [row for row in await read(api, "a", "/attributes") if row["key"] == "city"]
    assert (city["resolutionStatus"], city["resolvedAt"]) == ("FAILED", None)


async def test_the_targets_of_the_page(api: Api) -> None:
    fields = {"criteria": [CLERK], "fallbacks": [OWNER]}
    api.command("directory.register", {"kind": "targeting", "id": "default", "fields": fields})
    planned(api, "a")
    shown = {
        "id": "t1",
        "commerceUserId": "u-owner",
        "resolutionStatus": "RESOLVED",
        "resolutionStrategy": "ON_CREATION",
        "lockReason": "FALLBACK_OWNER",
        "resolvedAt": AT,
        "lockedAt": None,
        "commerceUser": {"firstName": "Maria", "lastName": "Garcia"},
        "criterion": "ROLE_MATCH",
        "reason": None,
    }
    assert await read(api, "a", "/target-users") == [shown]
    api.command("task.dispatch", {"id": "a"})
    report(api, "a", 1, True)
    assert await read(api, "a", "/target-users") == [{**shown, "resolutionStatus": "LOCKED", "lockedAt": AT}]


async def test_why_a_target_is_one(api: Api) -> None:
    planned(api, "met", criteria=[OWNER])
    (target,) = await read(api, "met", "/target-users")
    assert (target["resolutionStatus"], target["lockReason"]) == ("RESOLVED", "CRITERIA_MATCH")
    planned(api, "missed", criteria=[CLERK, {"type": "ROLE_MATCH", "priority": 2, "role": "COOK"}])
    rows = await read(api, "missed", "/target-users")
    assert {row["resolutionStatus"] for row in rows} == {"FAILED"}
    assert {row["lockReason"] for row in rows} == {row["resolvedAt"] for row in rows} == {None}
    assert [row["reason"] for row in rows if row["commerceUserId"]] == ["asked not to be called"]


async def test_the_events_of_resolving_again(api: Api) -> None:
    planned(api, "a", criteria=[CLERK])
    assert (await api.client.patch("/api/activities/a/retry-resolution", json={}, headers=api.by())).status_code == 200
    users = [{"id": "u-clerk", "role": "CLERK"}]
    api.command("directory.change", {"kind": "commerce", "id": "shop", "fields": {"users": users}})
    assert (await api.client.patch("/api/activities/a/retry-resolution", json={}, headers=api.by())).status_code == 200
    told = [event["eventType"] for event in await read(api, "a", "/status-events")]
    assert told == ["CREATED", "RESOLUTION_FAILED", "RESOLUTION_RETRY_FAILED", "RESOLUTION_RETRY_SUCCESS"]


async def test_the_commerce_of_a_list(api: Api) -> None:
    planned(api, "a")
    api.command("task.create", {"id": "plain"})
    page = (await api.get("/api/activities")).json()["data"]
    assert {each["id"]: each["commerceAssignment"] for each in page} == {
        "a": {"commerceId": "shop", "commerce": {"name": "Corner shop"}},
        "plain": None,
    }
    assert (await read(api, "a"))["commerceAssignment"]["commerce"] == {"name": "Corner shop"}
