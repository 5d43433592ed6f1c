"""What the OpenAPI document says of the API as a whole: its title, its description, and the tags of operations."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

_DESCRIPTION = """Activities made of tasks: commands in, rolled-up status out.

Every request carries an API key as `Authorization: Bearer fw_…` or as `X-API-Key`; the key names the tenant,
and ids of other tenants do not exist for it. A write's answer says the log position of its events in
`Foldwork-Position`; a query with that header, or with `min_position`, waits for the read model to get there. Errors are
RFC 9457 problem details, or the envelope of the dialect that is spoken. A member's e-mail and rights as manager, and a
key, are believed for 5 seconds after they were read.

Every write takes an `Idempotency-Key`: repeated under the same key, it takes effect once. A write whose outcome is not
known in time answers 202 with the address of its receipt.

A write with `Prefer: dry-run` is decided on the present state, and nothing is recorded.

A single resource has an `ETag`, which `If-None-Match` of a query and `If-Match` of a write take.

`HEAD` is answered wherever `GET` is. A body is UTF-8, and may be sent with `Content-Encoding: gzip`."""

TAGS: list[Json] = [
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
    {"name": "stuck", "description": "What does not move though it should."},
    {"name": "dead-letters", "description": "Messages that were no commands, or could not be decided."},
    {"name": "webhooks", "description": "Events sent to a URL, signed by the Standard Webhooks specification."},
    {"name": "bulk", "description": "A command for many, previewed first and then run as it was shown."},
    {"name": "audit", "description": "What operators did."},
    {"name": "keys", "description": "The tenant's API keys."},
    {"name": "projections", "description": "The followers of the log, such as the read models, and their rebuilds."},
    {"name": "overview", "description": "Figures of now, and one search over everything."},
    {"name": "operations", "description": "Liveness, readiness and figures; no API key."},
]

INFO: Json = {"title": "Foldwork", "version": "1", "description": _DESCRIPTION}
