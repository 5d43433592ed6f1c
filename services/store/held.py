"""The entities that a follower holds back: one of their events failed, and their later events wait behind it.

Events of other entities do not wait. The waiting events are handled in order once the failed one succeeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
import structlog

from projections.statement import Query
from services.store import log
from services.store.entities import EntityOf
from services.store.failures import passes, systemic, timed_out, told, where
from services.store.log import LogRow

# With more entities than this the whole tenant is held back, so that one tenant cannot exhaust the limit of a follower.
MAX_HELD_OF_TENANT = 100
# With more than this the follower or its database is at fault, and the follower halts.
MAX_HELD = 1000
# Seconds until an entity is retried; doubled after each attempt, up to the longest.
RETRY, LONGEST_RETRY = 60.0, 3600.0
# Events of an entity that one transaction retries.
_RETRY_BATCH = 100

_LOAD = "SELECT entity, extract(epoch FROM retry_at - now())::float8 FROM held_entities WHERE follower = %s"
_RETRY_ALL = "UPDATE held_entities SET retry_at = now() WHERE follower = %s AND retry_at > now()"
_CHANGED = "UPDATE followers SET held = held + 1 WHERE name = %s"
_HOLD = """
INSERT INTO held_entities (follower, entity, position, error, retry_at)
VALUES (%s, %s, %s, %s, now() + %s * interval '1 second')"""
_WAIT = """
INSERT INTO held_events (follower, entity, position) SELECT %s, * FROM unnest(%s::text[], %s::bigint[])
ON CONFLICT DO NOTHING"""
_WAITING = "SELECT position FROM held_events WHERE follower = %s AND entity = %s ORDER BY position LIMIT %s"
_DONE = "DELETE FROM held_events WHERE follower = %s AND entity = %s AND position = ANY(%s)"
_POSTPONE = """
UPDATE held_entities SET position = %s, error = %s, attempts = attempts + 1,
    retry_at = now() + least(%s, %s * 2.0 ^ least(attempts, 20)) * interval '1 second'
WHERE follower = %s AND entity = %s"""
_GO_ON = "UPDATE held_entities SET retry_at = now() WHERE follower = %s AND entity = %s"
_RELEASE = """
DELETE FROM held_entities AS e WHERE follower = %s AND entity = %s
AND NOT EXISTS (SELECT FROM held_events AS h WHERE h.follower = e.follower AND h.entity = e.entity)"""
_STATUS = """
SELECT e.follower, e.entity, e.position, e.error, e.since, e.attempts, e.retry_at,
    (SELECT count(*) FROM held_events AS h WHERE h.follower = e.follower AND h.entity = e.entity)
FROM held_entities AS e ORDER BY e.follower, e.since, e.entity"""
# Waiting events of an entity that are counted for a tenant.
MOST_WAITING = 1000
_OF_TENANT = f"""
SELECT e.follower, split_part(e.entity, '/', 2), e.position, e.error, e.since, e.attempts, e.retry_at,
    (SELECT count(*) FROM (SELECT FROM held_events AS h WHERE h.follower = e.follower AND h.entity = e.entity
                           LIMIT {MOST_WAITING}) AS bounded)
FROM held_entities AS e WHERE starts_with(e.entity, %s || '/') ORDER BY e.follower, e.since, e.entity"""  # noqa: S608


class TooMuchHeld(Exception):
    """Too many entities are held back for single events to be the cause."""


@dataclass(frozen=True, slots=True)
class HeldEntity:
    """A held-back entity; `position` is that of its failed event, `waiting` counts that event and those behind it."""

    entity: str
    position: int
    error: str
    since: datetime
    attempts: int
    retry_at: datetime
    waiting: int


Handle = Callable[[psycopg.Connection[Any], Sequence[LogRow]], None]


class Held:
    """The held-back entities of one follower. A call with a connection runs in a transaction that has locked its row.

    The set is kept in memory and reloaded only when the generation `followers.held` has changed, so that a follower
    that holds nothing back makes no query.
    """

    def __init__(self, follower: str, entity_of: EntityOf) -> None:
        self._follower = follower
        self.entity_of = entity_of
        self._generation: int | None = None
        # When each entity is to be retried, by the monotonic clock.
        self._retry: dict[str, float] = {}
        self._next = float("inf")
        self._log = structlog.get_logger("follower").bind(follower=follower)

    @property
    def due(self) -> bool:
        """Whether an entity is to be retried now."""
        return self._next <= time.monotonic()

    def refresh(self, conn: psycopg.Connection[Any], generation: int) -> None:
        """Reload the entities if the generation has changed; at the first call, make all of them due."""
        if generation == self._generation:
            return
        if self._generation is None and generation > 0:
            conn.execute(_RETRY_ALL, (self._follower,))
        now = time.monotonic()
        found = conn.execute(_LOAD, (self._follower,)).fetchall() if generation > 0 else []
        self._retry = {entity: now + max(0.0, wait) for entity, wait in found}
        self._next = min(self._retry.values(), default=float("inf"))
        self._generation = generation

    def later(self, seconds: float) -> None:
        """Postpone every retry in this process."""
        self._next = time.monotonic() + seconds

    def set_aside(self, conn: psycopg.Connection[Any], rows: Sequence[LogRow]) -> Sequence[LogRow]:
        """Queue the events of held-back entities behind these, and return the others."""
        if not self._retry:
            return rows
        waiting = [(holder, row) for row in rows if (holder := self._holder(conn, row)) is not None]
        if not waiting:
            return rows
        self._wait(conn, waiting)
        aside = {row.position for _, row in waiting}
        return [row for row in rows if row.position not in aside]

    def hold(self, conn: psycopg.Connection[Any], row: LogRow, error: Exception) -> None:
        """Hold back the entity of an event that failed; raises `TooMuchHeld`."""
        tenant = row.stream.partition("/")[0]
        entity = self.entity_of(conn, row) or row.stream
        if sum(held.startswith(f"{tenant}/") for held in self._retry) >= MAX_HELD_OF_TENANT:
            entity = _whole(tenant)
        if len(self._retry) >= MAX_HELD:
            raise TooMuchHeld(f"{MAX_HELD} entities are held back already, and another one fails: {told(error)}")
        conn.execute(_HOLD, (self._follower, entity, row.position, told(error), RETRY))
        self._wait(conn, [(entity, row)])
        self._changed(conn)
        self._log.error("entity held back", entity=entity, position=row.position, error=told(error), at=where(error))

    def retry(self, conn: psycopg.Connection[Any], handle: Handle) -> None:
        """Handle the waiting events of the entity that is due first, in order, until one fails."""
        entity = min(self._retry, key=self._retry.__getitem__, default=None)
        if entity is None:
            return
        rows = self._requeue_others(conn, entity, self._waiting(conn, entity))
        done, failure = _handle_in_parts(conn, rows, handle)
        conn.execute(_DONE, (self._follower, entity, done))
        if failure is not None:
            position, error = failure
            # Other events wait during a retry, so one that times out is retried rarely.
            waits = (position, told(error), LONGEST_RETRY, LONGEST_RETRY if timed_out(error) else RETRY)
            conn.execute(_POSTPONE, (*waits, self._follower, entity))
            self._log.warning("entity still held back", entity=entity, position=position, error=told(error))
        elif conn.execute(_RELEASE, (self._follower, entity)).rowcount:
            self._log.info("entity resumed", entity=entity, events=len(done))
        else:
            conn.execute(_GO_ON, (self._follower, entity))
        self._changed(conn)

    def _holder(self, conn: psycopg.Connection[Any], row: LogRow) -> str | None:
        entity = self.entity_of(conn, row)
        if entity is None or entity in self._retry:
            return entity
        whole = _whole(row.stream.partition("/")[0])
        return whole if whole in self._retry else None

    def _waiting(self, conn: psycopg.Connection[Any], entity: str) -> list[LogRow]:
        found = conn.execute(_WAITING, (self._follower, entity, _RETRY_BATCH), prepare=False)
        return log.at(conn, [position for (position,) in found])

    def _requeue_others(self, conn: psycopg.Connection[Any], entity: str, rows: list[LogRow]) -> list[LogRow]:
        """Of a tenant's events, queue those whose own entity is held back behind it, and return the rest."""
        others = [(holder, row) for row in rows if (holder := self._holder(conn, row)) not in (None, entity)]
        if not others:
            return rows
        self._wait(conn, [(str(holder), row) for holder, row in others])
        aside = [row.position for _, row in others]
        conn.execute(_DONE, (self._follower, entity, aside))
        return [row for row in rows if row.position not in aside]

    def _wait(self, conn: psycopg.Connection[Any], waiting: Sequence[tuple[str, LogRow]]) -> None:
        entities, positions = [entity for entity, _ in waiting], [row.position for _, row in waiting]
        conn.execute(_WAIT, (self._follower, entities, positions), prepare=False)

    def _changed(self, conn: psycopg.Connection[Any]) -> None:
        conn.execute(_CHANGED, (self._follower,))


def _whole(tenant: str) -> str:
    """The name of the entity that holds back a whole tenant."""
    return f"{tenant}/*"


def _handle_in_parts(
    conn: psycopg.Connection[Any], rows: Sequence[LogRow], handle: Handle
) -> tuple[list[int], tuple[int, Exception] | None]:
    """Handle events until one fails, in parts that double after a success and shrink to one event after a failure."""
    done: list[int] = []
    size = 1
    while part := rows[len(done) : len(done) + size]:
        try:
            with conn.transaction():
                handle(conn, part)
                # Check deferred constraints here, while the failure can still be attributed to these events.
                conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
        except Exception as error:
            if passes(error):
                raise
            if size == 1:
                return done, (part[0].position, error)
            size = 1
        else:
            done += [row.position for row in part]
            size *= 2
    return done, None


def take_or_hold(conn: psycopg.Connection[Any], held: Held, row: LogRow, handle: Handle) -> bool:
    """Handle one event, or hold back its entity and return False; an error not caused by the event is raised."""
    try:
        with conn.transaction():
            handle(conn, [row])
            conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except Exception as error:
        if passes(error) or systemic(error):
            raise
        held.hold(conn, row, error)
        return False
    return True


def retry_now(conn: psycopg.Connection[Any], follower: str, tenant: str | None = None) -> int:
    """Make all held-back entities of a follower due, or those of a tenant, and return their number."""
    # The follower locks in this order; another one could deadlock.
    conn.execute("SELECT FROM followers WHERE name = %s FOR UPDATE", (follower,))
    due = "UPDATE held_entities SET retry_at = now() WHERE follower = %s AND starts_with(entity, %s)"
    count = conn.execute(due, (follower, "" if tenant is None else f"{tenant}/")).rowcount
    if count:
        conn.execute(_CHANGED, (follower,))
    return count


def of_tenant(tenant: str) -> Query:
    """(follower, entity, position, error, since, attempts, retry at, waiting) of what is held back of a tenant.

    The entities are named without the tenant.
    """
    return Query(_OF_TENANT, (tenant,))


def status(conn: psycopg.Connection[Any]) -> Mapping[str, list[HeldEntity]]:
    """Return the held-back entities of each follower, the oldest first."""
    found: dict[str, list[HeldEntity]] = {}
    for follower, *rest in conn.execute(_STATUS):
        found.setdefault(follower, []).append(HeldEntity(*rest))
    return found
