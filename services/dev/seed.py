"""The data that the examples of the API documentation refer to, so that each request works against `foldwork dev`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from services.broker.sender import CommandSender, NotSent, Outgoing

TENANT = "demo"
WORKFLOW = "68f2198aef526585c30e16d2"
HUB = "68ff42815ed967adac0f7192"
ADMIN = "634e98098ce07d29474a7e21"
DRIVER = "634e98098ce07d29474a7e25"
PROJECT = "demo-project"
COMMERCE = "880e8400-e29b-41d4-a716-446655440000"
ROUTE = "dd0e8400-e29b-41d4-a716-446655440000"
OPERATOR = "cc0e8400-e29b-41d4-a716-446655440000"

COMMANDS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("directory.register", {"kind": "hub", "id": HUB, "fields": {"name": "Jakarta"}}),
    ("directory.register", {"kind": "project", "id": PROJECT, "fields": {"name": "Deliveries"}}),
    (
        "directory.register",
        {
            "kind": "member",
            "id": ADMIN,
            "fields": {
                "name": "Admin",
                "email": "admin@example.com",
                "account_id": 1,
                "projects": {PROJECT: {"is_manager": True}},
                "tenant_admin": True,
            },
        },
    ),
    (
        "directory.register",
        {
            "kind": "member",
            "id": DRIVER,
            "fields": {
                "name": "Driver",
                "email": "driver@example.com",
                "account_id": 2,
                "operator_id": OPERATOR,
                "actor_roles": ["driver"],
                "projects": {PROJECT: {"is_manager": False}},
            },
        },
    ),
    (
        "directory.register",
        {
            "kind": "commerce",
            "id": COMMERCE,
            "fields": {"name": "Corner shop", "users": [{"id": "shopkeeper-1", "role": "OWNER"}]},
        },
    ),
    ("directory.register", {"kind": "route", "id": ROUTE, "fields": {"name": "Route 1"}}),
    ("directory.register", {"kind": "operator", "id": OPERATOR, "fields": {"name": "Operator 1"}}),
    # Dispatches are written to the log.
    ("directory.register", {"kind": "dispatch", "id": "SALESMAN", "fields": {"provider": "console"}}),
    (
        "directory.register",
        {"kind": "targeting", "id": "default", "fields": {"criteria": [{"type": "ROLE_MATCH", "role": "OWNER"}]}},
    ),
    (
        "directory.register",
        {"kind": "attribute", "id": "commerce_info", "fields": {"strategy": "UPFRONT", "source": "commerce"}},
    ),
    (
        "directory.register",
        {"kind": "attribute", "id": "promotions", "fields": {"strategy": "CALLER_PROVIDED", "fallback": []}},
    ),
    (
        "workflow.define",
        {
            "id": WORKFLOW,
            "name": "Pickup to Delivery",
            "steps": [
                {"name": "Pickup", "flow": "Pickup", "flow_id": "pickup", "status_mapping": {"DONE": "Picked up"}},
                {
                    "name": "Delivery",
                    "flow": "Delivery",
                    "flow_id": "delivery",
                    "status_mapping": {"DONE": "Delivered"},
                },
            ],
        },
    ),
)


async def seed(amqp_url: str, timeout: float = 30.0) -> None:
    """Create what does not exist yet."""
    sender = CommandSender(amqp_url, "seed")
    await sender.start()
    try:
        for name, data in COMMANDS:
            body = json.dumps(data).encode()
            reply = await sender.send(Outgoing(name, body, TENANT, str(data["id"])), timeout)
            if reply is None:
                raise NotSent(f"{name} {data['id']} was not answered")
            if reply.error is not None and reply.error.code not in ("taken", "name-taken", "retired"):
                raise NotSent(f"{name} {data['id']} was refused: {reply.error.code} {reply.error.detail}")
    finally:
        await sender.close()
