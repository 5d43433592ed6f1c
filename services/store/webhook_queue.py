"""What webhooks are to deliver: queueing events, taking what is due, and recording what became of it.

Every statement that changes what is queued is executed while the row of its webhook is locked, so `pending` is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import psycopg

from projections.statement import Query
from services.interests import Dimension, Interest
from services.store import webhooks
from services.webhooks import ACTIVE, DELIVERED, PARKED

# With so many deliveries queued a webhook takes no more from the follower; it reads on from the log when half are left.
MAX_PENDING = 5_000
# Deliveries of a webhook that are kept when they are done, and days for which deliveries are, by state.
KEPT = 1_000
KEPT_DAYS = {DELIVERED: 7, PARKED: 30}
# Rows that one statement deletes.
_PRUNED_AT_ONCE = 5_000

_FILTERS = ", ".join(webhooks.FILTERS.values())
_OF_TENANTS = f"SELECT tenant, id, state, position, {_FILTERS} FROM webhooks WHERE tenant = ANY(%s::text[])"  # noqa: S608
# Within a batch, the follower's own position is that before it.
_FOLLOWED = "(SELECT f.position FROM followers AS f WHERE f.name = 'webhooks')"
_STOP = f"""
UPDATE webhooks SET position = {_FOLLOWED}
WHERE (tenant, id) IN (SELECT * FROM unnest(%s::text[], %s::text[])) AND position IS NULL AND state <> 'active'"""  # noqa: S608
_LOCK = """
SELECT tenant, id, position FROM webhooks WHERE (tenant, id) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
ORDER BY tenant, id FOR UPDATE"""
_QUEUE = f"""
WITH queued AS (
    INSERT INTO webhook_deliveries (tenant, webhook, position, entity, event_id, next_at)
    SELECT *, %s::timestamptz FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::text[], %s::text[])
    ON CONFLICT DO NOTHING RETURNING tenant, webhook),
counted AS (SELECT tenant, webhook, count(*) AS more FROM queued GROUP BY tenant, webhook)
UPDATE webhooks AS w SET pending = w.pending + c.more,
    due_at = CASE WHEN w.probes = 0 THEN %s ELSE coalesce(w.due_at, %s) END,
    position = CASE WHEN w.position IS NULL AND w.pending + c.more >= %s THEN greatest(%s, {_FOLLOWED})
        ELSE w.position END
FROM counted AS c WHERE w.tenant = c.tenant AND w.id = c.webhook"""  # noqa: S608
_BEHIND = f"""
SELECT tenant, id, state, position, {_FILTERS} FROM webhooks
WHERE position <= %s AND state = 'active' AND pending < %s AND (tenant, id) > (%s, %s)
ORDER BY tenant, id LIMIT 1 FOR UPDATE"""  # noqa: S608
_MOVE = "UPDATE webhooks SET position = %s WHERE tenant = %s AND id = %s"

# The webhook that has been due for longest, unless its calls under way are as many as may be. Takes named parameters.
TAKE = """
SELECT tenant, id, url, secret, CASE WHEN old_secret_until > %(now)s THEN old_secret END, probes > 0
FROM webhooks AS w
WHERE state = 'active' AND due_at <= %(now)s
    AND CASE WHEN probes > 0 THEN %(probes)s AND tenant <> ALL (%(full_probing)s::text[])
        ELSE %(calls)s AND tenant <> ALL (%(full)s::text[]) END
    AND NOT EXISTS (SELECT FROM unnest(%(busy_tenants)s::text[], %(busy)s::text[]) AS b (tenant, id)
        WHERE b.tenant = w.tenant AND b.id = w.id)
ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED"""
# The first event of each entity that is not delivered. While a receiver is only tried, those that failed least go
# first, so that an event that it always refuses does not hold up the others.
_HEADS = """
heads AS MATERIALIZED (
    SELECT DISTINCT ON (entity) position, next_at, leased_until, attempts FROM webhook_deliveries
    WHERE tenant = %(tenant)s AND webhook = %(webhook)s AND state = 'pending' ORDER BY entity, position)"""
LEASE = f"""
WITH {_HEADS},
due AS MATERIALIZED (
    SELECT position FROM heads WHERE next_at <= %(now)s AND (leased_until IS NULL OR leased_until <= %(now)s)
    ORDER BY CASE WHEN %(probing)s THEN attempts END, position LIMIT %(most)s)
UPDATE webhook_deliveries AS d SET leased_until = %(until)s FROM due
WHERE d.tenant = %(tenant)s AND d.webhook = %(webhook)s AND d.position = due.position
RETURNING d.position, d.event_id"""  # noqa: S608
# When the webhook is to be looked at again: when the next first event is due, or the lease of one has ended.
LOOK_AGAIN = f"""
WITH {_HEADS}
UPDATE webhooks SET due_at = CASE WHEN %(probing)s AND %(took)s THEN %(until)s
    ELSE (SELECT min(greatest(next_at, leased_until)) FROM heads) END
WHERE tenant = %(tenant)s AND id = %(webhook)s"""  # noqa: S608
LOCK = """
SELECT state, failures, failing_since, probes, due_at FROM webhooks WHERE tenant = %s AND id = %s FOR UPDATE"""
STARTED = """
SELECT attempts, failing_since FROM webhook_deliveries
WHERE tenant = %s AND webhook = %s AND position = %s AND state = 'pending' AND event_id = %s"""
# A range of the primary key for each webhook of the tenant, which are few.
_OF_EVENTS = """
SELECT d.position, d.webhook, d.state, d.attempts, d.tried_at,
    CASE WHEN d.state = 'pending' THEN d.next_at END, d.status
FROM webhooks AS w CROSS JOIN LATERAL (
    SELECT * FROM webhook_deliveries AS d
    WHERE d.tenant = w.tenant AND d.webhook = w.id AND d.position BETWEEN %s AND %s) AS d
WHERE w.tenant = %s ORDER BY d.position, d.webhook"""
# Named parameters.
RECORD = """
UPDATE webhook_deliveries SET state = %(state)s, attempts = attempts + 1, tried_at = %(now)s, status = %(status)s,
    answer = %(answer)s, leased_until = NULL, next_at = %(next_at)s, failing_since = %(failing_since)s
WHERE tenant = %(tenant)s AND webhook = %(webhook)s AND position = %(position)s"""
SUCCEEDED = """
UPDATE webhooks SET pending = pending - 1, failures = 0, failing_since = NULL, probes = 0, error = NULL, due_at = %s
WHERE tenant = %s AND id = %s"""
# What failed only since the receiver was away is due again when it is back.
BACK = """
UPDATE webhook_deliveries SET next_at = %s
WHERE tenant = %s AND webhook = %s AND state = 'pending' AND attempts > 0 AND (status IS NULL OR status = ANY(%s))"""
FAILED = """
UPDATE webhooks SET pending = pending - %(parked)s, failures = failures + 1, failing_since = CASE WHEN %(parked)s = 0
        THEN coalesce(failing_since, %(now)s)
        ELSE (SELECT min(d.failing_since) FROM webhook_deliveries AS d
              WHERE d.tenant = %(tenant)s AND d.webhook = %(webhook)s AND d.state = 'pending') END,
    probes = %(probes)s, error = %(error)s,
    due_at = %(due_at)s, state = %(state)s, cause = coalesce(%(cause)s, cause)
WHERE tenant = %(tenant)s AND id = %(webhook)s"""
_EVENT = """
SELECT notification_id, originator_id, originator_version, topic, state, recorded_at FROM stored_events
WHERE notification_id = %s"""

_PRUNE = """
DELETE FROM webhook_deliveries WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM webhook_deliveries WHERE state = %s AND tried_at < %s - %s * interval '1 day'
    ORDER BY tried_at LIMIT %s))"""
_PRUNE_OF = """
DELETE FROM webhook_deliveries WHERE tenant = %s AND webhook = %s AND state = 'delivered' AND position <= (
    SELECT position FROM webhook_deliveries WHERE tenant = %s AND webhook = %s AND state = 'delivered'
    ORDER BY position DESC OFFSET %s LIMIT 1)"""
# (deliveries that wait, age in seconds of the oldest event of these, parked deliveries, disabled webhooks); those
# of webhooks that are not active wait for somebody.
FIGURES = Query(
    """
WITH waiting AS (
    SELECT w.pending, (SELECT min(d.position) FROM webhook_deliveries AS d
                       WHERE d.tenant = w.tenant AND d.webhook = w.id AND d.state = 'pending') AS first
    FROM webhooks AS w WHERE w.state = 'active' AND w.pending > 0)
SELECT coalesce(sum(pending), 0)::bigint,
    coalesce((SELECT extract(epoch FROM now() - e.recorded_at) FROM stored_events AS e
              WHERE e.notification_id = min(waiting.first)), 0)::float8,
    (SELECT count(*) FROM webhook_deliveries WHERE state = 'parked'),
    (SELECT count(*) FROM webhooks WHERE state = 'disabled')
FROM waiting""",
    (),
)


class Wanting(NamedTuple):
    """A webhook as those who queue need it; `position` is None if the follower queues for it."""

    tenant: str
    id: str
    state: str
    position: int | None
    interest: Interest

    @property
    def active(self) -> bool:
        return self.state == ACTIVE


class Entry(NamedTuple):
    """An event to be queued for a webhook."""

    tenant: str
    webhook: str
    position: int
    entity: str
    event_id: str


def of_tenants(conn: psycopg.Connection[Any], tenants: Sequence[str]) -> list[Wanting]:
    """Return the webhooks of these tenants."""
    return [_wanting(row) for row in conn.execute(_OF_TENANTS, (list(tenants),), prepare=True).fetchall()]


def stop(conn: psycopg.Connection[Any], stopped: Sequence[Wanting]) -> None:
    """Note for webhooks that are not active that the events of the follower's batch are not queued."""
    if stopped:
        tenants, ids = [each.tenant for each in stopped], [each.id for each in stopped]
        conn.execute(_STOP, (tenants, ids))


def queue(conn: psycopg.Connection[Any], entries: Sequence[Entry], end: int, now: datetime) -> None:
    """Queue what the follower has read up to a position, for those webhooks for which it still queues.

    One with too much in its queue is behind from there on.
    """
    named = sorted({(each.tenant, each.webhook) for each in entries})
    rows = conn.execute(_LOCK, ([tenant for tenant, _ in named], [webhook for _, webhook in named])).fetchall()
    at = {(tenant, webhook): position for tenant, webhook, position in rows}
    free = [
        each for each in entries if (found := at.get((each.tenant, each.webhook), -1)) is None or each.position <= found
    ]
    insert(conn, free, end, now)


def insert(conn: psycopg.Connection[Any], entries: Sequence[Entry], end: int, now: datetime) -> None:
    """Queue entries for webhooks that are locked; what is queued or delivered already is not queued again."""
    if entries:
        columns = [list(column) for column in zip(*entries, strict=True)]
        conn.execute(_QUEUE, (now, *columns, now, now, MAX_PENDING, end))


def behind(conn: psycopg.Connection[Any], end: int, tenant: str, webhook: str) -> Wanting | None:
    """Lock and return the next webhook after one that is behind the follower, at a position, and has room."""
    row = conn.execute(_BEHIND, (end, MAX_PENDING // 2, tenant, webhook)).fetchone()
    return None if row is None else _wanting(row)


def move(conn: psycopg.Connection[Any], webhook: Wanting, position: int | None) -> None:
    """Note up to where events are queued for a webhook; None if the follower queues for it from now on."""
    conn.execute(_MOVE, (position, webhook.tenant, webhook.id))


def event(position: int) -> Query:
    """The event at a position; the row has the arguments of `LogRow`."""
    return Query(_EVENT, (position,))


def of_events(tenant: str, first: int, last: int) -> Query:
    """(position, webhook, state, attempts, tried at, next at, status) of the deliveries of events in a range."""
    return Query(_OF_EVENTS, (first, last, tenant))


def pruned(state: str, now: datetime) -> Query:
    """Delete what was delivered, or parked, too long ago."""
    return Query(_PRUNE, (state, now, KEPT_DAYS[state], _PRUNED_AT_ONCE))


def pruned_of(tenant: str, webhook: str) -> Query:
    """Delete what was delivered before the last events that are kept of a webhook."""
    return Query(_PRUNE_OF, (tenant, webhook, tenant, webhook, KEPT))


def _wanting(row: Sequence[Any]) -> Wanting:
    tenant, webhook, state, position, *values = row
    dimensions: Sequence[Dimension] = tuple(webhooks.FILTERS)
    wanted = tuple((name, frozenset(each)) for name, each in zip(dimensions, values, strict=True) if each is not None)
    return Wanting(tenant, webhook, state, position, Interest(wanted))
