"""API keys: those of the tenant, making one, whose token is shown once, and revoking one."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from services.http.console.api import Refused, path_of
from services.http.console.screen import ROOT, Menu, Screen, Visit
from services.keys import NOT_OVER_HTTP, ROLES

_STATES = ("active", "expired", "revoked")


async def keys(visit: Visit) -> Response:
    """List keys, the newest first."""
    page = await visit.api.get(path_of("keys"), visit.query)
    return visit.page(
        "keys.html",
        page=page,
        next=visit.onward(page["next"]),
        states=_STATES,
        roles=tuple(ROLES),
        permissions=sorted(visit.caller.permissions - NOT_OVER_HTTP),
    )


async def key(visit: Visit) -> Response:
    """Show one key."""
    shown = await visit.api.get(path_of("keys", visit.parts["id"]))
    return visit.page("key.html", key=shown)


async def create(visit: Visit) -> Response:
    """Make a key, and show its token this once."""
    form = visit.form
    body: dict[str, Any] = {name: form.one(name) for name in ("name", "actor") if form.one(name)}
    body |= {name: form.all(name) for name in ("permissions", "roles") if form.all(name)}
    if days := form.one("days"):
        if not days.isdecimal():
            raise Refused(400, {"code": "bad-form", "detail": "days are a whole number", "pointer": "/days"})
        body["days"] = int(days)
    made = await visit.api.send("POST", path_of("keys"), body)
    answer = visit.page("key_made.html", key=made)
    answer.headers["HX-Trigger"] = "changed"
    return answer


async def revoke(visit: Visit) -> Response:
    """Say which key it is, then revoke it."""
    own = path_of("keys", visit.parts["id"])
    if not visit.form.one("sure"):
        return visit.page("key_would.html", key=await visit.api.get(own))
    shown = await visit.api.send("DELETE", own)
    if shown["current"]:
        return visit.go(f"{ROOT}/login")
    return visit.done(f"{shown['name'] or shown['id']} is revoked, and lets nobody in any more.")


SCREENS = (
    Screen("GET", f"{ROOT}/keys", keys, permission="keys", menu=Menu("Keys", "key-round", "y", 11)),
    Screen("POST", f"{ROOT}/keys", create, permission="keys"),
    Screen("GET", f"{ROOT}/keys/{{id}}", key, permission="keys"),
    Screen("POST", f"{ROOT}/keys/{{id}}", revoke, permission="keys"),
)
