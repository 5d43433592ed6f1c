"""Questions to read models as SQL with bound values; no text from outside becomes part of a statement.

Every statement is made by `select`, which holds the tenant's predicate, so no question can reach another tenant.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from domain.decider import instant
from domain.errors import RefusalError, Rejected
from domain.limits import INSTANT_DETAIL
from projections.statement import Query

MAX_ROWS = 1000
MAX_OFFSET = 10_000_000
MAX_FILTER_VALUES = 50
# Members that the values of a filter may name, each any number of them.
MAX_MEMBERS = 1000
_MAX_TEXT = 1000


class BadQuery(RefusalError):
    """A question that cannot be asked; `parameter` is the one at fault."""

    def __init__(self, code: str, detail: str, parameter: str) -> None:
        super().__init__(code, detail)
        self.parameter = parameter


def select(
    view: str, columns: str, tenant: str, conditions: Sequence[str], values: Sequence[Any], tail: str = ""
) -> Query:
    """Make a statement from constant parts and bound values, for one tenant."""
    where = "".join(f" AND {condition}" for condition in conditions)
    return Query(f"SELECT {columns} FROM {view} WHERE tenant = %s{where}{tail}", (tenant, *values))  # noqa: S608


def within(page: Query, most: int, column: str = "doc") -> Query:
    """Ask for the first rows of a page whose documents have so many bytes together, up to the one that fills them.

    Each row ends with the bytes up to it, and with the number of rows that the page has without the limit. Documents
    that are left out are not read: their length is known without that.
    """
    summed = f"sum(octet_length({column})) OVER (ROWS UNBOUNDED PRECEDING) AS bytes, count(*) OVER () AS every"
    rows = f"SELECT q.*, {summed} FROM ({page.sql}) AS q"  # noqa: S608
    sql = f"SELECT * FROM ({rows}) AS w WHERE bytes - octet_length({column}) < %s"  # noqa: S608
    return Query(sql, (*page.params, most))


def over(shadows: Sequence[Query], asked: Query) -> Query:
    """Ask the same of other rows than those of the views; `shadows` are parts of a WITH clause that stand for them."""
    values = tuple(value for each in shadows for value in each.params)
    return Query(f"WITH {', '.join(each.sql for each in shadows)} {asked.sql}", (*values, *asked.params))


def demand_text(value: Any, name: str) -> str:
    """Return a text that PostgreSQL can take as a value; raises `BadQuery`."""
    if not isinstance(value, str) or len(value) > _MAX_TEXT or "\0" in value or not _is_unicode(value):
        raise BadQuery("bad-filter", f"a value is a text of at most {_MAX_TEXT} characters without NUL", name)
    return value


def _is_unicode(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= mark <= "\udfff" for mark in value)


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
