"""Targets that are found at the dispatch, or named by somebody, as a client of the dispatch API sees them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.services.http.api import Api
from tests.services.http.dispatch_scene import BODY, RESOLUTION, failure, furnish, planned, read, report

CONFIG, POLICIES, CREATE = (
    "/api/activity-config/target-resolution",
    "/api/target-resolution-policies",
    "/api/activities/tasks",
)
OWNER = [{"type": "ROLE_MATCH", "config": {"role": "OWNER"}, "priority": 0}]
TARGET = {
    "id": "t1",
    "commerceUserId": None,
    "resolutionStatus": "PENDING",
    "lockReason": None,
    "resolvedAt": None,
    "lockedAt": None,
    "commerceUser": None,
    "reason": None,
}

set_scene = furnish


async def created(api: Api, strategy: str, criteria: Any = OWNER, **rest: Any) -> str:
    """Configure the strategy, create an activity, and return its id."""
    configured = await api.post(CONFIG, {"resolution_strategy": strategy, "criteria": criteria})
    assert (configured.status_code, configured.json()["resolutionStrategy"]) == (201, strategy)
    made = await api.post(CREATE, {**BODY, "scheduled_at": "2099-01-16T09:00:00.000Z", **rest})
    assert made.status_code == 201, made.text
    activity: str = made.json()["id"]
    return activity


async def dispatch(api: Api, activity: str) -> Any:
    return await api.post(f"{CREATE}/{activity}/dispatch", None)


async def test_a_target_is_found_at_the_dispatch(api: Api) -> None:
    activity = await created(api, "ON_DISPATCH")
    assert (await read(api, activity))["status"] == "READY"
    waiting = {**TARGET, "resolutionStrategy": "ON_DISPATCH", "criterion": "ROLE_MATCH"}
    assert await read(api, activity, "/target-users") == [waiting]
    retried = await api.client.patch(f"/api/activities/{activity}/retry-resolution", headers=api.by())
    assert "not unresolved" in failure(retried, 400)
    assert (await dispatch(api, activity)).status_code == 204
    report(api, activity, 1, True)
    (target,) = await read(api, activity, "/target-users")
    shown = {name: target[name] for name in ("commerceUserId", "resolutionStatus", "resolutionStrategy", "lockReason")}
    assert shown == {
        "commerceUserId": "u-owner",
        "resolutionStatus": "LOCKED",
        "resolutionStrategy": "ON_DISPATCH",
        "lockReason": "CRITERIA_MATCH",
    }
    told = [(each["eventType"], each["toStatus"]) for each in await read(api, activity, "/status-events")]
    assert told == [
        ("CREATED", "READY"),
        ("RESOLUTION_DEFERRED", "READY"),
        ("TARGETS_RESOLVED", "READY"),
        ("DISPATCH_REQUESTED", "READY"),
        ("DISPATCH_SUCCESS", "DISPATCHED"),
    ]


async def test_a_dispatch_that_finds_nobody(api: Api) -> None:
    activity = await created(api, "ON_DISPATCH", [{"type": "ROLE_MATCH", "config": {"role": "DRIVER"}}])
    no_fallback = {
        "resolution_strategy": "ON_DISPATCH",
        "criteria": [{"type": "ROLE_MATCH", "config": {"role": "DRIVER"}}],
    }
    await api.post(CONFIG, {**no_fallback, "fallback_to_owner": False, "fallback_to_commerce_rep": False})
    assert (await dispatch(api, activity)).status_code == 204
    assert (await read(api, activity))["status"] == "UNRESOLVED"
    (target,) = await read(api, activity, "/target-users")
    assert (target["resolutionStatus"], target["resolutionStrategy"]) == ("FAILED", "ON_DISPATCH")
    await api.post(CONFIG, {"resolution_strategy": "ON_DISPATCH", "criteria": OWNER})
    retried = await api.client.patch(f"/api/activities/{activity}/retry-resolution", headers=api.by())
    assert retried.json()["status"] == "READY"
    assert (await read(api, activity, "/status-events"))[-1]["eventType"] == "RESOLUTION_RETRY_SUCCESS"


@pytest.mark.parametrize("criteria", [None, OWNER])
async def test_a_target_is_named_by_somebody(api: Api, criteria: Any) -> None:
    activity = await created(api, "MANUAL", criteria)
    assert (await read(api, activity))["status"] == "UNRESOLVED"
    waiting = {**TARGET, "resolutionStrategy": "MANUAL", "criterion": "MANUAL"}
    assert await read(api, activity, "/target-users") == [waiting]
    assert "targets are not resolved" in failure(await dispatch(api, activity), 400)
    retried = await api.client.patch(f"/api/activities/{activity}/retry-resolution", headers=api.by())
    assert (retried.status_code, retried.json()["status"]) == (200, "UNRESOLVED")
    place = f"/api/activities/{activity}/target-users/t1/resolve"
    for user, status in (("nobody", 404), ("u-cook", 400)):
        failure(await api.client.patch(place, json={"commerce_user_id": user}, headers=api.by()), status)
    named = await api.client.patch(place, json={"commerce_user_id": "u-owner"}, headers=api.by())
    assert (named.status_code, named.json()["status"]) == (200, "READY")
    (target,) = await read(api, activity, "/target-users")
    assert (target["lockReason"], target["resolutionStrategy"]) == ("MANUAL_ASSIGNMENT", "MANUAL")
    assert (await dispatch(api, activity)).status_code == 204


async def test_an_activity_that_waits_for_somebody_is_unresolved_everywhere(api: Api) -> None:
    activity = await created(api, "MANUAL", None)
    planned(api, "ready", criteria=[])
    for query, found in (("status=UNRESOLVED", activity), ("status=READY", "ready")):
        assert [each["id"] for each in (await api.get(f"/api/activities?{query}")).json()["data"]] == [found]
    listed = (await api.get("/v1/tasks?resolution=PENDING")).json()["data"]
    assert [(each["id"], each["wake"], each["resolution"]) for each in listed] == [(activity, None, "PENDING")]
    workflow = (await api.get(f"/api/v3/workflow/activities/{activity}")).json()["data"]["attributes"]
    assert workflow["indicators"]["unresolved"] is True
    asked = {"filter[indicators__contains]": '{"unresolved": true}'}
    found = await api.get("/api/v3/workflow/activities", params=asked)
    assert [each["id"] for each in found.json()["data"]] == [activity]


async def test_the_strategy_as_a_policy_of_its_own(api: Api) -> None:
    new = {"channel": "SMS", "resolution_strategy": "MANUAL"}
    made = await api.post(POLICIES, new)
    assert (made.status_code, made.json()["resolutionStrategy"], made.json()["criteria"]) == (201, "MANUAL", [])
    assert [(each["channel"], each["resolutionStrategy"]) for each in (await api.get(CONFIG)).json()] == [
        ("SMS", "MANUAL")
    ]
    place = f"{POLICIES}/SMS"
    refused = await api.client.patch(place, json={"resolution_strategy": "ON_DISPATCH"}, headers=api.by())
    assert failure(refused, 400).endswith("(/criteria)")
    changed = {"resolution_strategy": None, "criteria": [{"type": "ANY"}]}
    patched = await api.client.patch(place, json=changed, headers=api.by())
    assert patched.json()["resolutionStrategy"] == "ON_CREATION"


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        (CONFIG, {**RESOLUTION, "resolution_strategy": "ON_DISPATCH", "criteria": []}, "/criteria"),
        (CONFIG, {"resolution_strategy": "ON_CREATION"}, "/criteria"),
        (CONFIG, {**RESOLUTION, "resolution_strategy": "UPFRONT"}, "/resolution_strategy"),
        (POLICIES, {"channel": "SMS", "resolution_strategy": 7, "criteria": [{"type": "ANY"}]}, "/resolution_strategy"),
    ],
)
async def test_what_is_no_strategy(api: Api, path: str, body: Any, place: str) -> None:
    assert failure(await api.post(path, body), 400).endswith(f"({place})")
    assert (await api.get(CONFIG)).json() == []
