"""What becomes of dead letters: operators have them sent again, by the policies role, or discard them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import psycopg

from services.store.dead_letter_order import stay_behind
from services.store.dead_letters import ARRIVAL_DAYS, STOP_KEY, UNORDERED, Filter

CHANNEL = "foldwork_dead_letters"
# Seconds in which a letter that was taken is to be sent, and until one without an outcome is sent again, doubled each
# time, up to the longest.
_LEASE, _RESEND, _LONGEST = 5, 30, 3600

_OLDER = """
SELECT id, state FROM dead_letters WHERE tenant = %s AND key = %s AND arrived < %s AND state IN ('parked', 'retrying')
    AND key <> ALL (%s) ORDER BY arrived LIMIT 1"""
_RETRY = """
UPDATE dead_letters SET state = 'retrying', acted_by = %s, acted_at = now(), note = %s, retries = retries + 1,
    out_of_order = %s, edited = %s, sent_sha256 = %s, sent_fingerprint = %s, sends = 0, due_at = now(),
    outcome = NULL, outcome_code = NULL, outcome_detail = NULL, outcome_pointer = NULL, decided_at = NULL
WHERE id = %s"""
_DISCARD = """
UPDATE dead_letters SET state = 'discarded', acted_by = %s, acted_at = now(), note = %s, due_at = NULL WHERE id = %s"""
# The oldest of each key: the ones behind it wait for its outcome. Ordered commands whose turn has come go together,
# since workers keep their order.
_TAKE = """
UPDATE dead_letters SET due_at = now() + %s * interval '1 second', sends = sends + 1 WHERE id IN (
    SELECT id FROM dead_letters AS l WHERE state = 'retrying' AND due_at <= now()
        AND (out_of_order OR key = ANY (%s) OR NOT EXISTS (
            SELECT FROM dead_letters AS older WHERE older.tenant = l.tenant AND older.key = l.key
                AND older.state = 'retrying' AND older.arrived < l.arrived AND NOT (older.waits AND l.waits)))
    ORDER BY arrived LIMIT %s FOR UPDATE SKIP LOCKED)
RETURNING id, arrived, tenant, key"""
_SENT = """
UPDATE dead_letters SET due_at = now() + least(%s * 2.0 ^ least(sends - 1, 20), %s) * interval '1 second'
WHERE id = ANY (%s) AND state = 'retrying'"""
_SETTLE = """
UPDATE dead_letters AS l SET state = 'retried', due_at = NULL, decided_at = now(),
    outcome = CASE WHEN d.fingerprint = l.sent_fingerprint AND d.code IS NULL THEN 'accepted' ELSE 'rejected' END,
    outcome_code = CASE WHEN d.fingerprint = l.sent_fingerprint THEN d.code ELSE 'command-id-conflict' END,
    outcome_detail = CASE WHEN d.fingerprint = l.sent_fingerprint THEN d.detail
        ELSE 'another command was decided under this id' END,
    outcome_pointer = CASE WHEN d.fingerprint = l.sent_fingerprint THEN d.pointer END
FROM ledger AS d
WHERE l.state = 'retrying' AND l.sends > 0 AND d.tenant = l.tenant AND d.command_id = l.message_id
RETURNING l.id, l.tenant, l.key, l.outcome, l.arrived, l.waits"""
_RETRYING = "SELECT EXISTS (SELECT FROM dead_letters WHERE state = 'retrying')"
_PRUNE = """
WITH old AS (DELETE FROM dead_letter_arrivals WHERE at < now() - make_interval(days => %s)),
arrived AS (DELETE FROM dead_letter_burials AS b WHERE at < now() - make_interval(days => %s)
    OR EXISTS (SELECT FROM dead_letter_arrivals AS a WHERE a.letter = b.letter))
DELETE FROM dead_letters WHERE id = ANY (ARRAY(
    SELECT id FROM dead_letters WHERE state IN ('retried', 'discarded') AND acted_at < now() - make_interval(days => %s)
    LIMIT %s))"""


class Due(NamedTuple):
    """A letter that is to be sent now."""

    id: str
    arrived: str
    tenant: str
    key: str


class Settled(NamedTuple):
    """The outcome of a letter that was sent again."""

    id: str
    tenant: str
    key: str
    outcome: str
    arrived: str
    waited: bool


def select(conn: psycopg.Connection[Any], wanted: Filter, limit: int | None = None) -> list[str]:
    """Return the ids of letters in the order in which they came, the oldest first."""
    condition, values = wanted.where()
    rows = conn.execute(
        f"SELECT id FROM dead_letters WHERE {condition} ORDER BY arrived, id LIMIT %s",  # noqa: S608
        (*values, limit),
    )
    return [letter_id for (letter_id,) in rows]


def owners(conn: psycopg.Connection[Any], letter_ids: Sequence[str]) -> dict[str, str | None]:
    """Return the tenants of those of these letters that there are, the oldest letter first."""
    found = conn.execute(
        "SELECT id, tenant FROM dead_letters WHERE id = ANY (%s) ORDER BY arrived", (list(letter_ids),)
    )
    return dict(found.fetchall())


def older(conn: psycopg.Connection[Any], tenant: str, key: str, arrived: str) -> tuple[str, str] | None:
    """Return (id, state) of the oldest undecided letter of the same key that came before one, or None."""
    row = conn.execute(_OLDER, (tenant, key, arrived, list(UNORDERED))).fetchone()
    return (row[0], row[1]) if row is not None else None


def retry(
    conn: psycopg.Connection[Any],
    letter_id: str,
    by: str,
    *,
    edited: bytes | None,
    sha256: bytes,
    fingerprint: bytes,
    out_of_order: bool,
    note: str | None,
) -> None:
    """Have a letter sent again, in the caller's transaction, which holds its row; the data is sound."""
    conn.execute(_RETRY, (by, note, out_of_order, edited, sha256, fingerprint, letter_id))
    conn.execute(f"NOTIFY {CHANNEL}")


def discard(conn: psycopg.Connection[Any], letter_id: str, by: str, reason: str) -> None:
    """Discard a letter, in the caller's transaction, which holds its row."""
    conn.execute(_DISCARD, (by, reason, letter_id))
    conn.execute(f"NOTIFY {CHANNEL}")


# The policies role, whose connection is in autocommit mode.


def take(conn: psycopg.Connection[Any], most: int) -> list[Due]:
    """Take letters that are to be sent, in order; one that is not sent soon is given to the next who asks."""
    rows = conn.execute(_TAKE, (_LEASE, list(UNORDERED), most)).fetchall()
    return sorted((Due(*row) for row in rows), key=lambda each: each.arrived)


def sent(conn: psycopg.Connection[Any], letter_ids: Sequence[str]) -> None:
    """Note that the broker has these letters, so that they are sent again only if nothing comes of it for a while."""
    conn.execute(_SENT, (_RESEND, _LONGEST, list(letter_ids)))


def settle(conn: psycopg.Connection[Any]) -> list[Settled]:
    """Note the outcome of what was decided; what waits behind a refusal of its key is not sent.

    An ordered command that went when its turn came was decided as any command, and holds up no other.
    """
    with conn.transaction():
        found = [Settled(*row) for row in conn.execute(_SETTLE).fetchall()]
        for each in found:
            if each.outcome == "rejected":
                conn.execute(STOP_KEY, (each.tenant, each.key, list(UNORDERED)))
                if not each.waited:
                    stay_behind(conn, each.tenant, each.key, each.arrived)
    return found


def park_again(conn: psycopg.Connection[Any], letter_id: str, tenant: str, key: str) -> None:
    """Park a letter that cannot be sent, and what waits behind it."""
    with conn.transaction():
        conn.execute("UPDATE dead_letters SET state = 'parked', due_at = NULL WHERE id = %s", (letter_id,))
        conn.execute(STOP_KEY, (tenant, key, list(UNORDERED)))


def retrying(conn: psycopg.Connection[Any]) -> bool:
    """Tell whether any letter is to be sent, or waits for its outcome."""
    return conn.execute(_RETRYING).fetchone() == (True,)


def prune(conn: psycopg.Connection[Any], days: int, most: int = 1000) -> int:
    """Delete letters that were sent again or discarded so long ago; parked ones stay. Return their number."""
    return conn.execute(_PRUNE, (ARRIVAL_DAYS, ARRIVAL_DAYS, days, most)).rowcount
