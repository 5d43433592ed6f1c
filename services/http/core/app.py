"""The HTTP role, put together: routes, the middleware around them, documentation, and the parts they share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import cached_property
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Lifespan, Receive, Scope, Send

from services.broker.command_queue import CommandQueue
from services.http.core import dialects, documentation, openapi
from services.http.core.bulk_sender import Sender
from services.http.core.components import Components
from services.http.core.errors import ApiError, problem
from services.http.core.health import Broker, Readiness, handlers
from services.http.core.info import INFO, TAGS
from services.http.core.middleware import Envelope, Middleware, failure
from services.http.core.operation import Operation
from services.http.core.routes import Table, install, route
from services.http.core.service import Service, make_service
from services.http.native import derived
from services.http.native import operations as native
from services.settings import Settings

_OPERATIONS = dialects.operations()
# Which dialect speaks below a path: the one that names the longest beginning of it.
_ENVELOPES: dict[str, Envelope] = dialects.envelopes(_OPERATIONS)
_PATHS = sorted(_ENVELOPES, key=len, reverse=True)


def envelope(path: str) -> Envelope:
    """Return the dialect that errors below a path are said in."""
    return next((_ENVELOPES[start] for start in _PATHS if path.startswith(start)), problem)


class Application(Starlette):
    """The router behind the middleware. Known operations are found by the table, the rest by Starlette's stack."""

    table: Table
    outermost: Middleware
    operations: Sequence[Operation]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.outermost(scope, receive, send)

    async def dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what the middleware lets through."""
        serve = self.table.find(scope) if scope["type"] == "http" and not scope.get("root_path") else None
        if serve is not None:
            await serve(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    @cached_property
    def document(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        return openapi.document(INFO, TAGS, (*self.operations, *native.PROBES), Components(derived.shared()))

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        return self.document


def create_app(
    settings: Settings,
    sender: Sender | None = None,
    broker: Broker | None = None,
    clock: Callable[[], datetime] | None = None,
) -> Application:
    """Return the application; its lifespan opens the database, the sender and the look at the queue, and closes them.

    `sender`, `broker` and `clock` are for tests; by default they are the ones that the settings name.
    """
    service = make_service(settings, sender, clock)
    queue = broker if broker is not None else CommandQueue(settings.amqp_url.get_secret_value())
    readiness = Readiness(
        service.pool, queue, settings.ready_lag, service.metrics, lambda: {"sender": service.sender.ready}
    )
    app = Application(
        lifespan=_lifespan(service, queue), exception_handlers={HTTPException: _unrouted, Exception: _failed}
    )
    app.router.redirect_slashes = False
    app.outermost = Middleware(app.dispatch, settings.http_in_flight, service.metrics, envelope)
    app.operations = _OPERATIONS
    app.table = install(app.routes, app.operations, service)
    for path, handler in handlers(readiness, service.metrics).items():
        app.routes.append(route(path, "GET", handler))
    documentation.install(app)
    return app


def _lifespan(service: Service, queue: Broker) -> Lifespan[Application]:
    @asynccontextmanager
    async def lifespan(_: Application) -> AsyncIterator[None]:
        async with service.running():
            try:
                yield
            finally:
                await queue.close()

    return lifespan


async def _failed(request: Request, error: Exception) -> Response:
    """Answer what failed below Starlette's own stack, which would say it in plain text; the middleware logs it."""
    return envelope(request.url.path)(failure())


async def _unrouted(request: Request, error: Exception) -> Response:
    """Answer what no route takes, in the dialect that the path belongs to."""
    assert isinstance(error, HTTPException)  # noqa: S101
    path = request.url.path
    if error.status_code == 405:
        allowed = {"Allow": ", ".join(_methods(request))}
        refused = ApiError("method-not-allowed", f"{request.method} is not served here", headers=allowed)
    elif path.startswith("/api/"):
        refused = ApiError("no-endpoint", "there is no such endpoint")
    else:
        refused = ApiError("not-found", "there is no such endpoint")
    return envelope(path)(refused)


def _methods(request: Request) -> list[str]:
    """Return the methods of a path; the router knows those of the first of its routes alone."""
    found = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    own = [route for route in found if route.path == request.url.path]
    return sorted({method for route in own or found for method in route.methods or ()})
