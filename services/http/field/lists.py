"""The field dialect's list of tasks: masters and tasks side by side, filtered by its own words and counted in pages.

What its words mean is asked of the functions that show a task and an activity.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from projections import activities, task_filters, tasks
from projections.conditions import Where, by_word
from projections.listing import Side, merged
from projections.query import MOST_ROWS, Query
from services.http.endpoints import Call, nothing_else, number, one
from services.http.field.answers import paginator
from services.http.field.shapes import (
    CHILD,
    MASTER,
    PLAIN,
    STATUSES,
    activity_status,
    child,
    master,
    only,
    people_of,
    task_status,
)
from services.http.problems import Refused
from services.http.service import Service

PARAMETERS = ("limit", "page", "hubId", "status", "flowId", "taskType", "parentId", "sortBy", "sortOrder", "fields")
DEFAULT_LIMIT, MOST_LIMIT = 15, 500
_SORTS = {
    "createdTime": "created_at",
    "updatedTime": "updated_at",
    "startTime": "start",
    "endTime": "end",
    "title": "title",
}
_TASK, _MASTER = "t", "a"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}\Z")
_IS_CHILD, _STANDS_ALONE = task_filters.presence("activity_id", True), task_filters.presence("activity_id", False)
_OF_TASKS = by_word(tasks.FACTS, task_status, STATUSES)
_OF_MASTERS = by_word(activities.FACTS, activity_status, STATUSES)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a request asks for. A side that cannot hold anything that fits is left out, and so None."""

    of_tasks: Side | None
    of_masters: Side | None
    sort: str
    limit: int
    page: int
    names: tuple[str, ...]
    link: dict[str, list[str]]

    @property
    def sides(self) -> list[Side]:
        """Return the sides that may hold something."""
        return [side for side in (self.of_tasks, self.of_masters) if side is not None]

    @property
    def offset(self) -> int:
        """Return how many rows lie before the page."""
        return (self.page - 1) * self.limit


async def list_tasks(service: Service, call: Call, parameters: dict[str, list[str]]) -> dict[str, Any]:
    """Return the dialect's answer to a query with these parameters."""
    wanted = _wanted(parameters)
    tenant, now = call.caller.tenant, service.clock()
    total = 0
    for side in wanted.sides:
        asked = side.listing.count(tenant, side.filters, side.where)
        total += int((await service.database.fetch(*asked))[0][0])
    rows = await service.database.fetch(*_page(tenant, wanted)) if wanted.offset < total else []
    resources = [
        (child, tasks.resource(row[1:], now)) if row[0] == _TASK else (master, activities.resource(row[1:], now))
        for row in rows
    ]
    members = await service.people.members(tenant, [who for _, found in resources for who in people_of(found)])
    emails = {member: found.email for member, found in members.items() if found.email is not None}
    data = [shape(found, tenant, emails) for shape, found in resources]
    if wanted.names:
        data = [only(shown, wanted.names) for shown in data]
    page = paginator(call, wanted.link, data, page=wanted.page, limit=wanted.limit, total=total)
    return {"status": True, "message": "Tasks found", "tasks": page}


def _wanted(parameters: dict[str, list[str]]) -> _Wanted:
    link = {name: values for name, values in parameters.items() if name != "page"}
    limit = number(parameters, "limit", DEFAULT_LIMIT, 1, MOST_LIMIT)
    page = number(parameters, "page", 1, 1, 1_000_000)
    filters: dict[str, Any] = {}
    hub = one(parameters, "hubId")
    if hub is not None:
        filters["hub"] = hub
    of_masters: Side | None = Side(_MASTER, activities.LISTING, dict(filters))
    of_tasks: Side | None = Side(_TASK, tasks.LISTING, filters)
    where: list[Where] = []
    status = one(parameters, "status")
    if status is not None:
        _choice("status", status, STATUSES)
        of_masters = Side(_MASTER, activities.LISTING, dict(filters), [_OF_MASTERS[status]])
        where.append(_OF_TASKS[status])
    for name, column in (("flowId", "flow_id"), ("parentId", "activity_id")):
        value = one(parameters, name)
        if value is not None:
            filters[column], of_masters = value, None
    kind = one(parameters, "taskType")
    if kind is not None:
        _choice("taskType", kind, (MASTER, CHILD, PLAIN))
        if kind == MASTER:
            of_tasks = None
        else:
            of_masters = None
            where.append(_IS_CHILD if kind == CHILD else _STANDS_ALONE)
    if of_tasks is not None:
        of_tasks = of_tasks._replace(where=where)
    sort, names = _sort(parameters), _names(parameters)
    nothing_else(parameters, PARAMETERS)
    return _Wanted(of_tasks, of_masters, sort, limit, page, names, link)


def _sort(parameters: dict[str, list[str]]) -> str:
    by = one(parameters, "sortBy") or "createdTime"
    order = (one(parameters, "sortOrder") or "desc").lower()
    _choice("sortBy", by, tuple(_SORTS))
    _choice("sortOrder", order, ("asc", "desc"))
    return ("-" if order == "desc" else "") + _SORTS[by]


def _names(parameters: dict[str, list[str]]) -> tuple[str, ...]:
    text = one(parameters, "fields")
    names = tuple(name.strip() for name in text.split(",")) if text else ()
    if len(names) > 100 or not all(_NAME.match(name) for name in names):
        raise Refused("bad-filter", "fields is a list of at most 100 names with commas between", parameter="fields")
    return names


def _choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise Refused("bad-filter", f"{name} is one of {', '.join(known)}", parameter=name)


def _page(tenant: str, wanted: _Wanted) -> Query:
    """Ask for the rows of a page, each with a mark of its side before it."""
    if len(wanted.sides) > 1 and wanted.offset + wanted.limit > MOST_ROWS:
        detail = f"masters and tasks together have {MOST_ROWS} rows at most; ask with a taskType to go on"
        raise Refused("bad-limit", detail, parameter="page")
    return merged(tenant, wanted.sides, wanted.sort, wanted.limit, wanted.offset)
