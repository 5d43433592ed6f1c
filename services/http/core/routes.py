"""Routing of operations: authentication, the operation itself, and errors in the dialect's envelope."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from projections.support.query import BadQuery
from services.commands.wire import InvalidMessage
from services.http.core.authenticator import NOBODY
from services.http.core.call import LARGE, Call
from services.http.core.errors import ApiError, unavailable
from services.http.core.middleware import CURRENT, Envelope
from services.http.core.operation import Operation
from services.http.core.service import Service
from services.store.unavailable import StoreUnavailable


@dataclass(frozen=True, slots=True)
class _Served:
    """An operation as an ASGI application. `others` are ids at whose place another dialect answers."""

    service: Service
    operation: Operation
    others: Mapping[str, Envelope]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.others and (other := self.others.get(scope["path_params"]["id"])) is not None:
            await other(ApiError("no-endpoint", "there is no such endpoint"))(scope, receive, send)
            return
        try:
            caller = NOBODY
            if self.operation.permission:
                headers = CURRENT.get().headers
                caller = await self.service.authenticator.caller(
                    headers.get(b"authorization"), headers.get(b"x-api-key")
                )
                for permission in (self.operation.permission, *self.operation.further):
                    caller.demand(permission)
            service = self.service
            places = service.in_flight if caller.key_id else service.anonymous
            if self.operation.lasts:
                places = service.streams
            with (
                places.request(caller),
                service.bodies.holding(caller.tenant) as body,
                service.answers.holding(caller.tenant) as answer,
            ):
                response = await self._response(Call(scope, receive, caller, service, body, answer))
                body.hold(0)
                if not self.operation.writes:
                    # What was read for it is gone. What a command did is answered whatever that takes.
                    size = len(getattr(response, "body", b""))
                    answer.hold(size if size > LARGE else 0)
                # An answer that is not taken yet has its place still.
                await response(scope, receive, send)
            return
        except ApiError as error:
            refused = error
        except StoreUnavailable as error:
            refused = unavailable(str(error))
        await self.operation.dialect.envelope(refused)(scope, receive, send)

    async def _response(self, call: Call) -> Response:
        try:
            return await self.operation.serve(call)
        except (ApiError, BadQuery, InvalidMessage) as error:
            return self.operation.dialect.envelope(ApiError.caused_by(error))
        except StoreUnavailable as error:
            return self.operation.dialect.envelope(unavailable(str(error)))


class Table:
    """Finds the routes whose path is constant or has one id by one look, since routing costs as much as a query.

    What it does not find, the router does; both lead to the same place.
    """

    def __init__(self) -> None:
        self._exact: dict[tuple[str, str], Route] = {}
        self._by_id: dict[tuple[str, str, str], Route] = {}

    def add(self, route: Route, method: str) -> None:
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


def route(path: str, method: str, served: Any, name: str | None = None) -> Route:
    """Return a route of one method; Starlette would add HEAD to GET."""
    made = Route(path, served, methods=[method], name=name)
    made.methods = {method}
    return made


def install(
    routes: list[BaseRoute], operations: Iterable[Operation], service: Service, envelopes: Mapping[str, Envelope]
) -> Table:
    """Add operations to the router's routes, and return the short way to them.

    `envelopes` are the dialects' by the beginnings of their paths.
    """
    table = Table()
    for operation in operations:
        served = _Served(service, operation, _others(operation, envelopes))
        for end in ("", "/") if operation.dialect.slash else ("",):
            made = route(operation.path + end, operation.method, served, operation.name + end)
            routes.append(made)
            table.add(made, operation.method)
    return table


def _others(operation: Operation, envelopes: Mapping[str, Envelope]) -> dict[str, Envelope]:
    """Return the envelopes of dialects whose paths begin where an operation's id stands, by that id."""
    before, placed, after = operation.path.partition("{id}")
    if not placed or after:
        return {}
    ids = {path.removeprefix(before).rstrip("/"): found for path, found in envelopes.items() if path.startswith(before)}
    return {part: found for part, found in ids.items() if part and found is not operation.dialect.envelope}
