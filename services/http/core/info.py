"""The description and the tags of the OpenAPI document."""

from __future__ import annotations

from typing import Any

_DESCRIPTION = """Activities made of tasks: commands in, rolled-up status out.

Every request carries an API key as `Authorization: Bearer fw_…`; the key names the tenant, and ids of other tenants
do not exist for it. A command's answer names the log position of its events; a query with `min_position` waits for the
read model to get there. Errors are RFC 9457 problem details, or the envelope of the dialect that is spoken. A member's
e-mail and rights as manager, and a key, are believed for 5 seconds after they were read.

Every write takes an `Idempotency-Key`: repeated under the same key, it takes effect once. A write whose outcome is not
known in time answers 202 with the address of its receipt."""

TAGS: list[dict[str, Any]] = [
    {
        "name": "field",
        "description": "The field dialect: activities as a master with tasks, workflows, `{status, message, …}`.",
    },
    {
        "name": "dispatch",
        "description": "The dispatch dialect: tasks that go out over a channel, their targets, attributes and results; "
        "requests in snake_case, answers in camelCase, errors as `{statusCode, message, error}`.",
    },
    {
        "name": "workflow",
        "description": "The workflow dialect: tasks as the activities of a project, as JSON:API resources.",
    },
    {"name": "directory", "description": "Whatever a command may refer to, and what a tenant configures."},
    {"name": "commands", "description": "Commands as they are on the wire, and their receipts."},
    {"name": "activities", "description": "Activities with their rolled-up status."},
    {"name": "tasks", "description": "Tasks, those of activities and those that stand alone."},
    {"name": "events", "description": "The log as CloudEvents."},
    {"name": "operations", "description": "Liveness, readiness and figures; no API key."},
]

INFO = {"title": "Foldwork", "version": "1", "description": _DESCRIPTION}
