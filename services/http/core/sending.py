"""Sending a command: what is sent, where to, and what came back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec
import psycopg

from domain import EVENT_NAMES
from domain.directory import EntryRetired
from domain.recorded import Recorded
from domain.streams import ID
from projections.task import table as tasks
from services.broker.sender import NotSent, Outgoing, Unconfirmed
from services.commands import wire
from services.commands.wire import Reply
from services.http.core.authenticator import Caller
from services.http.core.credentials import encrypted
from services.http.core.errors import RETRY_SOON, ApiError, unavailable
from services.http.core.middleware import CURRENT
from services.http.core.service import Service
from services.store.unavailable import StoreUnavailable

MAX_ROUTING_KEY = 255
_NOT_TRIED = "the dry run was not answered in time; ask again"
_RETIRED = EVENT_NAMES[EntryRetired]


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of a command: its reply, or None if there was none in time, and the resource that it leaves.

    `visible`: the read models have reached the reply's position. `resource` is None while the outcome is not known, or
    cannot be shown in time. `events` are the command's own, if the read model was too late to show them.
    """

    command_id: str
    reply: Reply | None = None
    visible: bool = False
    resource: dict[str, Any] | None = None
    events: tuple[Recorded, ...] = ()

    @property
    def receipt(self) -> str:
        """Return the address of the receipt."""
        return receipt_path(self.command_id)


def receipt_path(command_id: str) -> str:
    """Return the address of a command's receipt."""
    return f"/v1/commands/{quote(command_id, safe='')}"


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
    """Return a command of this caller; whatever a worker would make a dead letter is refused here.

    Where the request prefers a dry run, it is one. Credentials in the data are encrypted. Raises `ApiError` for these
    and for its size, and `InvalidMessage` as the wire contract does. Data that is `typed` was validated as a request,
    whose types are the command's own. `data` comes from JSON that was read by the wire contract's rules. An invalid
    routing key is replaced, since a wrong one only makes a command slower.
    """
    body = msgspec.json.encode(encrypted(service.keys, caller.tenant, name, data))
    limit = service.settings.command_limit
    if len(body) > limit:
        raise ApiError("too-large", f"a command has at most {limit} bytes, this one {len(body)}")
    wire.demand_shallow(body)
    if not typed:
        wire.demand_well_formed(name, body)
    if not 1 <= len(routing_key.encode()) <= MAX_ROUTING_KEY:
        routing_key = "new"
    rest.setdefault("actor", caller.actor)
    current = CURRENT.get()
    command = Outgoing(
        name, body, caller.tenant, routing_key, traceparent=current.traceparent, dry_run=current.dry_run, **rest
    )
    wire.parse_headers(command.properties())
    service.rates.commands.spend(caller.tenant, 1)
    return command


async def send(service: Service, command: Outgoing, models: Iterable[str] = ()) -> CommandResult:
    """Send a command, and wait for its reply and for these read models, all within the reply time-out."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + service.settings.reply_timeout
    try:
        reply = await service.sender.send(command, service.settings.reply_timeout)
    except Unconfirmed:
        if command.dry_run:
            raise unavailable(_NOT_TRIED) from None
        receipt = {"Location": receipt_path(command.command_id)}
        detail = "the command may have been taken: see its receipt, or repeat it under the same Idempotency-Key or id"
        raise ApiError("unavailable", detail, headers={**RETRY_SOON, **receipt}) from None
    except NotSent:
        raise unavailable("the command was not taken; it may be sent again") from None
    if command.dry_run:
        return CommandResult(command.command_id, _tried(reply))
    if reply is None:
        return CommandResult(command.command_id)
    CURRENT.get().position = reply.position
    for event in reply.events:
        # Other processes notice when they ask anew; this one need not wait for that.
        if event.type == _RETIRED and event.stream.startswith("member-"):
            service.authenticator.forget(command.tenant, event.stream.removeprefix("member-"))
    visible = False
    if reply.accepted and models:
        try:
            visible = await service.positions.reached(models, reply.position or 0, deadline - loop.time())
        except StoreUnavailable:
            # The command took effect, so a database that is gone since makes no failure of it.
            visible = False
    return CommandResult(command.command_id, reply, visible)


def _tried(reply: Reply | None) -> Reply:
    """Note the answer to a dry run, and return it."""
    if reply is None:
        raise unavailable(_NOT_TRIED)
    if not reply.tried:
        raise unavailable("the workers are of a version without dry runs; nothing was done")
    CURRENT.get().tried = reply
    return reply


async def route_of(service: Service, tenant: str, name: str, data: Mapping[str, Any]) -> str:
    """Return the routing key that keeps an activity and all its tasks together; a wrong one would only be slower."""
    task_id = data.get("id")
    if name.startswith("task.") and name != "task.create" and isinstance(task_id, str) and ID.match(task_id):
        try:
            row = await service.loaders[tasks.NAME].row(tenant, task_id)
        except (StoreUnavailable, psycopg.Error):
            row = None
        if row is not None:
            return wire.routing_key(name, data, msgspec.json.decode(row[0]).get("activity_id"))
    return wire.routing_key(name, data)
