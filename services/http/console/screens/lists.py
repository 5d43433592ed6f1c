"""The lists of tasks and of activities, with the API's filters in the address."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.responses import Response

from domain.lifecycle import Lifecycle
from services.http.console.api import path_of
from services.http.console.screen import ROOT, Menu, Screen, Visit

STATES = tuple(state.lower() for state in Lifecycle)
# With `true`, what nobody is assigned to: a form's field that is empty asks for nothing.
NOBODY = "nobody"
# The filters that have a field of their own; every other of the API works in the address.
_FIELDS = ("search", "assignee", "hub", "project")
_OWN = {"tasks": ("type",), "activities": ("workflow_id",)}
_FLAGS = {"tasks": ("overdue",), "activities": ("overdue", "attention")}


def listing(what: str) -> Callable[[Visit], Awaitable[Response]]:
    """Return what shows the list of tasks, or of activities."""
    fields, flags = (*_FIELDS, *_OWN[what]), _FLAGS[what]

    async def show(visit: Visit) -> Response:
        asked = [each for each in visit.query if each[0] not in ("counts", NOBODY)]
        if visit.one(NOBODY) == "true" and not visit.one("assignee"):
            asked.append(("assignee", ""))
        page = await visit.api.get(path_of(what), [*asked, ("counts", "status")])
        return visit.page(
            f"{what}.html",
            page=page,
            fields=fields,
            flags=flags,
            states=STATES,
            chosen=[value for name, value in asked if name == "status"],
            others=[each for each in visit.query if each[0] not in (*fields, *flags, "sort", "cursor", "counts")],
            counts=_counts(page),
        )

    return show


def _counts(page: dict[str, Any]) -> dict[str, Any]:
    """Return how many there are by status, and as `all` together; nothing where that was not counted."""
    found = {each["status"]: each for each in page.get("counts", ())}
    if found:
        more = any(each["more"] for each in found.values())
        found["all"] = {"count": sum(each["count"] for each in found.values()), "more": more}
    return found


SCREENS = (
    Screen("GET", f"{ROOT}/activities", listing("activities"), menu=Menu("Activities", "folder-kanban", "a", 2)),
    Screen("GET", f"{ROOT}/tasks", listing("tasks"), menu=Menu("Tasks", "list-checks", "t", 3)),
)
