"""Dead letters: what of a message is stored, and how an operator's acts on them are checked before they are done.

A letter is sent again as the command that it was: with its id, its actor and its other headers, and on behalf of the
broker user that sent it. Only its data may be edited. What is sent is checked as a worker checks it.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import psycopg
import uuid_utils

from domain import COMMANDS
from domain.errors import RefusalError
from domain.streams import TENANT
from services.broker.frames.reader import Message
from services.broker.names import LETTER, OWN_HEADERS
from services.broker.sender import Outgoing
from services.commands import wire
from services.commands.wire import Incoming
from services.store import dead_letter_acts as acts
from services.store import dead_letters as letters
from services.store.dead_letters import Arrival, Filter

Json = dict[str, Any]
MaySend = Callable[[str | None, str], bool]

MAX_REASON = 1000
# What is kept of a text, in characters: whoever sent the message may have written any header of it.
_MAX_CODE, _MAX_NAME, _MAX_TEXT = 100, 255, 2000
# Must never change: the ids of letters are derived from it.
_NAMESPACE = uuid.UUID("5d3d9a0e-6f0b-5b53-8f35-0e8f2f4c7a11")
# The headers of a command that are sent again; the tenant and the actor are.
_KEPT = ("idempotency-key", "expected-version", "traceparent")
_UNREADABLE = "unreadable"
_decode, _encode = msgspec.json.decode, msgspec.json.Encoder(enc_hook=str).encode


class NotDone(RefusalError):
    """An act on a letter that is refused; nothing has changed."""


# What comes in.


def arrival(message: Message, user: str, may_send: MaySend) -> Arrival:
    """Return what is stored of a message of the queue of dead letters; never raises, whatever it holds.

    Foldwork's own letters come from its own broker `user`. What the broker made a letter of still names its sender,
    whom nobody has looked at yet, and who may have written any header.
    """
    properties, given = message.properties, message.properties.headers or {}
    own = {str(name): value for name, value in given.items() if str(name).startswith(OWN_HEADERS)}
    headers = {str(name): value for name, value in given.items() if str(name) not in own}
    said = {name: own.get(f"{OWN_HEADERS}{name}") for name in ("code", "detail", "pointer", "user", "routing-key")}
    if said["code"] is None:
        said["code"], said["detail"] = _of_broker(headers, properties.unreadable)
    ours, tenant = properties.user_id == user, headers.get("tenant")
    sender = said["user"] if ours and own else properties.user_id
    usable = isinstance(tenant, str) and TENANT.match(tenant) is not None and said["code"] != "forbidden"
    known = str(tenant) if usable and (ours or may_send(sender, str(tenant))) else None
    key = said["routing-key"] if said["routing-key"] is not None else message.routing_key
    sha256, kind, letter = _digest(message, own), properties.message_type, own.get(LETTER)
    where = (known or "", _text(properties.message_id), _text(kind), _text(key), sha256.hex())
    name = str(uuid.uuid5(_NAMESPACE, "\0".join(where)))
    letter = letter if isinstance(letter, str) and _is_uuid(letter) else None
    encoded = _encode_headers(headers)
    size = own.get(f"{OWN_HEADERS}bytes", message.size)
    code, pointer = _text(said["code"], _MAX_CODE), _text(said["pointer"], _MAX_TEXT)
    return Arrival(
        letter=letter or hashlib.sha256(name.encode() + encoded).hexdigest(),
        arrived=letter or str(uuid_utils.uuid7()),
        id=name,
        tenant=known,
        key=_text(key),
        message_id=_text_or_none(properties.message_id),
        type=_text_or_none(kind),
        actor=_text_or_none(headers.get("actor", "system")),
        correlation_id=_text_or_none(properties.correlation_id),
        broker_user=_text_or_none(sender),
        headers=encoded,
        body=message.body,
        size=size if isinstance(size, int) and len(message.body) <= size < 1 << 62 else message.size,
        sha256=sha256,
        code=code,
        detail=_text(said["detail"], _MAX_TEXT),
        pointer=pointer,
        fingerprint=letters.fingerprint(code, kind if kind in COMMANDS else "", pointer),
    )


def _of_broker(headers: Mapping[str, Any], unreadable: str | None) -> tuple[str, str]:
    """Return the code and the detail of a message that the broker made a dead letter."""
    deaths = headers.get("x-death")
    last = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], Mapping) else {}
    reason = str(last.get("reason") or _UNREADABLE).replace("_", "-")
    if reason == _UNREADABLE:
        return reason, unreadable or "it came with neither a reason nor a death"
    return reason, f"the broker gave it up in the queue {last.get('queue')}"


def _digest(message: Message, own: Mapping[str, Any]) -> bytes:
    """Return the hash of the body as it was sent; of a long one only the beginning is at hand."""
    for given in (own.get(f"{OWN_HEADERS}sha256"), message.sha256):
        try:
            digest = bytes.fromhex(given) if isinstance(given, str) else b""
        except ValueError:
            continue
        if len(digest) == hashlib.sha256().digest_size:
            return digest
    return hashlib.sha256(message.body).digest()


def _encode_headers(headers: Mapping[str, Any]) -> bytes:
    """Return headers as JSON; what is no JSON becomes text."""
    try:
        return _encode(headers)
    except Exception:
        return _encode({_text(name): _text(value) for name, value in headers.items()})


def bare(whole: Arrival, why: str) -> Arrival:
    """Return what is stored of a letter that the database refuses."""
    return replace(whole, headers=b"{}", body=b"", detail=f"{whole.detail} (only this is kept: {why})"[:_MAX_TEXT])


def _text(value: Any, most: int = _MAX_NAME) -> str:
    """Return a value as text that the database takes."""
    text = "" if value is None else str(value)[:most]
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


# What an operator does.


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
    out_of_order: bool = False,
) -> Json:
    """Have a letter sent again by the policies role, in the caller's transaction; return it as it was.

    `by` is who does it. An older letter of the same key is to be decided first, unless it is to be sent again, too:
    then this one waits for its outcome, and is parked again if it fails. Raises `NotDone`.
    """
    row = _parked(conn, tenant, letter_id)
    command, incoming = renewed(row, edit, rules)
    older = acts.older(conn, row["tenant"], row["key"], row["arrived"])
    if older is not None and older[1] == "parked" and not out_of_order:
        raise NotDone("older-letter", f"the dead letter {older[0]} of the same key is older: decide on it first")
    edited = command.body if command.body != row["body"] else None
    acts.retry(
        conn, letter_id, by, edited=edited, sha256=hashlib.sha256(command.body).digest(),
        fingerprint=incoming.fingerprint, out_of_order=out_of_order,
    )  # fmt: skip
    return row


def discard(conn: psycopg.Connection[Any], tenant: str | None, letter_id: str, by: str, reason: str) -> Json:
    """Discard a letter, in the caller's transaction; return it as it was. Raises `NotDone`."""
    if not reason.strip() or len(reason) > MAX_REASON or "\0" in reason:
        raise NotDone("invalid", f"a reason has 1 to {MAX_REASON} characters", "/reason")
    row = _parked(conn, tenant, letter_id)
    acts.discard(conn, letter_id, by, reason.strip())
    return row


def _parked(conn: psycopg.Connection[Any], tenant: str | None, letter_id: str) -> Json:
    row = read(conn, tenant, letter_id, lock=True)
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
