"""Parts of what the OpenAPI document says of endpoints that are described by hand, until none is."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def answer(
    description: str, example: Any, media: str = "application/json", schema: Json | None = None, **rest: Any
) -> Json:
    """Return an OpenAPI response with an example."""
    shown: Json = {"schema": schema if schema is not None else {"type": "object"}}
    if example is not None:
        shown["example"] = example
    return {"description": description, "content": {media: shown}, **rest}


def parameter(name: str, description: str, kind: str = "string", place: str = "query", **rest: Any) -> Json:
    """Return an OpenAPI parameter."""
    required = {"required": True} if place == "path" else {}
    return {"name": name, "in": place, "description": description, "schema": {"type": kind, **rest}, **required}


def link(operation: str, description: str, **parameters: str) -> Json:
    """Return an OpenAPI link to an operation."""
    return {"operationId": operation, "parameters": parameters, "description": description}


REFERENCES = "a member id, an e-mail, `account:<number>` or `operator:<id>`"
# A person in a query, as in a command; any text beyond ASCII may stand in an address or an operator's id as well.
REFERENCE: Json = {
    "pattern": r"^[A-Za-z0-9_-]{1,64}$|^account:[1-9][0-9]{0,14}$|^operator:[!-+\--~]{1,200}$"
    r"|^[!-+\--9=?A-Z\[-~]{1,120}@[!-+\--9=?A-Z\[-~]{1,120}$"
}
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
    maximum=2**63 - 1,
)
LOCATION = {"Location": {"description": "Its address", "schema": {"type": "string"}}}
