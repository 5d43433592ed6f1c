"""Which tenant loads the system; the first screen shows the beginning of it."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from services.http.console.api import path_of
from services.http.console.screen import ROOT, Menu, Screen, Visit

_MINUTES = ("1", "5", "15")


async def loads(visit: Visit, minutes: str) -> Any:
    """Return the figures of tenants over so many minutes."""
    return await visit.api.get(path_of("tenants"), {"minutes": minutes})


async def tenants(visit: Visit) -> Response:
    """Show the tenants, the greatest load first."""
    minutes = visit.one("minutes", _MINUTES[1])
    return visit.page("tenants.html", loads=await loads(visit, minutes), minutes=minutes, choices=_MINUTES)


SCREENS = (
    Screen("GET", f"{ROOT}/tenants", tenants, permission="tenants", menu=Menu("Tenants", "activity", "n", 13)),
)  # fmt: skip
