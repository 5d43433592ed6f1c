"""Pages whose rows come from several listings, in one order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from projections.listing import Listing
from projections.statement import Query
from projections.support.conditions import Where


class Side(NamedTuple):
    """A part of a page that is made of several listings; each of its rows begins with the mark."""

    mark: str
    listing: Listing
    filters: Mapping[str, Any]
    where: Sequence[Where] = ()


def merged(
    tenant: str, sides: Sequence[Side], sort: str, limit: int, offset: int = 0, after: str | None = None
) -> Query:
    """Ask for a page of the rows of all sides together, which all know the sort; `after` is the cursor of a row of any.

    Each side gives all rows up to the page's end, so of several that end may be `MAX_ROWS` at most.
    """
    (first, *others) = sides
    if not others:
        asked = first.listing.page(tenant, first.filters, sort, after, limit, offset, first.where)
        return Query(f"SELECT '{first.mark}', q.* FROM ({asked.sql}) AS q", asked.params)  # noqa: S608
    pages = [side.listing.page(tenant, side.filters, sort, after, offset + limit, where=side.where) for side in sides]
    rows = " UNION ALL ".join(
        f"SELECT '{side.mark}' AS side, q.* FROM ({page.sql}) AS q(doc, id, key)"  # noqa: S608
        for side, page in zip(sides, pages, strict=True)
    )
    way = "DESC" if sort.startswith("-") else "ASC"
    # Times sort as texts, since all are UTC, with `infinity` after every digit and `-infinity` before.
    key = "key::float" if first.listing.kind_of(sort) == "float" else 'key COLLATE "C"'
    order = f'ORDER BY {key} {way}, id COLLATE "C" {way} LIMIT {limit:d} OFFSET {offset:d}'
    return Query(
        f"SELECT * FROM ({rows}) AS merged {order}",  # noqa: S608
        tuple(value for page in pages for value in page.params),
    )


def total(tenant: str, sides: Sequence[Side]) -> Query:
    """Ask how many rows all sides have together; gives one row with one number."""
    counts = [side.listing.count(tenant, side.filters, side.where) for side in sides]
    summed = " + ".join(f"({asked.sql})" for asked in counts) or "0"
    return Query(f"SELECT {summed}", tuple(value for asked in counts for value in asked.params))
