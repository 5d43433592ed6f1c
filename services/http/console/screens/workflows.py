"""Workflows: their steps as a graph, with the tasks that are in each, and how long a step was worked on."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from services.http.console.api import Refused, path_of
from services.http.console.screen import ROOT, Menu, Screen, Visit
from services.http.console.screens.board import OPEN

_LIMIT = 50
# Activities that are counted, and those whose work is measured.
_COUNTED, _MEASURED = 200, 100
# The graph's boxes and the room between them, in units of its drawing.
_WIDTH, _HEIGHT, _ROOM = 190, 84, 40
_COLUMN = _WIDTH + _ROOM
# `/v1` has workflows with their activities alone; their definitions are with the dialect that changes them.
_SEARCH, _ONE = "/api/v3/internal/workflows/search", "/api/v3/workflow/"


@dataclass(frozen=True, slots=True)
class Step:
    """A step: its definition, its tasks by status, and the time that work on one took."""

    number: int
    defined: dict[str, Any]
    tasks: dict[str, int]
    median: float | None
    measured: int

    @property
    def name(self) -> str:
        """Return what the step is called."""
        return self.defined.get("name") or f"Step {self.number}"

    @property
    def x(self) -> int:
        """Return where its box begins."""
        return self.number * _COLUMN + 1


@dataclass(frozen=True, slots=True)
class Graph:
    """The size of the drawing and its parts; steps that wait for one another are joined by arrows."""

    steps: list[Step]
    joined: bool

    @property
    def width(self) -> int:
        """Return the width of the drawing."""
        return len(self.steps) * _COLUMN - _ROOM + 2

    @property
    def height(self) -> int:
        """Return the height, with room for the arcs of fields below the boxes."""
        return _HEIGHT + 4 + max((18 + 10 * (arc["to"] - arc["step"]) for arc in self.arcs), default=0)

    @property
    def arrows(self) -> list[int]:
        """Return where an arrow begins."""
        return [step.x + _WIDTH for step in self.steps[:-1]] if self.joined else []

    @property
    def arcs(self) -> list[dict[str, Any]]:
        """Return what fills a field of a later step, with its curve."""
        found = []
        for step in self.steps:
            for each in step.defined.get("fieldMapping") or ():
                start = each["step"] * _COLUMN + _WIDTH / 2
                end = step.number * _COLUMN + _WIDTH / 2
                low = _HEIGHT + 2 + 2 * (18 + 10 * (step.number - each["step"]))
                curve = f"M{start:g} {_HEIGHT + 2} Q{(start + end) / 2:g} {low:g} {end:g} {_HEIGHT + 2}"
                found.append({**each, "to": step.number, "curve": curve})
        return found


async def workflows(visit: Visit) -> Response:
    """List workflows by name."""
    page = visit.one("page", "1")
    found = await visit.api.get(_SEARCH, {"q": visit.one("q"), "limit": _LIMIT, "page": page})
    return visit.page("workflows.html", found=found)


async def workflow(visit: Visit) -> Response:
    """Show one workflow with what is under way in its steps; of one that was retired, that it was."""
    try:
        found, counted, measured = await asyncio.gather(
            visit.api.get(_ONE + quote(visit.parts["id"], safe="")),
            _activities(visit, OPEN, "-created_at", _COUNTED),
            _activities(visit, ("completed",), "-updated_at", _MEASURED),
        )
    except Refused as error:
        made = (await _activities(visit, (), "-created_at", 1))["data"] if error.status == 404 else []
        if not made:
            raise
        return visit.page("workflow_retired.html", workflow=made[0]["workflow"])
    defined = found["workflow"]
    graph = Graph(_steps(defined["steps"], counted["data"], measured["data"]), defined["gating"] == "sequential")
    return visit.page(
        "workflow.html", workflow=defined, graph=graph, box=(_WIDTH, _HEIGHT, _ROOM), counted=counted, measured=measured
    )


def _steps(defined: list[dict[str, Any]], counted: list[dict[str, Any]], measured: list[dict[str, Any]]) -> list[Step]:
    by_step: list[Counter[str]] = [Counter() for _ in defined]
    worked: list[list[float]] = [[] for _ in defined]
    for task in _tasks(counted, len(defined)):
        by_step[task["step"]][task["status"]] += 1
    for task in _tasks(measured, len(defined)):
        if task["status"] == "completed":
            worked[task["step"]].append(task["worked_seconds"])
    return [
        Step(number, step, dict(tasks), median(times) if times else None, len(times))
        for number, (step, tasks, times) in enumerate(zip(defined, by_step, worked, strict=True))
    ]


def _tasks(activities: list[dict[str, Any]], steps: int) -> list[dict[str, Any]]:
    """Return the tasks of steps; a task that was added to an activity has none."""
    tasks = [task for activity in activities for task in activity["children"]]
    return [task for task in tasks if task["step"] is not None and task["step"] < steps]


async def _activities(visit: Visit, states: tuple[str, ...], sort: str, limit: int) -> Any:
    query = [("workflow_id", visit.parts["id"]), ("sort", sort), ("limit", str(limit))]
    return await visit.api.get(path_of("activities"), [*query, *(("status", state) for state in states)])


SCREENS = (
    Screen("GET", f"{ROOT}/workflows", workflows, menu=Menu("Workflows", "workflow", "w", 5)),
    Screen("GET", f"{ROOT}/workflows/{{id}}", workflow),
)
