"""The lists of tasks and of activities, with the API's filters in the address."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.responses import Response

from domain.lifecycle import Lifecycle
from services.http.console.api import path_of
from services.http.console.screen import ROOT, Menu, Screen, Visit

STATES = tuple(state.lower() for state in Lifecycle)
# The filters that have a field of their own; every other of the API works in the address.
_FIELDS = ("search", "assignee", "hub", "project")
_OWN = {"tasks": ("type",), "activities": ("workflow_id",)}
VIEWS = {
    "tasks": (
        ("All", ()),
        ("Open", (("status", "open"),)),
        ("At work", (("status", "active"),)),
        ("Overdue", (("overdue", "true"),)),
        ("Failed", (("status", "failed"),)),
    ),
    "activities": (
        ("All", ()),
        ("Open", (("status", "open"),)),
        ("At work", (("status", "active"),)),
        ("Attention", (("attention", "true"),)),
        ("Overdue", (("overdue", "true"),)),
    ),
}


def listing(what: str) -> Callable[[Visit], Awaitable[Response]]:
    """Return what shows the list of tasks, or of activities."""

    async def show(visit: Visit) -> Response:
        page, overview = await asyncio.gather(
            visit.api.get(path_of(what), visit.query), visit.api.get(path_of("overview"))
        )
        counts = {each["status"]: each for each in overview[what]}
        fields = (*_FIELDS, *_OWN[what])
        others = [(name, value) for name, value in visit.query if name not in (*fields, "status", "sort", "cursor")]
        return visit.page(
            f"{what}.html", page=page, fields=fields, states=STATES, views=VIEWS[what], others=others, counts=counts
        )

    return show


SCREENS = (
    Screen("GET", f"{ROOT}/activities", listing("activities"), menu=Menu("Activities", "folder-kanban", "a", 2)),
    Screen("GET", f"{ROOT}/tasks", listing("tasks"), menu=Menu("Tasks", "list-checks", "t", 3)),
)
