"""The dispatch dialect's error envelope; what does not fit the state of an activity is a bad request there."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from starlette.responses import Response

from services.http.core.errors import ApiError, phrase

# Refusals that are conflicts elsewhere: the dialect keeps 409 for what is taken and for what is final.
_STATUS: Mapping[str, int] = {
    "no-endpoint": 404,
    "not-ready": 400,
    "not-unresolved": 400,
    "target-locked": 400,
    "terminal": 400,
}
# Where the command's data has a value, the dialect's request has it under another name.
_NAMES: Mapping[str, str] = {
    "title": "reason",
    "commerce": "commerce_id",
    "route": "assigned_route_id",
    "operator": "assigned_operator_id",
    "user": "user_id",
    "target": "",
    # An id stands in the path, or the answer names it.
    "id": "",
}
_PLAN_NAMES: Mapping[str, str] = {"suggested_at": "suggested_execution_time", "criteria": "target_criteria"}
# What stands one level deeper in a command than in a request.
_NESTED: Mapping[str, Mapping[str, str]] = {"plan": _PLAN_NAMES, "fields": {}}


def status_of(refused: ApiError) -> int:
    """Return the dialect's HTTP status of a refusal; it answers 400 to whatever is wrong with a request."""
    status = _STATUS.get(refused.code, refused.status)
    return 400 if status == 422 else status


def place(pointer: str) -> str:
    """Return a JSON pointer into a command's data as one into the request's body."""
    _, *parts = pointer.split("/")
    names = _NESTED.get(parts[0]) if parts else None
    if names is not None:
        del parts[0]
    if not parts:
        return ""
    first = (_NAMES if names is None else names).get(parts[0], parts[0])
    return "/".join(["", first, *parts[1:]]) if first else ""


def failed(refused: ApiError) -> Response:
    """Render a refusal in the dispatch dialect's envelope."""
    status = status_of(refused)
    where = place(refused.pointer) or refused.parameter
    message = f"{refused.detail} ({where})" if where else refused.detail
    body = {"statusCode": status, "message": message, "error": phrase(status), **refused.extra}
    return Response(msgspec.json.encode(body), status, refused.headers, "application/json")
