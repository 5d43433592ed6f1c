"""What is stored of a message of the queue of dead letters, whatever it holds."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import uuid_utils

from domain import COMMANDS
from domain.streams import TENANT
from services.broker.frames.reader import Message
from services.broker.names import LETTER, OWN_HEADERS
from services.commands.wire import WAITS
from services.dead_letters import MaySend
from services.store import dead_letters as letters
from services.store.dead_letters import Arrival
from services.store.dead_letters import stored_text as _text

# What is kept of a text, in characters: whoever sent the message may have written any header of it.
_MAX_CODE, _MAX_TEXT = 100, 2000
_UNREADABLE = "unreadable"
_encode = msgspec.json.Encoder(enc_hook=str).encode


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
    name = letters.letter_id(known or "", _text(properties.message_id), _text(kind), _text(key), sha256)
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
        waits=ours and known is not None and code == WAITS,
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


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
