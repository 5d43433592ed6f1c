"""The acts of operators on dead letters, each in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg

from services import dead_letters
from services.dead_letters import UNCHANGED, Edit, NotDone, Rules, Seal
from services.store import dead_letter_acts
from services.store.dead_letters import Filter
from services.store.operations import By, acting

# The most letters that are sent again at once.
MOST = 10_000


@dataclass(frozen=True, slots=True)
class Done:
    """The letters that were refused, with the reason, and the position of the last record of what was done."""

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
    seal: Seal | None = None,
    out_of_order: bool = False,
) -> Done:
    """Have letters sent again, the oldest first; those that are refused stay as they are.

    Those of one key are sent one after the other, and no further once one fails. The connection is in autocommit mode,
    and in no transaction. The letters of a tenant are one act.
    """
    owners = dead_letter_acts.owners(conn, letter_ids)
    groups: dict[str | None, list[str]] = {}
    # What is not there comes last.
    for letter_id in dict.fromkeys((*owners, *letter_ids)):
        groups.setdefault(owners.get(letter_id) if tenant is None else tenant, []).append(letter_id)
    refused: dict[str, NotDone] = {}
    position: int | None = None
    for owner, ids in groups.items():
        target = f"dead-letter/{ids[0]}" if len(ids) == 1 else "dead-letters"
        details = {"edited": edit != UNCHANGED, "out_of_order": out_of_order}
        operation = by.operation(owner, "dead-letter.retry", target, **details)
        # When all are refused, nothing was done: each is told its own reason.
        with suppress(NotDone), acting(conn, operation) as act:
            done = []
            for letter_id in ids:
                try:
                    dead_letters.retry(
                        conn, tenant, letter_id, by.actor, rules, edit=edit, seal=seal, out_of_order=out_of_order
                    )
                    done.append(letter_id)
                except NotDone as error:
                    refused[letter_id] = error
            of_it = {each: refused[each].code for each in ids if each in refused}
            if len(ids) > 1:
                act.details |= {"count": len(done), "letters": done, **({"refused": of_it} if of_it else {})}
            if not done:
                raise refused[ids[0]]
        position = act.position or position
    return Done(refused, position)


def group(conn: psycopg.Connection[Any], tenant: str | None, fingerprint: str) -> list[str]:
    """Return the parked letters of a group, the oldest first, as many as are sent again at once."""
    return dead_letters.select(conn, Filter(tenant, fingerprint=fingerprint, state="parked"), MOST)


def discard(conn: psycopg.Connection[Any], tenant: str | None, letter_id: str, by: By, reason: str) -> int | None:
    """Discard a letter, and return the position of the record; raises `NotDone`. The connection is as for `retry`."""
    owner = tenant if tenant is not None else dead_letter_acts.owners(conn, [letter_id]).get(letter_id)
    operation = by.operation(owner, "dead-letter.discard", f"dead-letter/{letter_id}", reason=reason.strip())
    with acting(conn, operation) as act:
        act.details["code"] = dead_letters.discard(conn, tenant, letter_id, by.actor, reason)["code"]
    return act.position
