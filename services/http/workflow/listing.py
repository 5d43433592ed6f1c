"""The dialect's list of activities: one question for the page, one for the count, and links to the pages beside it."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from projections import activities, directory, tasks
from projections.task import pages as task_pages
from services.http.core.service import Service
from services.http.endpoints import Call, nothing_else
from services.http.native.queries import settled
from services.http.workflow.answers import document, resources
from services.http.workflow.questions import (
    STATUS_ORDER,
    Page,
    conditions_of,
    references_of,
    taken_fields,
    taken_filters,
    taken_included,
    taken_page,
)

_KNOWN = (
    "page[number]",
    "page[size]",
    "sort",
    "count",
    "filter[…]",
    "included",
    "fields[type]",
    "min_position",
)
# Lists of ids are given by repeating a parameter.
_MOST_PARAMETERS = 1100


async def list_activities(service: Service, call: Call) -> Response:
    """Answer a page of activities."""
    parameters = call.parameters(_MOST_PARAMETERS)
    await settled(service, parameters, tasks.NAME, activities.NAME, directory.NAME)
    filters, wanted = taken_filters(parameters), taken_page(parameters)
    included, fields = taken_included(parameters), taken_fields(parameters)
    nothing_else(parameters, _KNOWN)
    tenant, now = call.caller.tenant, service.clock()
    members: dict[str, tuple[str, ...]] = {}
    for parameter, texts in references_of(filters).items():
        members |= await service.members.named(tenant, texts, parameter)
    conditions = conditions_of(filters, tenant, members, now)
    # One row more than is shown tells whether another page follows.
    asked = task_pages.page(tenant, conditions, wanted.order, STATUS_ORDER, wanted.size + 1, wanted.offset)
    rows = await service.pool.fetch(*asked)
    more = len(rows) > wanted.size
    found = [tasks.resource(row, now) for row in rows[: wanted.size]]
    shown, beside = await resources(service, tenant, found, included, fields)
    body: dict[str, Any] = {"data": shown}
    if included:
        body["included"] = beside
    meta: dict[str, Any] = {"page": {"number": wanted.number, "size": wanted.size}}
    if wanted.count:
        ((meta["count"],),) = await service.pool.fetch(*task_pages.count(tenant, conditions))
    return document({**body, "meta": meta, "links": _links(call, wanted, more)})


def _links(call: Call, wanted: Page, more: bool) -> dict[str, str | None]:
    def page(number: int) -> str:
        parts = call.scope["query_string"].decode("latin-1").split("&")
        begins = ("page[number]=", "page%5Bnumber%5D=", "page%5bnumber%5d=", "min_position=")
        kept = [part for part in parts if part and not part.startswith(begins)]
        return f"{call.scope['path']}?{'&'.join([*kept, f'page%5Bnumber%5D={number}'])}"

    before = page(wanted.number - 1) if wanted.number > 1 else None
    return {"prev": before, "next": page(wanted.number + 1) if more else None}
