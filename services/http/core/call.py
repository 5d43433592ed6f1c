"""One request of a known caller, and the answers that every dialect gives."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.commands import wire
from services.http.core.authenticator import Caller
from services.http.core.bodies import received
from services.http.core.errors import ApiError
from services.http.core.middleware import header
from services.http.core.service import Service
from services.http.core.shares import ANONYMOUS_BYTES, ANONYMOUS_SECONDS
from services.store.pool import Params, Rows

JSON = "application/json"
_MAX_PARAMETERS = 100
# Bytes of a body that takes about 1 ms to parse.
_LARGE = 64 << 10
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([\w.:+-]+)', re.IGNORECASE | re.ASCII)
_UTF_8 = frozenset({"utf-8", "utf8", "us-ascii"})
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
        body = await self.body()
        # Parsing keeps the event loop from other requests for as long as it takes.
        return await asyncio.to_thread(wire.load_json, body) if len(body) > _LARGE else wire.load_json(body)

    async def body(self) -> bytes:
        """Return the body of a JSON request."""
        kind, _, rest = (header(b"content-type") or "").partition(";")
        kind = kind.strip().lower()
        if kind != JSON and not (kind.startswith("application/") and kind.endswith("+json")):
            raise ApiError("unsupported-media-type", "send the body as application/json", parameter="Content-Type")
        if rest and (charset := _CHARSET.search(f";{rest}")) and charset[1].lower() not in _UTF_8:
            detail = f"JSON is sent in UTF-8, not in {charset[1][:100]}"
            raise ApiError("unsupported-media-type", detail, parameter="Content-Type")
        settings = self.service.settings
        limit, seconds = settings.http_body_limit, settings.http_body_timeout
        if not self.caller.key_id:
            limit, seconds = min(limit, ANONYMOUS_BYTES), min(seconds, ANONYMOUS_SECONDS)
        return await received(self.receive, limit, seconds)

    async def list_rows(self, sql: str, params: Params = ()) -> Rows:
        """Return the rows of a list, read beside single resources and in turn between tenants."""
        return await self.service.lists.fetch(self.caller.tenant, sql, params)


class Ready(Response):
    """An answer whose JSON is at hand; it skips what a response does to find out its own headers."""

    def __init__(
        self, body: bytes, headers: Sequence[tuple[bytes, bytes]] = (), status: int = 200, media: str = JSON
    ) -> None:
        self.body = body
        self.status_code = status
        self.background = None
        self.raw_headers = [
            (b"content-length", b"%d" % len(body)),
            (b"content-type", media.encode()),
            *headers,
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})


def as_json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None, media: str = JSON) -> Response:
    """Return a body as JSON."""
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
    return Ready(_encode(body), raw, status, media)
