"""The scene of the contract: something of every kind that an operation can read or change, all of it of one tenant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import psycopg

import projections
from domain.directory.settings import CHANNELS
from domain.errors import Refusal
from projections.task import table as tasks
from services import keys
from services.broker.sender import Outgoing
from services.dev import seed
from services.http.core.bulk_sender import StoredItem, encode
from services.http.native.models import BULK_ID
from services.store import operations, webhooks
from tests.services.http.api import Api

Json = dict[str, Any]

# What stands in the text of every resource of the scene, and so may not be shown to another tenant.
CANARY = "canary-4711"
COMMAND_ID = "scene-1"
LETTER = "letter-1"
KEY = "0123456789abcdef"
# Previewed bulks by their states, in which what is done with each changes nothing.
BULKS: Mapping[str, str] = {
    BULK_ID: "finished", "bulk-paused": "paused", "bulk-resumed": "finished", "bulk-aborted": "aborted"
}  # fmt: skip


def scene() -> list[tuple[str, Json]]:
    """Return the commands that set the scene."""
    of_42, of_43 = {"assignees": ["m42"]}, {"assignees": ["m43"]}
    plan = {"channel": "SALESMAN", "reason": CANARY}
    criteria = [{"type": "ROLE_MATCH", "role": "COOK"}]
    return [
        *((name, dict(data)) for name, data in seed.COMMANDS),
        # The examples define a workflow of the name, and give tasks to these two.
        ("workflow.change", {"id": seed.WORKFLOW, "name": CANARY}),
        ("workflow.define", {"id": "unused", "name": "Unused", "steps": [{"name": "One"}]}),
        *(
            (
                "directory.register",
                {"kind": "member", "id": f"m{number}", "fields": {"account_id": number, "projects": {"north": {}}}},
            )
            for number in (42, 43)
        ),
        (
            "activity.create",
            {
                "id": "a1",
                "workflow_id": seed.WORKFLOW,
                "title": CANARY,
                "tasks": [
                    {"id": "a1-t1", "title": CANARY, "assignees": [seed.DRIVER]},
                    {"id": "a1-t2", "fields": {"note": CANARY}},
                ],
            },
        ),
        ("task.create", {"id": "t1", "title": CANARY, **of_42}),
        ("directory.register", {"kind": "project", "id": "north", "fields": {"name": CANARY}}),
        ("directory.register", {"kind": "policy", "id": "channels", "fields": {"value": [*CHANNELS, "FAX"]}}),
        ("directory.register", {"kind": "outcome", "id": "SALE_COMPLETED", "fields": {"label": CANARY}}),
        ("directory.register", {"kind": "retention", "id": "active", "fields": {"label": CANARY}}),
        ("workflow.define", {"id": "of-north", "name": "Of north", "steps": [{"name": "One"}], "project": "north"}),
        ("task.create", {"id": "free", "title": CANARY}),
        ("task.create", {"id": "running", **of_42}),
        ("task.create", {"id": "paused", **of_43}),
        ("task.process", {"id": "running"}),
        ("task.process", {"id": "paused"}),
        ("tracker.pause", {"member": "m43"}),
        ("task.create", {"id": "sent", "commerce": seed.COMMERCE, "plan": plan}),
        ("task.create", {"id": "message", "commerce": seed.COMMERCE, "type": "MESSAGE", "plan": plan}),
        ("task.create", {"id": "lost", "commerce": seed.COMMERCE, "plan": {**plan, "criteria": criteria}}),
    ]


def set_the_scene(api: Api) -> None:
    """Run the scene's commands, store bulks, a dead letter and webhooks, and record an act of an operator."""
    sent = [
        Outgoing(name, msgspec.json.encode(data), "acme", command_id=f"scene-{number}")
        for number, (name, data) in enumerate(scene())
    ]
    for command, reply in zip(sent, api.sender.work(sent), strict=True):
        assert reply.accepted, (command, reply)
    with psycopg.connect(api.url) as conn:
        conn.execute(
            "INSERT INTO bulks (tenant, id, command, actor, items) VALUES ('acme', %s, 'task.create', 'system', %s)",
            (BULK_ID, encode([StoredItem(CANARY, None, Refusal("wrong-shape", "a task is an object"))])),
        )
        conn.execute(
            "INSERT INTO dead_letters (id, tenant, arrived, key, message_id, type, actor, broker_user, headers, body,"
            " bytes, sha256, code, detail, pointer, fingerprint) VALUES (%s, 'acme', '1', 'k', 'd1', 'task.create',"
            " 'system', 'guest', '{}', %s, 2, '', 'poison', %s, '', '')",
            (LETTER, msgspec.json.encode({"title": CANARY}), CANARY),
        )
        for name in ("h1", "h2", "h3"):
            webhooks.create(conn, "acme", name, f"https://example.com/{CANARY}", {}, "", "system")
        conn.execute(
            "INSERT INTO webhook_deliveries (tenant, webhook, position, entity, event_id, state, next_at, answer)"
            " VALUES ('acme', 'h1', 1, 'acme/activity-a1', 'e1', 'delivered', now(), %s)",
            (CANARY,),
        )
        for name, state in BULKS.items():
            conn.execute(
                "INSERT INTO bulk_actions (tenant, id, command, data, asked, on_change, actor, state, rate, total)"
                " VALUES ('acme', %s, 'task.cancel', %s, '{}', 'skip', 'system', %s, 'all', 1)",
                (name, msgspec.json.encode({"reason": CANARY}), state),
            )
            conn.execute(
                "INSERT INTO bulk_items (tenant, bulk_id, number, entity_id, routing_key, version, state, code, detail)"
                " VALUES ('acme', %s, 1, 't1', 't1', 1, 'refused', 'terminal', %s)",
                (name, CANARY),
            )
        operations.record(conn, operations.Operation("acme", "cli:root", "key.create", f"key/{CANARY}"))
        # What is behind would be so for longer at each request.
        conn.execute("UPDATE followers SET position = (SELECT max(notification_id) FROM stored_events)")
        keys.adopt(conn, f"fw_{KEY}_{'x' * 43}", "acme", "system", ["read"], CANARY)
        conn.execute(
            "INSERT INTO held_entities (follower, entity, position, error, retry_at)"
            " VALUES (%s, 'acme/task-held', 1, %s, now() + interval '1 hour')",
            (projections.follower_name(tasks, projections.suffix(tasks)), CANARY),
        )


def recorded(api: Api) -> int:
    """Return how many events are recorded, without those of what operators did."""
    with api.sender.session() as conn:
        counted = "SELECT count(*) FROM stored_events WHERE originator_id NOT LIKE '%/operations-%'"
        row = conn.execute(counted).fetchone()
    assert row is not None
    return int(row[0])


def head(api: Api) -> int:
    """Return the position of the last event."""
    with psycopg.connect(api.url) as conn:
        row = conn.execute("SELECT max(notification_id) FROM stored_events").fetchone()
    assert row is not None
    return int(row[0])
