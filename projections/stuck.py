"""Which tasks and activities do not move though they should? Statements over the read models, one for each cause.

Each gives (key, since, id, activity, project, members, number of events, what the remedy is about), without an order,
and takes the tenant as `%(tenant)s`.
"""

from __future__ import annotations

# Seconds after which a deadline is missed, and a dispatch is in flight for too long.
MISSED_SECONDS, IN_FLIGHT_SECONDS = 10, 120
# An activity makes no progress when nothing has happened on it for the median of how long the newest completed
# activities of its workflow took, and for so many seconds at least; fewer activities than this have no median.
IDLE, NEWEST, ENOUGH = 300, 200, 20

_OPEN = "status IN ('open', 'active', 'paused')"


def _tasks(since: str, conditions: str) -> str:
    return (
        f"SELECT t.id, {since}, t.id, t.activity_id, t.project, t.assignees, NULL::bigint, NULL::text"  # noqa: S608
        f" FROM tasks AS t WHERE t.tenant = %(tenant)s AND {conditions}"
    )


def _deadlines(conditions: str, since: str) -> str:
    return (
        f"SELECT d.task_id || ' ' || d.kind, {since}, d.task_id, d.activity_id, t.project, t.assignees,"  # noqa: S608
        " NULL::bigint, NULL::text FROM deadlines AS d LEFT JOIN tasks AS t ON t.tenant = d.tenant AND t.id = d.task_id"
        f" WHERE d.todo IN ('send', 'call') AND d.tenant = %(tenant)s AND {conditions}"
    )


OVERDUE = _tasks("t.end_at", f"t.overdue AND t.{_OPEN}")
UNASSIGNED = _tasks(
    "t.start_at",
    "t.status = 'open' AND t.assignees[1] IS NULL AND t.start_at <= now() AND t.type <> 'MESSAGE'"
    " AND t.channel IS NULL",
)
UNRESOLVED = _tasks("t.updated_at", f"t.resolution IN ('FAILED', 'PENDING') AND t.{_OPEN}")
GIVEN_UP = _tasks("t.ended_at", "t.status = 'failed' AND t.dispatch = 'GAVE_UP'")
MISSED = _deadlines(f"d.wake_at < now() - {MISSED_SECONDS} * interval '1 second'", "d.wake_at")
# The next attempt of what is postponed is at most an hour away.
IN_FLIGHT = _deadlines(
    "d.wake_at < now() + interval '1 hour' AND d.kind = 'attempt'"
    f" AND d.due_at < now() - {IN_FLIGHT_SECONDS} * interval '1 second'",
    "d.due_at",
)
ASSIGNEE_RETIRED = f"""
SELECT t.id || ' ' || e.id, t.updated_at, t.id, t.activity_id, t.project, t.assignees, NULL::bigint, NULL::text
FROM entries AS e CROSS JOIN LATERAL (
    SELECT * FROM tasks WHERE tenant = e.tenant AND assignees @> ARRAY[e.id] AND assignees <> '{{}}' AND {_OPEN}) AS t
WHERE e.tenant = %(tenant)s AND e.kind = 'member' AND e.retired"""  # noqa: S608
# The earlier step that failed is among those that the step waits for. Most documents have no such key, and are neither
# read nor parsed.
BLOCKED = """
SELECT DISTINCT ON (t.id) t.id, f.ended_at, t.id, t.activity_id, t.project, t.assignees, NULL::bigint, f.id
FROM activities AS a JOIN tasks AS f ON f.tenant = a.tenant AND f.activity_id = a.id AND f.status = 'failed'
JOIN tasks AS t ON t.tenant = a.tenant AND t.activity_id = a.id AND t.status = 'open'
    AND strpos(t.doc, '"after":') > 0
WHERE a.tenant = %(tenant)s AND a.attention AND t.doc::jsonb -> 'after' ? f.id ORDER BY t.id, f.ended_at"""
ATTENTION = """
SELECT a.id, f.ended_at, a.id, a.id, a.project, a.assignees, NULL::bigint, f.id
FROM activities AS a CROSS JOIN LATERAL (
    SELECT id, ended_at FROM tasks WHERE tenant = a.tenant AND activity_id = a.id AND status = 'failed'
    ORDER BY ended_at, id LIMIT 1) AS f
WHERE a.tenant = %(tenant)s AND a.attention"""
WITHOUT_PROGRESS = f"""
WITH usual AS (
    SELECT w.id, percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM c.done_at - c.created_at)) AS seconds
    FROM entries AS w CROSS JOIN LATERAL (
        SELECT created_at, done_at FROM activities
        WHERE tenant = w.tenant AND workflow_id = w.id AND status = 'completed'
        ORDER BY created_at DESC LIMIT {NEWEST}) AS c
    WHERE w.tenant = %(tenant)s AND w.kind = 'workflow' GROUP BY w.id HAVING count(*) >= {ENOUGH})
SELECT a.id, a.updated_at, a.id, a.id, a.project, a.assignees, NULL::bigint, NULL::text
FROM activities AS a JOIN usual AS u ON u.id = a.workflow_id
WHERE a.tenant = %(tenant)s AND a.{_OPEN}
    AND a.updated_at < now() - greatest({IDLE}, u.seconds) * interval '1 second'"""  # noqa: S608
# A task that was made before its channel had a provider does not go out by itself when it has one.
_DUE = (
    "t.status = 'open' AND t.channel IS NOT NULL AND t.dispatch IN ('NONE', 'REQUESTED') AND t.scheduled_at <= now()"
    " AND t.resolution NOT IN ('FAILED', 'PENDING')"
)
_PROVIDER = """
(SELECT FROM entries AS e
 WHERE e.tenant = t.tenant AND e.kind = 'dispatch' AND e.id = t.channel AND NOT e.retired)"""
WITHOUT_PROVIDER = _tasks("t.scheduled_at", f"{_DUE} AND NOT EXISTS {_PROVIDER}")
NOT_PLANNED = _tasks(
    "t.scheduled_at",
    f"{_DUE} AND EXISTS {_PROVIDER} AND t.wake_at IS NULL AND (t.doc::jsonb ->> 'in_flight')::boolean IS NOT TRUE",
)
