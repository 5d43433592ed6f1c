"""One activity: its status and why, its tasks on a time axis, and both as they were at any position of the log."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from services.http.console import past
from services.http.console.api import path_of
from services.http.console.screen import ROOT, Screen, Visit

_EVENTS, _TASKS = 200, 200


async def activity(visit: Visit) -> Response:
    """Show an activity as it is, or as it was at the position or time `as_of`."""
    activity_id, api, as_of = visit.parts["id"], visit.api, visit.one("as_of")
    own, when = path_of("activities", activity_id), {"as_of": as_of} if as_of else {}
    now, history = await asyncio.gather(
        api.get(own), api.get(path_of("activities", activity_id, "history"), {"limit": _EVENTS})
    )
    events = history["data"]
    shown, explained, tasks = await asyncio.gather(
        api.get(own, when), api.get(f"{own}/explain", when), _tasks(visit, activity_id, when)
    )
    position = _position(events, as_of)
    changed: dict[str, list[str]] = {}
    if as_of and position > events[0]["position"]:
        before = {"as_of": str(position - 1)}
        was, tasks_then = await asyncio.gather(api.get(own, before), _tasks(visit, activity_id, before))
        changed = past.changed_ids([shown, *tasks], [was, *tasks_then])
    stuck = await api.get(path_of("stuck"), {"activity": activity_id, "limit": 20})
    return visit.page(
        "activity.html",
        activity=shown,
        explained=explained,
        tasks=tasks,
        lanes=past.lanes(tasks, [each for each in events if each["position"] <= position], _now(as_of)),
        events=past.with_changes(events, {})[::-1],
        more=history["next"],
        stuck=stuck["data"],
        as_of=as_of,
        position=position,
        first=events[0]["position"],
        last=max(now["position"], events[-1]["position"], *(task["position"] for task in tasks)),
        later=min((each["position"] for each in events if each["position"] > position), default=None),
        changed=changed,
    )


def _position(events: list[dict[str, Any]], as_of: str) -> int:
    """Return the position of the last event that is shown."""
    if as_of.isdigit():
        shown = [each for each in events if each["position"] <= int(as_of)]
    elif as_of:
        moment = datetime.fromisoformat(as_of)
        shown = [each for each in events if datetime.fromisoformat(each["recorded_at"]) <= moment]
    else:
        shown = events
    return int(shown[-1]["position"] if shown else events[0]["position"])


def _now(as_of: str) -> datetime:
    """Return where the axis ends for what has not ended: at present, or at the last event that is shown."""
    return datetime.fromtimestamp(0, UTC) if as_of else datetime.now(UTC)


async def _tasks(visit: Visit, activity_id: str, when: dict[str, str]) -> list[dict[str, Any]]:
    page = await visit.api.get(path_of("tasks"), {"activity_id": activity_id, "limit": _TASKS, **when})
    found: list[dict[str, Any]] = page["data"]
    return sorted(found, key=lambda task: (task["step"] is None, task["step"], task["created_at"]))


SCREENS = (Screen("GET", f"{ROOT}/activities/{{id}}", activity),)
