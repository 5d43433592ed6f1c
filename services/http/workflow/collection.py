"""A list of resources of one type: its parameters, its pages, and what is shown of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from projections.statement import Query
from projections.support.conditions import Asked, Where
from projections.support.query import MAX_ROWS
from projections.task.pages import MAX_PAGES, Order
from services.http.core import past
from services.http.core.call import Call, Documents, as_json
from services.http.core.parameters import AsOf, MinPosition, flag, nothing_else, number, settled
from services.http.workflow import filters, lists
from services.http.workflow.errors import JSON_API
from services.http.workflow.lists import Wanted

Json = dict[str, Any]
Rows = Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What may be asked of a list, by the dialect's names and the read model's; `shown` makes resources of its rows."""

    models: tuple[str, ...]
    filters: Mapping[str, str]
    sorts: Mapping[str, str]
    where: Callable[[Asked], Where]
    page: Callable[[str, Sequence[Where], Order, int, int], Query]
    count: Callable[[str, Sequence[Where]], Query]
    shown: Callable[[Call, Rows, Wanted], Awaitable[tuple[list[Json], Json]]]
    related: tuple[str, ...] = ()
    # Whether its rows have documents.
    documents: bool = True
    # The read model's filter that names an activity whose rows can be listed as they were, too.
    of_activity: str = ""

    async def answer(self, call: Call) -> Response:
        """Answer with a page."""
        parameters = call.parameters(lists.MAX_PARAMETERS)
        service, tenant = call.service, call.caller.tenant
        query = (AsOf if self.of_activity else MinPosition).take(parameters)
        asked_for = filters.taken_filters(parameters, tenant, self.filters)
        size = number(parameters, "page[size]", MAX_ROWS, 1, MAX_ROWS)
        page = number(parameters, "page[number]", 1, 1, MAX_PAGES)
        counted = "count" in parameters and flag(parameters, "count")
        order = filters.order_of(parameters, self.sorts)
        wanted = Wanted.take(parameters, self.related)
        nothing_else(parameters, lists.OF_LIST)
        await settled(call, query, *self.models)
        units = [each.value for each in asked_for if each.name == self.of_activity and not each.operator]
        await past.take_tasks(call, units[0] if units else None, "filter[work_unit_id]")
        members: dict[str, tuple[str, ...]] = {}
        for place, texts in filters.references_of(asked_for).items():
            members |= await service.members.named(tenant, texts, place)
        now = call.now
        conditions = filters.conditions_of(asked_for, members, now, self.where)
        # One row more than is shown tells whether another page follows.
        asked = self.page(tenant, conditions, Order(order, filters.STATUS_ORDER, now), size + 1, (page - 1) * size)
        found = (
            await call.all_documents(asked, "page[size]") if self.documents else Documents(await call.list_rows(asked))
        )
        data, beside = await self.shown(call, found.rows[:size], wanted)
        meta: Json = {"page": {"number": page, "size": size}}
        if counted:
            ((meta["count"],),) = await call.list_rows(self.count(tenant, conditions))
        links = {
            "prev": lists.address(call, page - 1) if page > 1 else None,
            "next": lists.address(call, page + 1) if len(found.rows) > size else None,
        }
        shown = {"data": data, **beside, "meta": meta, "links": links}
        return await call.worked(lambda: as_json(shown, media=JSON_API))
