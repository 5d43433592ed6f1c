"""The causes for which something does not move though it should: one source for each.

A source is a statement over what there is: read models, deadlines, followers, dead letters, webhooks, sessions.
Whoever adds a cause adds a `Source` to `SOURCES`; listing, counting, filters, paging and documentation follow from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from projections import stuck as found
from services.command_line import command_line

# Seconds after which a follower lags, and a webhook fails for too long: by then a delivery was tried four times.
LAGGING, FAILING = 5, 60
# Events behind a held-back entity, and parked deliveries of a webhook, that are counted.
_MOST_EVENTS = 1000
# Characters of the detail of a dead letter that are shown.
_MOST_DETAIL = 200


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


def _run(text: str, command: str = "projections status", *arguments: str) -> Callable[[Row], Remedy]:
    """`{of}` in the command and the arguments is what the remedy is about."""

    def remedy(row: Row) -> Remedy:
        of = row.of or row.id
        return Remedy(text, cli=command_line(command.format(of=of), *(each.format(of=of) for each in arguments)))

    return remedy


def _say(text: str) -> Callable[[Row], Remedy]:
    return lambda row: Remedy(text)


def _letter(row: Row) -> Remedy:
    path = f"/v1/dead-letters/{quote(row.id, safe='')}"
    show, discard = (command_line(f"dead-letters {verb}", row.id) for verb in ("show", "discard"))
    return Remedy(
        f"{row.of}; look at it (GET {path}, {show}), and send it again, corrected if need"
        f" be (POST {path}/retry), or discard it (POST {path}/discard, {discard})",
        cli=command_line("dead-letters retry", row.id),
    )


def _behind(row: Row) -> Remedy:
    if row.of is None:
        return Remedy("its turn has come, or is to come by itself; an operator looks whether the role policies runs",
                      cli=command_line("health"))  # fmt: skip
    path = f"/v1/dead-letters/{quote(row.of, safe='')}"
    return Remedy(
        f"decide on the dead letter {row.of} before it (GET {path}); then it goes by itself",
        cli=command_line("dead-letters retry", row.of),
    )


def _webhook(text: str, request: str, verb: str, **options: str) -> Callable[[Row], Remedy]:
    """`row.of` is the tenant, and the position of a delivery where one is meant."""

    def remedy(row: Row) -> Remedy:
        tenant, _, position = (row.of or "").partition(" ")
        asked = request.format(id=quote(row.id, safe=""), position=position)
        given = {name: value.format(position=position) for name, value in options.items()}
        return Remedy(f"{text}: {asked}", cli=command_line(f"webhooks {verb}", row.id, tenant=tenant, **given))

    return remedy


_NOTHING = "NULL::text, NULL::text, NULL::text[]"
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
# The reason is what a list of letters shows; what a letter holds is for operators.
_PARKED = f"""
SELECT l.id, l.first_at, l.id, {_NOTHING}, NULL::bigint,
    concat_ws(': ', l.code, NULLIF(left(l.detail, {_MOST_DETAIL}), ''))
FROM dead_letters AS l WHERE l.tenant = %(tenant)s AND l.state = 'parked' AND NOT l.waits"""  # noqa: S608
# The letter that somebody has to decide on is the first of the key that does not wait itself; it may be on its way.
_WAITING = f"""
SELECT l.id, l.first_at, l.id, {_NOTHING}, NULL::bigint, o.id
FROM dead_letters AS l LEFT JOIN LATERAL (
    SELECT o.id FROM dead_letters AS o WHERE o.tenant = l.tenant AND o.key = l.key AND NOT o.waits
        AND o.state IN ('parked', 'retrying') AND o.arrived < l.arrived ORDER BY o.arrived LIMIT 1) AS o ON true
WHERE l.tenant = %(tenant)s AND l.state = 'parked' AND l.waits"""  # noqa: S608
# Why a webhook fails is for keys with the permission `webhooks`.
_DISABLED = f"""
SELECT w.id, w.failing_since, w.id, {_NOTHING}, NULLIF(w.pending, 0)::bigint, w.tenant
FROM webhooks AS w WHERE w.tenant = %(tenant)s AND w.state = 'disabled'"""  # noqa: S608
# While other events are taken, one that is refused fails, and holds up its activity, although the webhook does not.
_FAILING = f"""
SELECT w.id, f.since, w.id, {_NOTHING}, w.pending::bigint, w.tenant
FROM webhooks AS w CROSS JOIN LATERAL (
    SELECT least(w.failing_since, min(d.failing_since)) AS since FROM webhook_deliveries AS d
    WHERE d.tenant = w.tenant AND d.webhook = w.id AND d.state = 'pending') AS f
WHERE w.tenant = %(tenant)s AND w.state = 'active' AND w.pending > 0
    AND f.since < now() - {FAILING} * interval '1 second'"""  # noqa: S608
_UNDELIVERED = f"""
SELECT w.id, p.since, w.id, {_NOTHING}, p.events, w.tenant || ' ' || p.first
FROM webhooks AS w CROSS JOIN LATERAL (
    SELECT count(*) AS events, min(b.tried_at) AS since, min(b.position) AS first FROM (
        SELECT d.tried_at, d.position FROM webhook_deliveries AS d
        WHERE d.tenant = w.tenant AND d.webhook = w.id AND d.state = 'parked'
        ORDER BY d.position LIMIT {_MOST_EVENTS}) AS b) AS p
WHERE w.tenant = %(tenant)s AND p.events > 0"""  # noqa: S608

SOURCES: tuple[Source, ...] = (
    Source(
        "role-absent", "role", "no process of a role has a session in the database: nobody does its work",
        _ABSENT, _run("an operator starts it", "{of}"),
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
        _HELD, _run("an operator removes the cause, and lets it be tried again", "projections retry", "{of}"),
    ),
    Source(
        "command-parked", "dead-letter", "a command could not be handled, and is parked as a dead letter",
        _PARKED, _letter,
    ),
    Source(
        "command-waits", "dead-letter", "an ordered command waits for a dead letter of the same routing key",
        _WAITING, _behind,
    ),
    Source(
        "webhook-disabled", "webhook", "a webhook was disabled, since its receiver is gone or has not worked for days",
        _DISABLED,
        _webhook("make the receiver work, and resume the webhook", 'PATCH /v1/webhooks/{id} with {{"state": "active"}}',
                 "resume"),
    ),
    Source(
        "webhook-failing", "webhook", f"deliveries of a webhook have been failing for {FAILING} s, and are repeated",
        _FAILING,
        _webhook("see why, and make the receiver work", "GET /v1/webhooks/{id}/deliveries?state=pending",
                 "deliveries", state="pending"),
    ),
    Source(
        "delivery-parked", "webhook", "events of a webhook were refused for days, and are not sent any more",
        _UNDELIVERED,
        _webhook("send the first of them again", "POST /v1/webhooks/{id}/deliveries/{position}/replay",
                 "replay", delivery="{position}"),
    ),
    Source(
        "deadline-missed", "task", f"a deadline was due {found.MISSED_SECONDS} s ago, and nobody has acted on it",
        found.MISSED,
        _run("an operator looks whether the role policies runs", "health"),
    ),
    Source(
        "dispatch-in-flight", "task", f"the outcome of a dispatch has been missing for {found.IN_FLIGHT_SECONDS} s",
        found.IN_FLIGHT,
        _run("an operator looks whether the role policies runs, and whether the provider answers", "health"),
    ),
    Source(
        "dispatch-without-provider", "task", "a dispatch is due, and its channel has no provider",
        found.WITHOUT_PROVIDER,
        _say("register an entry of the kind dispatch with the channel as its id, then dispatch the task"),
    ),
    Source(
        "dispatch-not-planned", "task", "a dispatch is due, and nothing makes it by itself",
        found.NOT_PLANNED, _give("task.dispatch", "dispatch it now"),
    ),
    Source(
        "dispatch-given-up", "task", "every attempt at a dispatch failed",
        found.GIVEN_UP,
        _give("task.retry", "open the task again, so that it is dispatched anew"),
    ),
    Source(
        "task-unresolved", "task", "the targets of a task could not be found, or somebody must name one",
        found.UNRESOLVED,
        _give("task.retry-resolution", "look for its targets again, or name the user of each (task.resolve-target)"),
    ),
    Source(
        "step-blocked", "task", "a step waits for an earlier one that failed",
        found.BLOCKED, _give("task.retry", "open the earlier step again, or cancel the activity"),
    ),
    Source(
        "activity-needs-attention", "activity", "a task failed while others go on (rule U7)",
        found.ATTENTION, _give("task.retry", "open the failed task again, or cancel the activity"),
    ),
    Source(
        "activity-without-progress", "activity", "nothing happens for longer than its workflow usually takes",
        found.WITHOUT_PROGRESS, lambda row: Remedy("see what its tasks wait for, or cancel it",
                                  {"type": "activity.cancel", "data": {"id": row.id}}),
    ),
    Source(
        "assignee-retired", "task", "a member who has the task is retired and can do nothing",
        found.ASSIGNEE_RETIRED,
        _give("task.unassign", "take it from its members, or give it to others (task.reassign)"),
    ),
    Source(
        "task-unassigned", "task", "nobody has the task, although it was to start",
        found.UNASSIGNED,
        _give("task.claim", "take it, or give it to somebody (task.assign)"),
    ),
    Source(
        "task-overdue", "task", "the end of a task has passed",
        found.OVERDUE,
        lambda row: Remedy("complete it, or take its end away or set another one",
                           {"type": "task.change", "data": {"id": row.id, "end": None}}),
    ),
)  # fmt: skip
BY_CAUSE = {source.cause: source for source in SOURCES}
