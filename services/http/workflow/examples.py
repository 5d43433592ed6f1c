"""What the OpenAPI document says of the workflow dialect: the page's schemas, with every answer that there is."""

from __future__ import annotations

from typing import Any

from domain.limits import MAX_ACCOUNT, Comment, Fields
from projections.support.query import MOST_ROWS
from projections.task.pages import MOST_PAGES
from services.bounds import schema_of
from services.http.core.errors import phrase
from services.http.core.openapi import deep_object
from services.http.native import examples as native
from services.http.native.examples import ID, KEY, MIN_POSITION, REFERENCE, REFERENCES, Json, answer, link, parameter
from services.http.workflow.errors import JSON_API, codes_of
from services.http.workflow.questions import FILTERS, SORTS
from services.http.workflow.schemas import ACTIVITY_DOCUMENT, ERRORS, LIST_DOCUMENT, RECEIPT, UNIT_DOCUMENT
from services.http.workflow.shapes import ATTRIBUTES, RELATED

_TASK = "0199f1c2-7a10-7000-8000-000000000001"
_UNIT = "0199f1c2-7a10-7000-8000-000000000000"
ACTIVITY: Json = {
    "type": "workflow/activities",
    "id": _TASK,
    "attributes": {
        "id": _TASK,
        "assigned_account_id": 42,
        "name": "Pickup",
        "status": "in-progress",
        "started_at": "2025-10-31T01:50:00.000Z",
        "completed_at": None,
        "try_resolve_at": None,
        "actor_roles": ["driver"],
        "whitelisted_ids": [],
        "blacklisted_ids": [7],
        "working_seconds": 12.5,
        "live_seconds": 12.5,
        "pipeline_seconds": 60.0,
        "data": {"customerName": "John Doe"},
        "output": None,
        "indicators": {"overdue": False, "late": False, "unresolved": False, "dispatched": False},
        "created_at": "2025-10-31T01:49:12.500Z",
    },
    "relationships": {
        "project": {"data": {"type": "workflow/projects", "id": "north"}},
        "work_unit": {"data": {"type": "workflow/work_units", "id": _UNIT}},
        "node": {"data": {"type": "workflow/nodes", "id": "pickup-to-delivery:0"}},
    },
}
UNIT: Json = {
    "type": "workflow/work_units",
    "id": _UNIT,
    "attributes": {
        "id": _UNIT,
        "name": "Pickup to Delivery",
        "status": "canceled",
        "sub_status": None,
        "progress": {"total": 2, "open": 0, "active": 0, "paused": 0, "completed": 0, "failed": 0, "canceled": 2,
                     "percent": 0},
        "started_at": None,
        "completed_at": None,
        "working_seconds": 0.0,
        "live_seconds": 0.0,
        "pipeline_seconds": 60.0,
        "data": {},
        "created_at": "2025-10-31T01:49:12.500Z",
    },
}  # fmt: skip


def _errors(*statuses: int) -> Json:
    found: Json = {}
    for status in (*statuses, 401, 403, 500, 503):
        codes = codes_of(status)
        title = {401: "unauthorized", 404: "not-found", 422: "wrong-shape"}.get(status, codes[0])
        error = {"status": str(status), "title": title, "detail": phrase(status), "source": {"pointer": ""}}
        description = f"One of {', '.join(f'`{code}`' for code in codes)}"
        found[str(status)] = answer(description, {"errors": [error]}, JSON_API, ERRORS)
    return found


def _several(name: str, description: str, **items: Any) -> Json:
    listed = parameter(name, description, "array", items={"type": "string", **items})
    return {**listed, "style": "form", "explode": False}


_NUMBER = r"^(-?[0-9]{1,15}(\.[0-9]{1,9})?)?$"
_PEOPLE = ("assigned_account_id", "whitelisted_ids", "blacklisted_ids")
_TIMES = ("started_at", "completed_at", "try_resolve_at", "created_at")
# A text that the database can be asked for.
_TEXT: Json = {"pattern": r"^[^\x00]*$", "maxLength": 1000}
_SCHEMAS: dict[str, Json] = {
    **dict.fromkeys(("id", "name", "project_id", "work_unit_id", "actor_roles"), _TEXT),
    **{key: {"pattern": f"{REFERENCE['pattern']}|^$"} for key in _PEOPLE},
    **{key: {"pattern": _NUMBER} for key in ("working_seconds", "live_seconds", "pipeline_seconds")},
    **{key: {"anyOf": [{"maxLength": 0}, {"format": "date-time"}]} for key in _TIMES},
}


_TEXTS = "several with commas between"


def _filter(name: str) -> Json:
    if name in ("data", "output", "indicators"):
        said = f"`{name}` is this object, as JSON; empty: there is none"
        return {"type": "string", "contentMediaType": "application/json", "description": said}
    who = f" (an account number, or {REFERENCES})" if name in _PEOPLE else ""
    return {"type": "string", **_SCHEMAS.get(name, {}), "description": f"`{name}` is this{who}; empty: there is none"}


def _one_of(pattern: str = r"^[^\x00]*$") -> Json:
    return {"type": "string", "pattern": pattern, "maxLength": 1000, "description": f"Has one of these, {_TEXTS}"}


_OPERATORS = (
    "Every filter may have an operator behind its name, `filter[name__op]`: neq, lt, lte, gt, gte, in, match, prefix, "
    "suffix, contains and exists, as far as the attribute's type has a meaning for it; the others are a 422. Several "
    "values are given with commas between, or as `filter[status__in][]=a&filter[status__in][]=b`; none of them means "
    "that nothing is found. Objects are given as JSON, and times with their offset."
)
_FILTER = deep_object(
    "filter",
    _OPERATORS,
    {
        **{name: _filter(name) for name in FILTERS},
        **{name: _one_of() for name in ("name__in", "actor_roles__contains", "id__in", "status__in")},
        "assigned_account_id__in": _one_of(REFERENCE["pattern"]),
        "completed_at__gte": {"type": "string", "format": "date-time", "description": "Completed then or later"},
        "completed_at__lte": {"type": "string", "format": "date-time", "description": "Completed then or earlier"},
    },
)
# There are more operators than a client could have a field for.
_FILTER["schema"]["additionalProperties"] = {"type": "string"}


def _up_to(most: int, default: int, said: str) -> Json:
    return {"type": "integer", "minimum": 1, "maximum": most, "default": default, "description": said}


_PAGE = deep_object(
    "page",
    "Which page",
    {"number": _up_to(MOST_PAGES, 1, "From 1"), "size": _up_to(MOST_ROWS, MOST_ROWS, "Activities of a page")},
)


def _attributes_of(kind: str) -> Json:
    word = f"({'|'.join(ATTRIBUTES[kind])})"
    said = f"Just these of {kind}, {_TEXTS}; an empty text asks for none at all"
    return {"type": "string", "pattern": f"^({word}(,{word})*)?$", "description": said}


_INCLUDED = _several("included", "What to bring along", enum=sorted(RELATED))
_FIELDS = deep_object(
    "fields", "Attributes of each type of resource", {kind: _attributes_of(kind) for kind in ATTRIBUTES}
)
LIST: Json = {
    "operationId": "workflow_list_activities",
    "tags": ["workflow"],
    "summary": "List activities",
    "parameters": [
        _PAGE,
        _several("sort", "Order; - means descending", enum=[way + name for name in SORTS for way in ("", "-")]),
        parameter("count", "Whether `meta.count` says how many there are", "boolean"),
        _FILTER,
        _INCLUDED,
        _FIELDS,
        MIN_POSITION,
    ],
    "responses": {
        "200": answer(
            "A page",
            {"data": [ACTIVITY], "meta": {"page": {"number": 1, "size": 1000}}, "links": {"prev": None, "next": None}},
            JSON_API,
            LIST_DOCUMENT,
            links={"first": link("workflow_get_activity", "The first activity", id="$response.body#/data/0/id")},
        ),
        **_errors(400, 422),
    },
}
_LINKS = {
    name: link(f"workflow_{name}_activity", "With this activity", id="$response.body#/data/id")
    for name in ("save", "assign", "reassign", "unassign", "process", "complete", "error", "cancel")
}
GET: Json = {
    "operationId": "workflow_get_activity",
    "tags": ["workflow"],
    "summary": "Read one activity",
    "parameters": [ID, _INCLUDED, _FIELDS, MIN_POSITION],
    "responses": {
        "200": answer("The activity", {"data": ACTIVITY}, JSON_API, ACTIVITY_DOCUMENT, links=_LINKS),
        **_errors(400, 404, 422),
    },
}
_ACCOUNT: Json = {"type": "integer", "minimum": 1, "maximum": MAX_ACCOUNT, "description": "A member's number"}
_DATA: Json = {**schema_of(Fields), "description": "Any object; its keys are the activity's own"}


def _write(
    name: str,
    summary: str,
    properties: Json | None = None,
    required: tuple[str, ...] = (),
    example: Any = None,
    shown: Json = ACTIVITY_DOCUMENT,
    description: str | None = None,
    parameters: tuple[Json, ...] = (ID,),
    rule: Json | None = None,
) -> Json:
    schema: Json = {"type": "object", "properties": properties or {}, "additionalProperties": False, **(rule or {})}
    if required:
        schema["required"] = list(required)
    content: Json = {"schema": schema, "example": example if example is not None else {}}
    resource = UNIT if shown is UNIT_DOCUMENT else ACTIVITY
    return {
        "operationId": f"workflow_{name}",
        "tags": ["workflow"],
        "summary": summary,
        **({"description": description} if description else {}),
        "parameters": [*parameters, KEY],
        "requestBody": {
            "required": bool(required),
            "content": {"application/json": content, JSON_API: content},
        },
        "responses": {
            "200": answer("As it is now", {"data": resource}, JSON_API, shown),
            "202": answer(
                "No answer yet; look at the receipt",
                {"meta": {"command_id": "c-1", "receipt": "/v1/commands/c-1"}},
                JSON_API,
                RECEIPT,
                headers=native.LOCATION,
            ),
            **_errors(400, 404, 409, 413, 415, 422),
        },
    }


SAVE = _write(
    "save_activity", "Save a draft, without completing", {"data": _DATA}, ("data",), {"data": {"customerName": "Jane"}}
)
ASSIGN = _write(
    "assign_activity",
    "Assign to one member of the project, or to oneself",
    {
        "account_id": _ACCOUNT,
        "start_working": {"type": "boolean", "description": "Whether work begins at once"},
        "self_assigning": {"type": "boolean", "default": False, "description": "Whether the caller takes it"},
    },
    ("start_working",),
    {"account_id": 42, "start_working": True},
    rule={
        "anyOf": [
            {"required": ["account_id"]},
            {"required": ["self_assigning"], "properties": {"self_assigning": {"const": True}}},
        ]
    },
    description="Somebody else's activity is a 409 `already-assigned`; of several who claim one, exactly one gets it.",
)
REASSIGN = _write(
    "reassign_activity", "Assign to another member", {"account_id": _ACCOUNT}, ("account_id",), {"account_id": 43}
)
UNASSIGN = _write("unassign_activity", "Take it from whoever has it")
PROCESS = _write(
    "process_activity",
    "Start or resume",
    description="`already-processing` is a 422, a caller who has not the activity a 403.",
)
COMPLETE = _write(
    "complete_activity",
    "Complete",
    {"data": _DATA},
    ("data",),
    {"data": {"signed": True}},
    description="The data, together with the draft, becomes `output`.",
)
ERROR = _write(
    "error_activity",
    "Mark as errored",
    {
        "data": {
            "type": "object",
            "properties": {"comment": schema_of(Comment)},
            "required": ["comment"],
            "additionalProperties": False,
        }
    },
    example={"data": {"comment": "nobody at home"}},
)
CANCEL = _write("cancel_activity", "Cancel")
_TRACKER = {"account_id": {**_ACCOUNT, "description": "Whose tracker, when the system speaks for somebody"}}
PAUSE = _write("pause_tracker", "Pause what one is working on", _TRACKER, example={"account_id": 42}, parameters=())
RESUME = _write(
    "resume_tracker", "Go on with what was paused last", _TRACKER, example={"account_id": 42}, parameters=()
)
CANCEL_UNIT = _write("cancel_work_unit", "Cancel a work unit with all its open activities", shown=UNIT_DOCUMENT)
