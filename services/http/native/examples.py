"""What the OpenAPI document says of the native endpoints; every status that an operation can answer stands here."""

from __future__ import annotations

from typing import Any

from domain import EVENTS
from services.http.core.errors import PROBLEM_JSON, STATUS_OF_CODE
from services.http.native import components
from services.http.native.components import MOST_POSITION, ref

DESCRIPTION = """Activities made of tasks: commands in, rolled-up status out.

Every request carries an API key as `Authorization: Bearer fw_…`; the key names the tenant, and ids of other tenants
do not exist for it. A command's answer names the log position of its events; a query with `min_position` waits for the
read model to get there. Errors are RFC 9457 problem details, or the envelope of the dialect that is spoken. A member's
e-mail and rights as manager, and a key, are believed for 5 seconds after they were read.

Every write takes an `Idempotency-Key`: repeated under the same key, it takes effect once. A write whose outcome is not
known in time answers 202 with the address of its receipt."""

TAGS = [
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

Json = dict[str, Any]


def answer(
    description: str, example: Any, media: str = "application/json", schema: Json | None = None, **rest: Any
) -> Json:
    """Return an OpenAPI response with an example."""
    shown: Json = {"schema": schema if schema is not None else {"type": "object"}}
    if example is not None:
        shown["example"] = example
    return {"description": description, "content": {media: shown}, **rest}


def problems(*statuses: int) -> Json:
    """Return the problem responses of an operation, each with the codes that it may have."""
    found: Json = {}
    for status in (*statuses, 401, 403, 500, 503):
        codes = ", ".join(f"`{code}`" for code, its in STATUS_OF_CODE.items() if its == status)
        found[str(status)] = answer(f"One of {codes}", None, PROBLEM_JSON, ref("Problem"))
    return found


def parameter(name: str, description: str, kind: str = "string", place: str = "query", **rest: Any) -> Json:
    """Return an OpenAPI parameter."""
    required = {"required": True} if place == "path" else {}
    return {"name": name, "in": place, "description": description, "schema": {"type": kind, **rest}, **required}


def link(operation: str, description: str, **parameters: str) -> Json:
    """Return an OpenAPI link to an operation."""
    return {"operationId": operation, "parameters": parameters, "description": description}


ID = parameter("id", "An id, as given out here or brought by a command", place="path")
KEY = parameter(
    "Idempotency-Key",
    "Makes repetitions take effect once; 1 to 255 printable characters",
    place="header",
    pattern="^[!-~]([ -~]{0,253}[!-~])?$",
)
MIN_POSITION = parameter(
    "min_position",
    "Wait until the read model has handled this position",
    "integer",
    minimum=0,
    maximum=MOST_POSITION,
)
LIMIT = parameter("limit", "Rows of a page", "integer", minimum=1, maximum=500, default=50)
CURSOR = parameter("cursor", "What `next` of the page before says")
LOCATION = {"Location": {"description": "Its address", "schema": {"type": "string"}}}

_EVENT = {"position": 42, "type": "task.completed", "stream": "task-t1", "version": 3}
_REPLY = {
    "command_id": "c-1",
    "outcome": "accepted",
    "duplicate": False,
    "position": 42,
    "events": [_EVENT],
    "error": None,
}
_COMMAND = {"type": "task.complete", "data": {"id": "t1", "data": {"signed": True}}}
UNDECIDED = answer(
    "No answer yet, or the views are late; look at the receipt",
    {"command_id": "c-1", "outcome": "undecided", "receipt": "/v1/commands/c-1"},
    schema=ref("Undecided"),
    headers=LOCATION,
)

POST_COMMAND: Json = {
    "operationId": "post_command",
    "tags": ["commands"],
    "summary": "Give a command and wait for its answer",
    "description": "The body is checked here as the workers check it. A key of `system` with the permission "
    "`impersonate` may name another `actor`. Without an answer in time the command is still on its way: 202.",
    "parameters": [KEY],
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": ref("Command"), "example": _COMMAND}},
    },
    "responses": {
        "200": answer(
            "Accepted",
            _REPLY,
            schema=ref("Reply"),
            headers=LOCATION,
            links={"receipt": link("get_receipt", "Its receipt", id="$response.body#/command_id")},
        ),
        "202": UNDECIDED,
        **problems(400, 404, 409, 413, 415, 422),
    },
}
GET_RECEIPT: Json = {
    "operationId": "get_receipt",
    "tags": ["commands"],
    "summary": "Read a command's receipt",
    "parameters": [ID],
    "responses": {
        "200": answer(
            "Decided",
            {
                "command_id": "c-1",
                "outcome": "accepted",
                "recorded_at": "2025-10-31T01:50:00.123456Z",
                "position": 42,
                "events": [_EVENT],
            },
            schema=ref("Receipt"),
        ),
        **problems(400, 404),
    },
}
_CLOUD_EVENT = {
    "specversion": "1.0",
    "id": "0199a1f0-0000-7000-8000-000000000001",
    "source": "/foldwork/acme",
    "type": "task.completed",
    "subject": "task/t1",
    "time": "2025-10-31T01:50:00.123456Z",
    "datacontenttype": "application/json",
    "tenant": "acme",
    "position": 42,
    "streamversion": 3,
    "recordedat": "2025-10-31T01:50:00.130000Z",
    "commandid": "c-1",
    "correlationid": "c-1",
    "causationid": "c-1",
    "actor": "ann",
    "data": {"id": "t1", "activity_id": "a1", "output": {"signed": True}, "late": False},
}
GET_EVENTS: Json = {
    "operationId": "get_events",
    "tags": ["events"],
    "summary": "Read the tenant's events in order",
    "description": "Ask again with `after` = `next`. A stretch without events of this tenant moves `next` on as well; "
    "`next` = `head` means that there is nothing more for now.",
    "parameters": [
        parameter("after", "The position to read on from", "integer", minimum=0, maximum=MOST_POSITION, default=0),
        parameter("type", "A type of event; may be repeated", "array", items={"type": "string", "enum": list(EVENTS)}),
        parameter("limit", "Most events of an answer", "integer", minimum=1, maximum=500, default=100),
    ],
    "responses": {
        "200": answer(
            "Events",
            {"events": [_CLOUD_EVENT], "next": 42, "head": 42},
            schema=components.shape(
                events={"type": "array", "items": ref("CloudEvent")},
                next={"type": "integer", "minimum": 0},
                head={"type": "integer", "minimum": 0},
            ),
        ),
        **problems(400),
    },
}

_READY = {"status": "ready", "not_ready": [], "degraded": [], "database": {"ready": True}}
_NOT_READY = {
    "status": "not ready",
    "not_ready": ["broker"],
    "degraded": [],
    "database": {"ready": True},
    "broker": {"ready": False},
}
OPERATIONS: dict[str, Json] = {
    "/livez": {
        "operationId": "livez",
        "summary": "Is the process alive",
        "responses": {
            200: answer(
                "It is", {"status": "live"}, schema=components.shape(status={"type": "string", "const": "live"})
            )
        },
    },
    "/readyz": {
        "operationId": "readyz",
        "summary": "Is the process ready, and if not, what is missing",
        "responses": {
            200: answer("It is", _READY, schema=ref("Readiness")),
            503: answer("Something is missing", _NOT_READY, schema=ref("Readiness")),
        },
    },
    "/metrics": {
        "operationId": "metrics",
        "summary": "Figures for Prometheus",
        "responses": {200: answer("Figures", None, "text/plain", {"type": "string"})},
    },
}
