"""The acts of operators on dead letters, each in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from services import dead_letters
from services.dead_letters import UNCHANGED, Edit, NotDone, Rules
from services.store.dead_letters import Filter

# The most letters that are sent again at once.
MOST = 10_000


@dataclass(frozen=True, slots=True)
class By:
    """Who does it: the actor of an API key, with the key's id, or a user of the command line."""

    actor: str
    key_id: str | None = None


def retry(
    conn: psycopg.Connection[Any],
    tenant: str | None,
    letter_ids: Sequence[str],
    by: By,
    rules: Rules,
    *,
    edit: Edit = UNCHANGED,
    out_of_order: bool = False,
) -> dict[str, NotDone]:
    """Have letters sent again, given the oldest first, and return those that are refused with the reason.

    Those of one key are sent one after the other, and no further once one fails. The connection is in no transaction.
    """
    refused: dict[str, NotDone] = {}
    with conn.transaction():
        for letter_id in letter_ids:
            try:
                dead_letters.retry(conn, tenant, letter_id, by.actor, rules, edit=edit, out_of_order=out_of_order)
            except NotDone as error:
                refused[letter_id] = error
    return refused


def group(conn: psycopg.Connection[Any], tenant: str | None, fingerprint: str) -> list[str]:
    """Return the parked letters of a group, the oldest first, as many as are sent again at once."""
    return dead_letters.select(conn, Filter(tenant, fingerprint=fingerprint, state="parked"), MOST)


def discard(conn: psycopg.Connection[Any], tenant: str | None, letter_id: str, by: By, reason: str) -> None:
    """Discard a letter; raises `NotDone`. The connection is in no transaction."""
    with conn.transaction():
        dead_letters.discard(conn, tenant, letter_id, by.actor, reason)
