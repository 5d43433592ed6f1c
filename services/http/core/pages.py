"""Pages that are counted: the same arithmetic for every dialect, whatever its pages look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar
from urllib.parse import urlencode

from pydantic import Field

from domain.limits import Number
from projections import directory
from projections.statement import Query as Asked
from projections.support.query import MAX_ROWS
from services.http.core import call as calls
from services.http.core.call import Call, too_large
from services.http.core.parameters import MinPosition, settled
from services.store.pool import Rows


@dataclass(frozen=True, slots=True)
class Page:
    """A page of rows: its number from 1, the most rows that it has, how many rows there are at all, and its own.

    `left` is how many rows it lacks since their documents would be too large together. `parameters` are
    those of the query, which the addresses of other pages repeat.
    """

    number: int
    limit: int
    total: int
    rows: list[Any]
    path: str = ""
    parameters: Mapping[str, list[str]] = field(default_factory=dict)
    left: int = 0

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

    # What says how many rows a page has.
    size_parameter: ClassVar[str] = "limit"
    limit: Annotated[int, Number(1, 500)] = Field(15, description="Rows of a page")
    page: Annotated[int, Number(1, 1_000_000)] = Field(1, description="From 1")

    def page_of(self, call: Call, total: int) -> Page:
        """Return the page that is asked for, without its rows."""
        others = {name: values for name, values in call.parameters().items() if name not in ("page", "min_position")}
        return Page(self.page, self.limit, total, [], call.scope["path"], others)


async def page_by(
    call: Call,
    query: PageQuery,
    count: Asked,
    asked: Callable[[Page], Asked],
    resource: Callable[[Any], Any],
    *,
    counted: bool = True,
) -> Page:
    """Return the page of a query with its rows as resources; they are not asked for where there are none.

    One whose documents have too many bytes is refused where pages are counted, and otherwise has fewer rows.
    """
    page = query.page_of(call, int((await call.list_rows(count))[0][0]))
    if page.offset >= page.total:
        return page
    documents = asked(page)
    found = await (call.all_documents(documents, query.size_parameter) if counted else call.documents(documents))
    rows = await call.worked(lambda: [resource(row) for row in found.rows])
    return replace(page, rows=rows, left=found.left)


async def all_entries(call: Call, kind: str, retired: bool | None = False) -> Rows:
    """Return the rows of all entries of a kind in order of id; refuses more bytes than one page may have.

    `retired` None gives those that are retired as well.
    """
    rows: Rows = []
    size = 0
    while True:
        asked = directory.page(call.caller.tenant, kind, rows[-1][1] if rows else None, MAX_ROWS, retired=retired)
        rows += (found := await call.all_documents(asked)).rows
        size += sum(len(row[0]) for row in found.rows)
        if size > calls.PAGE_BYTES:
            raise too_large()
        if len(found.rows) < MAX_ROWS:
            return rows


async def page_of_entries(call: Call, query: PageQuery, kind: str) -> Page:
    """Return a page of the directory's entries of a kind, in order of id."""
    tenant = call.caller.tenant
    await settled(call, query, directory.NAME)

    def asked(page: Page) -> Asked:
        return directory.page(tenant, kind, limit=page.limit, offset=page.offset)

    return await page_by(call, query, directory.count(tenant, kind), asked, directory.resource)
