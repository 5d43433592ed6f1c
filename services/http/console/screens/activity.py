"""One activity: its status and why, its tasks on a time axis, and both as they were at any position of the log."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from services.http.console import past
from services.http.console.api import path_of
from services.http.console.screen import ROOT, Screen, Visit

_EVENTS, _TASKS = 100, 200


async def activity(visit: Visit) -> Response:
    """Show an activity as it is, or as it was at the position or time `as_of`; of its events a page up to there."""
    activity_id, api, as_of, cursor = visit.parts["id"], visit.api, visit.one("as_of"), visit.one("cursor")
    own, when = path_of("activities", activity_id), {"as_of": as_of} if as_of else {}
    shown = await api.get(own, when)
    # What is folded of the past is folded once, if it is not asked for twice at the same time.
    end = str((api.position or 0) + 1) if as_of else ""
    page = await _events(visit, _EVENTS, cursor or end)
    events = page["data"][::-1]
    position = await _position(visit, end) if cursor or not events else events[-1]["position"]
    # The history may be behind the activity.
    position = shown["position"] if position is None else position
    explained, tasks, first, last, later = await asyncio.gather(
        api.get(f"{own}/explain", when),
        _tasks(visit, when),
        _position(visit, "0", "position"),
        _position(visit, ""),
        _position(visit, str(position), "position"),
    )
    stuck = [] if as_of else (await api.get(path_of("stuck"), {"activity": activity_id, "limit": 20}))["data"]
    begun = await _before(visit, events[0]["position"]) if page["next"] else []
    changed: dict[str, list[str]] = {}
    if as_of and first is not None and position > first:
        changed = past.changed_ids([shown, *tasks], await _before(visit, position))
    return visit.page(
        "activity.html",
        activity=shown,
        explained=explained,
        tasks=tasks,
        lanes=past.lanes(tasks, events, _now(as_of or cursor), begun),
        events=past.with_changes(events, {each["id"]: each for each in begun})[::-1],
        earlier=events[0]["position"] if page["next"] else None,
        stuck=stuck,
        as_of=as_of,
        position=position,
        first=position if first is None else first,
        last=position if last is None else last,
        later=later if as_of else None,
        changed=changed,
    )


async def _events(visit: Visit, limit: int, cursor: str, sort: str = "-position") -> Any:
    query = {"limit": limit, "sort": sort, **({"cursor": cursor} if cursor else {})}
    return await visit.api.get(path_of("activities", visit.parts["id"], "history"), query)


async def _position(visit: Visit, cursor: str, sort: str = "-position") -> Any:
    """Return the position of the next event in an order, None without one."""
    found = (await _events(visit, 1, cursor, sort))["data"]
    return found[0]["position"] if found else None


async def _before(visit: Visit, position: int) -> list[dict[str, Any]]:
    """Return the activity and its tasks as they were before an event."""
    when = {"as_of": str(position - 1)}
    return [await visit.api.get(path_of("activities", visit.parts["id"]), when), *await _tasks(visit, when)]


def _now(past: str) -> datetime:
    """Return where the axis ends for what has not ended: at present, or at the last event that is shown."""
    return datetime.fromtimestamp(0, UTC) if past else datetime.now(UTC)


async def _tasks(visit: Visit, when: dict[str, str]) -> list[dict[str, Any]]:
    page = await visit.api.get(path_of("tasks"), {"activity_id": visit.parts["id"], "limit": _TASKS, **when})
    found: list[dict[str, Any]] = page["data"]
    return sorted(found, key=lambda task: (task["step"] is None, task["step"], task["created_at"]))


SCREENS = (Screen("GET", f"{ROOT}/activities/{{id}}", activity),)
