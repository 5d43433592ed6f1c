"""How those who act on deadlines find what is due: fairly between tenants, and by index however many rows there are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from projections.statement import Query

# Seconds until the next row is due, below zero when one is; takes (todo).
NEXT = "SELECT extract(epoch FROM wake_at - now())::float8 FROM deadlines WHERE todo = %s ORDER BY wake_at LIMIT 1"
# Tenants with something due, in the order of their names from one on: an index look-up a tenant, however many rows each
# has. Takes (todo, after, todo, left out, most).
TENANTS = """
WITH RECURSIVE tenants AS (
    (SELECT tenant, wake_at FROM deadlines WHERE todo = %s AND tenant > %s ORDER BY todo, tenant, wake_at LIMIT 1)
    UNION ALL
    SELECT next.tenant, next.wake_at FROM tenants CROSS JOIN LATERAL (
        SELECT d.tenant, d.wake_at FROM deadlines AS d WHERE d.todo = %s AND d.tenant > tenants.tenant
        ORDER BY d.todo, d.tenant, d.wake_at LIMIT 1) AS next
)
SELECT tenant FROM tenants WHERE wake_at <= now() AND tenant <> ALL(%s::text[]) LIMIT %s"""
# Those of the tenants that no other session has taken. They stay taken until `RELEASE`, or until the session ends; as
# long as that is, the server also ends it when it is idle outside of a transaction, as it does within one. Takes
# (tenants, lock).
TAKE = """
WITH bounded AS MATERIALIZED (
    SELECT set_config('idle_session_timeout', current_setting('idle_in_transaction_session_timeout'), false))
SELECT t.tenant FROM bounded, unnest(%s::text[]) AS t (tenant) WHERE pg_try_advisory_lock(%s, hashtext(t.tenant))"""
RELEASE = "SELECT pg_advisory_unlock_all(), set_config('idle_session_timeout', '0', false)"
# The oldest rows of each tenant. Takes (tenants, todo, most).
OLDEST = """
SELECT d.* FROM unnest(%s::text[]) AS due (tenant) CROSS JOIN LATERAL (
    SELECT tenant, task_id, kind, due, activity_id, position, wake_at, outcome FROM deadlines
    WHERE todo = %s AND tenant = due.tenant AND wake_at <= now() ORDER BY todo, tenant, wake_at LIMIT %s) AS d"""
# Each tenant's oldest rows, leased in one statement; what another process takes is passed over. As a subquery of the
# UPDATE a plan may run the choice again for each row of the table, each time with other rows: a common table expression
# runs once. Takes (tenants, how many rows of each, todo, how many rows in all, seconds of the lease).
LEASE = """
WITH taken AS MATERIALIZED (
    SELECT t.tenant, t.task_id, t.kind FROM unnest(%s::text[], %s::integer[]) AS due (tenant, most)
    CROSS JOIN LATERAL (
        SELECT tenant, task_id, kind FROM deadlines
        WHERE todo = %s AND tenant = due.tenant AND wake_at <= now() ORDER BY todo, tenant, wake_at LIMIT due.most
        FOR UPDATE SKIP LOCKED) AS t
    LIMIT %s)
UPDATE deadlines AS d SET wake_at = now() + %s * interval '1 second', sends = d.sends + 1
FROM taken WHERE d.tenant = taken.tenant AND d.task_id = taken.task_id AND d.kind = taken.kind
RETURNING d.tenant, d.task_id, d.due, d.position"""
# Another is to act on a row from now on. Takes (todo, outcome, tenant, task id, kind, position).
DONE = """
UPDATE deadlines SET todo = %s, wake_at = now(), sends = 0, outcome = %s
WHERE tenant = %s AND task_id = %s AND kind = %s AND position = %s"""
_POSTPONE = """
UPDATE deadlines AS d SET sends = d.sends + 1, wake_at = now() + interval '1 second' *
    least(CASE d.kind WHEN 'dispatch' THEN %s::float8 ELSE %s::float8 END, %s::float8 * 2.0 ^ least(d.sends, 20))
FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[], %s::timestamptz[])
    AS k (tenant, task_id, kind, position, wake_at)
WHERE d.tenant = k.tenant AND d.task_id = k.task_id AND d.kind = k.kind AND d.position = k.position
    AND d.wake_at = k.wake_at"""

# (tenant, task id, kind, position, when it was due), by which a row is known that nobody has changed since.
Seen = tuple[str, str, str, int, datetime]


def postponed(rows: Sequence[Seen], first: float, longest_of_dispatch: float, longest: float) -> Query:
    """Let rows that are as they were seen be due again after `first` seconds, each time after twice as long."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    return Query(_POSTPONE, (longest_of_dispatch, longest, first, *columns))
