"""What is done with a bulk, how far it is, and its receipts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg

from domain.decider import SYSTEM
from domain.errors import Refusal
from domain.streams import ID
from services.http.core.bulk_states import ASKED, ITEM_STATES, LETTER_COMMANDS, RETRY, SKIPPED, WAITING, command_id
from services.http.core.errors import ApiError, too_many
from services.http.core.pace import RAMP
from services.store import bulk_actions
from services.store.bulk_actions import KEPT_HOURS
from services.store.operations import By, acting
from services.store.pool import Pool

# Bulks of a tenant that are run at the same time.
MAX_RUNNING = 4
ENDED = ("finished", "aborted", "expired")
STATES = (*bulk_actions.OPEN, *ENDED)
_COLUMNS = (
    *("id", "command", "data", "on_change", "actor", "state", "reason", "rate", "total"),
    *("created_at", "previewed_at", "started_at", "ended_at"),
)
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_CURSOR = re.compile(r"([0-9]{1,16})-([A-Za-z0-9_-]{1,64})\Z", re.ASCII)
# What is recorded of a bulk with which something was done.
_TOLD = ("command", "data", "state", "reason", "rate", "total", "counts")
_ITEM_COLUMNS = (
    *("number", "id", "version", "state", "reason", "would_record", "code", "detail", "pointer"),
    *("first_position", "last_position", "decided_at"),
)


def bulk_of(row: Sequence[Any]) -> dict[str, Any]:
    """Return a bulk with its counts, as `bulk_actions.shown` found it."""
    *columns, counted = row
    found = dict(zip(_COLUMNS, columns, strict=True))
    counts, skipped = dict.fromkeys(ITEM_STATES, 0), dict[str, int]()
    for state, reason, count in counted or ():
        counts[state] += int(count)
        if state == SKIPPED:
            skipped[reason] = int(count)
    return {**found, "data": msgspec.json.decode(bytes(found["data"])), "counts": counts, "skipped": skipped}


def unknown() -> ApiError:
    """Return the refusal of an id that no bulk has."""
    return ApiError("not-found", "there is no bulk of this id, or no longer")


async def find(pool: Pool, tenant: str, bulk_id: str) -> dict[str, Any]:
    """Return a bulk with its counts; raises `ApiError`. Bulks of other tenants do not exist."""
    return _found(await pool.fetch(*bulk_actions.shown(tenant, bulk_id)) if ID.match(bulk_id) else [])


def _found(rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    if not rows:
        raise unknown()
    return bulk_of(rows[0])


def cursor_of(bulk: Mapping[str, Any]) -> str:
    """Return the cursor that asks for the bulks before this one; it stays good when the bulk is deleted."""
    return f"{(bulk['created_at'] - _EPOCH) // _MICROSECOND}-{bulk['id']}"


def read_cursor(text: str) -> tuple[datetime, str]:
    """Return when the bulk of a cursor was created, and its id; raises `ApiError`."""
    found = _CURSOR.match(text)
    if found is None:
        raise ApiError("bad-cursor", "a cursor is what `next` of the page before says", parameter="cursor")
    return _EPOCH + int(found[1]) * _MICROSECOND, found[2]


async def items(
    pool: Pool, tenant: str, bulk_id: str, after: int, limit: int, states: Sequence[str] | None
) -> list[dict[str, Any]]:
    """Return a page of the items of a bulk, those after a number."""
    rows = await pool.fetch(*bulk_actions.items(tenant, bulk_id, after, limit, states))
    return [item_of(row) for row in rows]


def item_of(row: Sequence[Any]) -> dict[str, Any]:
    """Return an item as `bulk_actions.items` found it."""
    *columns, attempts, seed, command, message_id = row
    item = dict(zip(_ITEM_COLUMNS, columns, strict=True))
    code, detail, pointer = item.pop("code"), item.pop("detail"), item.pop("pointer")
    item["error"] = None if code is None else Refusal(code, detail or "", pointer or "")
    # The id of a command that is still to be sent could be taken by whoever reads it.
    is_sent = attempts > 0 and item["state"] not in WAITING
    item["command_id"] = command_id(seed, item["number"]) if is_sent else None
    if command in LETTER_COMMANDS:
        # A letter keeps the id of its command, and is skipped before it is sent.
        item["command_id"] = message_id if is_sent and command == RETRY and item["state"] != SKIPPED else None
    return item


# What is done with a bulk. Each changes it in a transaction of the caller's, and tells whether it did.

Conn = psycopg.Connection[Any]


def recorded(
    conn: Conn, tenant: str, bulk_id: str, verb: str, by: By, work: Callable[[Conn], bool], **details: Any
) -> bool:
    """Do something with a bulk, and record who did, in one transaction; the connection is in none.

    What changed nothing is not recorded.
    """
    with acting(conn, by.operation(tenant, f"bulk.{verb}", f"bulk/{bulk_id}", **details)) as act:
        act.changed = work(conn)
        if act.changed:
            bulk = find_in(conn, tenant, bulk_id)
            act.details |= {name: bulk[name] for name in _TOLD}
    return act.changed


def run(conn: Conn, tenant: str, bulk_id: str, actor: str, rate: str | None, *, resumed: bool = False) -> bool:
    """Run a bulk that was previewed, or go on with one that is paused; raises `ApiError`.

    One that runs already, or has nothing left to do, is left as it is, which false says.
    """
    bulk = _locked(conn, tenant, bulk_id)
    if actor not in (bulk["actor"], SYSTEM):
        raise ApiError("forbidden", f"its commands are those of {bulk['actor']}, who previewed it")
    if bulk["state"] in ("running", "finished"):
        return False
    if bulk["state"] not in (("paused",) if resumed else ("previewed", "paused")) or _is_expired(bulk):
        raise _not_possible("resumed" if resumed else "run", bulk)
    values = {"tenant": tenant, "id": bulk_id, "rate": rate or bulk["rate"] or RAMP, "most": MAX_RUNNING}
    if not conn.execute(bulk_actions.RUN, values).fetchall():
        raise too_many(f"a tenant has at most {MAX_RUNNING} bulks that run at the same time")
    return True


def pause(conn: Conn, tenant: str, bulk_id: str) -> bool:
    """Have nothing more sent of a bulk that runs; raises `ApiError`. False if it is paused already."""
    bulk = _locked(conn, tenant, bulk_id)
    if bulk["state"] not in ("running", "paused"):
        raise _not_possible("paused", bulk)
    values = {"tenant": tenant, "id": bulk_id, "reason": ASKED}
    return bool(conn.execute(bulk_actions.PAUSE, values).fetchall())


def abort(conn: Conn, tenant: str, bulk_id: str) -> bool:
    """End a bulk before it is done; raises `ApiError`. What was sent is still decided. False if it is aborted."""
    bulk = _locked(conn, tenant, bulk_id)
    if bulk["state"] in ("finished", "expired"):
        raise _not_possible("aborted", bulk)
    return bool(conn.execute(bulk_actions.ABORT, {"tenant": tenant, "id": bulk_id}).fetchall())


def find_in(conn: Conn, tenant: str, bulk_id: str) -> dict[str, Any]:
    """Return a bulk with its counts, as `find` does."""
    return _found(conn.execute(*bulk_actions.shown(tenant, bulk_id)).fetchall() if ID.match(bulk_id) else [])


def _locked(conn: Conn, tenant: str, bulk_id: str) -> dict[str, Any]:
    """Return a bulk, which nobody else changes before the transaction ends."""
    if ID.match(bulk_id):
        conn.execute(*bulk_actions.locked(tenant, bulk_id))
    return find_in(conn, tenant, bulk_id)


def _is_expired(bulk: Mapping[str, Any]) -> bool:
    age = datetime.now(UTC) - bulk["created_at"]
    return bulk["started_at"] is None and age > timedelta(hours=KEPT_HOURS)


def _not_possible(what: str, bulk: Mapping[str, Any]) -> ApiError:
    state = "expired" if _is_expired(bulk) else bulk["state"]
    return ApiError("not-ready", f"the bulk is {state}, so it cannot be {what}")
