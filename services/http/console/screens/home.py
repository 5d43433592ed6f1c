"""The first screen: figures of now, and what is stuck, by its cause."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from starlette.responses import Response

from services.http.console.api import Refused, path_of
from services.http.console.screen import ROOT, Menu, Screen, Visit
from services.http.console.screens.tenants import loads

_SHOWN, _MINUTES, _TENANTS = 8, 5, 5


async def home(visit: Visit) -> Response:
    """Show the figures, how many things are stuck by cause, and the first of them; who may, sees the load by tenant."""
    overview, stuck, tenants = await asyncio.gather(
        visit.api.get(path_of("overview"), {"minutes": _MINUTES}),
        visit.api.get(path_of("stuck"), {"limit": _SHOWN}),
        _tenants(visit),
    )
    chart = _chart(overview["events"])
    return visit.page("home.html", overview=overview, chart=chart, minutes=_MINUTES, stuck=stuck, tenants=tenants)


async def _tenants(visit: Visit) -> list[dict[str, Any]] | None:
    """Return the first tenants; None for who may not see them, or while they cannot be counted."""
    if not visit.may("tenants"):
        return None
    try:
        found: list[dict[str, Any]] = (await loads(visit, str(_MINUTES)))["data"]
    except Refused:
        return None
    return found[:_TENANTS]


def _chart(events: dict[str, Any]) -> dict[str, Any]:
    """Return the events per second as the points of a chart."""
    times = [datetime.fromisoformat(bucket["at"]).timestamp() for bucket in events["buckets"]]
    rates = [round(bucket["count"] / events["bucket_seconds"], 2) for bucket in events["buckets"]]
    return {"x": times, "series": [{"label": "events per second", "values": rates}]}


async def stuck(visit: Visit) -> Response:
    """List what is stuck, as the address asks."""
    page = await visit.api.get(path_of("stuck"), visit.query)
    return visit.page("stuck.html", page=page)


SCREENS = (
    Screen("GET", ROOT, home, menu=Menu("Home", "house", "h", 0)),
    Screen("GET", f"{ROOT}/stuck", stuck, menu=Menu("Stuck", "siren", "s", 1)),
)
