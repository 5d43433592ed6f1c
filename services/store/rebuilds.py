"""The rebuilds that are asked for over HTTP and done by the role `projections`: one row for each read model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import psycopg

from projections.statement import Query
from services.store import standing

# Notified when a rebuild is asked for; only a hint, since whoever does them also polls.
CHANNEL = "foldwork_rebuilds"
# Seconds for which a rebuild belongs to who took it, unless its progress is noted meanwhile.
LEASE = 30.0
# Seconds after which one that could not be begun is tried again.
LATER = 5.0
_ASK = """
INSERT INTO rebuilds (name, tenant, actor, key_id, diff)
VALUES (%(name)s, %(tenant)s, %(actor)s, %(key_id)s, %(diff)s)
ON CONFLICT (name) DO UPDATE SET tenant = excluded.tenant, actor = excluded.actor, key_id = excluded.key_id,
    diff = excluded.diff, state = 'waiting', asked_at = now(), started_at = NULL, ended_at = NULL, due_at = now(),
    progress = NULL, result = NULL, examples = NULL, error = NULL
WHERE rebuilds.state NOT IN ('waiting', 'running') RETURNING name"""
_TAKE = """
UPDATE rebuilds SET state = 'running', attempt = attempt + 1, started_at = coalesce(started_at, now()),
    due_at = now() + %s * interval '1 second'
WHERE name = (SELECT name FROM rebuilds WHERE state IN ('waiting', 'running') AND due_at <= now()
              ORDER BY asked_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING name, attempt, tenant, actor, key_id, diff"""
_PUT_OFF = """
UPDATE rebuilds SET state = 'waiting', due_at = now() + %s * interval '1 second' WHERE name = %s AND attempt = %s"""
_NOTE = """
UPDATE rebuilds SET progress = %s, due_at = now() + %s * interval '1 second'
WHERE name = %s AND attempt = %s AND state = 'running' RETURNING name"""
_END = """
UPDATE rebuilds SET state = %s, result = %s, examples = %s, error = %s, progress = NULL, ended_at = now()
WHERE name = %s AND attempt = %s AND state = 'running'"""
# Examples are shown to the tenant alone whose rows they are.
_SHOWN = """
SELECT name, state, diff, asked_at, started_at, ended_at, actor, progress, error, result,
    CASE WHEN tenant = %s THEN examples END
FROM rebuilds"""


class Rebuild(NamedTuple):
    """A rebuild that was taken."""

    name: str
    attempt: int
    tenant: str
    actor: str
    key_id: str | None
    diff: bool


class Shown(NamedTuple):
    """A rebuild as it is shown to a tenant."""

    name: str
    state: str
    diff: bool
    asked_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    actor: str
    progress: dict[str, Any] | None
    error: str | None
    result: dict[str, Any] | None
    examples: list[Any] | None


def ask(conn: psycopg.Connection[Any], name: str, tenant: str, actor: str, key_id: str | None, *, diff: bool) -> bool:
    """Ask for a rebuild in the caller's transaction; False while the read model is being rebuilt."""
    if not standing.nobody_rebuilds(conn, name):
        return False
    values = {"name": name, "tenant": tenant, "actor": actor, "key_id": key_id, "diff": diff}
    asked = conn.execute(_ASK, values).fetchone() is not None
    if asked:
        conn.execute("SELECT pg_notify(%s, '')", (CHANNEL,))
    return asked


def take(conn: psycopg.Connection[Any]) -> Rebuild | None:
    """Take the next rebuild that is waiting or was left; one that a command line does meanwhile is put off."""
    with conn.transaction():
        row = conn.execute(_TAKE, (LEASE,)).fetchone()
        if row is None:
            return None
        found = Rebuild(*row)
        if standing.nobody_rebuilds(conn, found.name):
            return found
        put_off(conn, found, LATER)
        return None


def put_off(conn: psycopg.Connection[Any], rebuild: Rebuild, seconds: float) -> None:
    """Leave a rebuild to whoever looks for one after so long."""
    conn.execute(_PUT_OFF, (seconds, rebuild.name, rebuild.attempt))


def note(conn: psycopg.Connection[Any], rebuild: Rebuild, progress: Mapping[str, Any] | None) -> bool:
    """Note how far a rebuild is; False when it was taken by another."""
    told = None if progress is None else json.dumps(progress)
    return conn.execute(_NOTE, (told, LEASE, rebuild.name, rebuild.attempt)).fetchone() is not None


def end(
    conn: psycopg.Connection[Any],
    rebuild: Rebuild,
    result: Mapping[str, Any] | None,
    examples: Sequence[Any] = (),
    error: str | None = None,
) -> None:
    """Note what became of a rebuild: its result, or why it failed."""
    state = "failed" if result is None else "done"
    told = None if result is None else json.dumps(result)
    conn.execute(_END, (state, told, json.dumps(list(examples)), error, rebuild.name, rebuild.attempt))


def shown(tenant: str) -> Query:
    """The last rebuild of each read model as a tenant sees it: rows are arguments of `Shown`."""
    return Query(_SHOWN, (tenant,))
