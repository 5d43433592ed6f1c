"""What the dispatch dialect's endpoints answer with when nothing was refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from services.http.core.command import Answered
from services.http.endpoints import JSON


def as_json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a body as JSON."""
    return Response(msgspec.json.encode(body), status, headers, JSON)


def accepted(answered: Answered) -> Response:
    """Answer a command whose outcome is not known yet, or cannot be shown yet."""
    body = {
        "statusCode": 202,
        "message": "Accepted, its outcome is not known yet",
        "commandId": answered.command_id,
        "receipt": answered.receipt,
    }
    return as_json(body, 202, {"Location": answered.receipt})
