"""One request of a known caller, and the answers that every dialect gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.commands import wire
from services.http.core.authenticator import Caller
from services.http.core.errors import ApiError
from services.http.core.middleware import header
from services.http.core.service import Service

JSON = "application/json"
_MAX_PARAMETERS = 100
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Call:
    """A request of a known caller."""

    scope: Scope
    receive: Receive
    caller: Caller
    service: Service

    @property
    def id(self) -> str:
        """Return the id in the path."""
        return self.parts["id"]

    @property
    def parts(self) -> Mapping[str, str]:
        """Return the named parts of the path."""
        found: Mapping[str, str] = self.scope.get("path_params", {})
        return found

    def parameters(self, most: int = _MAX_PARAMETERS) -> dict[str, list[str]]:
        """Return the query's parameters, each with all its values."""
        text: bytes = self.scope["query_string"]
        found: dict[str, list[str]] = {}
        if text:
            try:
                for name, value in parse_qsl(text.decode("latin-1"), keep_blank_values=True, max_num_fields=most):
                    found.setdefault(name, []).append(value)
            except ValueError:
                raise ApiError("bad-filter", f"a query has at most {most} parameters") from None
        return found

    @property
    def has_body(self) -> bool:
        """Tell whether anything is sent as the request's body."""
        return header(b"transfer-encoding") is not None or (header(b"content-length") or "0") != "0"

    async def json(self) -> Any:
        """Return the body as JSON that is safe to store; refuses what is too large before it is decoded."""
        return wire.load_json(await self.body())

    async def body(self) -> bytes:
        """Return the body of a JSON request."""
        kind = (header(b"content-type") or "").partition(";")[0].strip().lower()
        if kind != JSON and not (kind.startswith("application/") and kind.endswith("+json")):
            raise ApiError("unsupported-media-type", "send the body as application/json", parameter="Content-Type")
        limit = self.service.settings.http_body_limit
        length = (header(b"content-length") or "").lstrip("0")
        if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > limit):
            raise _too_large(limit)
        chunks, size = [], 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ApiError("not-json", "the request ended before its body")
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)


def _too_large(limit: int) -> ApiError:
    return ApiError("too-large", f"a body has at most {limit} bytes")


class Ready(Response):
    """A 200 whose JSON is at hand; it skips what a response does to find out its own headers."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.status_code = 200
        self.background = None
        self.raw_headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})


def as_json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None, media: str = JSON) -> Response:
    """Return a body as JSON."""
    return Response(_encode(body), status, headers, media)
