"""The acts of operators on dead letters, each in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from services import dead_letters
from services.dead_letters import UNCHANGED, Edit, NotDone, Rules
from services.store.dead_letters import Filter
from services.store.operations import Operation, record

# The most letters that are sent again at once.
MOST = 10_000


@dataclass(frozen=True, slots=True)
class By:
    """Who does it: the actor of an API key, with the key's id, or a user of the command line."""

    actor: str
    key_id: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """The letters that were refused, with the reason, and the position of the act's record, if anything was done."""

    refused: dict[str, NotDone]
    position: int | None


def retry(
    conn: psycopg.Connection[Any],
    tenant: str | None,
    letter_ids: Sequence[str],
    by: By,
    rules: Rules,
    *,
    edit: Edit = UNCHANGED,
    out_of_order: bool = False,
) -> Done:
    """Have letters sent again, given the oldest first; those that are refused stay as they are.

    Those of one key are sent one after the other, and no further once one fails. The connection is in autocommit mode,
    and in no transaction. The act is recorded for each tenant.
    """
    refused: dict[str, NotDone] = {}
    position: int | None = None
    done: dict[str | None, list[str]] = {}
    with conn.transaction():
        for letter_id in letter_ids:
            try:
                row = dead_letters.retry(conn, tenant, letter_id, by.actor, rules, edit=edit, out_of_order=out_of_order)
                done.setdefault(row["tenant"], []).append(letter_id)
            except NotDone as error:
                refused[letter_id] = error
        details = {"edited": edit != UNCHANGED, "out_of_order": out_of_order}
        for of_tenant, ids in done.items():
            target = f"dead-letter/{ids[0]}" if len(ids) == 1 else "dead-letters"
            more = {} if len(ids) == 1 else {"count": len(ids), "letters": ids}
            position = record(conn, _operation(of_tenant, by, "retry", target, {**details, **more}))
    return Done(refused, position)


def group(conn: psycopg.Connection[Any], tenant: str | None, fingerprint: str) -> list[str]:
    """Return the parked letters of a group, the oldest first, as many as are sent again at once."""
    return dead_letters.select(conn, Filter(tenant, fingerprint=fingerprint, state="parked"), MOST)


def discard(conn: psycopg.Connection[Any], tenant: str | None, letter_id: str, by: By, reason: str) -> int:
    """Discard a letter, and return the position of the record; raises `NotDone`. The connection is as for `retry`."""
    with conn.transaction():
        row = dead_letters.discard(conn, tenant, letter_id, by.actor, reason)
        target, details = f"dead-letter/{letter_id}", {"reason": reason.strip(), "code": row["code"]}
        return record(conn, _operation(row["tenant"], by, "discard", target, details))


def _operation(tenant: str | None, by: By, verb: str, target: str, details: Mapping[str, Any]) -> Operation:
    return Operation(tenant, by.actor, f"dead-letter.{verb}", target, details=details, key_id=by.key_id)
