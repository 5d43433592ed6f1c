"""The workflow dialect's error document and the statuses of its codes; what is wrong in itself is always a 422."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from services.http.core.errors import STATUS_OF_CODE, ApiError

JSON_API = "application/vnd.api+json"

# What is another status elsewhere: the dialect validates with 422 whatever is said in the query or the body.
_STATUS: Mapping[str, int] = {
    "already-processing": 422,
    "bad-cursor": 422,
    "bad-filter": 422,
    "bad-limit": 422,
    "bad-offset": 422,
    "bad-position": 422,
    "bad-sort": 422,
    "no-endpoint": 404,
    "position-beyond-head": 422,
    "unknown-filter": 422,
    "unknown-parameter": 422,
}
# Where the command's data has a value, the dialect's request has it under another name.
_NAMES: Mapping[str, str] = {"assignees": "/account_id", "member": "/account_id", "comment": "/data/comment"}


def place(pointer: str) -> str:
    """Return a JSON pointer into a command's data as one into the request's body."""
    parts = pointer.split("/")
    first = parts[1] if len(parts) > 1 else ""
    return _NAMES.get(first, pointer)


def status_of(refused: ApiError) -> int:
    """Return the dialect's HTTP status of a refusal; a person that is not there is a wrong value in the body."""
    if refused.code == "not-found" and refused.pointer not in ("", "/id"):
        return 422
    return _STATUS.get(refused.code, refused.status)


def codes_of(status: int) -> list[str]:
    """Return the codes that an answer of a status may have, for the documentation."""
    every = {**STATUS_OF_CODE, **_STATUS}
    found = {code for code, its in every.items() if its == status}
    return sorted(found | {"not-found"} if status == 422 else found)


def failed(refused: ApiError) -> Response:
    """Render a refusal as a JSON:API error document; `source` has the parameter at fault, or a place in the body."""
    status = status_of(refused)
    source = {"parameter": refused.parameter} if refused.parameter else {"pointer": place(refused.pointer)}
    error: dict[str, Any] = {
        "status": str(status),
        "title": refused.code,
        "detail": refused.detail,
        "source": source,
    }
    return Response(msgspec.json.encode({"errors": [error]}), status, refused.headers, JSON_API)
