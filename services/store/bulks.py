"""Statements on bulks that are still to be sent, or whose commands are not all decided yet."""

from __future__ import annotations

from projections.statement import Query

_STORED = "SELECT command, items, sent, created_at FROM bulks WHERE tenant = %s AND id = %s"
# Named parameters: the columns, and as `every` and `own` the limits of waiting bulks, of all tenants and of this one.
STORE = """
INSERT INTO bulks (tenant, id, command, actor, traceparent, items, commands)
SELECT %(tenant)s, %(id)s, %(command)s, %(actor)s, %(traceparent)s, %(items)s, %(commands)s
FROM (SELECT count(*) AS every, count(*) FILTER (WHERE tenant = %(tenant)s) AS own FROM bulks
      WHERE commands IS NOT NULL AND sent_at IS NULL AND NOT (tenant = %(tenant)s AND id = %(id)s)) AS waiting
WHERE every < %(every)s AND own < %(own)s
ON CONFLICT (tenant, id) DO UPDATE SET id = excluded.id RETURNING id"""
# Parameters: (seconds of the lease, tenants to skip).
TAKE = """
UPDATE bulks SET due_at = now() + %s * interval '1 second'
WHERE (tenant, id) = (
    SELECT tenant, id FROM bulks WHERE commands IS NOT NULL AND due_at <= now() AND tenant <> ALL (%s::text[])
    ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING tenant, id, command, actor, traceparent, items, commands, sent"""
# `sent` only grows, so two senders of a bulk cannot undo each other's progress.
PROGRESS = """
UPDATE bulks SET sent = greatest(sent, %s), due_at = now() + %s * interval '1 second'
WHERE tenant = %s AND id = %s RETURNING id"""
# Waiting as long as has already passed doubles the total time.
SENT = """
UPDATE bulks SET sent = greatest(sent, %s), sent_at = coalesce(sent_at, now()),
    due_at = now() + CASE WHEN sent_at < now() - interval '1 day' THEN interval '1 day'
        ELSE least(greatest(now() - sent_at, %s * interval '1 second'), %s * interval '1 second') END
WHERE tenant = %s AND id = %s RETURNING id"""
# The sender may have ended before it could set `sent_at`.
DONE = """
UPDATE bulks SET commands = NULL, sent_at = coalesce(sent_at, now()) WHERE tenant = %s AND id = %s RETURNING id"""


def stored(tenant: str, bulk_id: str) -> Query:
    """(command, items, sent, created at) of a bulk."""
    return Query(_STORED, (tenant, bulk_id))
