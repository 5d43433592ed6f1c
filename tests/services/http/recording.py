"""Events that are recorded without commands, of any size and any number."""

from __future__ import annotations

import json

import psycopg

META = {
    "id": "e", "command": "c", "correlation": "c", "causation": "c", "actor": "system", "at": "2025-10-31T01:50:00Z"
}  # fmt: skip
_RECORD = """
INSERT INTO stored_events (originator_id, originator_version, topic, state, notification_id)
SELECT %s || '/task-' || gen_random_uuid(), 1, 'task.created', convert_to(%s, 'UTF8'), h + n
FROM (SELECT coalesce(max(notification_id), 0) AS h FROM stored_events) AS m, generate_series(1, %s) AS n
"""


def record(url: str, count: int, size: int = 10, tenant: str = "acme") -> None:
    """Record events of a tenant, one for each task, as an append does."""
    event = json.dumps({"meta": META, "data": {"id": "x", "title": "x" * size}})
    with psycopg.connect(url) as conn:
        conn.execute(_RECORD, (tenant, event, count))
        conn.execute("SELECT pg_notify('foldwork_log', '')")
