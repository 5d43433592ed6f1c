"""The HTTP role, put together: routes, the guard around them, documentation, and the parts they share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Lifespan, Receive, Scope, Send

from services.broker.command_queue import CommandQueue
from services.http import bulk_receipts, commands, directory_entries, events, examples, openapi, queries
from services.http.dispatch import api as dispatch
from services.http.dispatch import errors as dispatch_errors
from services.http.endpoints import Table, install
from services.http.field import api as field
from services.http.field.errors import failed
from services.http.guard import Envelope, Guard, failure
from services.http.operations import Broker, Readiness, handlers
from services.http.problems import Refused, problem
from services.http.service import Sender, Service, make_service
from services.http.workflow import api as workflow
from services.http.workflow import errors as workflow_errors
from services.settings import Settings

# Which dialect speaks below a path: the first that fits.
_DIALECTS: tuple[tuple[tuple[str, ...], Envelope], ...] = (
    (workflow.PATHS, workflow_errors.failed),
    (("/api/v3/",), failed),
    (("/api/",), dispatch_errors.failed),
)


def envelope(path: str) -> Envelope:
    """Return the dialect that errors below a path are said in."""
    return next((spoken for starts, spoken in _DIALECTS if path.startswith(starts)), problem)


class Application(FastAPI):
    """FastAPI behind the guard. Known endpoints are found by the table; the rest goes through FastAPI's own stack."""

    table: Table
    guard: Guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.guard(scope, receive, send)

    async def dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what the guard lets through."""
        serve = self.table.find(scope) if scope["type"] == "http" and not scope.get("root_path") else None
        if serve is not None:
            await serve(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(
    settings: Settings,
    sender: Sender | None = None,
    broker: Broker | None = None,
    clock: Callable[[], datetime] | None = None,
) -> FastAPI:
    """Return the application; its lifespan opens the database, the sender and the look at the queue, and closes them.

    `sender`, `broker` and `clock` are for tests; by default they are the ones that the settings name.
    """
    service = make_service(settings, sender, clock)
    queue = broker if broker is not None else CommandQueue(settings.amqp_url.get_secret_value())
    readiness = Readiness(
        service.database, queue, settings.ready_lag, service.metrics, lambda: {"sender": service.sender.ready}
    )
    app = Application(
        title="Foldwork",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=_lifespan(service, queue),
    )
    app.guard = Guard(app.dispatch, settings.http_in_flight, service.metrics, envelope)
    app.add_exception_handler(HTTPException, _unrouted)
    app.add_exception_handler(Exception, _failed)
    parts = (commands, bulk_receipts, queries, events, directory_entries, field, dispatch, workflow)
    endpoints = [endpoint for part in parts for endpoint in part.endpoints(service)]
    app.table = install(app, endpoints, service.gate, settings.http_body_limit)
    for path, handler in handlers(readiness, service.metrics).items():
        about = dict(examples.OPERATIONS[path])
        responses = {"responses": about.pop("responses")}
        app.add_api_route(path, handler, response_class=Response, tags=["operations"], openapi_extra=responses, **about)
    _add_documentation(app)
    return app


def _lifespan(service: Service, queue: Broker) -> Lifespan[FastAPI]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            try:
                yield
            finally:
                await queue.close()

    return lifespan


async def _failed(request: Request, error: Exception) -> Response:
    """Answer what failed below FastAPI's own stack, which would say it in plain text; the guard logs it."""
    return envelope(request.url.path)(failure())


async def _unrouted(request: Request, error: Exception) -> Response:
    """Answer what no route takes, in the dialect that the path belongs to."""
    assert isinstance(error, HTTPException)  # noqa: S101
    path = request.url.path
    if error.status_code == 405:
        allowed = {"Allow": ", ".join(_methods(request))}
        refused = Refused("method-not-allowed", f"{request.method} is not served here", headers=allowed)
    elif path.startswith("/api/"):
        refused = Refused("no-endpoint", "there is no such endpoint")
    else:
        refused = Refused("not-found", "there is no such endpoint")
    return envelope(path)(refused)


def _methods(request: Request) -> list[str]:
    """Return the methods of a path; the router knows those of the first of its routes alone."""
    found = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    own = [route for route in found if route.path == request.url.path]
    return sorted({method for route in own or found for method in route.methods or ()})


def _add_documentation(app: FastAPI) -> None:
    """Serve the OpenAPI document, and a page that shows it."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = openapi.document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]

    async def served(_: Request) -> Response:
        return Response(msgspec.json.encode(app.openapi()), media_type="application/json")

    async def page(_: Request) -> Response:
        # The page's scripts come from FastAPI's default address; the document itself needs nothing from outside.
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="Foldwork",
            swagger_ui_parameters={"supportedSubmitMethods": [], "tryItOutEnabled": False},
        )

    app.add_route("/openapi.json", served, include_in_schema=False)
    app.add_route("/docs", page, include_in_schema=False)
