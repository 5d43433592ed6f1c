"""Statements on bulks of dead letters: what they choose, what stands in their way, and what became of the letters.

The version of a letter is how often it came and was sent again. One that a bulk had sent again names the bulk in its
note.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from projections.statement import Query
from services.store.dead_letters import UNORDERED, Filter

_CHOSEN = """
SELECT id, key, count + retries FROM dead_letters WHERE {} ORDER BY arrived, id LIMIT %s"""
# In each key the first letter that stays parked is an obstacle to all that came after it.
_OLDER = """
WITH ready AS (
    SELECT i.number, l.id, l.key, l.arrived FROM bulk_items AS i JOIN dead_letters AS l
        ON l.tenant = i.tenant AND l.id = i.entity_id
    WHERE i.tenant = %s AND i.bulk_id = %s AND i.state = 'ready' AND l.key <> ALL (%s::text[])),
obstacles AS (
    SELECT l.key, min(l.arrived) AS arrived, (array_agg(l.id ORDER BY l.arrived))[1] AS id FROM dead_letters AS l
    WHERE l.tenant = %s AND l.state = 'parked' AND l.key IN (SELECT key FROM ready)
        AND NOT EXISTS (SELECT FROM ready WHERE ready.id = l.id) GROUP BY l.key)
UPDATE bulk_items AS i SET state = 'skipped', reason = 'refused-in-preview', code = 'older-letter',
    detail = 'the dead letter ' || o.id || ' of the same key is older, and stays parked', pointer = '',
    decided_at = now()
FROM ready JOIN obstacles AS o ON o.key = ready.key AND o.arrived < ready.arrived
WHERE i.tenant = %s AND i.bulk_id = %s AND i.number = ready.number AND i.state = 'ready'
RETURNING i.number"""
_OUTCOMES = """
SELECT l.id, l.note, l.state, l.last_at > l.acted_at, l.sends > 0, l.outcome, l.outcome_code, l.outcome_detail,
    l.outcome_pointer, l.code, l.detail, l.pointer, d.first_position, d.last_position
FROM dead_letters AS l LEFT JOIN ledger AS d
    ON l.outcome = 'accepted' AND d.tenant = l.tenant AND d.command_id = l.message_id
WHERE l.tenant = %s AND l.id = ANY (%s::text[])"""
_FAILED = """
SELECT DISTINCT routing_key FROM bulk_items
WHERE tenant = %s AND bulk_id = %s AND state IN ('refused', 'unknown') AND routing_key = ANY (%s::text[])"""
_IN_STATE = "SELECT 1 FROM bulk_actions WHERE tenant = %s AND id = %s AND state = %s FOR SHARE"


def chosen(wanted: Filter, limit: int) -> Query:
    """(id, key, version) of letters, the oldest first."""
    condition, values = wanted.where()
    return Query(_CHOSEN.format(condition), (*values, limit))


def older(tenant: str, bulk_id: str) -> Query:
    """Skip the items that are ready, and come after a letter of the same key that is parked, and not ready."""
    return Query(_OLDER, (tenant, bulk_id, list(UNORDERED), tenant, tenant, bulk_id))


def outcomes(tenant: str, letter_ids: Sequence[str]) -> Query:
    """What became of letters.

    (id, note, state, whether it came again after it was acted on, whether it was sent, outcome, and the code, the
    detail and the pointer of that, code, detail and pointer of the letter, first position, last position).
    """
    return Query(_OUTCOMES, (tenant, list(letter_ids)))


def failed(tenant: str, bulk_id: str, keys: Sequence[str]) -> Query:
    """(key) of those keys of which an item of a bulk has failed."""
    return Query(_FAILED, (tenant, bulk_id, list(keys)))


def in_state(tenant: str, bulk_id: str, state: str) -> Query:
    """A row if a bulk is in a state, in which it stays until the transaction ends."""
    return Query(_IN_STATE, (tenant, bulk_id, state))


def note(bulk_id: str) -> str:
    """Return the note of a letter that a bulk had sent again."""
    return f"bulk/{bulk_id}"


def is_of(row: Sequence[Any], bulk_id: str) -> bool:
    """Tell whether a row of `outcomes` is one of a letter that a bulk had sent again."""
    return bool(row[1] == note(bulk_id))
