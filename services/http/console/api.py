"""The native API as the console uses it: the same operations, in this process, with the key of the session.

Permissions, limits, validation and audit are those of any other caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlencode

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.http.core.middleware import CURRENT, Exchange

Values = Mapping[str, Any]


class Refused(Exception):
    """The API refused a request, as its problem details say."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("code", "internal"))
        self.detail = str(problem.get("detail", ""))
        self.pointer = str(problem.get("pointer") or problem.get("parameter") or "")
        super().__init__(f"{self.code}: {self.detail}")


def path_of(*parts: str) -> str:
    """Return a path of the API of parts, which may have any characters."""
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


@dataclass(slots=True)
class Api:
    """Calls of one caller. `scope` is that of the request that is being served."""

    app: ASGIApp
    scope: Scope
    token: str
    # The position that the last answer has said, if it has said one.
    position: int | None = None

    async def get(self, path: str, query: Values | Sequence[tuple[str, Any]] = ()) -> Any:
        """Return what a read answers; raises `Refused`."""
        return await self._asked("GET", path, query)

    async def send(
        self, method: str, path: str, body: Any = None, query: Values | Sequence[tuple[str, Any]] = ()
    ) -> Any:
        """Return what a write answers; raises `Refused`."""
        return await self._asked(method, path, query, body)

    async def command(self, kind: str, data: Values, *, dry_run: bool = False) -> Any:
        """Send a command, or try it, and return what was decided; raises `Refused`."""
        query = {"dry_run": "true"} if dry_run else {}
        return await self.send("POST", path_of("commands"), {"type": kind, "data": data}, query)

    async def stream(self, path: str, query: bytes, receive: Receive, send: Send) -> None:
        """Answer the request with what a stream of the API answers."""
        headers = {name: value for name, value in self.scope["headers"] if name == b"last-event-id"}
        await self._served("GET", path, query, headers, receive, send)

    async def _asked(self, method: str, path: str, query: Values | Sequence[tuple[str, Any]], body: Any = None) -> Any:
        sent = b"" if body is None else msgspec.json.encode(body)
        headers = {b"content-length": b"%d" % len(sent)}
        at = CURRENT.get().headers.get(b"foldwork-position")
        if at is not None and method == "GET":
            # What the page has changed is seen in what it reads.
            headers[b"foldwork-position"] = at
        if body is not None:
            headers[b"content-type"] = b"application/json"
        answered: list[Message] = []
        delivered = False

        async def receive() -> Message:
            nonlocal delivered
            if delivered:
                return {"type": "http.disconnect"}
            delivered = True
            return {"type": "http.request", "body": sent, "more_body": False}

        async def send(message: Message) -> None:
            answered.append(message)

        await self._served(method, path, urlencode(query, doseq=True).encode(), headers, receive, send)
        status, text = answered[0]["status"], b"".join(part.get("body", b"") for part in answered[1:])
        found = msgspec.json.decode(text) if text else None
        if status >= 400:
            raise Refused(status, found if isinstance(found, dict) else {})
        return found

    async def _served(
        self, method: str, path: str, query: bytes, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        outer = CURRENT.get()
        headers[b"authorization"] = b"Bearer " + self.token.encode()
        raw_path, path = path.encode(), unquote(path)
        scope = {
            **{name: self.scope[name] for name in ("type", "asgi", "http_version", "scheme", "client", "server")},
            "method": method,
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": list(headers.items()),
        }
        inner = Exchange(outer.request_id, outer.traceparent, headers)
        before = CURRENT.set(inner)
        try:
            await self.app(scope, receive, send)
        finally:
            CURRENT.reset(before)
            self.position = inner.position or self.position
