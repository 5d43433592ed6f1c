"""How often a redelivered command was attempted without an end, so that one that kills its worker is found.

An attempt counts from the moment at which nothing keeps its worker from recording: who counts holds the append lock,
and has waited for the tables.
"""

from __future__ import annotations

from collections.abc import Iterable

from services.store.append import CommandKey, columns
from services.store.event_store import EventStore

_WRITABLE = "LOCK TABLE stored_events, claims, ledger, attempts IN ROW EXCLUSIVE MODE"
_COUNTS = """
SELECT tenant, message_id, attempts FROM attempts
JOIN unnest(%b::text[], %b::text[]) AS wanted(tenant, message_id) USING (tenant, message_id)"""
_COUNT = """
INSERT INTO attempts AS a (tenant, message_id, attempts)
SELECT tenant, message_id, 1 FROM unnest(%b::text[], %b::text[]) AS counted(tenant, message_id)
ON CONFLICT (tenant, message_id) DO UPDATE SET attempts = a.attempts + 1, last_at = now()"""
_UNDO = """
UPDATE attempts SET attempts = attempts - 1 FROM unnest(%b::text[], %b::text[]) AS undone(tenant, message_id)
WHERE (attempts.tenant, attempts.message_id) = (undone.tenant, undone.message_id)"""
_FORGET = """
DELETE FROM attempts USING unnest(%b::text[], %b::text[]) AS done(tenant, message_id)
WHERE (attempts.tenant, attempts.message_id) = (done.tenant, done.message_id)"""


def counts(store: EventStore, commands: Iterable[CommandKey]) -> dict[CommandKey, int]:
    """Return the attempts at those commands that were attempted without an end."""
    rows = store.fetch(_COUNTS, columns(set(commands), 2))
    return {(tenant, message_id): attempts for tenant, message_id, attempts in rows}


def count(store: EventStore, commands: Iterable[CommandKey]) -> None:
    """Count one more attempt at each command, durably; it waits until the tables of an append can be written."""
    with store.transaction() as conn:
        conn.execute(_WRITABLE)
        conn.execute(_COUNT, columns(set(commands), 2))


def undo(store: EventStore, commands: Iterable[CommandKey]) -> None:
    """Take back one attempt at each command, which was not made after all."""
    with store.transaction() as conn:
        conn.execute(_UNDO, columns(set(commands), 2))


def forget(store: EventStore, commands: Iterable[CommandKey]) -> None:
    """Drop the counts of commands that are done with."""
    with store.transaction() as conn:
        conn.execute(_FORGET, columns(set(commands), 2))
