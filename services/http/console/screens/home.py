"""The first screen: what is stuck, by its cause."""

from __future__ import annotations

from starlette.responses import Response

from services.http.console.api import path_of
from services.http.console.screen import ROOT, Menu, Screen, Visit

_SHOWN = 8


async def home(visit: Visit) -> Response:
    """Show how many things are stuck by cause, and the first of them."""
    stuck = await visit.api.get(path_of("stuck"), {"limit": _SHOWN})
    return visit.page("home.html", stuck=stuck)


async def stuck(visit: Visit) -> Response:
    """List what is stuck, as the address asks."""
    page = await visit.api.get(path_of("stuck"), visit.query)
    return visit.page("stuck.html", page=page)


SCREENS = (
    Screen("GET", ROOT, home, menu=Menu("Home", "house", "h", 0)),
    Screen("GET", f"{ROOT}/stuck", stuck, menu=Menu("Stuck", "siren", "s", 1)),
)
