"""The audit: what operators did, the newest acts first, with the API's filters in the address."""

from __future__ import annotations

from starlette.responses import Response

from services.http.console.api import path_of
from services.http.console.screen import ROOT, Menu, Screen, Visit

FIELDS = ("act", "actor", "target")
OUTCOMES = ("started", "succeeded", "failed")


async def audit(visit: Visit) -> Response:
    """List acts, as the address asks."""
    page = await visit.api.get(path_of("audit"), visit.query)
    return visit.page("audit.html", page=page, fields=FIELDS, outcomes=OUTCOMES)


SCREENS = (
    Screen("GET", f"{ROOT}/audit", audit, permission="audit", menu=Menu("Audit", "scroll-text", "i", 12)),
)  # fmt: skip
