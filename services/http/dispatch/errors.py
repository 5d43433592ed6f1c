"""The dispatch dialect's errors: the words that a request is refused with, and the envelope that they stand in.

What does not fit the state of an activity is a bad request there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo
from pydantic_core import ErrorDetails
from starlette.responses import Response

from services.http.core.call import as_json
from services.http.core.errors import ApiError, phrase
from services.http.core.models import Request, names, refuse
from services.http.core.shown import CamelView

# Refusals that are conflicts elsewhere: the dialect keeps 409 for what is taken and for what is final.
_STATUS: Mapping[str, int] = {
    "no-endpoint": 404,
    "no-provider": 404,
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
    408: "The body did not arrive in time",
    409: "It is taken, or final: an idempotency key, an id, a result",
    412: "The resource has changed since its tag was given out",
    413: "The body is too large",
    415: "The body is not sent as application/json",
    429: "Too many requests of the tenant or of the key are under way; see Retry-After",
    500: "Something went wrong",
    503: "A part of the service is away for the moment, or too much is under way; see Retry-After",
}
# The topic of operations whose 409 may name what a key was used for.
KEYED = "keyed"


def status_of(refused: ApiError) -> int:
    """Return the dialect's HTTP status of a refusal; it answers 400 to whatever is wrong with a request."""
    status = _STATUS.get(refused.code, refused.status)
    return 400 if status == 422 else status


def _demand_text(value: Any, info: ValidationInfo) -> Any:
    if value is None:
        refuse("wrong-shape", f"{info.field_name} is required")
    if not isinstance(value, str) or not value:
        refuse("wrong-shape", f"{info.field_name} is a text that is not empty")
    return value


# A text that the dialect demands, whatever the command does without.
Demanded = BeforeValidator(_demand_text)


class DispatchRequest(Request):
    """A request whose faults are told in the words that a worker has for them."""

    outside_body = frozenset({"id", "kind", "target"})
    # Other names that clients have for keys of the body, with these keys.
    renamed: ClassVar[Mapping[str, str]] = {}
    _MESSAGES: ClassVar[Mapping[str, str]] = {
        "list_type": "Input should be a valid array",
        "dict_type": "Input should be an object",
        "model_type": "Input should be an object",
    }

    @classmethod
    def read(cls, body: Any, parts: Mapping[str, str] | None = None) -> Self:
        """Return a decoded body as a request; raises `ApiError`."""
        if cls.renamed and isinstance(body, dict):
            given = {cls.renamed.get(key, key): value for key, value in body.items()}
            if len(given) < len(body):
                raise ApiError("duplicate-key", "a key is given under two of its names")
            body = given
        return super().read(body, parts)

    @classmethod
    def unknown(cls, key: str, pointer: str) -> ApiError:
        """Return the refusal of a key; one of the body itself is named as a parameter is."""
        if pointer:
            return ApiError("unknown-field", "Unexpected keyword argument", f"{pointer}/{key}")
        shown = "".join(mark if mark.isprintable() else "?" for mark in key[:100])
        return ApiError("unknown-field", f"the fields are {', '.join(names(cls))}", parameter=shown)

    @classmethod
    def message(cls, error: ErrorDetails) -> str:
        """Return the words for a value of another type than its own."""
        kind, place = error["type"], error["loc"]
        own = not place or (kind == "missing" and len(place) == 1)
        return super().message(error) if own else cls._MESSAGES.get(kind, error["msg"])


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
    return as_json(_body(refused), status_of(refused), refused.headers)


def _body(refused: ApiError) -> dict[str, Any]:
    status = status_of(refused)
    return {"statusCode": status, "message": refused.message, "error": phrase(status), **refused.extra}


class Failure(CamelView):
    """A refusal."""

    status_code: int = Field(json_schema_extra={"enum": list(MEANINGS)})
    message: str
    error: str = Field(description="The status in words")
    existing_id: str | None = Field(None, description="With a key that was used before: of what it made, if anything")
    same_payload: bool = Field(False, description="With a key that was used before: whether for the same request")


class Accepted(CamelView):
    """No answer yet; look at the receipt"""

    status_code: Literal[202]
    message: Literal["Accepted, its outcome is not known yet"]
    command_id: str = Field(..., examples=["0199a1f0"])
    receipt: str = Field(..., examples=["/v1/commands/0199a1f0"])
