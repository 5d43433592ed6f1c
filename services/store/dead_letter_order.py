"""The order of ordered commands and dead letters: what is ahead of a command, and which of those that wait go next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import psycopg

from services.store.append import columns
from services.store.event_store import EventStore

# A tenant, and a routing key.
Order = tuple[str, str]

_BURY = """
INSERT INTO dead_letter_burials (letter, tenant, key, message_id, id)
SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::text[]) ON CONFLICT DO NOTHING"""
# What is on its way has no row until its letter arrives. A letter that is sent again counts as decided as soon as the
# ledger has it, and is left to the worker if it comes before the command in the batch. A command that is a letter, too,
# keeps the place that this has; an operator may have sent it out of order.
_AHEAD = """
SELECT CASE WHEN own.out_of_order THEN NULL ELSE coalesce(
    (SELECT l.id FROM dead_letters AS l
     WHERE l.tenant = w.tenant AND l.key = w.key AND l.state IN ('parked', 'retrying')
        AND l.message_id IS DISTINCT FROM w.message_id AND l.arrived < coalesce(own.arrived, '~')
        AND (l.state = 'parked' OR NOT (l.message_id = ANY ((%b::text[])[1:w.before]) OR EXISTS (
            SELECT FROM ledger AS d WHERE d.tenant = l.tenant AND d.command_id = l.message_id)))
     ORDER BY l.arrived LIMIT 1),
    (SELECT b.id FROM dead_letter_burials AS b
     WHERE b.tenant = w.tenant AND b.key = w.key AND b.message_id <> w.message_id
        AND b.letter < coalesce(own.arrived, '~')
        AND NOT EXISTS (SELECT FROM dead_letter_arrivals AS a WHERE a.letter = b.letter)
     ORDER BY b.letter LIMIT 1)) END
FROM unnest(%b::text[], %b::text[], %b::text[], %b::int[])
    WITH ORDINALITY AS w (tenant, key, message_id, before, number)
LEFT JOIN LATERAL (
    SELECT o.arrived, o.out_of_order AND o.state = 'retrying' AS out_of_order FROM dead_letters AS o
    WHERE o.tenant = w.tenant AND o.key = w.key AND o.message_id = w.message_id AND o.state IN ('parked', 'retrying')
    ORDER BY o.arrived LIMIT 1) AS own ON true
ORDER BY w.number"""
# Those before the first letter of their key that somebody has to decide on, that is being sent again for somebody, or
# that is on its way.
_NEXT = """
SELECT l.id, l.tenant FROM (SELECT DISTINCT tenant, key FROM dead_letters WHERE waits AND state = 'parked') AS k
CROSS JOIN LATERAL (
    SELECT l.id, l.tenant, l.arrived FROM dead_letters AS l
    WHERE l.tenant = k.tenant AND l.key = k.key AND l.waits AND l.state = 'parked'
        AND l.arrived < least('~',
            (SELECT min(o.arrived) FROM dead_letters AS o WHERE o.tenant = k.tenant AND o.key = k.key
                AND o.state IN ('parked', 'retrying') AND NOT o.waits),
            (SELECT min(b.letter) FROM dead_letter_burials AS b WHERE b.tenant = k.tenant AND b.key = k.key
                AND NOT EXISTS (SELECT FROM dead_letter_arrivals AS a WHERE a.letter = b.letter)))
    ORDER BY l.arrived LIMIT %s) AS l ORDER BY l.arrived LIMIT %s"""
_STAY = "UPDATE dead_letters SET waits = false WHERE id = %s AND state = 'parked'"
_STAY_BEHIND = """
UPDATE dead_letters SET waits = false WHERE id = (
    SELECT id FROM dead_letters WHERE tenant = %s AND key = %s AND state = 'parked' AND arrived > %s
    ORDER BY arrived LIMIT 1)"""


class Burial(NamedTuple):
    """A letter that the broker has: its own id, its tenant and routing key, the id of its message, and its name."""

    letter: str
    tenant: str
    key: str
    message_id: str
    id: str


class Next(NamedTuple):
    """A letter whose turn it is."""

    id: str
    tenant: str


def bury(store: EventStore, burials: Sequence[Burial]) -> None:
    """Note letters that are on their way to the table, before their messages are acknowledged."""
    with store.transaction() as conn:
        conn.execute(_BURY, columns(burials, 5))


def ahead(store: EventStore, commands: Mapping[int, Order], batch: Sequence[str]) -> list[str | None]:
    """Return the id of the first undecided letter before each command, or None.

    `batch` are the ids of all commands that are decided together, in their order, and `commands` are given by their
    place in it.
    """
    wanted = columns(((*order, batch[place], place) for place, order in commands.items()), 4)
    return [letter for (letter,) in store.fetch(_AHEAD, (list(batch), *wanted))]


def whose_turn(conn: psycopg.Connection[Any], most: int) -> list[Next]:
    """Return letters that have waited for others and go next, in their order."""
    return [Next(*row) for row in conn.execute(_NEXT, (most, most))]


def stay(conn: psycopg.Connection[Any], letter_id: str) -> None:
    """Let a letter wait for somebody's decision instead of its turn."""
    conn.execute(_STAY, (letter_id,))


def stay_behind(conn: psycopg.Connection[Any], tenant: str, key: str, arrived: str) -> None:
    """Let the next letter of a key wait for somebody's decision, since the one before it was refused."""
    conn.execute(_STAY_BEHIND, (tenant, key, arrived))
