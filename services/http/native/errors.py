"""Problem details (RFC 9457), the error envelope of the native API and of paths that belong to no dialect."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.responses import Response

from services.http.core.call import as_json
from services.http.core.errors import STATUS_OF_CODE, ApiError, phrase
from services.http.core.models import View

PROBLEM_JSON = "application/problem+json"
_CODES: Any = {"enum": sorted(STATUS_OF_CODE)}


class Problem(View):
    """Problem details, RFC 9457."""

    type: str = Field(json_schema_extra={"format": "uri", "pattern": "^urn:foldwork:problem:"})
    title: str
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="for people")
    code: str = Field(json_schema_extra=_CODES)
    pointer: str = Field("", description="JSON pointer into the body")
    parameter: str = Field("", description="query parameter or header at fault")
    command_id: str = Field("", description="the command that was refused")
    position: int | None = Field(None, description="how far the log was")
    duplicate: bool = Field(False, description="the command had been refused before")


def failed(refused: ApiError) -> Response:
    """Render a refusal as problem details."""
    return as_json(_problem(refused), refused.status, refused.headers, PROBLEM_JSON)


def failure(topic: str, status: int) -> tuple[str, dict[str, Any]] | None:
    """Return the codes of a status, and an example."""
    codes = [code for code, its in STATUS_OF_CODE.items() if its == status]
    if not codes:
        return None
    listed = ", ".join(f"`{code}`" for code in codes)
    return f"One of {listed}", _problem(ApiError(codes[0], codes[0].replace("-", " ")))


def _problem(refused: ApiError) -> dict[str, Any]:
    body: dict[str, Any] = {
        "type": f"urn:foldwork:problem:{refused.code}",
        "title": phrase(refused.status),
        "status": refused.status,
        "detail": refused.detail,
        "code": refused.code,
    }
    places = {"pointer": refused.pointer, "parameter": refused.parameter}
    return {**body, **{name: place for name, place in places.items() if place}, **refused.extra}
