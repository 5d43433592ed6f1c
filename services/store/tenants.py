"""Which tenant loads the system: what was recorded and decided for each lately, and what waits; numbers alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from projections.statement import Query
from services.store.stuck import Asked

# Tenants that are told of, parked letters that are counted of each, and tenants of whom letters are counted.
MOST, MOST_LETTERS, _MOST_WITH_LETTERS = 100, 1000, 1000
# By two bounds a planner that does not know the time finds them by the index on it.
_DECIDED = """
SELECT tenant, count(*), count(code) FROM ledger
WHERE recorded_at >= now() - %(seconds)s * interval '1 second' AND recorded_at <= now() GROUP BY tenant"""
# Of the letters the tenants are found one by one, each by the index.
_WAITING = f"""
WITH RECURSIVE parked (tenant, number) AS (
    SELECT (SELECT d.tenant FROM dead_letters AS d WHERE d.state = 'parked' AND d.tenant IS NOT NULL
            ORDER BY d.tenant LIMIT 1), 1
    UNION ALL
    SELECT (SELECT d.tenant FROM dead_letters AS d WHERE d.state = 'parked' AND d.tenant > p.tenant
            ORDER BY d.tenant LIMIT 1), p.number + 1
    FROM parked AS p WHERE p.tenant IS NOT NULL AND p.number < {_MOST_WITH_LETTERS})
SELECT 'letters', p.tenant, (SELECT count(*) FROM (
    SELECT FROM dead_letters AS d WHERE d.tenant = p.tenant AND d.state = 'parked' LIMIT {MOST_LETTERS + 1}) AS bounded)
FROM parked AS p WHERE p.tenant IS NOT NULL
UNION ALL
SELECT 'bulks', b.tenant, count(*) FROM (
    SELECT tenant FROM bulk_actions WHERE state IN ('previewing', 'running', 'aborting')
    UNION ALL SELECT tenant FROM bulks WHERE commands IS NOT NULL) AS b GROUP BY b.tenant
UNION ALL
SELECT 'deliveries', tenant, sum(pending) FROM webhooks WHERE state = 'active' AND pending > 0
GROUP BY tenant"""  # noqa: S608


@dataclass(slots=True)
class Load:
    """What a tenant had the system do lately, and what waits for it.

    `decided` counts commands, `refused` those of them. `letters` are counted up to one more than `MOST_LETTERS`.
    """

    tenant: str
    events: int = 0
    bytes: int = 0
    decided: int = 0
    refused: int = 0
    letters: int = 0
    bulks: int = 0
    deliveries: int = 0
    share: float = 0.0

    @property
    def work(self) -> int:
        """Return what was done: events that were recorded, and commands that were refused, which record none."""
        return self.events + self.refused


@dataclass(frozen=True, slots=True)
class Loads:
    """The tenants with the most work until `at`, and how many others there are.

    Where they are not `exact`, the numbers of events are estimated.
    """

    at: datetime
    exact: bool
    tenants: list[Load] = field(default_factory=list)
    others: int = 0


def decided(seconds: int) -> Asked:
    """The commands that were decided in the last seconds: rows of (tenant, decided, refused)."""
    return Asked(_DECIDED, {"seconds": seconds})


def waiting() -> Query:
    """What waits now: rows of (letters, bulks or deliveries; tenant; number)."""
    return Query(_WAITING, ())


def ranked(
    events: Sequence[Sequence[Any]], commands: Iterable[Sequence[Any]], waits: Iterable[Sequence[Any]], most: int = MOST
) -> Loads:
    """Return the loads, the greatest first, of what `figures.by_tenant`, `decided` and `waiting` found."""
    found: defaultdict[str, Load] = defaultdict(lambda: Load(""))
    at, step, *_ = events[0]
    for _, _, tenant, count, size in events:
        if tenant is not None:
            found[tenant].events, found[tenant].bytes = int(count), int(size)
    for tenant, count, refused in commands:
        found[tenant].decided, found[tenant].refused = count, refused
    for what, tenant, count in waits:
        setattr(found[tenant], what, int(count))
    whole = sum(load.work for load in found.values())
    for tenant, load in found.items():
        load.tenant = tenant
        load.share = round(100 * load.work / whole, 1) if whole else 0.0
    loads = sorted(
        found.values(),
        key=lambda load: (-load.work, -load.decided, -load.bulks, -load.deliveries, -load.letters, load.tenant),
    )
    return Loads(at, step == 1, loads[:most], len(loads[most:]))
