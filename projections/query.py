"""Questions to read models as SQL with bound values; no text from outside becomes part of a statement.

Every statement is made by `select`, which holds the tenant's predicate, so no question can reach another tenant.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import msgspec

from domain.compare import name_key
from domain.decider import instant
from domain.errors import Rejected
from domain.limits import INSTANT_DETAIL
from domain.streams import ID

MOST_ROWS = 1000
MOST_OFFSET = 10_000_000
MOST_VALUES = 1000
_MOST_TEXT = 1000


class Query(NamedTuple):
    """A statement and its values, for a synchronous or an asynchronous connection: `execute(*query)`."""

    sql: str
    params: tuple[Any, ...]


class BadQuery(Exception):
    """A question that cannot be asked: a code of the contract, a sentence, and the parameter at fault."""

    def __init__(self, code: str, detail: str, parameter: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.parameter = parameter


@dataclass(frozen=True, slots=True)
class Filter:
    """What a caller may ask of one column. `many` is the form for several values, `null` the one for none at all.

    `read` gives a text the form that the column has.
    """

    kind: Literal["text", "flag", "time"]
    one: str
    many: str | None = None
    null: str | None = None
    read: Callable[[str], str] = str


def equal(column: str, nullable: bool = False, read: Callable[[str], str] = str) -> Filter:
    """Return the filter for a text column: one value, several, or none."""
    null = f"{column} IS NULL" if nullable else None
    return Filter("text", f"{column} = %s", f"{column} = ANY(%s::text[])", null, read)


def flag(column: str) -> Filter:
    """Return the filter for a boolean column; its two forms are the ones that partial indexes are made for."""
    return Filter("flag", column)


def time_range(name: str, column: str) -> dict[str, Filter]:
    """Return the filters `<name>__gte` and `<name>__lte`; what has no time lies in no range."""
    return {
        f"{name}__gte": Filter("time", f"({column} >= %s::timestamptz AND {column} < 'infinity')"),
        f"{name}__lte": Filter("time", f"{column} <= %s::timestamptz"),
    }


def common_filters() -> dict[str, Filter]:
    """Return the filters that every document with a life, people and a schedule has."""
    return {
        "status": equal("status"),
        "hub": equal("hub", nullable=True),
        "project": equal("project", nullable=True),
        PERSON: ASSIGNEE,
        "overdue": flag("overdue"),
        "search": SEARCH,
        **time_range("created_at", "created_at"),
        **time_range("updated_at", "updated_at"),
        **time_range("start", "start_at"),
        **time_range("end", "end_at"),
    }


# Start and end hold `infinity` where there is no time, titles the empty text, so that every row has its place.
COMMON_SORTS: Mapping[str, tuple[str, str]] = {
    "created_at": ("created_at", "timestamptz"),
    "updated_at": ("updated_at", "timestamptz"),
    "start": ("start_at", "timestamptz"),
    "end": ("end_at", "timestamptz"),
    "title": ("title_key", "text"),
}
# The filter that names people.
PERSON = "assignee"
ASSIGNEE = Filter("text", "assignees @> ARRAY[%s::text]", "assignees && %s::text[]", "assignees = '{}'")
SEARCH = Filter("text", "strpos(title_key, %s) > 0", read=name_key)


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
        """Ask for the rows with these ids, in any order; ids that are not there are left out."""
        wanted = [demand_text(entity_id, "ids") for entity_id in ids]
        return select(self.view, "doc, id, '' AS key", tenant, ["id = ANY(%s::text[])"], [wanted])

    def page(
        self,
        tenant: str,
        filters: Mapping[str, Any],
        sort: str | None = None,
        after: str | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> Query:
        """Ask for a page. `after` is the cursor of the last row seen; raises `BadQuery`.

        A cursor stays good while rows come and go. `offset` is for callers that count pages; it gets slower with depth.
        """
        sort, column, kind, descending = self._sort(sort)
        if not 1 <= limit <= MOST_ROWS:
            raise BadQuery("bad-limit", f"a page has 1 to {MOST_ROWS} rows", "limit")
        if not 0 <= offset <= MOST_OFFSET:
            raise BadQuery("bad-offset", f"an offset is 0 to {MOST_OFFSET}", "offset")
        conditions, values = self._conditions(filters)
        if after is not None:
            key, last = _read_cursor(after, sort, kind)
            conditions.append(f"({column}, id) {'<' if descending else '>'} (%s::{kind}, %s)")
            values += [key, last]
        way = "DESC" if descending else "ASC"
        tail = f" ORDER BY {column} {way}, id {way} LIMIT {limit:d}" + (f" OFFSET {offset:d}" if offset > 0 else "")
        # Under its own name the text would take the column's place in the order, and no index would serve it.
        return select(self.view, f"doc, id, {column}::text AS key", tenant, conditions, values, tail)

    def count(self, tenant: str, filters: Mapping[str, Any]) -> Query:
        """Ask how many rows a page would run through; gives one row with one number."""
        return select(self.view, "count(*)", tenant, *self._conditions(filters))

    def cursor(self, row: Sequence[Any], sort: str | None = None) -> str:
        """Return the cursor that asks for what follows this row of a page with the same sort."""
        name = self._sort(sort)[0]
        return urlsafe_b64encode(msgspec.json.encode([name, row[2], row[1]])).decode().rstrip("=")

    def _sort(self, sort: str | None) -> tuple[str, str, str, bool]:
        name = self.default if sort is None else sort
        known = self.sorts.get(name.removeprefix("-"))
        if known is None:
            detail = f"sort by one of {', '.join(self.sorts)}, each with - before it or not"
            raise BadQuery("bad-sort", detail, "sort")
        return name, *known, name.startswith("-")

    def _conditions(self, filters: Mapping[str, Any]) -> tuple[list[str], list[Any]]:
        conditions: list[str] = []
        values: list[Any] = []
        for name, value in filters.items():
            known = self.filters.get(name)
            if known is None:
                raise BadQuery("unknown-filter", f"filters are {', '.join(self.filters)}", name)
            if known.kind == "flag":
                conditions.append(known.one if _flag(value, name) else f"NOT {known.one}")
            elif known.kind == "time":
                conditions.append(known.one)
                values.append(time_of(value, name))
            else:
                _add_text(known, name, value, conditions, values)
        return conditions, values


def select(
    view: str, columns: str, tenant: str, conditions: Sequence[str], values: Sequence[Any], tail: str = ""
) -> Query:
    """Make a statement from constant parts and bound values, for one tenant."""
    where = "".join(f" AND {condition}" for condition in conditions)
    return Query(f"SELECT {columns} FROM {view} WHERE tenant = %s{where}{tail}", (tenant, *values))  # noqa: S608


def _add_text(known: Filter, name: str, value: Any, conditions: list[str], values: list[Any]) -> None:
    if value is None:
        if known.null is None:
            raise BadQuery("bad-filter", "this filter needs a value", name)
        conditions.append(known.null)
        return
    if isinstance(value, str):
        conditions.append(known.one)
        values.append(known.read(demand_text(value, name)))
        return
    if known.many is None or not isinstance(value, Sequence) or len(value) > MOST_VALUES:
        raise BadQuery("bad-filter", "this filter takes one text", name)
    if known.null is None and "" in value:
        raise BadQuery("bad-filter", "this filter needs a value", name)
    several = [known.read(demand_text(item, name)) for item in value]
    # One value has an index in the order of the sort; several have not.
    conditions.append(known.one if len(several) == 1 else known.many)
    values.append(several[0] if len(several) == 1 else several)


def demand_text(value: Any, name: str) -> str:
    """Return a text that PostgreSQL can take as a value; raises `BadQuery`."""
    if not isinstance(value, str) or len(value) > _MOST_TEXT or "\0" in value or not _is_unicode(value):
        raise BadQuery("bad-filter", f"a value is a text of at most {_MOST_TEXT} characters without NUL", name)
    return value


def _is_unicode(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= mark <= "\udfff" for mark in value)


def _flag(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return value
    if value not in ("true", "false"):
        raise BadQuery("bad-filter", "this filter is true or false", name)
    return bool(value == "true")


def time_of(value: Any, name: str) -> datetime:
    """Return an instant in UTC; raises `BadQuery`."""
    try:
        if isinstance(value, str):
            return instant(value, "").astimezone(UTC)
        if isinstance(value, datetime) and value.tzinfo is not None:
            return value.astimezone(UTC)
    except (Rejected, OverflowError):
        pass
    raise BadQuery("bad-filter", INSTANT_DETAIL, name)


def _read_cursor(after: str, sort: str, kind: str) -> tuple[Any, str]:
    """Return the sort's value, as one of its column's type, and the id that a cursor holds; raises `BadQuery`."""
    try:
        padded = after.encode("ascii") + b"=" * (-len(after) % 4)
        name, key, last = msgspec.json.decode(urlsafe_b64decode(padded), type=tuple[str, str, str])
        value = _KEYS[kind](key)
    except (ValueError, RecursionError, BadQuery):
        raise BadQuery("bad-cursor", "this is no cursor that was given out here", "cursor") from None
    if name != sort:
        raise BadQuery("bad-cursor", f"this cursor belongs to the sort {name[:40]!r}", "cursor")
    if not ID.match(last):
        raise BadQuery("bad-cursor", "this is no cursor that was given out here", "cursor")
    return value, last


def _moment_key(key: str) -> Any:
    # The instant is given to PostgreSQL, never the text: Python reads weeks and offsets that PostgreSQL does not.
    # As PostgreSQL writes it, which is not what a caller may write.
    moment = key if key == "infinity" else datetime.fromisoformat(key)
    return moment if isinstance(moment, str) else time_of(moment, "cursor")


# How the value of a sort is read from a cursor, by the type of the sort's column.
_KEYS: Mapping[str, Callable[[str], Any]] = {
    "timestamptz": _moment_key,
    "text": lambda key: demand_text(key, "cursor"),
}
