"""The dispatch dialect's error envelope; what does not fit the state of an activity is a bad request there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
MEANINGS: Mapping[int, str] = {
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
# The topic of operations whose 409 may name what a key was used for.
KEYED = "keyed"


def status_of(refused: ApiError) -> int:
    """Return the dialect's HTTP status of a refusal; it answers 400 to whatever is wrong with a request."""
    status = _STATUS.get(refused.code, refused.status)
    return 400 if status == 422 else status


def key_used(existing: str | None, same: bool) -> ApiError:
    """Return the refusal of a key that was used before, with the id of what it made."""
    return ApiError(
        "idempotency-conflict",
        f"the idempotency key was used before, {'with the same payload' if same else 'with another payload or actor'}",
        "/idempotency_key",
        extra={"existingId": existing, "samePayload": same},
    )


def failure(topic: str, status: int) -> tuple[str, dict[str, Any]] | None:
    """Return what the refusals of a status mean, and an example."""
    return (MEANINGS[status], refusal(status, topic)) if status in MEANINGS else None


def refusal(status: int, topic: str = "") -> dict[str, Any]:
    """Return a refusal of a status."""
    if topic == KEYED and status == 409:
        return _body(key_used("ee0e8400-e29b-41d4-a716-446655440000", same=True))
    return {"statusCode": status, "message": MEANINGS[status].lower(), "error": phrase(status)}


def failed(refused: ApiError) -> Response:
    """Render a refusal in the dispatch dialect's envelope."""
    return Response(msgspec.json.encode(_body(refused)), status_of(refused), refused.headers, "application/json")


def _body(refused: ApiError) -> dict[str, Any]:
    status, where = status_of(refused), refused.pointer or refused.parameter
    message = f"{refused.detail} ({where})" if where else refused.detail
    return {"statusCode": status, "message": message, "error": phrase(status), **refused.extra}
