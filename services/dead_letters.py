"""Dead letters: how an operator's acts on them are checked before they are done.

A letter is sent again as the command that it was: with its id, its actor and its other headers, and on behalf of the
broker user that sent it. Only its data may be edited. What is sent is checked as a worker checks it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import psycopg

from domain.errors import RefusalError
from services.broker.sender import Outgoing
from services.commands import wire
from services.commands.wire import Incoming
from services.store import dead_letter_acts as acts
from services.store import dead_letters as letters
from services.store.dead_letters import Filter

Json = dict[str, Any]
MaySend = Callable[[str | None, str], bool]
# Changes the data of a command of a tenant and a type, once it was edited, to what may be stored.
Seal = Callable[[str, str, Json], Json]

MAX_REASON = 1000
# The headers of a command that are sent again; the tenant and the actor are.
_KEPT = ("idempotency-key", "expected-version", "ordered", "caused-by", "traceparent")
_decode, _encode = msgspec.json.decode, msgspec.json.Encoder(enc_hook=str).encode


class NotDone(RefusalError):
    """An act on a letter that is refused; nothing has changed."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Other data for a letter: the whole of it, or a JSON merge patch (RFC 7396) of what it has; None is neither."""

    data: Json | None = None
    merge: Json | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What a worker checks by: who may send for whom, and the largest body in bytes."""

    may_send: MaySend
    limit: int


UNCHANGED = Edit()


def renewed(row: Mapping[str, Any], edit: Edit, rules: Rules, *, dry_run: bool = False) -> tuple[Outgoing, Incoming]:
    """Return the command that a letter is sent again as, and how a worker reads it.

    `row` is one of `services.store.dead_letters.whole`. Raises `NotDone` with the code of the refusal, and a pointer
    into the data, when a worker would refuse to decide it.
    """
    if row["tenant"] is None or row["message_id"] is None or row["type"] is None:
        raise NotDone("not-retryable", f"{letters.named(row)} names no tenant, no id or no type of a command")
    if wire.is_dry_run(row["type"]):
        raise NotDone("not-retryable", f"{letters.named(row)} was a dry run; ask again")
    if not rules.may_send(row["broker_user"], row["tenant"]):
        raise NotDone("forbidden", f"the broker user that sent it may not speak for tenant {row['tenant']}")
    if edit.data is None and row["edited"] is None and len(row["body"]) < row["bytes"]:
        raise NotDone("not-retryable", f"of {letters.named(row)} only the beginning was kept; give its data")
    given = _decode(row["headers"])
    rest = {name.replace("-", "_"): given[name] for name in _KEPT if name in given}
    command = Outgoing(
        row["type"],
        _edited(row, edit),
        row["tenant"],
        row["key"],
        given.get("actor", "system"),
        row["message_id"],
        dry_run=dry_run,
        correlation_id=row["correlation_id"],
        sent_by=row["broker_user"] or "",
        **rest,
    )
    try:
        wire.parse_headers(command.properties())
    except wire.InvalidMessage as error:
        raise NotDone("not-retryable", f"{error.code}: {error.refusal.detail}; send the command anew") from None
    try:
        incoming = wire.parse(command.properties(), command.body, rules.limit)
    except wire.InvalidMessage as error:
        raise NotDone(error.code, error.refusal.detail, error.refusal.pointer) from None
    if incoming.refusal is not None:
        refused = incoming.refusal
        raise NotDone(refused.code, refused.detail, refused.pointer)
    return command, incoming


def _edited(row: Mapping[str, Any], edit: Edit) -> bytes:
    """Return the data that is to be sent, as JSON."""
    body: bytes = row["edited"] if row["edited"] is not None else row["body"]
    if edit.data is not None:
        return _encode(edit.data)
    if edit.merge is None:
        return body
    try:
        found = wire.load_json(body)
    except wire.InvalidMessage as error:
        raise NotDone(error.code, f"what is no JSON cannot be merged with: {error.refusal.detail}") from None
    return _encode(merged(found, edit.merge))


def merged(value: Any, patch: Any) -> Any:
    """Return a value changed by a JSON merge patch (RFC 7396): null removes, and objects are merged."""
    if not isinstance(patch, Mapping):
        return patch
    found = dict(value) if isinstance(value, Mapping) else {}
    for name, each in patch.items():
        if each is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), each)
    return found


def select(conn: psycopg.Connection[Any], wanted: Filter, limit: int | None = None) -> list[str]:
    """Return the ids of letters, the oldest first: the order in which they are to be sent again."""
    return acts.select(conn, wanted, limit)


def read(conn: psycopg.Connection[Any], tenant: str | None, letter_id: str, *, lock: bool = False) -> Json:
    """Return a letter; raises `NotDone` when there is none, or it belongs to another tenant."""
    row = conn.execute(*letters.one(tenant, letter_id, lock=lock)).fetchone()
    if row is None:
        raise NotDone("not-found", f"there is no dead letter {letter_id[:100]}")
    return letters.whole(row)


def retry(
    conn: psycopg.Connection[Any],
    tenant: str | None,
    letter_id: str,
    by: str,
    rules: Rules,
    *,
    edit: Edit = UNCHANGED,
    seal: Seal | None = None,
    out_of_order: bool = False,
    note: str | None = None,
) -> Json:
    """Have a letter sent again by the policies role, in the caller's transaction; return it as it was.

    `by` is who does it, and `note` says what for. An older letter of the same key is to be decided first, unless it is
    to be sent again, too: then this one waits for its outcome, and is parked again if it fails. Raises `NotDone`.
    """
    row = parked(conn, tenant, letter_id, lock=True)
    command, incoming = renewed(row, edit, rules)
    if seal is not None and edit != UNCHANGED:
        command, incoming = renewed(row, Edit(seal(row["tenant"], row["type"], _decode(command.body))), rules)
    older = acts.older(conn, row["tenant"], row["key"], row["arrived"])
    if older is not None and older[1] == "parked" and not out_of_order:
        raise NotDone("older-letter", f"the dead letter {older[0]} of the same key is older: decide on it first")
    edited = command.body if command.body != row["body"] else None
    acts.retry(
        conn, letter_id, by, edited=edited, sha256=hashlib.sha256(command.body).digest(),
        fingerprint=incoming.fingerprint, out_of_order=out_of_order, note=note,
    )  # fmt: skip
    return row


def discard(conn: psycopg.Connection[Any], tenant: str | None, letter_id: str, by: str, reason: str) -> Json:
    """Discard a letter, in the caller's transaction; return it as it was. Raises `NotDone`."""
    if not reason.strip() or len(reason) > MAX_REASON or "\0" in reason:
        raise NotDone("invalid", f"a reason has 1 to {MAX_REASON} characters", "/reason")
    row = parked(conn, tenant, letter_id, lock=True)
    acts.discard(conn, letter_id, by, reason.strip())
    return row


def parked(conn: psycopg.Connection[Any], tenant: str | None, letter_id: str, *, lock: bool = False) -> Json:
    """Return a letter that nobody has decided on yet; raises `NotDone`."""
    row = read(conn, tenant, letter_id, lock=lock)
    if row["state"] != "parked":
        raise NotDone("not-parked", f"{letters.named(row)} is {row['state']}, not parked")
    return row


def data_of(body: bytes) -> Json | None:
    """Return the data of a body, or None if it is no object of JSON that may be stored."""
    try:
        found = wire.load_json(body)
    except wire.InvalidMessage:
        return None
    return found if isinstance(found, dict) else None
