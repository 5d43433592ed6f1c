"""Queries on the ledger of commands and on unique keys."""

from __future__ import annotations

from collections.abc import Sequence

from projections.statement import Query

_RECEIPT = (
    "SELECT code, detail, pointer, first_position, last_position, recorded_at, caused_by FROM ledger"
    " WHERE tenant = %s AND command_id = %s"
)
_OUTCOMES = (
    "SELECT command_id, fingerprint, code, detail, pointer, first_position, last_position FROM ledger"
    " WHERE tenant = %s AND command_id = ANY(%s::text[])"
)
_HOLDER = "SELECT holder FROM claims WHERE tenant = %s AND kind = %s AND key = %s"


def receipt(tenant: str, command_id: str) -> Query:
    """(code, detail, pointer, first position, last position, recorded at, caused by) of a command."""
    return Query(_RECEIPT, (tenant, command_id))


def outcomes(tenant: str, command_ids: Sequence[str]) -> Query:
    """(id, fingerprint, code, detail, pointer, first and last position) of each command that was decided."""
    return Query(_OUTCOMES, (tenant, list(command_ids)))


def holder(tenant: str, kind: str, key: str) -> Query:
    """The holder of a unique key."""
    return Query(_HOLDER, (tenant, kind, key))
