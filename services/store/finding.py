"""What of the store has this id: commands, dead letters, webhooks and bulks.

Rows are (kind, id, title, why it was found, whether it is retired), as those of `projections.search` are.
"""

from __future__ import annotations

from projections.statement import Query

# Bulks stand in two tables, whose operations have paths of their own.
BULK, BULK_RECEIPT = "bulk", "bulk-receipt"
_DECIDED = "concat_ws(': ', CASE WHEN l.code IS NULL THEN 'accepted' ELSE 'rejected' END, l.code)"
_COMMAND = f"""
SELECT 'command', l.command_id, {_DECIDED}, 'id', false FROM ledger AS l WHERE tenant = %s AND command_id = %s"""  # noqa: S608
# What holds an idempotency key begins with the id of its command.
_KEYED = f"""
SELECT 'command', l.command_id, {_DECIDED}, 'idempotency_key', false
FROM claims AS c JOIN ledger AS l ON l.tenant = c.tenant AND l.command_id = split_part(c.holder, ' ', 1)
WHERE c.tenant = %s AND c.kind = 'idempotency' AND c.key = %s"""  # noqa: S608
_LETTER = """
SELECT 'dead-letter', id, concat_ws(': ', type, code), 'id', false FROM dead_letters WHERE tenant = %s AND id = %s"""
_MESSAGE = """
(SELECT 'dead-letter', id, concat_ws(': ', type, code), 'message_id', false FROM dead_letters
 WHERE tenant = %s AND message_id = %s ORDER BY arrived DESC LIMIT {})"""
_WEBHOOK = "SELECT 'webhook', id, url, 'id', false FROM webhooks WHERE tenant = %s AND id = %s"
_BULK = f"SELECT '{BULK}', id, command, 'id', false FROM bulk_actions WHERE tenant = %s AND id = %s"  # noqa: S608
_RECEIPT = f"SELECT '{BULK_RECEIPT}', id, command, 'id', false FROM bulks WHERE tenant = %s AND id = %s"  # noqa: S608


def found(tenant: str, text: str, limit: int) -> Query:
    """Ask for what has a text as its id, as the id of its command, or as the idempotency key of that."""
    parts = (_COMMAND, _KEYED, _LETTER, _MESSAGE.format(limit), _WEBHOOK, _BULK, _RECEIPT)
    return Query(" UNION ALL ".join(parts), (tenant, text) * len(parts))
