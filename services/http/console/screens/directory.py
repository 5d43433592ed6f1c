"""The directory: entries by kind, what refers to one, and registering, changing and retiring them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from domain.directory.settings import CREDENTIALS
from domain.streams import ENTRY_KINDS
from services.http.console.api import Refused, path_of
from services.http.console.rendering import place
from services.http.console.screen import ROOT, Menu, Screen, Visit
from services.http.console.screens.board import OPEN

# What refers to an entry of a kind: the list, and its filter. Nothing can be asked for the other kinds.
REFERENCES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "member": (("tasks", "assignee"), ("activities", "assignee")),
    "hub": (("tasks", "hub"), ("activities", "hub")),
    "project": (("tasks", "project"), ("activities", "project")),
    "commerce": (("tasks", "commerce"),),
    "route": (("tasks", "route"),),
    "operator": (("tasks", "operator"),),
}
_SHOWN = 20


async def first(visit: Visit) -> Response:
    """Show the entries of the kind that is shown first."""
    return await entries(visit, "member")


async def entries(visit: Visit, kind: str = "") -> Response:
    """List the entries of a kind."""
    kind = kind or visit.parts["kind"]
    page = await visit.api.get(path_of("directory", kind), visit.query)
    return visit.page("directory.html", kind=kind, kinds=ENTRY_KINDS, page=page, next=visit.onward(page["next"]))


async def entry(visit: Visit) -> Response:
    """Show an entry, and the open work that refers to it."""
    kind, entry_id = visit.parts["kind"], visit.parts["id"]
    shown = await visit.api.get(path_of("directory", kind, entry_id), {"retired": "true"})
    asked = REFERENCES.get(kind, ())
    pages = await asyncio.gather(*(_referring(visit, what, name, entry_id) for what, name in asked))
    return visit.page(
        "entry.html",
        kind=kind,
        entry=shown,
        referring=[(what, name, page) for (what, name), page in zip(asked, pages, strict=True)],
        editable=_editable(shown["fields"]),
    )


async def register(visit: Visit) -> Response:
    """Register an entry, which may be one that was retired."""
    kind, given = visit.parts["kind"], {"fields": _fields(visit)}
    body = {**given, "id": visit.form.one("id")} if visit.form.one("id") else given
    made = await visit.api.send("POST", path_of("directory", kind), body)
    if "id" not in made:
        raise Refused(202, {"code": "undecided", "detail": "the entry is sent, and not decided yet: look again"})
    return visit.go(place("directory", kind, made["id"]))


async def change(visit: Visit) -> Response:
    """Change the fields that differ from those that the page had shown; one that is missing is taken away."""
    kind, entry_id, version = visit.parts["kind"], visit.parts["id"], visit.form.one("version")
    shown = await visit.api.get(path_of("directory", kind, entry_id))
    before, after = _editable(shown["fields"]), _fields(visit)
    new = {name: after.get(name) for name in {**before, **after} if before.get(name) != after.get(name)}
    if not new:
        return visit.done("Nothing differs, nothing was changed.")
    if version != str(shown["version"]):
        raise Refused(409, {"code": "version-conflict", "detail": "the entry was changed since: reload the page"})
    data = {"kind": kind, "id": entry_id, "fields": new}
    body = {"type": "directory.change", "data": data, "expected_version": shown["version"]}
    reply = await visit.api.send("POST", path_of("commands"), body)
    visit.api.position = reply.get("position") or visit.api.position
    if reply.get("outcome") == "undecided":
        return visit.done("The change is sent, and not decided yet.")
    return visit.done(f"Changed: {', '.join(sorted(new))}.")


def _editable(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that can be sent back as they are shown: credentials are never shown."""
    return {name: value for name, value in fields.items() if not (name == CREDENTIALS and value is True)}


def _fields(visit: Visit) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(visit.form.one("fields", "{}") or "{}")
    except msgspec.DecodeError as error:
        raise Refused(400, {"code": "not-json", "detail": str(error), "pointer": "/fields"}) from None
    if not isinstance(found, dict):
        raise Refused(400, {"code": "wrong-shape", "detail": "fields are an object of JSON", "pointer": "/fields"})
    return found


async def _referring(visit: Visit, what: str, name: str, entry_id: str) -> Any:
    query = [(name, entry_id), *(("status", state) for state in OPEN), ("limit", str(_SHOWN))]
    return await visit.api.get(path_of(what), query)


SCREENS = (
    Screen("GET", f"{ROOT}/directory", first, menu=Menu("Directory", "book-user", "d", 6)),
    Screen("GET", f"{ROOT}/directory/{{kind}}", entries),
    Screen("POST", f"{ROOT}/directory/{{kind}}", register, permission="write"),
    Screen("GET", f"{ROOT}/directory/{{kind}}/{{id}}", entry),
    Screen("POST", f"{ROOT}/directory/{{kind}}/{{id}}", change, permission="write"),
)
