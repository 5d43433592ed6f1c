"""The HTTP role, put together: routes, the middleware around them, documentation, and the parts they share."""

from __future__ import annotations

import pkgutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Lifespan, Receive, Scope, Send

from services import http
from services.health.readiness import Broker, handlers, make_readiness
from services.http.console import app as console
from services.http.core import documentation, openapi
from services.http.core.components import Components
from services.http.core.errors import ApiError
from services.http.core.jobs import Sender
from services.http.core.middleware import READ, Envelope, Middleware, failure
from services.http.core.operation import Operation
from services.http.core.routes import Table, install, route
from services.http.core.service import Service, make_service
from services.http.native.models import EXTERNAL
from services.http.native.probes import PROBES
from services.settings import Settings


def _dialects() -> Iterator[ModuleType]:
    """Return the modules `operations` of the packages of `services.http`, in the order of their names."""
    for package in pkgutil.iter_modules(http.__path__, f"{http.__name__}."):
        name = f"{package.name}.operations"
        if package.ispkg and find_spec(name) is not None:
            yield import_module(name)


OPERATIONS: tuple[Operation, ...] = tuple(operation for module in _dialects() for operation in module.OPERATIONS)
# The error envelopes by the beginnings of paths, the longest first. A beginning ends where a part of the path ends.
_ENVELOPES: dict[str, Envelope] = {
    f"{path.rstrip('/')}/": operation.dialect.envelope for operation in OPERATIONS for path in operation.dialect.paths
}
_PATHS = sorted(_ENVELOPES, key=len, reverse=True)
_NATIVE = _ENVELOPES["/"]
# The headers that are read, those of dialects included.
_READ = {
    **READ,
    **{
        parameter["name"].lower().encode(): parameter["name"]
        for operation in OPERATIONS
        for parameter in (*operation.parameters, *operation.dialect.parameters)
        if parameter["in"] == "header"
    },
}


def envelope(path: str) -> Envelope:
    """Return the error envelope of a path."""
    below = f"{path}/"
    return next((_ENVELOPES[start] for start in _PATHS if below.startswith(start)), _NATIVE)


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    return openapi.document((*OPERATIONS, *PROBES), Components(EXTERNAL))


class Application(Starlette):
    """The router behind the middleware. Known operations are found by the table, the rest by Starlette's stack."""

    table: Table
    outermost: Middleware
    # Called when the process begins to stop, before the server waits for the answers under way.
    end_streams: Callable[[], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.outermost(scope, receive, send)

    async def dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what the middleware lets through."""
        serve = self.table.find(scope) if scope["type"] == "http" and not scope.get("root_path") else None
        if serve is not None:
            await serve(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def _unready(sender: Sender) -> list[str]:
    if sender.blocked is not None:
        return [f"the broker blocks its connection: {sender.blocked}"]
    return [] if sender.ready else ["it has no connection to the broker"]


def create_app(
    settings: Settings,
    sender: Sender | None = None,
    broker: Broker | None = None,
    clock: Callable[[], datetime] | None = None,
) -> Application:
    """Return the application; its lifespan opens the database, the sender and the look at the queue, and closes them.

    `sender`, `broker` and `clock` are for tests; by default they are the ones that the settings name.
    """
    service = make_service(settings, sender, clock, broker)
    readiness = make_readiness(
        settings, service.checks, service.queue, service.metrics, lambda: {"sender": _unready(service.sender)},
        lambda: service.sender.unanswered,
    )  # fmt: skip
    app = Application(lifespan=_lifespan(service), exception_handlers={HTTPException: _unrouted, Exception: _failed})
    app.router.redirect_slashes = False
    probes = handlers(readiness, service.metrics)
    app.outermost = Middleware(app.dispatch, service.metrics, envelope, _READ, settings.http_hosts, probes)
    app.end_streams = service.end_streams
    app.table = install(app.routes, OPERATIONS, service, _ENVELOPES)
    for path, handler in probes.items():
        app.routes.append(route(path, "GET", handler))
    documentation.install(app, document)
    console.install(app, service, app.dispatch)
    return app


def _lifespan(service: Service) -> Lifespan[Application]:
    @asynccontextmanager
    async def lifespan(_: Application) -> AsyncIterator[None]:
        async with service.running():
            try:
                yield
            finally:
                await service.queue.close()

    return lifespan


async def _failed(request: Request, error: Exception) -> Response:
    """Answer what failed below Starlette's own stack, which would say it in plain text; the middleware logs it."""
    return envelope(request.scope["path"])(failure())


async def _unrouted(request: Request, error: Exception) -> Response:
    """Answer what no route takes, in the dialect that the path belongs to."""
    assert isinstance(error, HTTPException)  # noqa: S101
    spoken = envelope(request.scope["path"])
    if error.status_code == 405:
        allowed = {"Allow": ", ".join(_methods(request))}
        return spoken(ApiError("method-not-allowed", f"{request.method} is not served here", headers=allowed))
    return spoken(ApiError("not-found" if spoken is _NATIVE else "no-endpoint", "there is no such endpoint"))


def _methods(request: Request) -> list[str]:
    """Return the methods of a path; the router knows those of the first of its routes alone, without HEAD."""
    found = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    own = [route for route in found if route.path == request.url.path]
    methods = {method for route in own or found for method in route.methods or ()}
    return sorted({*methods, "HEAD"} if "GET" in methods else methods)
