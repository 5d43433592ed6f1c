"""The console's routes: the log-in, sessions, the screens with their protection, and the files of its pages."""

from __future__ import annotations

import hmac
import pkgutil
from collections.abc import Awaitable, Callable
from importlib import import_module
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.http.console import forms, rendering, screens
from services.http.console.api import Api, Refused
from services.http.console.forms import BadForm, Form
from services.http.console.screen import ROOT, Screen, Visit, requested
from services.http.console.session import LIFE_SECONDS, Session, Sessions
from services.http.core.authenticator import NOBODY, Caller
from services.http.core.errors import ApiError
from services.http.core.service import Service
from services.store.unavailable import StoreUnavailable
from services.urls import LOOPBACK, host_name

SCREENS: tuple[Screen, ...] = tuple(
    screen
    for found in pkgutil.iter_modules(screens.__path__, f"{screens.__name__}.")
    for screen in import_module(found.name).SCREENS
)
_MENU = tuple(sorted((each for each in SCREENS if each.menu), key=lambda each: each.menu.order if each.menu else 0))
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
LOG_IN, LOG_OUT, LIVE = f"{ROOT}/login", f"{ROOT}/logout", f"{ROOT}/live"
_COOKIE = "foldwork-console"
_KEPT = "public, max-age=31536000, immutable"


def install(app: Starlette, service: Service, dispatch: ASGIApp) -> None:
    """Serve the console below `/console`; `dispatch` serves the API."""
    console = Console(service, dispatch, Sessions.of(service.settings.secret_key))
    files = {path.name: path for path in rendering.STATIC.iterdir() if path.suffix in (".js", ".css", ".svg")}

    async def file(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files:
            return HTMLResponse("", 404, HEADERS)
        return FileResponse(files[name], headers={**HEADERS, "Cache-Control": _KEPT})

    app.add_route(f"{ROOT}/static/{{name}}", file)
    app.add_route(LOG_IN, console.log_in, methods=["GET", "POST"])
    app.add_route(LOG_OUT, console.log_out, methods=["POST"])
    app.add_route(LIVE, console.live)
    for screen in SCREENS:
        app.add_route(screen.path, console.serving(screen), methods=[screen.method])


class Console:
    """Serves screens to those who are logged in."""

    def __init__(self, service: Service, dispatch: ASGIApp, sessions: Sessions) -> None:
        self._service = service
        self._dispatch = dispatch
        self.sessions = sessions

    async def log_in(self, request: Request) -> Response:
        """Show the log-in, or begin a session with a key, or with the ticket in the address."""
        ticket, wanted = request.query_params.get("ticket", ""), _below(request.query_params.get("next", ""))
        if request.method == "GET" and not ticket:
            return self._log_in_page(wanted)
        try:
            with self._service.anonymous.request(NOBODY):
                if request.method == "POST":
                    if not _same_origin(request):
                        return self._log_in_page(wanted, "The form was sent by another site.", 403)
                    form = await forms.read(request, forms.ANONYMOUS_BYTES)
                    token, wanted = form.one("key"), _below(form.one("next"))
                else:
                    token = self.sessions.redeem(ticket) or ""
                    if not token:
                        return self._log_in_page(wanted, "This link was used already, or is too old.", 403)
                await self._caller(token)
        except BadForm as error:
            return self._log_in_page(wanted, f"{error}.", 400)
        except ApiError as error:
            said = "This key is unknown, expired or revoked." if error.status == 401 else f"{error.detail}."
            return self._log_in_page(wanted, said, error.status)
        except StoreUnavailable:
            return self._log_in_page(wanted, "The database does not answer. Try again in a moment.", 503)
        answer: Response = RedirectResponse(wanted, 303, HEADERS)
        if ticket:
            # A browser sends a strict cookie to a page of our own that leads on, but not along a link's redirection.
            answer = HTMLResponse(rendering.rendered("enter.html", next=wanted), headers=HEADERS)
        self._give(request, answer, self.sessions.begin(token))
        return answer

    async def log_out(self, request: Request) -> Response:
        """End the session in this browser."""
        answer = RedirectResponse(LOG_IN, 303, HEADERS)
        if _same_origin(request):
            answer.delete_cookie(_COOKIE, path=ROOT, httponly=True, samesite="strict")
        return answer

    async def live(self, request: Request) -> Response:
        """Answer with the API's stream of events."""
        session = self._session(request)
        if session is None or request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return HTMLResponse("", 401, HEADERS)
        return _Stream(Api(self._dispatch, request.scope, session.token), "/v1/events/stream")

    def serving(self, screen: Screen) -> Callable[[Request], Awaitable[Response]]:
        """Return what serves a screen."""

        async def serve(request: Request) -> Response:
            if not (request.scope["raw_path"] + request.scope["query_string"]).isascii():
                # No browser sends such an address, and it cannot be shown as one.
                return HTMLResponse("", 400, HEADERS)
            answer = await self._served(screen, request)
            answer.headers.update(HEADERS)
            return answer

        return serve

    async def _served(self, screen: Screen, request: Request) -> Response:
        session = self._session(request)
        if session is None:
            return self._to_log_in(request)
        try:
            caller = await self._caller(session.token)
        except (ApiError, StoreUnavailable) as error:
            if isinstance(error, ApiError) and error.status == 401:
                return self._to_log_in(request)
            detail = error.detail if isinstance(error, ApiError) else "the database does not answer"
            return HTMLResponse(rendering.rendered("unavailable.html", detail=detail), 503)
        form = Form({})
        visit = Visit(request, session, caller, Api(self._dispatch, request.scope, session.token), form, _menu(caller))
        try:
            if request.method == "POST":
                visit.form = await forms.read(request)
                _demand_own(request, session)
            if screen.permission not in caller.permissions:
                raise Refused(403, {"code": "forbidden", "detail": f"this needs the permission {screen.permission}"})
            answer = await screen.handler(visit)
        except Refused as error:
            if error.status == 401:
                return self._to_log_in(request)
            answer = visit.refused(error)
        except BadForm as error:
            answer = visit.refused(Refused(400, {"code": "bad-form", "detail": str(error)}))
        renewed = self.sessions.renewed(session)
        if renewed is not None:
            self._give(request, answer, renewed)
        return answer

    async def _caller(self, token: str) -> Caller:
        return await self._service.authenticator.caller(b"Bearer " + token.encode("utf-8", "replace"))

    def _session(self, request: Request) -> Session | None:
        cookie = request.cookies.get(_COOKIE)
        return None if cookie is None else self.sessions.open(cookie)

    def _give(self, request: Request, answer: Response, session: Session) -> None:
        # Off loopback the browser sends it over TLS alone.
        secure = host_name(request.headers.get("host", "")) not in LOOPBACK
        answer.set_cookie(
            _COOKIE, self.sessions.seal(session), LIFE_SECONDS,
            path=ROOT, secure=secure, httponly=True, samesite="strict",
        )  # fmt: skip

    def _log_in_page(self, wanted: str, error: str = "", status: int = 200) -> Response:
        return HTMLResponse(rendering.rendered("login.html", next=wanted, error=error), status, HEADERS)

    def _to_log_in(self, request: Request) -> Response:
        wanted = requested(request, with_query=True)
        if "hx-request" in request.headers:
            return Response(status_code=204, headers={"HX-Redirect": LOG_IN})
        if request.method != "GET":
            return RedirectResponse(LOG_IN, 303)
        return RedirectResponse(rendering.address(LOG_IN, next=wanted), 303)


class _Stream(Response):
    """An answer of the API that lasts."""

    def __init__(self, api: Api, path: str) -> None:
        super().__init__()
        self._api = api
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._api.stream(self._path, scope["query_string"], receive, send)


def _menu(caller: Caller) -> tuple[Screen, ...]:
    return tuple(screen for screen in _MENU if screen.permission in caller.permissions)


def _below(address: str) -> str:
    """Return the address of a page of the console, the first one for any other address."""
    parts = urlsplit(address)
    own = not parts.scheme and not parts.netloc and (parts.path == ROOT or parts.path.startswith(f"{ROOT}/"))
    return address if own and address.isascii() and address.isprintable() and "\\" not in address else ROOT


def _same_origin(request: Request) -> bool:
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        return site == "same-origin"
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def _demand_own(request: Request, session: Session) -> None:
    """Refuse an action that no page of this session has sent."""
    sent = request.headers.get("x-csrf-token", "")
    if not _same_origin(request) or not hmac.compare_digest(sent.encode(), session.csrf.encode()):
        raise Refused(403, {"code": "forbidden", "detail": "this was not sent by a page of the session: reload it"})
