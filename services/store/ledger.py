"""Queries on what was decided: the ledger of commands, and the claims on keys."""

from __future__ import annotations

from collections.abc import Sequence

from projections.support.query import Query

_RECEIPT = (
    "SELECT code, detail, pointer, first_position, last_position, recorded_at FROM ledger"
    " WHERE tenant = %s AND command_id = %s"
)
_OUTCOMES = (
    "SELECT command_id, fingerprint, code, detail, pointer, last_position FROM ledger"
    " WHERE tenant = %s AND command_id = ANY(%s::text[])"
)
_HOLDER = "SELECT holder FROM claims WHERE tenant = %s AND kind = %s AND key = %s"


def receipt(tenant: str, command_id: str) -> Query:
    """Ask for (code, detail, pointer, first position, last position, recorded at) of a command."""
    return Query(_RECEIPT, (tenant, command_id))


def outcomes(tenant: str, command_ids: Sequence[str]) -> Query:
    """Ask for (id, fingerprint, code, detail, pointer, last position) of those of the commands that were decided."""
    return Query(_OUTCOMES, (tenant, list(command_ids)))


def holder(tenant: str, kind: str, key: str) -> Query:
    """Ask who holds a claim."""
    return Query(_HOLDER, (tenant, kind, key))
