"""The dispatch dialect's list of activities: filtered by its own words and counted in pages.

What its statuses mean is asked of the function that shows a task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from projections import tasks
from projections.support.conditions import Where, by_word
from projections.support.query import BadQuery
from services.http.core.errors import ApiError
from services.http.core.service import Service
from services.http.dispatch.shapes import (
    STATUSES,
    TYPE,
    activity,
    people_of,
    status_of,
)
from services.http.endpoints import nothing_else, number, one

DEFAULT_LIMIT, MOST_LIMIT, MOST_PAGE = 25, 100, 100_000
PARAMETERS = (
    "status",
    "type",
    "channel",
    "commerce_id",
    "scheduled_from",
    "scheduled_to",
    "search",
    "sort_by",
    "sort_order",
    "page",
    "per_page",
    "limit",
    "min_position",
)
SORTS: Mapping[str, str] = {"created_at": "created_at", "updated_at": "updated_at", "scheduled_at": "scheduled_at"}
_FILTERS = {
    "channel": "channel",
    "commerce_id": "commerce",
    "scheduled_from": "scheduled_at__gte",
    "scheduled_to": "scheduled_at__lte",
    "search": "search",
}
_NAMES = {column: name for name, column in _FILTERS.items()}
CONDITIONS: Mapping[str, Where] = by_word(
    tasks.FACTS, lambda facts: status_of(facts["status"], facts["resolution"], facts["dispatch"]), STATUSES
)


async def list_activities(service: Service, tenant: str, parameters: dict[str, list[str]]) -> dict[str, Any]:
    """Return the dialect's answer to a query with these parameters; raises `ApiError` and `BadQuery`."""
    page, limit = paging(parameters)
    filters: dict[str, Any] = {}
    _choice(parameters, "type", (TYPE,))
    status = _choice(parameters, "status", STATUSES)
    where = [] if status is None else [CONDITIONS[status]]
    for name, column in _FILTERS.items():
        value = one(parameters, name)
        if value is not None:
            filters[column] = value
    sort = _choice(parameters, "sort_by", tuple(SORTS)) or "created_at"
    order = _choice(parameters, "sort_order", ("asc", "desc")) or "desc"
    nothing_else(parameters, PARAMETERS)
    sort = ("-" if order == "desc" else "") + SORTS[sort]
    try:
        total, rows = await _rows(service, tenant, filters, where, sort, page, limit)
    except BadQuery as error:
        raise ApiError(error.code, error.detail, parameter=_NAMES.get(error.parameter, error.parameter)) from None
    now = service.clock()
    resources = [tasks.resource(row, now) for row in rows]
    members = await service.members.by_id(tenant, [who for task in resources for who in people_of(task)])
    return {"data": [activity(task, members) for task in resources], "meta": meta(page, limit, total)}


async def _rows(
    service: Service,
    tenant: str,
    filters: Mapping[str, Any],
    where: list[Where],
    sort: str,
    page: int,
    limit: int,
) -> tuple[int, list[tuple[Any, ...]]]:
    total = int((await service.pool.fetch(*tasks.count(tenant, filters, where)))[0][0])
    offset = (page - 1) * limit
    if offset >= total:
        return total, []
    question = tasks.page(tenant, filters, sort, limit=limit, offset=offset, where=where)
    return total, await service.pool.fetch(*question)


def paging(parameters: dict[str, list[str]]) -> tuple[int, int]:
    """Take the page and its size, which has two names."""
    page = number(parameters, "page", 1, 1, MOST_PAGE)
    sizes = {number(parameters, name, 0, 1, MOST_LIMIT) for name in ("per_page", "limit") if name in parameters}
    if len(sizes) > 1:
        raise ApiError("bad-limit", "per_page and limit are two names of one size", parameter="limit")
    return page, sizes.pop() if sizes else DEFAULT_LIMIT


def meta(page: int, limit: int, total: int) -> dict[str, int]:
    """Return where a page lies among all."""
    return {"page": page, "limit": limit, "total": total, "totalPages": -(-total // limit)}


def _choice(parameters: dict[str, list[str]], name: str, known: tuple[str, ...]) -> str | None:
    value = one(parameters, name)
    if value is not None and value not in known:
        raise ApiError("bad-filter", f"{name} is one of {', '.join(known)}", parameter=name)
    return value
