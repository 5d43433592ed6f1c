"""The parts that the OpenAPI document's words on the field dialect are put together from."""

from __future__ import annotations

from typing import Any

from services.http.field import schemas
from services.http.field.errors import FAILURES
from services.http.field.lists import DEFAULT_LIMIT

Json = dict[str, Any]

# Families of failed codes that an operation of this kind can answer with, whatever their status.
_FAMILIES = {
    "task": ("activity", "auth", "hub", "member", "request", "server", "task", "workflow-033"),
    "bulk": ("activity", "auth", "bulk", "request", "server"),
    "workflow": ("activity", "auth", "member", "project", "request", "server", "workflow"),
}


def answer(description: str, schema: Json, example: Any, **links: Json) -> Json:
    """Return an OpenAPI response, with the operations that its answer leads to."""
    content = {"application/json": {"schema": schema, "example": example}}
    return {"description": description, "content": content, **({"links": links} if links else {})}


def link(operation: str, parameter: str, place: str) -> Json:
    """Return a link to an operation that takes a value of the answer."""
    return {"operationId": operation, "parameters": {parameter: f"$response.body#{place}"}}


def failures(kind: str, *statuses: int) -> Json:
    """Return the refusals of an operation of a kind, each status with the failed codes that it may have."""
    found: Json = {}
    for status in (*statuses, 401, 403, 429, 500, 503):
        codes = [code for code, its in FAILURES.items() if its.status == status and code.startswith(_FAMILIES[kind])]
        meanings = "; ".join(f"`{code}`: {FAILURES[code].meaning}" for code in codes)
        schema = schemas.whole(
            status={"type": "boolean", "const": False},
            message=schemas.TEXT,
            failedCode={"type": "string", "enum": codes},
        )
        example = {"status": False, "message": FAILURES[codes[0]].meaning, "failedCode": codes[0]}
        found[str(status)] = answer(meanings, schema, example)
    return found


def body(schema: Json, example: Any) -> Json:
    """Return an OpenAPI request body."""
    return {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}


def page_of_one(path: str, shown: Json) -> Json:
    """Return a page that holds one thing."""
    return {
        "current_page": 1,
        "data": [shown],
        "from": 1,
        "last_page": 1,
        "next_page_url": None,
        "path": path,
        "per_page": DEFAULT_LIMIT,
        "prev_page_url": None,
        "to": 1,
        "total": 1,
    }


def undecided(what: str) -> Json:
    """Return the answer to a write whose outcome is not known in time."""
    message = f"{what} accepted, its outcome is not known yet"
    receipt = {"commandId": "0199…", "receipt": "/v1/commands/0199…"}
    example = {"status": True, "code": 202, "message": message, "data": receipt}
    return {"202": answer("No answer yet; look at the receipt", schemas.RECEIPT, example)}
