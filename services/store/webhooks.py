"""The webhooks of tenants, and what was delivered to them; a call with a connection runs in a transaction.

What changes a webhook locks its row first, and so do those who queue and who deliver.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

import psycopg

from domain.errors import RefusalError
from projections.statement import Query
from services.interests import Dimension
from services.store import log
from services.webhooks import ACTIVE, DISABLED, MAX_WEBHOOKS, PAUSED

# The columns that hold what a webhook is for.
FILTERS: Mapping[Dimension, str] = {"type": "types", "activity": "activities", "task": "tasks", "member": "members"}
_WEBHOOKS = """
SELECT w.id, w.url, w.types, w.activities, w.tasks, w.members, w.state, w.cause, w.created_by, w.created_at,
    CASE WHEN w.old_secret_until > now() THEN w.old_secret_until END, w.position, w.pending,
    (SELECT count(*) FROM webhook_deliveries AS d
     WHERE d.tenant = w.tenant AND d.webhook = w.id AND d.state = 'parked'), w.failing_since, w.error
FROM webhooks AS w WHERE w.tenant = %s"""
_DELIVERIES = """
SELECT d.position, d.event_id, e.topic, e.originator_id, d.state, d.attempts, d.tried_at,
    CASE WHEN d.state = 'pending' THEN d.next_at END, d.status, d.answer
FROM webhook_deliveries AS d LEFT JOIN stored_events AS e ON e.notification_id = d.position
WHERE d.tenant = %s AND d.webhook = %s AND d.position < %s AND (%s::text IS NULL OR d.state = %s)
ORDER BY d.position DESC LIMIT %s"""
_CREATING = "SELECT pg_advisory_xact_lock(hashtextextended('webhooks ' || %s, 0))"
_COUNT = "SELECT count(*) FROM webhooks WHERE tenant = %s"
_CREATE = """
INSERT INTO webhooks (
    tenant, id, url, types, activities, tasks, members, secret, created_by, position, asked_under, asked)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"""
_ASKED = "SELECT id, asked FROM webhooks WHERE tenant = %s AND asked_under = %s"
_SENT_TO = """
SELECT url, secret, CASE WHEN old_secret_until > now() THEN old_secret END
FROM webhooks WHERE tenant = %s AND id = %s"""
_LOCK = "SELECT state FROM webhooks WHERE tenant = %s AND id = %s FOR UPDATE"
_URL = "UPDATE webhooks SET url = %s WHERE tenant = %s AND id = %s"
_WANTED = {
    name: f"UPDATE webhooks SET {column} = %s WHERE tenant = %s AND id = %s"  # noqa: S608
    for name, column in FILTERS.items()
}
_STATE = "UPDATE webhooks SET state = %s, cause = NULL WHERE tenant = %s AND id = %s"
# As if nothing had failed yet, since the receiver, or who asks, is another than before.
_AFRESH = """
UPDATE webhooks SET failures = 0, failing_since = NULL, probes = 0, error = NULL, due_at = now()
WHERE tenant = %s AND id = %s"""
_AGAIN = """
UPDATE webhook_deliveries SET attempts = 0, failing_since = NULL, next_at = now()
WHERE tenant = %s AND webhook = %s AND state = 'pending' AND attempts > 0"""
_DELETE = "DELETE FROM webhooks WHERE tenant = %s AND id = %s"
_ROTATE = """
UPDATE webhooks SET old_secret = CASE WHEN %s > 0 THEN secret END,
    old_secret_until = CASE WHEN %s > 0 THEN now() + %s * interval '1 second' END, secret = %s
WHERE tenant = %s AND id = %s AND secret <> %s"""
# What is still queued stays so, since the queue takes no event twice.
_FORGET_AFTER = """
DELETE FROM webhook_deliveries WHERE tenant = %s AND webhook = %s AND position > %s AND state <> 'pending'"""
_BACK = "UPDATE webhooks SET position = least(position, %s) WHERE tenant = %s AND id = %s"
_ENQUEUE = """
UPDATE webhook_deliveries SET state = 'pending', attempts = 0, failing_since = NULL, next_at = now()
WHERE tenant = %s AND webhook = %s AND position = %s AND state <> 'pending'"""
_ONE_MORE = "UPDATE webhooks SET pending = pending + 1, due_at = now() WHERE tenant = %s AND id = %s"
# When the log was replaced by another one from a position on.
_NO_DELIVERIES = "DELETE FROM webhook_deliveries WHERE position > %s"
_NO_POSITIONS = """
UPDATE webhooks AS w SET position = least(w.position, %s), pending = (
    SELECT count(*) FROM webhook_deliveries AS d
    WHERE d.tenant = w.tenant AND d.webhook = w.id AND d.state = 'pending')"""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook without its secrets.

    `old_secret_until`: until then the secret before signs too. `position`: events after it are not queued yet; None if
    all are. `failing_since`: when the first delivery failed since the last one that did not, and `error` the last one.
    """

    id: str
    url: str
    types: Sequence[str] | None
    activities: Sequence[str] | None
    tasks: Sequence[str] | None
    members: Sequence[str] | None
    state: str
    cause: str | None
    created_by: str
    created_at: datetime
    old_secret_until: datetime | None
    position: int | None
    pending: int
    parked: int
    failing_since: datetime | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """Digests of what a webhook is created by: `under` of the idempotency key and the actor, `what` of the request."""

    under: bytes
    what: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event that a webhook is to deliver, or has delivered, known by the position of the event.

    `type` and `stream` are None if the log has no event there. `next_at` is when it is tried next.
    """

    position: int
    event_id: str
    type: str | None
    stream: str | None
    state: str
    attempts: int
    tried_at: datetime | None
    next_at: datetime | None
    status: int | None
    answer: str | None


def by_id(tenant: str, webhook: str) -> Query:
    """One webhook; the row has the arguments of `Webhook`."""
    return Query(f"{_WEBHOOKS} AND w.id = %s", (tenant, webhook))


def page(tenant: str, after: str, limit: int) -> Query:
    """Webhooks in the order of their ids, after one; rows have the arguments of `Webhook`."""
    return Query(f"{_WEBHOOKS} AND w.id > %s ORDER BY w.id LIMIT %s", (tenant, after, limit))


def deliveries(tenant: str, webhook: str, before: int, state: str | None, limit: int) -> Query:
    """Deliveries of a webhook, the newest event first; rows have the arguments of `Delivery`."""
    return Query(_DELIVERIES, (tenant, webhook, before, state, state, limit))


def get(conn: psycopg.Connection[Any], tenant: str, webhook: str) -> Webhook:
    """Return a webhook; raises `RefusalError`."""
    row = conn.execute(*by_id(tenant, webhook)).fetchone()
    if row is None:
        raise _unknown()
    return Webhook(*row)


def get_delivery(conn: psycopg.Connection[Any], tenant: str, webhook: str, position: int) -> Delivery:
    """Return a delivery; raises `RefusalError`."""
    row = conn.execute(*deliveries(tenant, webhook, position + 1, None, 1)).fetchone()
    if row is None or row[0] != position:
        raise RefusalError("not-found", "the webhook has no delivery of this position")
    return Delivery(*row)


def create(
    conn: psycopg.Connection[Any],
    tenant: str,
    webhook: str,
    url: str,
    wanted: Mapping[Dimension, Sequence[str]],
    secret: str,
    actor: str,
    after: int | None = None,
    asked: Asked | None = None,
) -> str | None:
    """Create a webhook for the events after a position, by default the end of the log; `secret` is encrypted.

    If the same was asked for before, return the id of the webhook that was created then. Raises `RefusalError`.
    """
    conn.execute(_CREATING, (tenant,))
    before = None if asked is None else conn.execute(_ASKED, (tenant, asked.under)).fetchone()
    if asked is not None and before is not None:
        if bytes(before[1]) != asked.what:
            raise RefusalError("idempotency-conflict", "another webhook was asked for under this key")
        return str(before[0])
    row = conn.execute(_COUNT, (tenant,)).fetchone()
    if row is not None and row[0] >= MAX_WEBHOOKS:
        raise RefusalError("limit-reached", f"a tenant has at most {MAX_WEBHOOKS} webhooks")
    position = _in_log(conn, after, "/from_position") if after is not None else log.head(conn)
    keyed = (None, None) if asked is None else (asked.under, asked.what)
    values = (tenant, webhook, url, *_columns(wanted), secret, actor, position, *keyed)
    if conn.execute(_CREATE, values).rowcount != 1:
        raise RefusalError("taken", "there is a webhook of this id", "/id")
    return None


def sent_to(conn: psycopg.Connection[Any], tenant: str, webhook: str) -> tuple[str, list[str]]:
    """Return the URL of a webhook, and the encrypted secrets that sign now, the present one first.

    Raises `RefusalError`.
    """
    row = conn.execute(_SENT_TO, (tenant, webhook)).fetchone()
    if row is None:
        raise _unknown()
    return row[0], [each for each in row[1:] if each is not None]


def change(
    conn: psycopg.Connection[Any],
    tenant: str,
    webhook: str,
    *,
    wanted: Mapping[Dimension, Sequence[str] | None] = MappingProxyType({}),
    url: str | None = None,
    state: str | None = None,
) -> None:
    """Change what is given; `wanted` has what changes, None for any; `state` is `active` or `paused`.

    Raises `RefusalError`.
    """
    before = _lock(conn, tenant, webhook)
    if url is not None:
        conn.execute(_URL, (url, tenant, webhook))
    for name, values in wanted.items():
        conn.execute(_WANTED[name], (None if values is None else list(values), tenant, webhook))
    if state is not None and state != before:
        conn.execute(_STATE, (state, tenant, webhook))
    if url is not None or (state == ACTIVE and before in (PAUSED, DISABLED)):
        conn.execute(_AGAIN, (tenant, webhook))
        conn.execute(_AFRESH, (tenant, webhook))


def delete(conn: psycopg.Connection[Any], tenant: str, webhook: str) -> None:
    """Delete a webhook and what it was to deliver; raises `RefusalError`."""
    _lock(conn, tenant, webhook)
    conn.execute(_DELETE, (tenant, webhook))


def rotate(conn: psycopg.Connection[Any], tenant: str, webhook: str, secret: str, overlap: int) -> datetime | None:
    """Replace the secret by another, encrypted one, and return until when the old one signs too.

    `overlap` is the time for that in seconds. The secret that it has already changes nothing, so that a rotation can be
    repeated. Raises `RefusalError`.
    """
    _lock(conn, tenant, webhook)
    conn.execute(_ROTATE, (overlap, overlap, overlap, secret, tenant, webhook, secret))
    return get(conn, tenant, webhook).old_secret_until


def replay_from(conn: psycopg.Connection[Any], tenant: str, webhook: str, position: int) -> None:
    """Deliver all events after a position again; raises `RefusalError`."""
    _lock(conn, tenant, webhook)
    _in_log(conn, position, "/from_position")
    conn.execute(_FORGET_AFTER, (tenant, webhook, position))
    conn.execute(_BACK, (position, tenant, webhook))


def replay(conn: psycopg.Connection[Any], tenant: str, webhook: str, position: int) -> None:
    """Deliver one event again, or for the first time if it was parked; raises `RefusalError`."""
    _lock(conn, tenant, webhook)
    get_delivery(conn, tenant, webhook, position)
    if conn.execute(_ENQUEUE, (tenant, webhook, position)).rowcount:
        conn.execute(_ONE_MORE, (tenant, webhook))


def forget_after(conn: psycopg.Connection[Any], position: int) -> None:
    """Forget what was queued and delivered after a position, from which on the log was replaced."""
    conn.execute(_NO_DELIVERIES, (position,))
    conn.execute(_NO_POSITIONS, (position,))


def _lock(conn: psycopg.Connection[Any], tenant: str, webhook: str) -> str:
    """Lock a webhook, and return its state."""
    row = conn.execute(_LOCK, (tenant, webhook)).fetchone()
    if row is None:
        raise _unknown()
    return str(row[0])


def _unknown() -> RefusalError:
    return RefusalError("not-found", "there is no webhook of this id")


def _in_log(conn: psycopg.Connection[Any], position: int, pointer: str) -> int:
    end = log.head(conn)
    if position > end:
        raise RefusalError("position-beyond-head", f"the log ends at position {end}", pointer)
    return position


def _columns(wanted: Mapping[Dimension, Sequence[str]]) -> list[list[str] | None]:
    return [list(wanted[name]) if name in wanted else None for name in FILTERS]
