"""How one endpoint is served: caller first, then the question or the body, errors in its dialect, bytes out.

FastAPI routes and documents it, but does not stand between: its dependency machinery costs as much as all the rest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from projections.query import BadQuery
from services.commands import wire
from services.commands.wire import Malformed
from services.http.auth import Caller, Gate
from services.http.guard import CURRENT, Envelope, header
from services.http.problems import Refused, problem

JSON = "application/json"
_MOST_PARAMETERS = 100
# Positions are 64-bit numbers.
_MOST = 2**63 - 1
# What a parameter that is no number of its range is refused with; any other is a limit.
_CODES = {"min_position": "bad-position", "after": "bad-position", "cursor": "bad-cursor"}


@dataclass(slots=True)
class Call:
    """A request of a known caller."""

    scope: Scope
    receive: Receive
    caller: Caller
    body_limit: int

    @property
    def id(self) -> str:
        """Return the id in the path."""
        return self.part("id")

    def part(self, name: str) -> str:
        """Return a named part of the path."""
        found: str = self.scope["path_params"][name]
        return found

    def parameters(self, most: int = _MOST_PARAMETERS) -> dict[str, list[str]]:
        """Return the query's parameters, each with all its values."""
        text: bytes = self.scope["query_string"]
        found: dict[str, list[str]] = {}
        if text:
            try:
                for name, value in parse_qsl(text.decode("latin-1"), keep_blank_values=True, max_num_fields=most):
                    found.setdefault(name, []).append(value)
            except ValueError:
                raise Refused("bad-filter", f"a query has at most {most} parameters") from None
        return found

    async def json(self) -> Any:
        """Return the body as JSON that is safe to store; refuses what is too large before it is decoded."""
        return wire.load_json(await self.body())

    async def body(self) -> bytes:
        """Return the body of a JSON request."""
        kind = (header(b"content-type") or "").partition(";")[0].strip().lower()
        if kind != JSON and not (kind.startswith("application/") and kind.endswith("+json")):
            raise Refused("unsupported-media-type", "send the body as application/json", parameter="Content-Type")
        length = (header(b"content-length") or "").lstrip("0")
        if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > self.body_limit):
            raise self._too_large()
        chunks, size = [], 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Refused("not-json", "the request ended before its body")
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > self.body_limit:
                raise self._too_large()
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)

    def _too_large(self) -> Refused:
        return Refused("too-large", f"a body has at most {self.body_limit} bytes")


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


def one(parameters: dict[str, list[str]], name: str) -> str | None:
    """Take a parameter that may be given once."""
    values = parameters.pop(name, None)
    if values is None:
        return None
    if len(values) > 1:
        raise Refused("bad-filter", f"{name} is given more than once", parameter=name)
    return values[0]


def number(parameters: dict[str, list[str]], name: str, default: int, least: int, most: int = _MOST) -> int:
    """Take a parameter that is a whole number."""
    text = one(parameters, name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and least <= int(text) <= most):
        code = _CODES.get(name, "bad-limit")
        raise Refused(code, f"{name} is a whole number from {least} to {most}", parameter=name)
    return int(text)


def nothing_else(parameters: dict[str, list[str]], known: Iterable[str]) -> None:
    """Refuse parameters that nobody took, since a misspelt one would silently change the answer."""
    for name in parameters:
        raise Refused("unknown-parameter", f"the parameters are {', '.join(known)}", parameter=name)


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation with what the documentation says of it. `about` goes into its OpenAPI operation as it stands."""

    method: str
    path: str
    permission: str
    handler: Handler
    about: dict[str, Any] = field(default_factory=dict)
    envelope: Envelope = problem


def refusal(error: Exception) -> Refused:
    """Return what an error of the edge is to a caller."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, BadQuery):
        return Refused.of(error.refusal, error.parameter)
    if isinstance(error, Malformed):
        return Refused.of(error.refusal)
    raise error


def _served(endpoint: Endpoint, gate: Gate, body_limit: int) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            caller = await gate.caller(CURRENT.get().headers.get(b"authorization"))
            caller.demand(endpoint.permission)
            response = await endpoint.handler(Call(scope, receive, caller, body_limit))
        except (Refused, BadQuery, Malformed) as error:
            response = endpoint.envelope(refusal(error))
        await response(scope, receive, send)

    return app


class _Documented(APIRoute):
    """A route that FastAPI documents, and that is served by `app` alone."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.methods and scope["method"] not in self.methods:
            await super().handle(scope, receive, send)  # answers 405
        else:
            await self.app(scope, receive, send)


class Table:
    """Finds the endpoints whose path is constant or has one id by one look, since routing costs as much as a query.

    What it does not find, FastAPI's own router does; both lead to the same place.
    """

    def __init__(self) -> None:
        self._exact: dict[tuple[str, str], _Documented] = {}
        self._by_id: dict[tuple[str, str, str], _Documented] = {}

    def add(self, route: _Documented, method: str) -> None:
        """Take a route over, if it is `…`, `…/{id}` or `…/{id}/…` with one more part."""
        before, placed, after = route.path.partition("/{id}")
        if "{" in before or "{" in after or after.count("/") > 1:
            return
        if placed:
            self._by_id[method, before, after] = route
        else:
            self._exact[method, route.path] = route

    def find(self, scope: Scope) -> ASGIApp | None:
        """Return what serves a request, with the id put where the router would put it."""
        path, method = scope["path"], scope["method"]
        route = self._exact.get((method, path))
        if route is None:
            parent, _, last = path.rpartition("/")
            route = self._by_id.get((method, parent, ""))
            if route is None:
                parent, _, entity_id = parent.rpartition("/")
                route = self._by_id.get((method, parent, f"/{last}"))
                last = entity_id
            if route is None or not last:
                return None
            scope["path_params"] = {"id": last}
        scope["route"] = route
        return route.app


def install(app: FastAPI, endpoints: Iterable[Endpoint], gate: Gate, body_limit: int) -> Table:
    """Add the endpoints to the application, and return the short way to them."""
    table = Table()
    for endpoint in endpoints:
        about = dict(endpoint.about)
        route = _Documented(
            endpoint.path,
            _never_called,
            methods=[endpoint.method],
            name=about["operationId"],
            operation_id=about.pop("operationId"),
            summary=about.pop("summary"),
            description=about.pop("description", None),
            tags=about.pop("tags"),
            status_code=about.pop("status", 200),
            response_class=Response,
            openapi_extra=about,
        )
        route.app = _served(endpoint, gate, body_limit)
        app.router.routes.append(route)
        table.add(route, endpoint.method)
    return table


def _never_called() -> None:
    """Stand where FastAPI wants a signature; the route's own `app` serves."""
