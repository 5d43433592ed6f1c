"""Statements on bulks that wait for being sent, or for the ledger to have all of their commands."""

from __future__ import annotations

from projections.support.query import Query

_STORED = "SELECT command, items, sent, created_at FROM bulks WHERE tenant = %s AND id = %s"
# Takes the columns by name, and in `every` and `own` how many bulks may wait, of all tenants and of this one.
STORE = """
INSERT INTO bulks (tenant, id, command, actor, traceparent, items, commands)
SELECT %(tenant)s, %(id)s, %(command)s, %(actor)s, %(traceparent)s, %(items)s, %(commands)s
FROM (SELECT count(*) AS every, count(*) FILTER (WHERE tenant = %(tenant)s) AS own FROM bulks
      WHERE commands IS NOT NULL AND sent_at IS NULL AND NOT (tenant = %(tenant)s AND id = %(id)s)) AS waiting
WHERE every < %(every)s AND own < %(own)s
ON CONFLICT (tenant, id) DO UPDATE SET id = excluded.id RETURNING id"""
# Takes (seconds of the lease, tenants to leave out).
TAKE = """
UPDATE bulks SET due_at = now() + %s * interval '1 second'
WHERE (tenant, id) = (
    SELECT tenant, id FROM bulks WHERE commands IS NOT NULL AND due_at <= now() AND tenant <> ALL (%s::text[])
    ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING tenant, id, command, actor, traceparent, items, commands, sent"""
# `sent` only grows, so two who send the same bulk cannot take back what the other did.
PROGRESS = """
UPDATE bulks SET sent = greatest(sent, %s), due_at = now() + %s * interval '1 second'
WHERE tenant = %s AND id = %s RETURNING id"""
# To wait as long as has passed doubles the time.
SENT = """
UPDATE bulks SET sent = greatest(sent, %s), sent_at = coalesce(sent_at, now()),
    due_at = now() + CASE WHEN sent_at < now() - interval '1 day' THEN interval '1 day'
        ELSE least(greatest(now() - sent_at, %s * interval '1 second'), %s * interval '1 second') END
WHERE tenant = %s AND id = %s RETURNING id"""
# Who sent the last of it may have ended before it could say so.
DONE = """
UPDATE bulks SET commands = NULL, sent_at = coalesce(sent_at, now()) WHERE tenant = %s AND id = %s RETURNING id"""


def stored(tenant: str, bulk_id: str) -> Query:
    """Ask for (command, items, sent, created at) of a bulk."""
    return Query(_STORED, (tenant, bulk_id))
