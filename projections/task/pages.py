"""Pages of tasks in the order that a caller wants, for callers that count; `filters` gives the conditions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from projections.statement import Query
from projections.support.conditions import Where, parts_of
from projections.support.query import MAX_ROWS, BadQuery, select
from projections.support.time import stamp
from projections.task import runs
from projections.task.filters import PERIODS

# Deep pages get slower, and end at the statement's time-out.
MAX_PAGES = 1_000_000
# The account number of who has the task first; what is sorted by it is looked up in the directory.
_ACCOUNT = "(SELECT account_id FROM entries AS e WHERE e.tenant = %s AND e.kind = 'member' AND e.id = assignees[1])"
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
    "assigned": _ACCOUNT,
    **PERIODS,
    # Of activities alone.
    "priority": runs.PRIORITY,
    "created_by": runs.ACCOUNT,
}


class Order(NamedTuple):
    """The order of a page: names of `SORTS`, each with whether it descends, and what their values depend on.

    `statuses` are all statuses in their order, `now` the time at which periods that go on are read.
    """

    by: Sequence[tuple[str, bool]]
    statuses: Sequence[str]
    now: datetime

    def value(self, tenant: str, name: str) -> Any:
        """Return what each placeholder of a sort stands for."""
        return stamp(self.now) if name in PERIODS else tenant if name == "assigned" else list(self.statuses)


def page(
    tenant: str,
    conditions: Iterable[Where],
    order: Order,
    limit: int,
    offset: int,
    view: str = "tasks",
) -> Query:
    """Ask for a page of tasks, or of the rows of another view that has the columns that are asked for."""
    if not 0 <= offset <= MAX_PAGES * MAX_ROWS:
        raise BadQuery("bad-offset", f"an offset is 0 to {MAX_PAGES * MAX_ROWS}", "offset")
    asked = list(order.by) or [("created_at", True)]
    last = asked[-1][1]
    names = {name for name, _ in asked}
    asked += [(name, last) for name in ("created_at", "id") if not names & {name, "id"}]
    by = ", ".join(f"{SORTS[name]} {'DESC' if falling else 'ASC'}" for name, falling in asked)
    tail = f" ORDER BY {by} LIMIT {limit:d}" + (f" OFFSET {offset:d}" if offset else "")
    sql, params = parts_of(conditions)
    values = [order.value(tenant, name) for name, _ in asked for _ in range(SORTS[name].count("%s"))]
    return select(view, "doc, id", tenant, sql, [*params, *values], tail)


def count(tenant: str, conditions: Iterable[Where], view: str = "tasks") -> Query:
    """Ask how many there are; gives one row with one number."""
    return select(view, "count(*)", tenant, *parts_of(conditions))
