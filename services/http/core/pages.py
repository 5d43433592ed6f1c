"""Pages that are counted: the same arithmetic for every dialect, whatever its pages look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any
from urllib.parse import urlencode

from pydantic import Field

from domain.limits import Number
from projections import directory
from projections.statement import Query as Asked
from services.http.core.call import Call
from services.http.core.parameters import MinPosition, settled


@dataclass(frozen=True, slots=True)
class Page:
    """A page of rows: its number from 1, the most rows that it has, how many rows there are at all, and its own.

    `parameters` are those of the query, which the addresses of other pages repeat.
    """

    number: int
    limit: int
    total: int
    rows: list[Any]
    path: str = ""
    parameters: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def offset(self) -> int:
        """Return how many rows lie before the page."""
        return (self.number - 1) * self.limit

    @property
    def last(self) -> int:
        """Return the number of the last page."""
        return max(1, -(-self.total // self.limit))

    def url(self, number: int) -> str | None:
        """Return the address of another page of the same query, if there is such a page."""
        if not 1 <= number <= self.last:
            return None
        return f"{self.path}?{urlencode({**self.parameters, 'page': [str(number)]}, doseq=True)}"

    def with_rows(self, rows: list[Any]) -> Page:
        """Return the page with its rows."""
        return replace(self, rows=rows)


class PageQuery(MinPosition):
    """A query whose answer comes in pages."""

    limit: Annotated[int, Number(1, 500)] = Field(15, description="Rows of a page")
    page: Annotated[int, Number(1, 1_000_000)] = Field(1, description="From 1")

    def page_of(self, call: Call, total: int) -> Page:
        """Return the page that is asked for, without its rows."""
        others = {name: values for name, values in call.parameters().items() if name not in ("page", "min_position")}
        return Page(self.page, self.limit, total, [], call.scope["path"], others)


async def page_by(
    call: Call, query: PageQuery, count: Asked, asked: Callable[[Page], Asked], resource: Callable[[Any], Any]
) -> Page:
    """Return the page of a query with its rows as resources; they are not asked for where there are none."""
    fetch = call.list_rows
    page = query.page_of(call, int((await fetch(*count))[0][0]))
    if page.offset >= page.total:
        return page
    return page.with_rows([resource(row) for row in await fetch(*asked(page))])


async def page_of_entries(call: Call, query: PageQuery, kind: str) -> Page:
    """Return a page of the directory's entries of a kind, in order of id."""
    tenant = call.caller.tenant
    await settled(call, query, directory.NAME)

    def asked(page: Page) -> Asked:
        return directory.page(tenant, kind, limit=page.limit, offset=page.offset)

    return await page_by(call, query, directory.count(tenant, kind), asked, directory.resource)
