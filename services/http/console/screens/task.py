"""One task: what is known of it, what may be done with it, and who changed what."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

from starlette.responses import Response

from services.http.console import past
from services.http.console.api import Refused, path_of
from services.http.console.screen import ROOT, Screen, Visit
from services.http.console.screens.commands import at_once

_EVENTS = 100
# What is shown elsewhere on the screen.
_APART = frozenset({"id", "title", "status", "assignees", "allowed_actions", "fields", "data", "output", "activity_id"})


# Where each dialect shows a task, and where its word for the status stands in the answer.
_DIALECTS = {
    "field": ("/api/v3/task/", ("task", "status")),
    "dispatch": ("/api/activities/", ("status",)),
    "workflow": ("/api/v3/workflow/activities/", ("data", "attributes", "status")),
}


async def _word(visit: Visit, dialect: str) -> str | None:
    """Return a dialect's word for the task's status; None if it does not show the task, or not to this key."""
    path, place = _DIALECTS[dialect]
    try:
        found = await visit.api.get(path + quote(visit.parts["id"], safe=""))
    except Refused:
        return None
    for name in place:
        found = found[name]
    return str(found)


async def task(visit: Visit) -> Response:
    """Show a task, its allowed actions and its history."""
    task_id, api = visit.parts["id"], visit.api
    cursor = visit.one("cursor")
    query = {"limit": _EVENTS, "sort": "-position", **({"cursor": cursor} if cursor else {})}
    shown, history = await asyncio.gather(
        api.get(path_of("tasks", task_id)), api.get(path_of("tasks", task_id, "history"), query)
    )
    words = await asyncio.gather(*(_word(visit, dialect) for dialect in _DIALECTS))
    events = history["data"][::-1]
    before = {}
    if history["next"]:
        before[task_id] = await api.get(path_of("tasks", task_id), {"as_of": events[0]["position"] - 1})
    stuck = []
    if shown["activity_id"]:
        found = await api.get(path_of("stuck"), {"activity": shown["activity_id"], "limit": 50})
        stuck = [each for each in found["data"] if each["resource"] == {"kind": "task", "id": task_id}]
    return visit.page(
        "task.html",
        task=shown,
        facts={name: value for name, value in shown.items() if name not in _APART and value not in (None, [], {}, "")},
        actions=[(name, at_once(name)) for name in shown["allowed_actions"]] if visit.may("write") else [],
        events=past.with_changes(events, before)[::-1],
        next=history["next"],
        words=[(dialect, word) for dialect, word in zip(_DIALECTS, words, strict=True) if word is not None],
        stuck=stuck,
    )


SCREENS = (Screen("GET", f"{ROOT}/tasks/{{id}}", task),)
