"""The parts that the OpenAPI document's words on the dispatch dialect are put together from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.http.core.errors import phrase
from services.http.dispatch import schemas
from services.http.native.components import Json, shape
from services.http.native.examples import KEY, LOCATION, parameter

TENANT = parameter(
    "x-tenant-id",
    "The token's tenant; another one is refused, and the header may be left out",
    place="header",
    pattern="^[a-z0-9-]{1,63}$",
)
_MEANINGS: Mapping[int, str] = {
    400: "The request is wrong in itself, or does not fit the state of the activity",
    401: "The token is missing, unknown, expired or revoked, or its member was retired",
    403: "The token lacks the permission, its actor the right, or it is of another tenant",
    404: "There is nothing of this id in the tenant",
    409: "It is taken, or final: an idempotency key, an id, a result",
    413: "The body is too large",
    415: "The body is not sent as application/json",
    500: "Something went wrong",
    503: "A part of the service is away for the moment, or too much is under way; see Retry-After",
}
_FIELDS: Mapping[str, Json] = {
    "message": schemas.TEXT,
    "error": {"type": "string", "description": "The status in words"},
}
_USED = {"existingId": {"type": ["string", "null"]}, "samePayload": {"type": "boolean"}}


def answer(description: str, schema: Json, example: Any, **links: Json) -> Json:
    """Return an OpenAPI response, with the operations that its answer leads to."""
    content = {"application/json": {"schema": schema, "example": example}}
    return {"description": description, "content": content, **({"links": links} if links else {})}


def link(operation: str, place: str, name: str = "id") -> Json:
    """Return a link to an operation that takes a value of the answer."""
    return {"operationId": operation, "parameters": {name: f"$response.body#{place}"}}


def failures(*statuses: int, used: bool = False) -> Json:
    """Return the refusals of an operation; `used` says that a 409 may name what a key was used for."""
    found: Json = {}
    for status in (*statuses, 401, 403, 500, 503):
        schema = shape(statusCode={"type": "integer", "const": status}, **_FIELDS)
        example = {"statusCode": status, "message": _MEANINGS[status].lower(), "error": phrase(status)}
        if used and status == 409:
            schema["properties"] = {**schema["properties"], **_USED}
            message = "the idempotency key was used before, with the same payload (/idempotency_key)"
            example |= {"message": message, "existingId": "ee0e8400-e29b-41d4-a716-446655440000", "samePayload": True}
        found[str(status)] = answer(_MEANINGS[status], schema, example)
    return found


def body(schema: Json, example: Any, required: bool = True) -> Json:
    """Return an OpenAPI request body."""
    return {"required": required, "content": {"application/json": {"schema": schema, "example": example}}}


def operation(name: str, summary: str, description: str = "", **rest: Any) -> Json:
    """Return an operation of the dialect; `parameters` are its own, beside the ones that all have."""
    own = rest.pop("parameters", [])
    about = {"description": description} if description else {}
    found = {"operationId": f"dispatch_{name}", "tags": ["dispatch"], "summary": summary, **about}
    return {**found, "parameters": [*own, TENANT], **rest}


def write(name: str, summary: str, description: str = "", **rest: Any) -> Json:
    """Return an operation that gives a command: it takes a key, and its outcome may not be known in time."""
    undecided = answer(
        "No answer yet; look at the receipt",
        schemas.ACCEPTED,
        {
            "statusCode": 202,
            "message": "Accepted, its outcome is not known yet",
            "commandId": "0199a1f0",
            "receipt": "/v1/commands/0199a1f0",
        },
    )
    responses = {"202": {**undecided, "headers": LOCATION}, **rest.pop("responses")}
    own = [*rest.pop("parameters", []), KEY]
    return operation(name, summary, description, parameters=own, responses=responses, **rest)
