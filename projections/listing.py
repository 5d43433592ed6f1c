"""Lists of documents: the filters that have a name of their own, the sorts, and pages by cursor or by number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from domain.compare import name_key
from domain.lifecycle import Lifecycle
from projections.statement import Query
from projections.support import cursors
from projections.support.conditions import EQUAL, Asked, Condition, Where, among, overlapping, parts_of
from projections.support.grams import containing
from projections.support.query import (
    MAX_FILTER_VALUES,
    MAX_MEMBERS,
    MAX_OFFSET,
    MAX_ROWS,
    BadQuery,
    demand_text,
    select,
    time_of,
)
from projections.support.table import NOT_DONE


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition under a name of its own, and what its documentation says of the values."""

    kind: Literal["text", "flag", "time"]
    condition: Condition
    several: bool = False
    nullable: bool = False
    words: tuple[str, ...] = ()


def equal(
    column: str,
    nullable: bool = False,
    read: Callable[[str], str] = str,
    words: Iterable[str] = (),
    most: int = MAX_FILTER_VALUES,
) -> Filter:
    """Return the filter for a text column: one value, up to `most`, or none. `read` gives a text the column's form.

    `words` are the values of a column that has only these; others are no error, but find nothing.
    """

    def condition(asked: Asked) -> Where:
        if asked.value is None and nullable:
            return Where(f"{column} IS NULL")
        return among(column, "text", [read(text) for text in _texts(asked, nullable, most)])

    return Filter("text", condition, several=True, nullable=nullable, words=tuple(words))


def people(column: str, null: str, present: str = "") -> Filter:
    """Return the filter for a column that lists members; `null` is what a row with none of them fulfils."""

    def condition(asked: Asked) -> Where:
        return (
            Where(null)
            if asked.value is None
            else overlapping(column, _texts(asked, nullable=True, most=MAX_MEMBERS), present)
        )

    return Filter("text", condition, several=True, nullable=True)


def flag(column: str) -> Filter:
    """Return the filter for a boolean column; its two forms are the ones that partial indexes are made for."""

    def condition(asked: Asked) -> Where:
        if not isinstance(asked.value, bool) and asked.value not in ("true", "false"):
            raise asked.bad("this filter is true or false")
        return Where(column if asked.value in (True, "true") else f"NOT {column}")

    return Filter("flag", condition)


def time_range(name: str, column: str, present: str = "") -> dict[str, Filter]:
    """Return the filters `<name>__gte` and `<name>__lte`; what has no time lies in no range.

    `present` is what all that have one fulfil; by default, `infinity` stands for none.
    """

    def bound(operator: str) -> Condition:
        there = present or f"{column} < 'infinity'"
        sql = f"({column} {operator} %s::timestamptz AND {there})"
        return lambda asked: Where(sql, (time_of(asked.value, asked.parameter),))

    return {f"{name}__gte": Filter("time", bound(">=")), f"{name}__lte": Filter("time", bound("<="))}


def _search(asked: Asked) -> Where:
    (text,) = _texts(asked, nullable=False, most=1)
    return containing(asked.tenant, name_key(text))


def _texts(asked: Asked, nullable: bool, most: int = MAX_FILTER_VALUES) -> list[str]:
    value = asked.value
    if value is None:
        raise asked.bad("this filter needs a value")
    if isinstance(value, str):
        return [demand_text(value, asked.parameter)]
    if most == 1 or not isinstance(value, Sequence):
        raise asked.bad("this filter takes one text")
    if len(value) > most:
        raise asked.bad(f"a filter has at most {most} values")
    if not nullable and "" in value:
        raise asked.bad("this filter needs a value")
    return [demand_text(item, asked.parameter) for item in value]


# The filter that names people.
PERSON = "assignee"


def common_filters(assignee: Filter) -> dict[str, Filter]:
    """Return the filters that every document with a life, people and a schedule has."""
    return {
        "status": equal("status", words=(state.value.lower() for state in Lifecycle)),
        "hub": equal("hub", nullable=True),
        "project": equal("project", nullable=True),
        PERSON: assignee,
        "overdue": flag("overdue"),
        "search": Filter("text", _search),
        **time_range("created_at", "created_at"),
        **time_range("updated_at", "updated_at"),
        **time_range("start", "start_at"),
        **time_range("end", "end_at"),
        **time_range("completed_at", "done_at", f"done_at > '{NOT_DONE}'"),
    }


def current(now: datetime, begun: bool) -> Where:
    """Return the condition that the end has not passed, and with `begun` that the start has; none is no limit."""
    running = Where("end_at >= %s", (now,))
    return Where(f"((start_at <= %s OR start_at = 'infinity') AND {running.sql})", (now, now)) if begun else running


# Start and end hold `infinity` where there is no time, `-infinity` stands for what is not completed, and titles hold
# the empty text, so that every row has its place.
COMMON_SORTS: Mapping[str, tuple[str, str]] = {
    "created_at": ("created_at", "timestamptz"),
    "updated_at": ("updated_at", "timestamptz"),
    "start": ("start_at", "timestamptz"),
    "end": ("end_at", "timestamptz"),
    "completed_at": ("done_at", "timestamptz"),
    "title": ("title_key", "text"),
}


@dataclass(frozen=True, slots=True)
class Listing:
    """The view that questions read, and what may be asked of it. A sort's column never holds NULL.

    `sorts` maps the name of a sort to its column and that column's SQL type.
    """

    view: str
    filters: Mapping[str, Filter]
    sorts: Mapping[str, tuple[str, str]]
    default: str = "-created_at"

    def get(self, tenant: str, entity_id: str) -> Query:
        """Ask for one row by its id."""
        return select(self.view, "doc, id, '' AS key", tenant, ["id = %s"], [demand_text(entity_id, "id")])

    def get_many(self, tenant: str, ids: Iterable[str]) -> Query:
        """Ask for the rows with these ids, in the order of ids; those that are not there are left out."""
        wanted = [demand_text(entity_id, "ids") for entity_id in ids]
        return select(self.view, "doc, id, '' AS key", tenant, ["id = ANY(%s::text[])"], [wanted], " ORDER BY id")

    def cursor_at(self, tenant: str, entity_id: str, sort: str) -> Query:
        """Ask for the row of an id as a page with this sort has it, without its document."""
        column = self._sort(sort)[1]
        return select(self.view, f"'', id, {column}::text", tenant, ["id = %s"], [demand_text(entity_id, "cursor")])

    def page(
        self,
        tenant: str,
        filters: Mapping[str, Any],
        sort: str | None = None,
        after: str | None = None,
        limit: int = 50,
        offset: int = 0,
        where: Sequence[Where] = (),
    ) -> Query:
        """Ask for a page. `after` is the cursor of the last row seen; raises `BadQuery`.

        A cursor stays good while rows come and go. `offset` is for callers that count pages; it gets slower with depth.
        `where` are further conditions, which have no name of their own here.
        """
        sort, column, kind, descending = self._sort(sort)
        if not 1 <= limit <= MAX_ROWS:
            raise BadQuery("bad-limit", f"a page has 1 to {MAX_ROWS} rows", "limit")
        if not 0 <= offset <= MAX_OFFSET:
            raise BadQuery("bad-offset", f"an offset is 0 to {MAX_OFFSET}", "offset")
        conditions, values = self._conditions(tenant, filters, where)
        if after is not None:
            key, last = cursors.read(after, sort, kind)
            conditions.append(f"({column}, id) {'<' if descending else '>'} (%s::{kind}, %s)")
            values += [key, last]
        way = "DESC" if descending else "ASC"
        tail = f" ORDER BY {column} {way}, id {way} LIMIT {limit:d}" + (f" OFFSET {offset:d}" if offset > 0 else "")
        # Under its own name the text would take the column's place in the order, and no index would serve it.
        return select(self.view, f"doc, id, {column}::text AS key", tenant, conditions, values, tail)

    def chosen(self, tenant: str, filters: Mapping[str, Any], limit: int, ids: Sequence[str] | None = None) -> Query:
        """Ask for (id, version, the activity's id or NULL) of the rows that filters find, or of these ids, by id."""
        where = [] if ids is None else [Where("id = ANY(%s::text[])", (list(ids),))]
        columns = "id, (doc::json->>'version')::bigint, doc::json->>'activity_id'"
        tail = f" ORDER BY id LIMIT {limit:d}"
        return select(self.view, columns, tenant, *self._conditions(tenant, filters, where), tail)

    def count(self, tenant: str, filters: Mapping[str, Any], where: Sequence[Where] = ()) -> Query:
        """Ask how many rows a page would run through; gives one row with one number."""
        return select(self.view, "count(*)", tenant, *self._conditions(tenant, filters, where))

    def standing(self, tenant: str, statuses: Sequence[str], most: int) -> Query:
        """Ask how many there are in each of these states, up to one more than `most`; rows of (status, number)."""
        parts = [
            select(self.view, "1", tenant, ["status = %s"], [status], f" LIMIT {most + 1:d}") for status in statuses
        ]
        sql = " UNION ALL ".join(f"SELECT %s::text, (SELECT count(*) FROM ({part.sql}) AS bounded)" for part in parts)  # noqa: S608
        pairs = zip(statuses, parts, strict=True)
        return Query(sql, tuple(value for status, part in pairs for value in (status, *part.params)))

    def standing_among(self, tenant: str, statuses: Sequence[str], most: int, filters: Mapping[str, Any]) -> Query:
        """Ask how many filters find in each of these states, among the first `most` + 1; rows as of `standing`."""
        found = select(self.view, "status", tenant, *self._conditions(tenant, filters, ()), f" LIMIT {most + 1:d}")
        sql = f"""
SELECT s.status, count(f.status) FROM unnest(%s::text[]) AS s (status)
LEFT JOIN ({found.sql}) AS f ON f.status = s.status GROUP BY s.status"""  # noqa: S608
        return Query(sql, (list(statuses), *found.params))

    def standing_of(self, tenants: Sequence[str], statuses: Sequence[str], most: int) -> Query:
        """Ask how many each of these tenants has in these states, up to one more than `most`; rows of (tenant, number).

        This alone reaches several tenants; it gives numbers and nothing else.
        """
        bounded = f"SELECT FROM {self.view} AS v WHERE v.tenant = t.tenant AND v.status = ANY(%s) LIMIT {most + 1:d}"
        sql = f"SELECT t.tenant, (SELECT count(*) FROM ({bounded}) AS b) FROM unnest(%s::text[]) AS t (tenant)"  # noqa: S608
        return Query(sql, (list(statuses), list(tenants)))

    def cursor(self, row: Sequence[Any], sort: str | None = None) -> str:
        """Return the cursor that asks for what follows this row of a page with the same sort."""
        name = self._sort(sort)[0]
        return cursors.made(name, row[2], row[1])

    def kind_of(self, sort: str) -> str:
        """Return the SQL type of what a sort orders by."""
        return self._sort(sort)[2]

    def _sort(self, sort: str | None) -> tuple[str, str, str, bool]:
        name = self.default if sort is None else sort
        known = self.sorts.get(name.removeprefix("-"))
        if known is None:
            detail = f"sort by one of {', '.join(self.sorts)}, each with - before it or not"
            raise BadQuery("bad-sort", detail, "sort")
        return name, *known, name.startswith("-")

    def _conditions(
        self, tenant: str, filters: Mapping[str, Any], where: Sequence[Where]
    ) -> tuple[list[str], list[Any]]:
        asked = [self._condition(Asked(tenant, name, EQUAL, value, name)) for name, value in filters.items()]
        return parts_of([*asked, *where])

    def _condition(self, asked: Asked) -> Where:
        known = self.filters.get(asked.name)
        if known is None:
            raise BadQuery("unknown-filter", f"filters are {', '.join(self.filters)}", asked.name)
        return known.condition(asked)
