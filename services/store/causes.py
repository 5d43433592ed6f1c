"""The causes for which something does not move though it should: one source for each.

A source is a statement over what there is: read models, deadlines, followers, sessions. Whoever adds a cause adds a
`Source` to `SOURCES`; listing, counting, filters, paging and documentation follow from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

# Seconds after which a deadline is missed, a follower lags, and a dispatch is in flight for too long.
MISSED, LAGGING, IN_FLIGHT = 10, 5, 120
# An activity makes no progress when nothing has happened on it for the median of how long the newest completed
# activities of its workflow took, and for so many seconds at least; fewer activities than this have no median.
IDLE, NEWEST, ENOUGH = 300, 200, 20
# Events behind a held-back entity that are counted.
_MOST_EVENTS = 1000

_OPEN = "status IN ('open', 'active', 'paused')"


class Row(NamedTuple):
    """What a statement of a source gives.

    `key` is unique in the source and orders it. `activity`, `project` and `members` are what filters compare; `events`
    is how many events wait. `of` is what the remedy is about, where that is not the resource itself.
    """

    key: str
    since: datetime | None
    id: str
    activity: str | None
    project: str | None
    members: list[str] | None
    events: int | None
    of: str | None


class Remedy(msgspec.Struct, frozen=True):
    """What to do: a command that can be sent as it is, a command line for an operator, and in words."""

    text: str
    command: dict[str, Any] | None = None
    cli: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A cause: `kind` of what is stuck, `says` what that means, and the statement that finds it.

    The statement gives `Row`s without an order. It may use `%(tenant)s`; one that does not is of the whole system.
    """

    cause: str
    kind: str
    says: str
    sql: str
    remedy: Callable[[Row], Remedy]

    @property
    def of_tenant(self) -> bool:
        """Whether only the tenant's own things are found."""
        return "%(tenant)s" in self.sql


def _give(name: str, text: str) -> Callable[[Row], Remedy]:
    return lambda row: Remedy(text, {"type": name, "data": {"id": row.of or row.id}})


def _run(text: str, line: str = "foldwork projections status") -> Callable[[Row], Remedy]:
    return lambda row: Remedy(text, cli=line.format(of=row.of or row.id))


def _say(text: str) -> Callable[[Row], Remedy]:
    return lambda row: Remedy(text)


def _tasks(since: str, conditions: str, more: str = "", of: str = "NULL") -> str:
    return (
        f"SELECT t.id, {since}, t.id, t.activity_id, t.project, t.assignees, NULL::bigint, {of}::text"  # noqa: S608
        f" FROM tasks AS t {more} WHERE t.tenant = %(tenant)s AND {conditions}"
    )


def _deadlines(conditions: str, since: str) -> str:
    return (
        f"SELECT d.task_id || ' ' || d.kind, {since}, d.task_id, d.activity_id, t.project, t.assignees,"  # noqa: S608
        " NULL::bigint, NULL::text FROM deadlines AS d LEFT JOIN tasks AS t ON t.tenant = d.tenant AND t.id = d.task_id"
        f" WHERE d.todo IN ('send', 'call') AND d.tenant = %(tenant)s AND {conditions}"
    )


_NOTHING = "NULL::text, NULL::text, NULL::text[]"
_RETIRED = f"""
SELECT t.id || ' ' || e.id, t.updated_at, t.id, t.activity_id, t.project, t.assignees, NULL::bigint, NULL::text
FROM entries AS e CROSS JOIN LATERAL (
    SELECT * FROM tasks WHERE tenant = e.tenant AND assignees @> ARRAY[e.id] AND assignees <> '{{}}' AND {_OPEN}) AS t
WHERE e.tenant = %(tenant)s AND e.kind = 'member' AND e.retired"""  # noqa: S608
# The earlier step that failed is among those that the step waits for.
_GATED = """
SELECT DISTINCT ON (t.id) t.id, f.ended_at, t.id, t.activity_id, t.project, t.assignees, NULL::bigint, f.id
FROM activities AS a JOIN tasks AS f ON f.tenant = a.tenant AND f.activity_id = a.id AND f.status = 'failed'
JOIN tasks AS t ON t.tenant = a.tenant AND t.activity_id = a.id AND t.status = 'open'
WHERE a.tenant = %(tenant)s AND a.attention AND t.doc::jsonb -> 'after' ? f.id ORDER BY t.id, f.ended_at"""
_ATTENTION = """
SELECT a.id, f.ended_at, a.id, a.id, a.project, a.assignees, NULL::bigint, f.id
FROM activities AS a CROSS JOIN LATERAL (
    SELECT id, ended_at FROM tasks WHERE tenant = a.tenant AND activity_id = a.id AND status = 'failed'
    ORDER BY ended_at, id LIMIT 1) AS f
WHERE a.tenant = %(tenant)s AND a.attention"""
_IDLE = f"""
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
_UNPROVIDED = f"{_DUE} AND NOT EXISTS {_PROVIDER}"
_UNPLANNED = (
    f"{_DUE} AND EXISTS {_PROVIDER} AND t.wake_at IS NULL AND (t.doc::jsonb ->> 'in_flight')::boolean IS NOT TRUE"
)
# The followers of read models have the names of their tables.
_NAME = "coalesce((SELECT r.name FROM read_models AS r WHERE {0} LIKE r.name || '\\_v%%' LIMIT 1), {0})"
# An entity is named as its stream, `<tenant>/<category>-<id>`; `<tenant>/*` is all of a tenant.
_HELD = f"""
SELECT h.follower || ' ' || h.entity, h.since, split_part(h.entity, '/', 2), {_NOTHING}, e.events,
    {_NAME.format("h.follower")}
FROM held_entities AS h CROSS JOIN LATERAL (
    SELECT count(*) AS events FROM (SELECT FROM held_events AS e WHERE e.follower = h.follower AND e.entity = h.entity
                                    LIMIT {_MOST_EVENTS}) AS bounded) AS e
WHERE starts_with(h.entity, %(tenant)s || '/')"""  # noqa: S608
# Followers that count: not those of tables that do not serve.
_FOLLOWERS = """
FROM followers AS f LEFT JOIN stored_events AS e ON e.notification_id = f.position + 1
WHERE NOT EXISTS (SELECT FROM read_models AS r WHERE f.name LIKE r.name || '\\_v%%'
                  AND f.name <> r.name || '_' || r.serving)"""
_HALTED = f"""
SELECT f.name, f.updated_at, {_NAME.format("f.name")}, {_NOTHING}, NULL::bigint, NULL::text
{_FOLLOWERS} AND f.halted_at IS NOT NULL"""
_LAG = f"""
SELECT f.name, e.recorded_at, {_NAME.format("f.name")}, {_NOTHING},
    (SELECT max(notification_id) FROM stored_events) - f.position, NULL::text
{_FOLLOWERS} AND f.halted_at IS NULL AND e.recorded_at < now() - {LAGGING} * interval '1 second'"""  # noqa: S608
# A role whose threads have a session while it runs.
_ABSENT = f"""
SELECT r.role, NULL::timestamptz, r.role, {_NOTHING}, NULL::bigint, NULL::text FROM (VALUES
    ('commands', 'commands'), ('policies', 'scheduler'), ('projections', 'follower-read-models'),
    ('relay', 'follower-relay')) AS r (role, session)
WHERE NOT EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.datname = current_database()
                  AND a.application_name = 'foldwork-' || r.session)"""  # noqa: S608

SOURCES: tuple[Source, ...] = (
    Source(
        "role-absent", "role", "no process of a role has a session in the database: nobody does its work",
        _ABSENT, _run("an operator starts it", "foldwork {of}"),
    ),
    Source(
        "follower-halted", "follower", "a follower of the log has halted: what it fills or publishes stands still",
        _HALTED, _run("an operator removes its cause; it then goes on by itself"),
    ),
    Source(
        "follower-lagging", "follower", f"the next event of a follower is older than {LAGGING} s",
        _LAG, _run("an operator looks whether its role runs, and what it waits for"),
    ),
    Source(
        "held-back", "entity", "a follower holds back an entity, since one of its events could not be handled",
        _HELD, _run("an operator removes the cause, and lets it be tried again", "foldwork projections retry {of}"),
    ),
    Source(
        "deadline-missed", "task", f"a deadline was due {MISSED} s ago, and nobody has acted on it",
        _deadlines(f"d.wake_at < now() - {MISSED} * interval '1 second'", "d.wake_at"),
        _run("an operator looks whether the role policies runs", "foldwork health"),
    ),
    Source(
        "dispatch-in-flight", "task", f"the outcome of a dispatch has been missing for {IN_FLIGHT} s",
        _deadlines(
            "d.wake_at < now() + interval '1 hour' AND d.kind = 'attempt'"
            f" AND d.due_at < now() - {IN_FLIGHT} * interval '1 second'", "d.due_at",
        ),
        _run("an operator looks whether the role policies runs, and whether the provider answers", "foldwork health"),
    ),
    Source(
        "dispatch-without-provider", "task", "a dispatch is due, and its channel has no provider",
        _tasks("t.scheduled_at", _UNPROVIDED),
        _say("register an entry of the kind dispatch with the channel as its id, then dispatch the task"),
    ),
    Source(
        "dispatch-not-planned", "task", "a dispatch is due, and nothing makes it by itself",
        _tasks("t.scheduled_at", _UNPLANNED), _give("task.dispatch", "dispatch it now"),
    ),
    Source(
        "dispatch-given-up", "task", "every attempt at a dispatch failed",
        _tasks("t.ended_at", "t.status = 'failed' AND t.dispatch = 'GAVE_UP'"),
        _give("task.retry", "open the task again, so that it is dispatched anew"),
    ),
    Source(
        "task-unresolved", "task", "the targets of a task could not be found, or somebody must name one",
        _tasks("t.updated_at", f"t.resolution IN ('FAILED', 'PENDING') AND t.{_OPEN}"),
        _give("task.retry-resolution", "look for its targets again, or name the user of each (task.resolve-target)"),
    ),
    Source(
        "step-blocked", "task", "a step waits for an earlier one that failed",
        _GATED, _give("task.retry", "open the earlier step again, or cancel the activity"),
    ),
    Source(
        "activity-needs-attention", "activity", "a task failed while others go on (rule U7)",
        _ATTENTION, _give("task.retry", "open the failed task again, or cancel the activity"),
    ),
    Source(
        "activity-without-progress", "activity", "nothing happens for longer than its workflow usually takes",
        _IDLE, lambda row: Remedy("see what its tasks wait for, or cancel it",
                                  {"type": "activity.cancel", "data": {"id": row.id}}),
    ),
    Source(
        "assignee-retired", "task", "a member who has the task is retired and can do nothing",
        _RETIRED, _give("task.unassign", "take it from its members, or give it to others (task.reassign)"),
    ),
    Source(
        "task-unassigned", "task", "nobody has the task, although it was to start",
        _tasks("t.start_at", "t.status = 'open' AND t.assignees[1] IS NULL AND t.start_at <= now()"
               " AND t.type <> 'MESSAGE' AND t.channel IS NULL"),
        _give("task.claim", "take it, or give it to somebody (task.assign)"),
    ),
    Source(
        "task-overdue", "task", "the end of a task has passed",
        _tasks("t.end_at", f"t.overdue AND t.{_OPEN}"),
        lambda row: Remedy("complete it, or take its end away or set another one",
                           {"type": "task.change", "data": {"id": row.id, "end": None}}),
    ),
)  # fmt: skip
BY_CAUSE = {source.cause: source for source in SOURCES}
