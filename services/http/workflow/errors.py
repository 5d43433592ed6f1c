"""The workflow dialect's error document and the statuses of its codes; what is wrong in itself is always a 422."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from services.http.core.call import as_json
from services.http.core.errors import STATUS_OF_CODE, ApiError, phrase

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
# The code of a status' example, where it is not the first.
_TYPICAL = {401: "unauthorized", 404: "not-found", 422: "wrong-shape"}


def _status_of(refused: ApiError) -> int:
    """Return the dialect's HTTP status of a refusal; a person that is not there is a wrong value in the body."""
    if refused.code == "not-found" and refused.pointer not in ("", "/id"):
        return 422
    return _STATUS.get(refused.code, refused.status)


def failure(_: str, status: int) -> tuple[str, dict[str, Any]] | None:
    """Return the codes that an answer of a status may have, and an example."""
    codes = sorted(code for code, its in {**STATUS_OF_CODE, **_STATUS}.items() if its == status)
    if not codes:
        return None
    codes = sorted({*codes, "not-found"}) if status == 422 else codes
    described = f"One of {', '.join(f'`{code}`' for code in codes)}"
    return described, _document(status, _TYPICAL.get(status, codes[0]), phrase(status), {"pointer": ""})


def failed(refused: ApiError) -> Response:
    """Render a refusal as a JSON:API error document; `source` has the parameter at fault, or a place in the body."""
    status = _status_of(refused)
    source = {"parameter": refused.parameter} if refused.parameter else {"pointer": refused.pointer}
    return as_json(_document(status, refused.code, refused.detail, source), status, refused.headers, JSON_API)


def _document(status: int, code: str, detail: str, source: dict[str, str]) -> dict[str, Any]:
    return {"errors": [{"status": str(status), "title": code, "detail": detail, "source": source}]}
