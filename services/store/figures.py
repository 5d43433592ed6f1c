"""How many events there were lately, of a tenant or of each, from a bounded sample of the log."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from domain import operations
from services.store import log
from services.store.stuck import Asked

# Events that are looked at; of more, one is out of each of so many stretches of the same length.
SAMPLE = 3000
# The position of the first event is found by halving. Times and positions are in the same order but for the time that
# transactions waited for each other, which figures need not tell.
_SPAN = f"""
WITH RECURSIVE since (at, first) AS MATERIALIZED (SELECT now(), now() - %(seconds)s * interval '1 second'),
halved (low, high) AS (
    SELECT 0::bigint, ({log.HEAD})
    UNION ALL
    SELECT CASE WHEN e.recorded_at < s.first THEN e.notification_id ELSE h.low END,
        CASE WHEN e.recorded_at < s.first THEN h.high ELSE e.notification_id - 1 END
    FROM halved AS h JOIN stored_events AS e ON e.notification_id = (h.low + h.high + 1) / 2 CROSS JOIN since AS s
    WHERE h.low < h.high),
span AS MATERIALIZED (
    SELECT s.at, s.first, b.low, h.head, greatest(1, ceil((h.head - b.low) / %(most)s::float8))::bigint AS step
    FROM since AS s, (SELECT max(low) FROM halved) AS b (low), ({log.HEAD}) AS h (head))"""  # noqa: S608
# The events of the sample as `e`, by columns and a condition.
_SAMPLE = """
    FROM (SELECT least(s.head, g.first + floor(random() * s.step)::bigint) AS position
          FROM generate_series(s.low + 1, s.head, s.step) AS g (first) OFFSET 0) AS p CROSS JOIN LATERAL (
        SELECT {} FROM stored_events WHERE notification_id = p.position AND {} OFFSET 0) AS e
    WHERE e.recorded_at >= s.first"""
_OWN = "starts_with(originator_id, %(tenant)s) AND NOT starts_with(originator_id, %(operations)s)"
_RECENT = f"""{_SPAN}
SELECT s.at, s.step, c.bucket, c.own * s.step FROM span AS s LEFT JOIN LATERAL (
    SELECT floor(extract(epoch FROM e.recorded_at - s.first) / (%(seconds)s / %(buckets)s::float8))::int AS bucket,
        count(*) AS own{_SAMPLE.format("recorded_at", _OWN)} GROUP BY 1) AS c ON true"""  # noqa: S608
# The length of a large value is known without reading it.
_EACH = "recorded_at, split_part(originator_id, '/', 1) AS tenant, octet_length(state) AS size"
_NO_ACTS = "NOT starts_with(split_part(originator_id, '/', 2), %(operations)s)"
_BY_TENANT = f"""{_SPAN}
SELECT s.at, s.step, c.tenant, c.events * s.step, c.size * s.step FROM span AS s LEFT JOIN LATERAL (
    SELECT e.tenant, count(*) AS events, sum(e.size) AS size{_SAMPLE.format(_EACH, _NO_ACTS)} GROUP BY 1) AS c
    ON true"""  # noqa: S608


class Recent(NamedTuple):
    """How many events of a tenant were recorded in each of some periods of the same length, the last ending at `at`.

    Where the numbers are not `exact` they are estimated.
    """

    at: datetime
    counts: list[int]
    exact: bool


def recent(tenant: str, seconds: int, buckets: int) -> Asked:
    """The events of the last seconds, in so many periods: rows for `counted`."""
    values = {"seconds": seconds, "buckets": buckets, "most": SAMPLE}
    own = {"tenant": f"{tenant}/", "operations": f"{tenant}/{operations.CATEGORY}-"}
    return Asked(_RECENT, {**values, **own})


def by_tenant(seconds: int) -> Asked:
    """The events of the last seconds by tenant: rows of (now, step, tenant, events, bytes), the last three or none.

    With a step of more than 1 the numbers are estimated. A row without a tenant says that there was nothing.
    """
    return Asked(_BY_TENANT, {"seconds": seconds, "most": SAMPLE, "operations": f"{operations.CATEGORY}-"})


def counted(rows: list[tuple[Any, ...]], buckets: int) -> Recent:
    """Return what `recent` found."""
    at, step, *_ = rows[0]
    counts = [0] * buckets
    for _, _, bucket, count in rows:
        if bucket is not None:
            counts[min(bucket, buckets - 1)] += int(count)
    return Recent(at, counts, step == 1)
