"""A server that does nothing, for the HTTP client to show how fast it is itself."""

from __future__ import annotations

from typing import Any

_BODY = b'{"answer":"' + b"x" * 1500 + b'"}'
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(_BODY)).encode())],
}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer everything with the same bytes."""
    if scope["type"] == "http":
        await send(_START)
        await send({"type": "http.response.body", "body": _BODY})
