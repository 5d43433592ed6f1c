"""The field dialect's list of tasks: masters and tasks side by side, filtered by its own words and counted in pages.

What its words mean is asked of the functions that show a task and an activity.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from domain.limits import Number
from projections import activities
from projections.listing import Side, merged
from projections.statement import Query
from projections.support.conditions import Where, by_word
from projections.support.query import MAX_ROWS
from projections.task import filters as task_filters
from projections.task import table as tasks
from services.http.core.call import Call
from services.http.core.errors import ApiError
from services.http.core.pages import PageQuery
from services.http.core.parameters import Position
from services.http.field.answers import TasksFound
from services.http.field.views import (
    CHILD,
    MASTER,
    STATUSES,
    Beside,
    Master,
    Status,
    Task,
    activity_status,
    people_of,
    task_status,
)

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

    @classmethod
    def take(cls, given: dict[str, list[str]]) -> Self:
        """Take the parameters; an order that is empty is the default one."""
        for name in ("sortBy", "sortOrder"):
            if given.get(name) == [""]:
                del given[name]
        return super().take(given)


class ListWorkflows(PageQuery):
    """A page of workflows."""


_TASK, _MASTER = "t", "a"
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

    @property
    def sides(self) -> list[Side]:
        """Return the sides that may hold something."""
        return [side for side in (self.of_tasks, self.of_masters) if side is not None]

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
    for side in wanted.sides:
        asked = side.listing.count(tenant, side.filters, side.where)
        total += int((await service.pool.fetch(*asked))[0][0])
    rows = await service.pool.fetch(*_page(tenant, wanted)) if wanted.offset < total else []
    resources = [
        (Task, tasks.resource(row[1:], now)) if row[0] == _TASK else (Master, activities.resource(row[1:], now))
        for row in rows
    ]
    members = await service.members.by_id(tenant, [who for _, found in resources for who in people_of(found)])
    emails = {member: found.email for member, found in members.items() if found.email is not None}
    beside = Beside(tenant, emails)
    data = [view.show(found, beside) for view, found in resources]
    if wanted.names:
        names = {"_id", *wanted.names}
        data = [{name: value for name, value in shown.items() if name in names} for shown in data]
    return TasksFound.show(query.page_of(call, total).with_rows(data))


def _wanted(query: ListTasks) -> _Wanted:
    filters: dict[str, Any] = {} if query.hub_id is None else {"hub": query.hub_id}
    of_masters: Side | None = Side(_MASTER, activities.LISTING, dict(filters))
    where: list[Where] = []
    if query.status is not None:
        of_masters = Side(_MASTER, activities.LISTING, dict(filters), [_OF_MASTERS[query.status]])
        where.append(_OF_TASKS[query.status])
    for value, column in ((query.flow_id, "flow_id"), (query.parent_id, "activity_id")):
        if value is not None:
            filters[column], of_masters = value, None
    if query.task_type not in (None, MASTER):
        of_masters = None
        where.append(_IS_CHILD if query.task_type == CHILD else _STANDS_ALONE)
    of_tasks = None if query.task_type == MASTER else Side(_TASK, tasks.LISTING, filters, where)
    return _Wanted(of_tasks, of_masters, _sort(query), query.limit, query.page, _names(query.keys))


def _sort(query: ListTasks) -> str:
    order = query.sort_order.lower()
    if order not in _ORDERS:
        raise ApiError("bad-filter", f"sortOrder is one of {', '.join(_ORDERS)}", parameter="sortOrder")
    return ("-" if order == "desc" else "") + _SORTS[query.sort_by]


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",")) if text else ()
    if len(names) > 100 or not all(_NAME.match(name) for name in names):
        raise ApiError("bad-filter", "fields is a list of at most 100 names with commas between", parameter="fields")
    return names


def _page(tenant: str, wanted: _Wanted) -> Query:
    """Ask for the rows of a page, each with a mark of its side before it."""
    if len(wanted.sides) > 1 and wanted.offset + wanted.limit > MAX_ROWS:
        detail = f"masters and tasks together have {MAX_ROWS} rows at most; ask with a taskType to go on"
        raise ApiError("bad-limit", detail, parameter="page")
    return merged(tenant, wanted.sides, wanted.sort, wanted.limit, wanted.offset)
