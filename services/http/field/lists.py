"""The field dialect's list of tasks: masters and tasks side by side, filtered by its own words and counted in pages.

Every filter is one of the read models' own or a constant condition named here; values are bound, never written in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from domain.limits import Number
from projections import activities, tasks
from projections.query import MOST_ROWS, Filter, Listing, Query
from services.http.core.call import Call
from services.http.core.pages import PageQuery
from services.http.core.parameters import Position
from services.http.field.answers import TasksFound
from services.http.field.views import CHILD, MASTER, Beside, Master, Status, Task, people_of
from services.http.problems import Refused

_SORTS = {
    "createdTime": "created_at",
    "updatedTime": "updated_at",
    "startTime": "start",
    "endTime": "end",
    "title": "title",
}
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}\Z")
_NAMES = r"^$|^\s*[A-Za-z0-9_.-]{1,100}\s*(,\s*[A-Za-z0-9_.-]{1,100}\s*)*$"
_ORDERS = ("asc", "desc")


class ListTasks(PageQuery):
    """Which masters and tasks are asked for."""

    model_config = ConfigDict(alias_generator=to_camel)

    page: Annotated[int, Number(1, 1_000_000)] = Field(
        1, description="From 1; without a taskType the pages end at row 1000"
    )
    hub_id: str | None = Field(None, description="Of this hub")
    status: Status | None = Field(None, description="In this status")
    flow_id: str | None = Field(None, description="Of this flow")
    task_type: Literal["activityMaster", "activityChild", "task"] | None = Field(None, description="Of this type")
    parent_id: str | None = Field(None, description="Children of this master")
    sort_by: Literal["createdTime", "updatedTime", "startTime", "endTime", "title"] = Field(
        "createdTime", description="Order"
    )
    sort_order: str = Field("desc", description="Direction", json_schema_extra={"enum": list(_ORDERS)})
    min_position: Position = Field(
        0, alias="min_position", description="Wait until the read model has handled this position"
    )
    keys: str = Field(
        "", alias="fields", description="Just these keys, with commas between", json_schema_extra={"pattern": _NAMES}
    )


class ListWorkflows(PageQuery):
    """A page of workflows."""


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

    @property
    def offset(self) -> int:
        """Return how many rows lie before the page."""
        return (self.page - 1) * self.limit


async def list_tasks(call: Call, query: ListTasks) -> dict[str, Any]:
    """Return the dialect's answer to a query."""
    service = call.service
    wanted = _wanted(query)
    tenant, now = call.caller.tenant, service.clock()
    total = 0
    for listing, filters in ((_TASKS, wanted.of_tasks), (activities.LISTING, wanted.of_masters)):
        if filters is not None:
            total += int((await service.database.fetch(*listing.count(tenant, filters)))[0][0])
    rows = await service.database.fetch(*_page(tenant, wanted)) if wanted.offset < total else []
    resources = [
        (Task, tasks.resource(row[1:], now)) if row[0] == "t" else (Master, activities.resource(row[1:], now))
        for row in rows
    ]
    members = await service.people.members(tenant, [who for _, found in resources for who in people_of(found)])
    emails = {member: found.email for member, found in members.items() if found.email is not None}
    beside = Beside(tenant, emails)
    data = [view.show(found, beside) for view, found in resources]
    if wanted.names:
        names = {"_id", *wanted.names}
        data = [{name: value for name, value in shown.items() if name in names} for shown in data]
    return TasksFound.show(query.page_of(call, total).with_rows(data))


def _wanted(query: ListTasks) -> _Wanted:
    shared: dict[str, Any] = {} if query.hub_id is None else {"hub": query.hub_id}
    of_tasks: dict[str, Any] | None = dict(shared)
    of_masters: dict[str, Any] | None = dict(shared)
    status = query.status
    if status is not None:
        of_tasks = {**shared, "status": _ENDED[status]} if status in _ENDED else {**shared, status: True}
        states = {"ONGOING": ["active", "paused"], "UNASSIGNED": "open"}.get(status, _ENDED.get(status))
        of_masters = {**shared, "status": states}
    for value, column in ((query.flow_id, "flow_id"), (query.parent_id, "activity_id")):
        if value is not None:
            of_tasks, of_masters = {**(of_tasks or {}), column: value}, None
    if query.task_type == MASTER:
        of_tasks = None
    elif query.task_type is not None:
        of_tasks, of_masters = {**(of_tasks or {}), "is_child": query.task_type == CHILD}, None
    return _Wanted(of_tasks, of_masters, _sort(query), query.limit, query.page, _names(query.keys))


def _sort(query: ListTasks) -> str:
    order = query.sort_order.lower()
    if order not in _ORDERS:
        raise Refused("bad-filter", f"sortOrder is one of {', '.join(_ORDERS)}", parameter="sortOrder")
    return ("-" if order == "desc" else "") + _SORTS[query.sort_by]


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",")) if text else ()
    if len(names) > 100 or not all(_NAME.match(name) for name in names):
        raise Refused("bad-filter", "fields is a list of at most 100 names with commas between", parameter="fields")
    return names


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
