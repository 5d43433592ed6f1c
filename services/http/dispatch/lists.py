"""The dispatch dialect's queries: pages of activities and of what is configured, and who used a key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, create_model

from domain.limits import Number
from domain.plan import TaskType
from projections.support.conditions import Where, by_word
from projections.support.query import BadQuery
from projections.task import table as tasks
from services.commands.outcome import IDEMPOTENCY, row_of_key
from services.http.core.call import Call
from services.http.core.errors import ApiError
from services.http.core.models import From, View
from services.http.core.pages import Page, PageQuery, page_by
from services.http.core.parameters import Query, settled
from services.http.core.shown import CamelView, Count, MaybeTime
from services.http.dispatch.models import STATUSES, Status, status_of
from services.store import ledger, log

_MAX_PER_PAGE, _DEFAULT = 100, 25
CONDITIONS = by_word(tasks.FACTS, status_of, STATUSES)


# Pages.


class ListEntries(PageQuery):
    """A page of what is configured."""

    # Rows of a page, unless a request says how many.
    rows: ClassVar[int] = _DEFAULT
    size_parameter: ClassVar[str] = "per_page"
    limit: Annotated[int, Number(1, _MAX_PER_PAGE)] = Field(0, description="Another name of per_page")
    page: Annotated[int, Number(1, 100_000)] = Field(1, description="From 1")
    per_page: Annotated[int, Number(1, _MAX_PER_PAGE)] = Field(_DEFAULT, description="Rows of a page")

    def page_of(self, call: Call, total: int) -> Page:
        """Return the page that is asked for, without its rows."""
        sizes = {getattr(self, name) for name in ("per_page", "limit") if name in self.model_fields_set}
        if len(sizes) > 1:
            raise ApiError("bad-limit", "per_page and limit are two names of one size", parameter="limit")
        return Page(self.page, sizes.pop() if sizes else self.rows, total, [])


class _Filters(Query):
    """Which activities are asked for; a filter is called as tasks are filtered."""

    type: TaskType | None = Field(None, description="Of this type")
    channel: str | None = Field(None, max_length=1000, description="Over this channel")
    commerce: str | None = Field(None, alias="commerce_id", max_length=1000, description="For this commerce")
    scheduled_at__gte: MaybeTime = Field(
        None, alias="scheduled_from", description="Scheduled at this time or later, RFC 3339"
    )
    scheduled_at__lte: MaybeTime = Field(
        None, alias="scheduled_to", description="Scheduled at this time or earlier, RFC 3339"
    )
    search: str | None = Field(None, max_length=1000, description="Part of the reason, in any case of letters")


class ListActivities(ListEntries, _Filters):
    """A page of activities."""

    status: Status | None = Field(None, description="In this status")
    sort_by: Literal["created_at", "updated_at", "scheduled_at"] = Field("created_at", description="Order")
    sort_order: Literal["asc", "desc"] = Field("desc", description="Direction")


async def page_of_activities(call: Call, query: ListActivities) -> Page:
    """Return a page of tasks as resources; raises `ApiError`."""
    filters = {name: getattr(query, name) for name in _Filters.model_fields if name in query.model_fields_set}
    where: list[Where] = [] if query.status is None else [CONDITIONS[query.status]]
    sort = ("-" if query.sort_order == "desc" else "") + query.sort_by
    return await page_of_tasks(call, query, filters, lambda tenant: where, sort)


async def page_of_tasks(
    call: Call,
    query: ListEntries,
    filters: Mapping[str, Any],
    where_of: Callable[[str], Sequence[Where]],
    sort: str,
) -> Page:
    """Return a page of tasks as resources; `where_of` gives further conditions for a tenant. Raises `ApiError`."""
    await settled(call, query, tasks.NAME)
    tenant, now = call.caller.tenant, call.service.clock()
    try:
        where = where_of(tenant)
        return await page_by(
            call,
            query,
            tasks.LISTING.count(tenant, filters, where),
            lambda page: tasks.LISTING.page(tenant, filters, sort, limit=page.limit, offset=page.offset, where=where),
            lambda row: tasks.resource(row, now),
        )
    except BadQuery as error:
        field = type(query).model_fields.get(error.parameter)
        name = field.alias if field is not None and field.alias else error.parameter
        raise ApiError(error.code, error.detail, parameter=name) from None


class Meta(CamelView):
    """Where a page lies among all."""

    page: Annotated[Count, From("", lambda page, _: page.number)] = Field(..., examples=[1])
    limit: Annotated[Count, From("", lambda page, _: page.limit)] = Field(..., examples=[_DEFAULT])
    total: Annotated[Count, From("", lambda page, _: page.total)] = Field(..., examples=[1])
    total_pages: Annotated[Count, From("", lambda page, _: -(-page.total // page.limit))] = Field(..., examples=[1])


def page_of(view: type[View]) -> type[View]:
    """Return the answer that is a page of views."""

    def rows(page: Page, context: Any) -> list[Any]:
        return [view.show(row, context) for row in page.rows]

    fields: Any = {"data": Annotated[list[view], From("", rows)], "meta": Annotated[Meta, From("")]}  # type: ignore[valid-type]
    name, module = f"{view.__name__}Page", view.__module__
    return create_model(name, __base__=CamelView, __module__=module, __doc__="A page", **fields)


# Who used a key.


async def holder(call: Call, key: str) -> tuple[str | None, str | None]:
    """Return which command took a key, and the id of what it made."""
    tenant, fetch = call.caller.tenant, call.service.pool.fetch
    rows = await fetch(*ledger.holder(tenant, IDEMPOTENCY, key))
    if not rows:
        return None, None
    row = row_of_key(tenant, rows[0][0])
    if row.first_position is None:
        return row.command_id, None
    found = await fetch(*log.summaries_between(row.first_position, row.last_position or 0))
    return row.command_id, made_by((name, stream.partition("/")[2]) for _, name, stream, _ in found)


def made_by(events: Iterable[tuple[str, str]]) -> str | None:
    """Return the id of the task that events make, or of the activity, when another dialect took the key."""
    made = {name: stream.partition("-")[2] for name, stream in reversed(list(events))}
    return made.get("activity.created") or made.get("task.created")
