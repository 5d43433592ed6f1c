"""How those who act on deadlines find what is due: fairly between tenants, and by index however many rows there are."""

from __future__ import annotations

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
# The oldest rows of each tenant, locked; what another process has locked is passed over. Takes (tenants, most, todo).
OLDEST = """
SELECT d.* FROM unnest(%s::text[]) AS due (tenant) CROSS JOIN LATERAL (
    SELECT tenant, task_id, kind, due, activity_id, position, wake_at, outcome FROM deadlines
    WHERE todo = %s AND tenant = due.tenant AND wake_at <= now() ORDER BY todo, tenant, wake_at LIMIT %s
    FOR UPDATE SKIP LOCKED) AS d"""
