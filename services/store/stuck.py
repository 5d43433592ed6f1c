"""Everything of a tenant that does not move though it should: the sources of `causes`, filtered, counted and paged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from projections.support.time import stamp
from services.store.causes import BY_CAUSE as BY_CAUSE
from services.store.causes import SOURCES, Remedy, Row, Source

# Things of one cause that are counted; more are said to be more.
MOST = 1000


class Asked(NamedTuple):
    """A statement and its values by name."""

    sql: str
    params: dict[str, Any]


class Reference(msgspec.Struct, frozen=True):
    """A resource by kind and id."""

    kind: str
    id: str


class Waits(msgspec.Struct, frozen=True):
    """What waits: an activity, or so many events."""

    kind: str
    id: str | None = None
    count: int | None = None


class Stuck(msgspec.Struct, frozen=True):
    """Something that does not move though it should."""

    cause: str
    since: str | None
    resource: Reference
    activity_id: str | None
    project: str | None
    members: list[str]
    waits: list[Waits]
    remedy: Remedy


@dataclass(frozen=True, slots=True)
class Wanted:
    """Filters; None is any. Things of the whole system have neither project nor members nor activity."""

    causes: tuple[str, ...] | None = None
    project: str | None = None
    members: tuple[str, ...] | None = None
    activity: str | None = None


_COLUMNS = "(key, since, id, activity, project, members, count, of)"


def wanted_sources(wanted: Wanted) -> list[Source]:
    """Return the sources that the filters leave, in their order."""
    narrow = (wanted.project, wanted.members, wanted.activity) != (None, None, None)
    found = [source for source in SOURCES if wanted.causes is None or source.cause in wanted.causes]
    return [source for source in found if source.of_tenant or not narrow]


def counts(tenant: str, wanted: Wanted) -> Asked:
    """(cause, number) of each cause, up to one more than `MOST`."""
    parts: list[str] = []
    values: dict[str, Any] = {}
    for source in wanted_sources(wanted):
        sql, values = _filtered(source, tenant, wanted)
        parts.append(
            f"SELECT '{source.cause}', count(*) FROM (SELECT FROM {sql} LIMIT {MOST + 1}) AS bounded"  # noqa: S608
        )
    return Asked(" UNION ALL ".join(parts) or "SELECT NULL, 0 WHERE false", values)


def page(source: Source, tenant: str, wanted: Wanted, after: str, limit: int) -> Asked:
    """The things of a cause whose keys come after one, in their order; rows are arguments of `Row`."""
    sql, values = _filtered(source, tenant, wanted)
    return Asked(
        "SELECT s.key, NULLIF(s.since, 'infinity'), s.id, s.activity, s.project, s.members, s.count, s.of"  # noqa: S608
        f" FROM {sql} AND s.key > %(after)s ORDER BY s.key LIMIT %(limit)s",
        {**values, "after": after, "limit": limit},
    )


def _filtered(source: Source, tenant: str, wanted: Wanted) -> tuple[str, dict[str, Any]]:
    conditions = "true"
    values: dict[str, Any] = {"tenant": tenant}
    for name, value, condition in (
        ("project", wanted.project, "s.project = %(project)s"),
        ("members", wanted.members and list(wanted.members), "s.members && %(members)s::text[]"),
        ("activity", wanted.activity, "s.activity = %(activity)s"),
    ):
        if value is not None:
            conditions += f" AND {condition}"
            values[name] = value
    return f"({source.sql}) AS s {_COLUMNS} WHERE {conditions}", values


def shown(source: Source, found: Sequence[Any]) -> Stuck:
    """Return a row of a source as it is shown."""
    row = Row(*found)
    waits = []
    if row.activity is not None and row.activity != row.id:
        waits.append(Waits("activity", row.activity))
    if row.events is not None:
        waits.append(Waits("events", count=row.events))
    return Stuck(
        source.cause,
        None if row.since is None else stamp(row.since),
        Reference(source.kind, row.id),
        row.activity,
        row.project,
        list(row.members or ()),
        waits,
        source.remedy(row),
    )
