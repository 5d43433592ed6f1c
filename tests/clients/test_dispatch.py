"""A day's work of a client of the original dispatch API, against the service behind a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from services.keys import ROLES
from tests.clients.dispatch_client import ApiError, DispatchClient
from tests.clients.node import run_node
from tests.services.http.api import Api
from tests.services.http.dispatch_scene import report
from tests.services.http.served import served

TENANT = "tenant-7"
COMMERCE = "880e8400-e29b-41d4-a716-446655440000"
ROUTE = "dd0e8400-e29b-41d4-a716-446655440000"
OPERATOR = "cc0e8400-e29b-41d4-a716-446655440000"
USERS = [
    {"id": "aa0e8400-e29b-41d4-a716-446655440000", "role": "COMMERCE_REP", "first_name": "Maria", "last_name": "Garcia"}
]
TASK: dict[str, Any] = {
    "reason": "Monthly visit",
    "channel": "SALESMAN",
    "commerce_id": COMMERCE,
    "idempotency_key": "task-2025-01-15-001",
    "assigned_route_id": ROUTE,
    "assigned_operator_id": OPERATOR,
    "scheduled_at": "2025-01-16T09:00:00.000Z",
    "attribute_keys": ["commerce_info", "promotions"],
}


def furnish(tenant: Api) -> None:
    """Register what a tenant of the original has before its first call: its shops, routes and people."""
    shop = {"name": "Main Street Store", "external_id": "store-001", "users": USERS}
    for kind, entry_id, fields in (
        ("commerce", COMMERCE, shop),
        ("route", ROUTE, {}),
        ("operator", OPERATOR, {}),
        ("dispatch", "SALESMAN", {"provider": "console"}),
    ):
        tenant.command("directory.register", {"kind": kind, "id": entry_id, "fields": fields}, TENANT)


@pytest.fixture
def tenant(migrated_url: str) -> Iterator[Api]:
    with served(migrated_url) as running:
        furnish(running.api)
        running.api.tokens["base"] = running.url
        yield running.api


@pytest.fixture(params=["bearer", "key"])
def dispatching(tenant: Api, request: pytest.FixtureRequest) -> DispatchClient:
    if request.param == "key":
        return DispatchClient(tenant.tokens["base"], api_key=tenant.key(TENANT))
    return DispatchClient(tenant.tokens["base"], tenant.key(TENANT), TENANT)


def accepted(tenant: Api, activity_id: str, reference: str) -> None:
    """Play the provider, which takes what is sent to it under an id of its own."""
    report(tenant, activity_id, 1, True, tenant=TENANT, reference=reference)


def test_from_creation_to_the_result(tenant: Api, dispatching: DispatchClient) -> None:
    created = dispatching.create_task(**TASK)
    assert created["status"] == "READY"
    page = dispatching.activities(status="READY", commerce_id=COMMERCE, limit=10)
    assert [each["id"] for each in page["data"]] == [created["id"]]
    dispatching.dispatch(created["id"])
    accepted(tenant, created["id"], "ext-123")
    dispatching.submit_result(
        provider_activity_id="ext-123",
        commerce_external_id="store-001",
        status="COMPLETED",
        occurred_at="2025-01-16T14:30:00.000Z",
        task_result={"result": "success", "comment": "Order placed successfully", "contact_type": "OUTBOUND"},
    )
    assert dispatching.activity(created["id"])["status"] == "COMPLETED"
    assert [each["toStatus"] for each in dispatching.status_events(created["id"])][-1] == "COMPLETED"


def test_what_fails_and_what_is_cancelled(dispatching: DispatchClient) -> None:
    first, second = (dispatching.create_task(**{**TASK, "idempotency_key": key}) for key in ("k-1", "k-2"))
    dispatching.submit_result(
        activity_id=first["id"],
        commerce_external_id="store-001",
        status="NOT_EXECUTED",
        occurred_at="2025-01-16T14:30:00.000Z",
        task_result={"result": "not_home"},
    )
    assert dispatching.activity(first["id"])["status"] == "FAILED"
    assert dispatching.cancel(second["id"])["status"] == "CANCELED"


def test_targets_and_attributes(tenant: Api, dispatching: DispatchClient) -> None:
    owner = [{"type": "ROLE_MATCH", "config": {"role": "OWNER"}, "priority": 0}]
    created = dispatching.create_task(**TASK, target_criteria=owner)
    assert created["status"] == "UNRESOLVED"
    dispatching.retry_resolution(created["id"])
    (target,) = dispatching.target_users(created["id"])
    assert target["resolutionStatus"] == "FAILED"
    assert dispatching.resolve_target(created["id"], target["id"], USERS[0]["id"])["status"] == "READY"
    dispatching.dispatch(created["id"])
    accepted(tenant, created["id"], "ext-1")
    (target,) = dispatching.target_users(created["id"])
    assert (target["resolutionStatus"], target["lockReason"]) == ("LOCKED", "MANUAL_ASSIGNMENT")
    assert target["commerceUser"] == {"firstName": "Maria", "lastName": "Garcia"}
    keys = [each["attributeKeyId"] for each in dispatching.attributes(created["id"])]
    assert keys == ["commerce_info", "promotions"]
    told = [each["eventType"] for each in dispatching.status_events(created["id"])]
    assert [name for name in told if name in ("CREATED", "RESOLUTION_RETRY_FAILED", "DISPATCH_SUCCESS")] == [
        "CREATED",
        "RESOLUTION_RETRY_FAILED",
        "DISPATCH_SUCCESS",
    ]


def test_configuration(dispatching: DispatchClient) -> None:
    created = dispatching.create_task(**{**TASK, "channel": "WHATSAPP"})
    with pytest.raises(ApiError) as refused:
        dispatching.dispatch(created["id"])
    assert refused.value.status == 404
    provider = {
        "channel": "WHATSAPP",
        "base_url": "https://provider.example.com",
        "credentials": {"apiKey": "sk-xxx"},
        "settings": {},
    }
    dispatching.put_dispatch_config(dispatch_provider_id="http", **provider)
    dispatching.put_dispatch_config(dispatch_provider_id="console", **provider)
    assert [each["channel"] for each in dispatching.dispatch_configs()] == ["SALESMAN", "WHATSAPP"]
    dispatching.dispatch(created["id"])
    policy = {"attribute_key_id": "commerce_info", "resolver_type": "INTERNAL_SERVICE"}
    dispatching.put_attribute_policy(resolution_strategy="UPFRONT", **policy)
    dispatching.put_attribute_policy(resolution_strategy="ON_DISPATCH", **policy)
    assert [each["resolutionStrategy"] for each in dispatching.attribute_policies()] == ["ON_DISPATCH"]
    dispatching.put_target_resolution(
        resolution_strategy="ON_CREATION",
        fallback_to_commerce_rep=True,
        fallback_to_owner=True,
        priority=0,
        criteria=[
            {"type": "ROLE_MATCH", "config": {"role": "COMMERCE_REP"}, "priority": 0},
            {"type": "LAST_CONTACTED_SAME_CHANNEL", "config": {}, "priority": 1},
        ],
    )
    (resolution,) = dispatching.target_resolutions()
    assert [each["criteriaType"] for each in resolution["criteria"]] == ["ROLE_MATCH", "LAST_CONTACTED_SAME_CHANNEL"]
    assert "sk-xxx" not in repr(dispatching.dispatch_configs())


def test_when_targets_are_found(tenant: Api, dispatching: DispatchClient) -> None:
    dispatching.put_target_resolution(
        resolution_strategy="ON_DISPATCH", criteria=[{"type": "ROLE_MATCH", "config": {"role": "COMMERCE_REP"}}]
    )
    created = dispatching.create_task(**TASK)
    (target,) = dispatching.target_users(created["id"])
    assert (created["status"], target["resolutionStatus"], target["resolutionStrategy"]) == (
        "READY",
        "PENDING",
        "ON_DISPATCH",
    )
    dispatching.dispatch(created["id"])
    accepted(tenant, created["id"], "ext-1")
    assert [each["resolutionStatus"] for each in dispatching.target_users(created["id"])] == ["LOCKED"]
    dispatching.put_target_resolution(resolution_strategy="MANUAL")
    waiting = dispatching.create_task(**{**TASK, "idempotency_key": "k-2"})
    (target,) = dispatching.target_users(waiting["id"])
    assert (waiting["status"], target["resolutionStatus"]) == ("UNRESOLVED", "PENDING")
    assert dispatching.resolve_target(waiting["id"], target["id"], USERS[0]["id"])["status"] == "READY"


MESSAGE: dict[str, Any] = {
    "type": "MESSAGE",
    "reason": "Monthly promotion",
    "channel": "WHATSAPP",
    "commerce_id": COMMERCE,
    "idempotency_key": "msg-2025-01-15-001",
    "scheduled_at": "2025-01-16T09:00:00.000Z",
    "attribute_keys": ["commerce_info"],
}


def with_outcomes(tenant: Api) -> None:
    """Register what the original's administration offers as results."""
    for code, label, later in (
        ("SALE_COMPLETED", "Venta completada", False),
        ("RESCHEDULE", "Reprogramar visita", True),
    ):
        fields = {"label": label, "requires_follow_up": later}
        tenant.command("directory.register", {"kind": "outcome", "id": code, "fields": fields}, TENANT)


def test_messages_beside_tasks(dispatching: DispatchClient) -> None:
    task, message = dispatching.create_task(**TASK), dispatching.create_activity(**MESSAGE)
    assert (message["type"], message["status"]) == ("MESSAGE", "READY")
    for kind, own in (("TASK", task), ("MESSAGE", message)):
        assert [each["id"] for each in dispatching.activities(type=kind)["data"]] == [own["id"]]
    with pytest.raises(ApiError) as refused:
        dispatching.dispatch(message["id"])
    assert refused.value.status == 400
    assert dispatching.cancel(message["id"])["status"] == "CANCELED"


def test_what_there_is_to_choose_from(dispatching: DispatchClient) -> None:
    for key in [each["id"] for each in dispatching.attribute_keys()]:
        policy = {"attribute_key_id": key, "resolver_type": "INTERNAL_SERVICE"}
        dispatching.put_attribute_policy(resolution_strategy="UPFRONT", **policy)
    provider = dispatching.dispatch_providers()[0]
    channels = [each["channel"] for each in dispatching.channel_definitions(provider["id"])]
    assert "EMAIL" in channels
    for channel in channels:
        dispatching.put_dispatch_config(
            dispatch_provider_id=provider["id"], channel=channel, base_url="https://provider.example.com"
        )
    assert sorted(each["channel"] for each in dispatching.dispatch_configs()) == sorted(channels)
    made = dispatching.create_retention_status(code="churned", label="Abandonado", description="Cliente ha abandonado")
    assert dispatching.retention_statuses(active_only="true") == [made]


def test_a_system_that_polls(tenant: Api, dispatching: DispatchClient) -> None:
    with_outcomes(tenant)
    created = [dispatching.create_task(**{**TASK, "idempotency_key": f"k-{number}"}) for number in range(3)]
    key = tenant.key(TENANT, "system", *ROLES["integration"])
    system = DispatchClient(tenant.tokens["base"], api_key=key)
    assert [each["code"] for each in system.result_types()] == ["RESCHEDULE", "SALE_COMPLETED"]
    page = system.integration_tasks(status="PENDING", external_commerce_id="store-001", page=1, per_page=2)
    assert page["meta"] == {"page": 1, "limit": 2, "total": 3, "totalPages": 2}
    told = {"commerce_external_id": "store-001", "occurred_at": "2026-04-11T10:30:00.000Z"}
    later = {"result": "RESCHEDULE", "future_scheduled_at": "2026-04-20T10:00:00.000Z"}
    for activity, status, result in (
        (created[0], "EFFECTIVE", {"result": "SALE_COMPLETED"}),
        (created[1], "NOT_EFFECTIVE", later),
        (created[2], "PENDING", {"result": "SALE_COMPLETED"}),
    ):
        system.submit_integration_result(activity_id=activity["id"], status=status, task_result=result, **told)
    for status, activity in (("EFFECTIVE", created[0]), ("NOT_EFFECTIVE", created[1]), ("PENDING", created[2])):
        assert [each["id"] for each in system.integration_tasks(result_status=status)["data"]] == [activity["id"]]
    with pytest.raises(ApiError) as refused:
        system.submit_integration_result(
            activity_id=created[2]["id"], status="EFFECTIVE", task_result={"result": "RESCHEDULE"}, **told
        )
    assert refused.value.status == 400
    with pytest.raises(ApiError) as refused:
        system.cancel(created[2]["id"])
    assert refused.value.status == 403


def test_a_day_of_a_client_for_node(tenant: Api) -> None:
    with_outcomes(tenant)
    env = {
        "TOKEN": tenant.key(TENANT),
        "TENANT": TENANT,
        "API_KEY": tenant.key(TENANT, "system", *ROLES["integration"], "OVERRIDE_ACTIVITY_RESULT"),
        "COMMERCE": COMMERCE,
        "ROUTE": ROUTE,
        "OPERATOR": OPERATOR,
        "USER": USERS[0]["id"],
    }
    assert "the day is done" in run_node("dispatch_client.mjs", tenant.tokens["base"], env)


def test_errors(dispatching: DispatchClient) -> None:
    dispatching.create_task(**TASK)
    for status, call in (
        (409, lambda: dispatching.create_task(**TASK)),
        (404, lambda: dispatching.create_task(**{**TASK, "idempotency_key": "k-2", "commerce_id": ROUTE})),
        (400, lambda: dispatching.create_task(**{**TASK, "idempotency_key": "k-2", "channel": "PIGEON"})),
        (404, lambda: dispatching.activity(ROUTE)),
        (404, lambda: dispatching.dispatch(ROUTE)),
    ):
        with pytest.raises(ApiError) as refused:
            call()
        assert refused.value.status == status
