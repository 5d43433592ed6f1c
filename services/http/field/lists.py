"""The field dialect's list of tasks: masters and tasks side by side, filtered by its own words and counted in pages.

Every filter is one of the read models' own or a constant condition named here; values are bound, never written in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from projections import activities, tasks
from projections.query import MOST_ROWS, Filter, Listing, Query
from services.http.endpoints import Call, nothing_else, number, one
from services.http.field.answers import paginator
from services.http.field.shapes import CHILD, MASTER, PLAIN, STATUSES, child, master, only, people_of
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
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}\Z")

_MOVING = "(status IN ('active', 'paused') OR (status = 'open' AND (assignees <> '{}' OR dispatch = 'DISPATCHED')))"
_STILL = "(status = 'open' AND assignees = '{}' AND dispatch <> 'DISPATCHED')"
_TASKS: Listing = replace(
    tasks.LISTING,
    filters={
        **tasks.LISTING.filters,
        "ONGOING": Filter("flag", _MOVING),
        "UNASSIGNED": Filter("flag", _STILL),
        "is_child": Filter("flag", "(activity_id IS NOT NULL)"),
    },
)
_ENDED = {"DONE": "completed", "FAILED": "failed", "CANCELED": "canceled"}


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a request asks for. A side that cannot hold anything that fits is left out, and so None."""

    of_tasks: dict[str, Any] | None
    of_masters: dict[str, Any] | None
    sort: str
    limit: int
    page: int
    names: tuple[str, ...]
    link: dict[str, list[str]]

    @property
    def offset(self) -> int:
        """Return how many rows lie before the page."""
        return (self.page - 1) * self.limit


async def list_tasks(service: Service, call: Call, parameters: dict[str, list[str]]) -> dict[str, Any]:
    """Return the dialect's answer to a query with these parameters."""
    wanted = _wanted(parameters)
    tenant, now = call.caller.tenant, service.clock()
    total = 0
    for listing, filters in ((_TASKS, wanted.of_tasks), (activities.LISTING, wanted.of_masters)):
        if filters is not None:
            total += int((await service.database.fetch(*listing.count(tenant, filters)))[0][0])
    rows = await service.database.fetch(*_page(tenant, wanted)) if wanted.offset < total else []
    resources = [
        (child, tasks.resource(row[1:], now)) if row[0] == "t" else (master, activities.resource(row[1:], now))
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
    shared: dict[str, Any] = {}
    hub = one(parameters, "hubId")
    if hub is not None:
        shared["hub"] = hub
    of_tasks: dict[str, Any] | None = dict(shared)
    of_masters: dict[str, Any] | None = dict(shared)
    status = one(parameters, "status")
    if status is not None:
        _choice("status", status, STATUSES)
        of_tasks = {**shared, "status": _ENDED[status]} if status in _ENDED else {**shared, status: True}
        states = {"ONGOING": ["active", "paused"], "UNASSIGNED": "open"}.get(status, _ENDED.get(status))
        of_masters = {**shared, "status": states}
    for name, column in (("flowId", "flow_id"), ("parentId", "activity_id")):
        value = one(parameters, name)
        if value is not None:
            of_tasks, of_masters = {**(of_tasks or {}), column: value}, None
    kind = one(parameters, "taskType")
    if kind is not None:
        _choice("taskType", kind, (MASTER, CHILD, PLAIN))
        if kind == MASTER:
            of_tasks = None
        else:
            of_tasks, of_masters = {**(of_tasks or {}), "is_child": kind == CHILD}, None
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
    if wanted.of_tasks is None and wanted.of_masters is None:
        # A parent or a flow asked for, and masters alone: nothing has both.
        return Query("SELECT 't', '', '', '' WHERE false", ())
    if wanted.of_tasks is None or wanted.of_masters is None:
        mark, listing, filters = ("a", activities.LISTING, wanted.of_masters)
        if wanted.of_tasks is not None:
            mark, listing, filters = ("t", _TASKS, wanted.of_tasks)
        asked = listing.page(tenant, filters or {}, wanted.sort, limit=wanted.limit, offset=wanted.offset)
        return Query(f"SELECT '{mark}', q.* FROM ({asked.sql}) AS q", asked.params)  # noqa: S608
    depth = wanted.offset + wanted.limit
    if depth > MOST_ROWS:
        detail = f"masters and tasks together have {MOST_ROWS} rows at most; ask with a taskType to go on"
        raise Refused("bad-limit", detail, parameter="page")
    ours = _TASKS.page(tenant, wanted.of_tasks, wanted.sort, limit=depth)
    theirs = activities.LISTING.page(tenant, wanted.of_masters, wanted.sort, limit=depth)
    way = "DESC" if wanted.sort.startswith("-") else "ASC"
    # Keys of one kind sort as texts: times are all UTC, with `infinity` after every digit.
    sql = (
        f"SELECT * FROM (SELECT 't' AS side, q.* FROM ({ours.sql}) AS q(doc, id, key)"  # noqa: S608
        f" UNION ALL SELECT 'a', q.* FROM ({theirs.sql}) AS q(doc, id, key)) AS both_sides"
        f' ORDER BY key COLLATE "C" {way}, id COLLATE "C" {way} LIMIT {wanted.limit:d} OFFSET {wanted.offset:d}'
    )
    return Query(sql, (*ours.params, *theirs.params))
