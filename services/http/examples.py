"""What the OpenAPI document says of the native endpoints; every status that an operation can answer stands here."""

from __future__ import annotations

from typing import Any

from domain import COMMANDS, EVENTS
from projections import activities, tasks
from projections.query import Listing
from services.http.problems import PROBLEM_JSON, STATUS_OF_CODE

DESCRIPTION = """Activities made of tasks: commands in, rolled-up status out.

Every request carries an API key as `Authorization: Bearer fw_…`; the key names the tenant, and ids of other tenants
do not exist for it. A command's answer names the log position of its events; a query with `min_position` waits for the
read model to get there. Errors are RFC 9457 problem details, or the envelope of the dialect that is spoken. A member's
e-mail and rights as manager, and a key, are believed for 5 seconds after they were read."""

TAGS = [
    {"name": "field", "description": "The field dialect: activities as a master with tasks."},
    {"name": "commands", "description": "Commands as they are on the wire, and their receipts."},
    {"name": "activities", "description": "Activities with their rolled-up status."},
    {"name": "tasks", "description": "Tasks, those of activities and those that stand alone."},
    {"name": "events", "description": "The log as CloudEvents."},
    {"name": "operations", "description": "Liveness, readiness and figures; no API key."},
]

Json = dict[str, Any]

_PROBLEM: Json = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "example": "urn:foldwork:problem:not-found"},
        "title": {"type": "string", "example": "Not Found"},
        "status": {"type": "integer", "example": 404},
        "detail": {"type": "string", "example": "there is no activity of this id"},
        "code": {"type": "string", "enum": sorted(STATUS_OF_CODE)},
        "pointer": {"type": "string", "description": "JSON pointer into the body"},
        "parameter": {"type": "string", "description": "query parameter or header at fault"},
    },
}


def answer(description: str, example: Any, media: str = "application/json") -> Json:
    """Return an OpenAPI response with an example."""
    return {"description": description, "content": {media: {"schema": {"type": "object"}, "example": example}}}


def problems(*statuses: int) -> Json:
    """Return the problem responses of an operation, each with the codes that it may have."""
    found: Json = {}
    for status in (*statuses, 401, 403, 500, 503):
        codes = ", ".join(f"`{code}`" for code, its in STATUS_OF_CODE.items() if its == status)
        schema = {"$ref": "#/components/schemas/Problem"}
        found[str(status)] = {"description": f"One of {codes}", "content": {PROBLEM_JSON: {"schema": schema}}}
    return found


def parameter(name: str, description: str, kind: str = "string", place: str = "query", **rest: Any) -> Json:
    """Return an OpenAPI parameter."""
    required = {"required": True} if place == "path" else {}
    return {"name": name, "in": place, "description": description, "schema": {"type": kind, **rest}, **required}


ID = parameter("id", "An id, as given out here or brought by a command", place="path")
KEY = parameter("Idempotency-Key", "Makes repetitions take effect once; 1 to 255 printable characters", place="header")
MIN_POSITION = parameter("min_position", "Wait until the read model has handled this position", "integer", minimum=0)
_LIMIT = parameter("limit", "Rows of a page", "integer", minimum=1, maximum=500, default=50)
_CURSOR = parameter("cursor", "What `next` of the page before says")

_EVENT = {"position": 42, "type": "task.completed", "stream": "task-t1", "version": 3}
_REPLY = {"command_id": "c-1", "outcome": "accepted", "duplicate": False, "position": 42, "events": [_EVENT]}
_COMMAND = {"type": "task.complete", "data": {"id": "t1", "data": {"signed": True}}}

POST_COMMAND: Json = {
    "operationId": "post_command",
    "tags": ["commands"],
    "summary": "Give a command and wait for its answer",
    "description": "The body is checked here as the workers check it. A key of `system` with the permission "
    "`impersonate` may name another `actor`. Without an answer in time the command is still on its way: 202.",
    "parameters": [KEY],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["type", "data"],
                    "additionalProperties": False,
                    "properties": {
                        "type": {"type": "string", "enum": sorted(COMMANDS)},
                        "data": {"type": "object"},
                        "id": {"type": "string", "description": "the command's own id; the same again, same answer"},
                        "actor": {"type": "string"},
                        "expected_version": {"type": "integer", "minimum": 0},
                        "routing_key": {"type": "string"},
                    },
                },
                "example": _COMMAND,
            }
        },
    },
    "responses": {
        "200": answer("Accepted", _REPLY),
        "202": answer(
            "No answer yet; look at the receipt",
            {"command_id": "c-1", "outcome": "undecided", "receipt": "/v1/commands/c-1"},
        ),
        **problems(400, 404, 409, 413, 415, 422),
    },
}
GET_RECEIPT: Json = {
    "operationId": "get_receipt",
    "tags": ["commands"],
    "summary": "Read a command's receipt",
    "parameters": [ID],
    "responses": {
        "200": answer("Decided", {**_REPLY, "recorded_at": "2025-10-31T01:50:00.123456Z"}),
        **problems(400, 404),
    },
}
_CLOUD_EVENT = {
    "specversion": "1.0",
    "id": "0199…",
    "source": "/foldwork/acme",
    "type": "task.completed",
    "subject": "task/t1",
    "position": 42,
    "data": {"id": "t1", "activity_id": "a1", "output": {"signed": True}, "late": False},
}
GET_EVENTS: Json = {
    "operationId": "get_events",
    "tags": ["events"],
    "summary": "Read the tenant's events in order",
    "description": "Ask again with `after` = `next`. A stretch without events of this tenant moves `next` on as well; "
    "`next` = `head` means that there is nothing more for now.",
    "parameters": [
        parameter("after", "The position to read on from", "integer", minimum=0, default=0),
        {**parameter("type", "A type of event; may be repeated", "array", items={"enum": sorted(EVENTS)})},
        parameter("limit", "Most events of an answer", "integer", minimum=1, maximum=500, default=100),
    ],
    "responses": {"200": answer("Events", {"events": [_CLOUD_EVENT], "next": 42, "head": 42}), **problems(400)},
}


def _queries(noun: str, path: str, listing: Listing, example: Json) -> Json:
    filters = [
        parameter(name, "Filter; repeat it for several values, leave it empty for none")
        for name in listing.filters
        if name != "search"
    ]
    filters.append(parameter("search", "Part of the title, in any case of letters"))
    sorts = [way + name for name in listing.sorts for way in ("", "-")]
    plural = path.rpartition("/")[2]
    return {
        "noun": noun,
        "path": path,
        "page": {
            "operationId": f"list_{plural}",
            "tags": [plural],
            "summary": f"List {plural}",
            "parameters": [
                *filters,
                parameter("sort", "Order; - means descending", enum=sorts, default=listing.default),
                _LIMIT,
                _CURSOR,
                MIN_POSITION,
            ],
            "responses": {"200": answer("A page", {"data": [example], "next": None}), **problems(400)},
        },
        "get": {
            "operationId": f"get_{noun}",
            "tags": [plural],
            "summary": f"Read one {noun}",
            "parameters": [ID, MIN_POSITION],
            "responses": {"200": answer(f"The {noun}", example), **problems(400, 404)},
        },
    }


_TASK = {
    "id": "t1",
    "title": "Pickup",
    "status": "open",
    "assignees": ["ann"],
    "activity_id": "a1",
    "version": 2,
    "allowed_actions": ["task.process", "task.complete"],
}
_ACTIVITY = {
    "id": "a1",
    "title": "Pickup to Delivery",
    "status": "active",
    "rule": "U8",
    "progress": {"total": 2, "open": 2, "percent": 0},
    "assignees": ["ann"],
    "version": 1,
    "allowed_actions": ["activity.change", "activity.cancel"],
}
ACTIVITY_QUERIES = _queries("activity", "/v1/activities", activities.LISTING, _ACTIVITY)
TASK_QUERIES = _queries("task", "/v1/tasks", tasks.LISTING, _TASK)


def _history(noun: str, plural: str) -> Json:
    entry = {"position": 42, "type": "task.completed", "entity_id": "t1", "actor": "ann", "command_id": "c-1"}
    return {
        "operationId": f"get_{noun}_history",
        "tags": [plural],
        "summary": f"Read what happened to one {noun}, oldest first",
        "parameters": [ID, _LIMIT, _CURSOR, MIN_POSITION],
        "responses": {"200": answer("A page", {"data": [entry], "next": None}), **problems(400, 404)},
    }


ACTIVITY_HISTORY = _history("activity", "activities")
TASK_HISTORY = _history("task", "tasks")
EXPLAIN: Json = {
    "operationId": "explain_activity",
    "tags": ["activities"],
    "summary": "Say why an activity has its status",
    "parameters": [ID, MIN_POSITION],
    "responses": {
        "200": answer(
            "The rule, and each child's part in it",
            {"id": "a1", "status": "active", "rule": "U8", "children": [{"id": "t1", "decides": True}]},
        ),
        **problems(400, 404),
    },
}
_NOT_READY = {"status": "not ready", "not_ready": ["broker"], "database": {"ready": True}}
OPERATIONS: dict[str, Json] = {
    "/livez": {"operation_id": "livez", "summary": "Is the process alive", "response_description": "It is"},
    "/readyz": {
        "operation_id": "readyz",
        "summary": "Is the process ready, and if not, what is missing",
        "responses": {503: answer("Something is missing", _NOT_READY)},
    },
    "/metrics": {"operation_id": "metrics", "summary": "Figures for Prometheus"},
}


def complete(document: Json) -> Json:
    """Return the document with what all operations share."""
    components = document.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = _PROBLEM
    components["securitySchemes"] = {"apiKey": {"type": "http", "scheme": "bearer", "bearerFormat": "fw_<id>_<secret>"}}
    for path in document["paths"].values():
        for operation in path.values():
            operation["security"] = [] if operation.get("tags") == ["operations"] else [{"apiKey": []}]
    return document
