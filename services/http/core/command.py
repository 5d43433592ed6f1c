"""Giving a command and waiting for its effect; whatever the outcome, the caller learns where the receipt lies."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec
import uuid_utils

from domain import EVENT_NAMES
from domain.directory import EntryRetired
from domain.recorded import Recorded
from services.broker.sender import NotSent, Outgoing, Unconfirmed
from services.commands import wire
from services.commands.wire import Reply
from services.http.core.authenticator import Caller
from services.http.core.errors import RETRY_SOON, ApiError, unavailable
from services.http.core.middleware import CURRENT, header
from services.http.core.service import Service
from services.store import log
from services.store.log import LogRow

MAX_ROUTING_KEY = 255
_MAX_KEY = 255
_RETIRED = EVENT_NAMES[EntryRetired]


@dataclass(frozen=True, slots=True)
class Answered:
    """What is known when the time is over: the reply, if there was one, and whether the views show its effect."""

    command_id: str
    reply: Reply | None
    visible: bool = False

    @property
    def receipt(self) -> str:
        """Return where the receipt lies."""
        return receipt_path(self.command_id)


def receipt_path(command_id: str) -> str:
    """Return the address of a command's receipt."""
    return f"/v1/commands/{quote(command_id, safe='')}"


def new_id() -> str:
    """Return a fresh id, in the order of time."""
    return str(uuid_utils.uuid7())


def idempotency_key() -> str | None:
    """Return the request's `Idempotency-Key`."""
    key = header(b"idempotency-key")
    if key is None:
        return None
    if not 1 <= len(key) <= _MAX_KEY or not all(" " <= mark <= "~" for mark in key):
        detail = f"a key is 1 to {_MAX_KEY} printable ASCII characters"
        raise ApiError("bad-header", detail, parameter="Idempotency-Key")
    return key


def key_route(key: str) -> str:
    """Return a routing key that brings the repetitions of a keyed create to one place before there is an id."""
    return f"key-{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def outgoing(
    service: Service,
    caller: Caller,
    name: str,
    data: Mapping[str, Any],
    routing_key: str,
    *,
    typed: bool = False,
    **rest: Any,
) -> Outgoing:
    """Return a command of this caller, as good as taken: whatever a worker would dead-letter is refused here.

    Raises `ApiError` for its size, and `InvalidMessage` as the wire contract does; data that is `typed` was validated
    as a request, whose types are the command's own. `data` comes from JSON that was read by the wire contract's rules.
    What cannot be a routing key is left out, since a wrong one only makes a command slower.
    """
    body, limit = msgspec.json.encode(data), service.settings.command_limit
    if len(body) > limit:
        raise ApiError("too-large", f"a command has at most {limit} bytes, this one {len(body)}")
    wire.demand_shallow(body)
    if not typed:
        wire.demand_well_formed(name, body)
    if not 1 <= len(routing_key.encode()) <= MAX_ROUTING_KEY:
        routing_key = "new"
    rest.setdefault("actor", caller.actor)
    traceparent = CURRENT.get().traceparent
    command = Outgoing(name, body, caller.tenant, routing_key, traceparent=traceparent, **rest)
    wire.parse_headers(command.properties())
    return command


async def give(service: Service, command: Outgoing, models: Iterable[str] = ()) -> Answered:
    """Send a command, wait for its answer and then for these read models, all within the reply time-out."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + service.settings.reply_timeout
    try:
        reply = await service.sender.send(command, service.settings.reply_timeout)
    except Unconfirmed:
        receipt = {"Location": receipt_path(command.command_id)}
        detail = "the command may have been taken: see its receipt, or repeat it under the same Idempotency-Key or id"
        raise ApiError("unavailable", detail, headers={**RETRY_SOON, **receipt}) from None
    except NotSent:
        raise unavailable("the command was not taken; it may be sent again") from None
    if reply is None:
        return Answered(command.command_id, None)
    for event in reply.events:
        # Other processes notice when they ask anew; this one need not wait for that.
        if event.type == _RETIRED and event.stream.startswith("member-"):
            service.authenticator.forget(command.tenant, event.stream.removeprefix("member-"))
    visible = False
    if reply.accepted and models:
        try:
            visible = await service.positions.reached(models, reply.position or 0, deadline - loop.time())
        except ApiError:
            # The command took effect, so a database that is gone since makes no failure of it.
            visible = False
    return Answered(command.command_id, reply, visible)


async def events_of(service: Service, reply: Reply) -> list[Recorded]:
    """Return the events that an accepted command recorded, from the log."""
    positions = {event.position for event in reply.events}
    if not positions:
        return []
    rows = await service.pool.fetch(*log.events_between(min(positions), max(positions)))
    return [LogRow(*row).recorded() for row in rows if row[0] in positions]
