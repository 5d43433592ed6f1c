"""Submitting a command, and the resource that it leaves.

The resource is read from the read model if that is there in time, otherwise it is made from the events in the log.
Whatever the outcome, the caller learns the address of the receipt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec
import psycopg
import uuid_utils

from domain.activity import STATUS_CATEGORY
from domain.recorded import Recorded
from domain.streams import ID, stream_of
from services.commands import wire
from services.commands.wire import Reply
from services.http.core import past, tags
from services.http.core.call import Call
from services.http.core.errors import ApiError
from services.http.core.middleware import header
from services.http.core.models import Request
from services.http.core.sending import CommandResult, outgoing, route_of, send
from services.http.core.service import Service
from services.store import log
from services.store.log import LogRow
from services.store.unavailable import StoreUnavailable

_MAX_KEY = 255
Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Entity:
    """A kind of resource that commands leave, and how its resource is read or made.

    `creates` is the command that creates one, `created` the event that has its id. A write waits for `models`. With
    `from_command` the resource is as the command's own events leave it, whatever a follower has done since. `streams`
    names the streams (category, id) that the resource is made from, as far as the resource, or its absence, tells them.
    """

    noun: str
    creates: str
    created: str
    models: tuple[str, ...]
    row: Callable[[Service, str, str], Awaitable[Row | None]]
    resource: Callable[[Row, datetime], dict[str, Any]]
    from_events: Callable[[Iterable[Recorded], str, datetime, Any], dict[str, Any] | None]
    streams: Callable[[str, Mapping[str, Any] | None], list[tuple[str, str]]]
    from_command: bool = False
    # The read model whose rows can be folded as they were; without one the present is shown.
    folds: str = ""

    async def find(self, call: Call, entity_id: str) -> dict[str, Any] | None:
        """Return the resource of an id, or None; ids of other tenants do not exist."""
        if self.folds:
            row = await past.row(call, self.folds, entity_id)
        else:
            # An invalid id need not be queried.
            row = await self.row(call.service, call.caller.tenant, entity_id) if self.may_be(entity_id) else None
        return None if row is None else self.resource(row, call.now)

    async def read(self, call: Call) -> dict[str, Any]:
        """Return the resource of the id in the path; refuse an id that nobody has, or whose entry is retired."""
        found = await self.find(call, call.id)
        if found is None or found.get("retired"):
            raise self.unknown()
        return found

    async def events(
        self, service: Service, tenant: str, entity_id: str, shown: Mapping[str, Any] | None = None
    ) -> list[Recorded]:
        """Return the events that made a resource, or made it another since it was `shown`, from the log."""
        known = self.streams(entity_id, shown)
        found = await _all_events(service, tenant, known, shown["position"] if shown is not None else 0)
        if shown is None and found:
            # The resource names the other streams that it is made from.
            whole = self.streams(entity_id, self.from_events(found, entity_id, service.clock(), None))
            found = await _all_events(service, tenant, whole, 0) if len(whole) > len(known) else found
        return found

    def may_be(self, entity_id: str) -> bool:
        """Tell whether a text can be an id of this kind."""
        return ID.match(entity_id) is not None

    def unknown(self) -> ApiError:
        """Return the error for an id that does not exist."""
        return ApiError("not-found", f"there is no {self.noun} of this id")


async def _all_events(service: Service, tenant: str, streams: Iterable[tuple[str, str]], after: int) -> list[Recorded]:
    asked = log.all_events([stream_of(tenant, *stream) for stream in streams], after)
    return [LogRow(*row).recorded() for row in await service.pool.fetch(*asked)]


def new_id() -> str:
    """Return a new id; later ids are greater."""
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


def demand_no_key(call: Call) -> None:
    """Refuse an `Idempotency-Key` where it would be ignored."""
    if header(b"idempotency-key") is not None:
        detail = f"{call.scope['method']} of this path takes no Idempotency-Key"
        raise ApiError("bad-header", detail, parameter="Idempotency-Key")


async def submit(
    call: Call,
    command: str,
    request: Request | Mapping[str, Any],
    entity: Entity,
    *,
    entity_id: str | None = None,
    key: str | None = None,
    id_from: Sequence[str] = (),
    extra_data: Mapping[str, Any] | None = None,
    version: int | None = None,
) -> CommandResult:
    """Submit a command, wait for its reply and for the read models, and return the result with its resource.

    `entity_id` is that of the entity which the command is about, unless it creates one. Where only the command's events
    have that id, `id_from` are their types. `key` replaces the header `Idempotency-Key`. `extra_data` is data of the
    command that is not in the request, `version` that of the entity which the request was made for.

    Raises `ApiError` with the command's refusal; its pointer points into the request.
    """
    service, tenant, expected = call.service, call.caller.tenant, None
    try:
        if extra_data:
            # It may come from the path, which was not read by the rules of a body.
            wire.load_json(msgspec.json.encode(extra_data))
        data = {**(extra_data or {}), **(request.data() if isinstance(request, Request) else request)}
        key = key if key is not None else idempotency_key()
        if command == entity.creates:
            # Without a key the id is generated here, so the command has its place in the order of what belongs
            # together; with one the worker generates it, or a repetition would be another command.
            if key is None:
                data.setdefault("id", new_id())
            route = data["id"] if "id" in data else _key_route(key or "")
            # An entity that exists may be created again, and then no event has its id.
            entity_id = data.get("id") if not id_from else None
        elif entity_id is not None:
            if not entity.may_be(entity_id):
                raise entity.unknown()
            data["id"] = entity_id
            expected = tags.expected_version(version)
            route = await route_of(service, tenant, command, data)
        else:
            # The commands of one person stay in their order, whoever sends them.
            route = data.get("member", call.caller.actor)
        typed = isinstance(request, Request)
        message = outgoing(
            service, call.caller, command, data, route, idempotency_key=key, typed=typed,
            expected_version=version if expected is None else expected,
        )  # fmt: skip
        result = await send(service, message, entity.models)
        if result.reply is not None and result.reply.error is not None:
            error = ApiError.of(result.reply.error)
            raise error if expected is None else tags.rephrased(error)
    except (ApiError, wire.InvalidMessage) as error:
        refused = ApiError.caused_by(error)
        if isinstance(request, Request) and refused.pointer:
            refused = refused.at(request.pointer(refused.pointer))
        raise refused from None
    if result.reply is not None and result.reply.tried:
        return result
    if entity_id is None:
        types = id_from or (entity.created,)
        events = result.reply.events if result.reply is not None else ()
        stream = next((event.stream for event in events if event.type in types), None)
        if stream is None:
            return result
        entity_id = stream.partition("-")[2]
    return await _with_resource(service, tenant, result, entity, entity_id)


async def _with_resource(
    service: Service, tenant: str, result: CommandResult, entity: Entity, entity_id: str
) -> CommandResult:
    """Return a result with its resource: the read model's, or one made from the events that the read model lacks."""
    if result.reply is None:
        return result
    now = service.clock()
    try:
        row = None if entity.from_command else await entity.row(service, tenant, entity_id)
        shown = None if row is None else entity.resource(row, now)
        # A read model that holds the entity back passes the position without its row, or leaves the row behind.
        if result.visible and shown is not None and shown["position"] >= _last_position(result.reply, entity_id):
            return replace(result, resource=shown)
        events = await _events_of(service, result.reply)
        # The row may be behind by more than this command.
        since = events if entity.from_command else await entity.events(service, tenant, entity_id, shown)
    except (StoreUnavailable, psycopg.Error):
        # The command took effect; that the database went away since makes no failure of it.
        return result
    base = row[0] if row is not None else None
    return replace(result, resource=entity.from_events(since, entity_id, now, base), events=tuple(events))


def _last_position(reply: Reply, entity_id: str) -> int:
    """Return the position of the last event that the command recorded of an entity, or 0."""
    found = ((event.position, *event.stream.partition("-")) for event in reply.events)
    # Read models compute the status from the tasks.
    own = (position for position, category, _, name in found if name == entity_id and category != STATUS_CATEGORY)
    return max(own, default=0)


async def _events_of(service: Service, reply: Reply) -> list[Recorded]:
    """Return the events that an accepted command recorded, from the log."""
    positions = {event.position for event in reply.events}
    if not positions:
        return []
    rows = await service.pool.fetch(*log.events_between(min(positions), max(positions)))
    return [LogRow(*row).recorded() for row in rows if row[0] in positions]


def _key_route(key: str) -> str:
    """Return a routing key that brings the repetitions of a keyed create to one place before there is an id."""
    return f"key-{hashlib.sha256(key.encode()).hexdigest()[:32]}"
