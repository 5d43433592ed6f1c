"""Pages of tasks in the order that a caller wants, for callers that count; `filters` gives the conditions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from projections.statement import Query
from projections.support.conditions import Where, parts_of
from projections.support.query import MAX_ROWS, BadQuery, select

# Deep pages get slower, and end at the statement's time-out.
MAX_PAGES = 1_000_000
# `created_at` goes after what is asked for, since the indexes do.
SORTS: Mapping[str, str] = {
    "id": "id",
    "name": "title_key",
    "status": "array_position(%s::text[], status)",
    "started_at": "started_at",
    "completed_at": "CASE status WHEN 'completed' THEN ended_at END",
    "wake_at": "wake_at",
    "created_at": "created_at",
    "project": "project",
    "activity_id": "activity_id",
}


def page(
    tenant: str,
    conditions: Iterable[Where],
    order: Sequence[tuple[str, bool]],
    statuses: Sequence[str],
    limit: int,
    offset: int,
) -> Query:
    """Ask for a page; `order` holds names of `SORTS`, each with whether it descends, `statuses` their order."""
    if not 0 <= offset <= MAX_PAGES * MAX_ROWS:
        raise BadQuery("bad-offset", f"an offset is 0 to {MAX_PAGES * MAX_ROWS}", "offset")
    asked = list(order) or [("created_at", True)]
    last = asked[-1][1]
    names = {name for name, _ in asked}
    asked += [(name, last) for name in ("created_at", "id") if not names & {name, "id"}]
    by = ", ".join(f"{SORTS[name]} {'DESC' if falling else 'ASC'}" for name, falling in asked)
    tail = f" ORDER BY {by} LIMIT {limit:d}" + (f" OFFSET {offset:d}" if offset else "")
    sql, params = parts_of(conditions)
    ranks = [list(statuses)] * by.count("%s")
    return select("tasks", "doc, id", tenant, sql, [*params, *ranks], tail)


def count(tenant: str, conditions: Iterable[Where]) -> Query:
    """Ask how many there are; gives one row with one number."""
    return select("tasks", "count(*)", tenant, *parts_of(conditions))
