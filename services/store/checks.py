"""The statements by which a store is verified, in one transaction whose snapshot does not change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from services.store import identity, log
from services.store.log import LogRow

# Rows of the log that one statement compares, and examples that it returns of one kind of violation.
PAGE, EXAMPLES = 50_000, 20
_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
_COUNT = "SELECT count(*), coalesce(max(notification_id), 0) FROM stored_events"
_GAPS = """
SELECT before + 1, notification_id - 1
FROM (SELECT notification_id, coalesce(lag(notification_id) OVER (ORDER BY notification_id), 0) AS before
      FROM stored_events) AS e
WHERE notification_id <> before + 1 LIMIT %s"""
# A page begins with the last row of the one before it, of which only the version and the position are used.
_STREAMS = """
SELECT s, v, p, before_v, before_p, n = total, bad FROM (
    SELECT s, v, p, n, total, before_p, CASE WHEN before_s = s THEN before_v END AS before_v, CASE
        WHEN n = 1 AND %(stream)s <> '' THEN false
        WHEN before_s = s THEN v <> before_v + 1 OR p <= before_p
        ELSE v <> 1 END AS bad
    FROM (
        SELECT s, v, p, lag(s) OVER w AS before_s, lag(v) OVER w AS before_v, lag(p) OVER w AS before_p,
            row_number() OVER w AS n, count(*) OVER () AS total
        FROM (SELECT originator_id AS s, originator_version AS v, notification_id AS p FROM stored_events
              WHERE (originator_id, originator_version) >= (%(stream)s, %(version)s)
              ORDER BY originator_id, originator_version LIMIT %(page)s) AS page
        WINDOW w AS (ORDER BY s, v, p)
    ) AS compared
) AS checked WHERE bad OR n = total ORDER BY n"""
# For each event, its command and its transaction.
_EFFECTS = """
CREATE TEMPORARY TABLE verified_effects (
    position bigint PRIMARY KEY, command bigint NOT NULL, recorded_at timestamptz NOT NULL, status boolean NOT NULL
) ON COMMIT DROP"""
_NOTE = """
INSERT INTO verified_effects SELECT e.position, hashtextextended(e.command, 0), e.recorded_at, e.status
FROM unnest(%s::bigint[], %s::text[], %s::timestamptz[], %s::boolean[]) AS e (position, command, recorded_at, status)"""
# Until the roll-up was decided with the command, a change of status was recorded later, under the id of the command.
# An id may be used again once its receipt is pruned, so only as far back as there are receipts.
_TWICE = """
SELECT min(position), max(position) FROM verified_effects
WHERE NOT status AND recorded_at >= (SELECT min(recorded_at) FROM ledger)
GROUP BY command HAVING min(recorded_at) <> max(recorded_at) ORDER BY 1 LIMIT %s"""
# The receipts, and the idempotency keys, that lead to other events than those of one command of their tenant.
_RECEIPTS = """
WITH r AS (SELECT tenant, command_id, first_position AS first, last_position AS last FROM ledger)
SELECT r.tenant, r.command_id, r.first, r.last
FROM r LEFT JOIN verified_effects AS a ON a.position = r.first LEFT JOIN verified_effects AS z ON z.position = r.last
LEFT JOIN stored_events AS e ON e.notification_id = r.first
WHERE r.last > 0 AND (a.position IS NULL OR z.position IS NULL OR r.first > r.last OR a.command <> z.command
    OR NOT starts_with(e.originator_id, r.tenant || '/')) LIMIT %s"""
_KEYS = """
WITH k AS (SELECT tenant, key, string_to_array(holder, ' ') AS h FROM claims WHERE kind = 'idempotency'),
r AS (SELECT tenant, key, h[1] AS command, h[3]::bigint + h[4]::bigint AS first, h[3]::bigint + h[5]::bigint AS last
      FROM k WHERE h[5] <> '0')
SELECT r.tenant, r.key, r.first, r.last
FROM r LEFT JOIN verified_effects AS a ON a.position = r.first LEFT JOIN verified_effects AS z ON z.position = r.last
WHERE a.position IS NULL OR z.position IS NULL OR r.first > r.last OR a.command <> z.command
    OR a.command <> hashtextextended(r.tenant || '/' || r.command, 0) LIMIT %s"""
_FOLLOWERS = f"""
SELECT name, position, {log.SAME}, coalesce((SELECT max(h.position) FROM held_events AS h WHERE h.follower = name), 0)
FROM followers ORDER BY name"""  # noqa: S608
_HELD = "SELECT position FROM held_events WHERE follower = %s"


@dataclass(frozen=True, slots=True)
class Violation:
    """One contradiction: the check that found it, and what it is."""

    check: str
    detail: str


def snapshot(conn: psycopg.Connection[Any]) -> None:
    """Let all statements of the transaction, which begins, see the store as it is now."""
    conn.execute(_SNAPSHOT)
    conn.execute(_EFFECTS)


def place(conn: psycopg.Connection[Any]) -> Iterator[Violation]:
    if identity.copied(conn):
        yield Violation("identity", f"the database is a copy, or was restored from a backup: {log.ADOPT}")


def positions(conn: psycopg.Connection[Any]) -> Iterator[Violation]:
    """Positions are 1 to the head of the log, without a gap."""
    count, head = _row(conn, _COUNT)
    if count != head:
        for first, last in conn.execute(_GAPS, (EXAMPLES,)).fetchall():
            yield Violation("positions", f"the log has no events at the positions {first} to {last}")


def versions(conn: psycopg.Connection[Any]) -> Iterator[Violation | int]:
    """The versions of each stream are 1, 2, …, in the order of the positions; rows compared are given in between."""
    stream, version, found = "", 0, 0
    while True:
        last = None
        for row in conn.execute(_STREAMS, {"stream": stream, "version": version, "page": PAGE}).fetchall():
            s, v, p, before_v, before_p, is_last, bad = row
            if bad and found < EXAMPLES:
                found += 1
                after = f"follows version {before_v} at {before_p}" if before_v is not None else "is the first"
                yield Violation("versions", f"{s} has version {v} at position {p}, which {after}")
            last = (s, v) if is_last else last
        if last is None or last == (stream, version):
            return
        stream, version = last
        yield PAGE


def note_effects(conn: psycopg.Connection[Any], rows: Sequence[LogRow]) -> None:
    """Note by which command, and in which transaction, events were recorded."""
    found = [
        (
            row.position,
            f"{row.stream.partition('/')[0]}/{row.command}",
            row.recorded_at,
            row.name == "activity.status-changed",
        )
        for row in rows
        if row.command is not None
    ]
    if found:
        conn.execute(_NOTE, tuple(list(column) for column in zip(*found, strict=True)))


def effects(conn: psycopg.Connection[Any]) -> Iterator[Violation]:
    """Each command took effect once, and the ledger and the idempotency keys lead to its events."""
    conn.execute("ANALYZE verified_effects")
    for first, last in conn.execute(_TWICE, (EXAMPLES,)).fetchall():
        yield Violation("effects", f"one command has recorded events twice, at position {first} and at {last}")
    for tenant, command, first, last in conn.execute(_RECEIPTS, (EXAMPLES,)).fetchall():
        yield Violation("effects", f"the receipt of {tenant}/{command} names events {first} to {last}, not its own")
    for tenant, key, first, last in conn.execute(_KEYS, (EXAMPLES,)).fetchall():
        yield Violation("effects", f"the idempotency key {tenant}/{key} names events {first} to {last}, not its own")


def followers(conn: psycopg.Connection[Any], head: int) -> Iterator[Violation]:
    """No follower is beyond the log, nor at another event than it handled, nor holds back what it has not reached."""
    for name, position, same, held in conn.execute(_FOLLOWERS).fetchall():
        if position > head:
            yield Violation("followers", f"{name} is at position {position}, and the log ends at {head}")
        elif not same:
            yield Violation("followers", f"{name} has handled another event than the log has at position {position}")
        if held > position:
            yield Violation("followers", f"{name} is at position {position}, and holds back position {held}")


def held_positions(conn: psycopg.Connection[Any], follower: str) -> set[int]:
    """Return the positions of the events that a follower has not handled although it is beyond them."""
    return {position for (position,) in conn.execute(_HELD, (follower,)).fetchall()}


def _row(conn: psycopg.Connection[Any], statement: str) -> tuple[Any, ...]:
    row: Any = conn.execute(statement.encode()).fetchone()
    return tuple(row)
