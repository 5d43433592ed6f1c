"""Screens: what the console consists of, as data from which they are served, and the menu is made.

A module of `console.screens` has `SCREENS`, a tuple of `Screen`, and is found by its place. A handler takes a `Visit`,
asks `visit.api`, and answers with `visit.page(template, …)`. What changes something is a POST, sent by htmx from a form
or a button of a page: it answers with `visit.done(…)`, which is shown above the page, and the page is read again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from services.http.console import rendering
from services.http.console.api import Api, Refused
from services.http.console.forms import Form
from services.http.console.session import Session
from services.http.core.authenticator import Caller

ROOT = "/console"
Handler = Callable[["Visit"], Awaitable[Response]]


def requested(request: Request, *, with_query: bool = False) -> str:
    """Return the path of a request as it was asked for; its parts may have any characters, which stay quoted."""
    path: bytes = request.scope["raw_path"]
    query: bytes = request.scope["query_string"]
    return (path + b"?" + query if with_query and query else path).decode("ascii")


@dataclass(frozen=True, slots=True)
class Menu:
    """A place in the menu: its words, its icon, the key that goes there after `g`, and where it stands."""

    label: str
    icon: str
    key: str
    order: int


@dataclass(frozen=True, slots=True)
class Screen:
    """A page of the console or an action of one; `permission` is what the API demands for all that it asks."""

    method: str
    path: str
    handler: Handler
    _: KW_ONLY
    permission: str = "read"
    menu: Menu | None = None


@dataclass(slots=True)
class Visit:
    """A request of somebody who is logged in."""

    request: Request
    session: Session
    caller: Caller
    api: Api
    form: Form
    menu: tuple[Screen, ...] = ()

    @property
    def parts(self) -> Mapping[str, str]:
        """Return the named parts of the path."""
        return self.request.path_params

    @property
    def path(self) -> str:
        """Return the path that was asked for, quoted as it was, so that it can be asked for again."""
        return requested(self.request)

    @property
    def address(self) -> str:
        """Return the same with its query."""
        return requested(self.request, with_query=True)

    @property
    def query(self) -> list[tuple[str, str]]:
        """Return the parameters of the address that have a value."""
        return [(name, value) for name, value in self.request.query_params.multi_items() if value.strip()]

    def one(self, name: str, default: str = "") -> str:
        """Return a parameter of the address."""
        return self.request.query_params.get(name, default).strip()

    def onward(self, follow: str | None) -> str | None:
        """Return the address of the next page of this screen, whose parameters are not those of the API's list."""
        if follow is None:
            return None
        (cursor,) = parse_qs(urlsplit(follow).query)["cursor"]
        return rendering.address(self.path, self.query, cursor=cursor)

    def may(self, *permissions: str) -> bool:
        """Tell whether the caller has these permissions."""
        return self.caller.permissions.issuperset(permissions)

    def page(self, template: str, status: int = 200, **context: Any) -> Response:
        """Answer with a page, or a part of one."""
        return HTMLResponse(rendering.rendered(template, visit=self, **context), status)

    def refused(self, error: Refused) -> Response:
        """Answer with a refusal of the API, in its words: above the page for an action, else as a page."""
        template = "error.html" if self.request.method == "GET" else "refusal.html"
        # htmx shows nothing of an answer with another status.
        return self.page(template, error.status if self.request.method == "GET" else 200, error=error)

    def done(self, text: str, template: str = "done.html", **context: Any) -> Response:
        """Answer that an action was taken, and have the page read again, with what was changed."""
        answer = self.page(template, text=text, **context)
        changed = {"changed": {"position": self.api.position or 0}}
        answer.headers["HX-Trigger"] = msgspec.json.encode(changed).decode("ascii")
        return answer

    def go(self, address: str) -> Response:
        """Have the browser go to another page of the console."""
        return Response(status_code=204, headers={"HX-Redirect": address})
