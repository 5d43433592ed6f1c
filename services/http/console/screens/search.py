"""Search: what the API finds for a text, by kind, with the reason why; a single result is opened at once."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.responses import RedirectResponse, Response

from services.http.console.api import path_of
from services.http.console.rendering import place
from services.http.console.screen import ROOT, Screen, Visit


async def search(visit: Visit) -> Response:
    """Show what is found, or go to it if it is one thing alone."""
    text = visit.one("q")
    found: list[dict[str, Any]] = []
    if text:
        found = (await visit.api.get(path_of("search"), {"q": text}))["data"]
    groups = [{**group, "hits": [{**hit, "address": address(hit["path"])} for hit in group["hits"]]} for group in found]
    hits = [hit for group in groups for hit in group["hits"]]
    if len(hits) == 1 and not any(group["more"] for group in groups):
        return RedirectResponse(hits[0]["address"], 303)
    return visit.page("search.html", text=text, groups=groups, count=len(hits))


def address(path: str) -> str:
    """Return the address of the screen that shows what the API has at a path."""
    workflow = parse_qs(urlsplit(path).query).get("workflow_id")
    if workflow is not None:
        return place("workflows", workflow[0])
    return f"{ROOT}/{path.removeprefix('/v1/')}"


SCREENS = (Screen("GET", f"{ROOT}/search", search),)
