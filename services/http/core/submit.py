"""A write: one command, its answer, and the resource that it leaves.

The resource is the read model's when it is there in time, else it is made from the command's own events.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import psycopg

from domain.recorded import Recorded
from domain.streams import ID
from projections import activities, directory
from projections.task import table as tasks
from services.commands import wire
from services.commands.wire import Reply
from services.http.core.call import Call
from services.http.core.command import Answered, events_of, give, idempotency_key, key_route, new_id, outgoing
from services.http.core.errors import ApiError
from services.http.core.models import Request
from services.http.core.service import Service

Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Entity:
    """A kind of resource that commands leave, and how its resource is found or made.

    `creates` is the command that makes one, `created` the event that tells its id. A write waits for `models`. An id
    that is `excluded` reads like one that nobody has. With `from_command` the resource is as the command's own events
    leave it, whatever a follower has done since.
    """

    noun: str
    creates: str
    created: str
    models: tuple[str, ...]
    row: Callable[[Service, str, str], Awaitable[Row | None]]
    resource: Callable[[Row, datetime], dict[str, Any]]
    from_events: Callable[[Iterable[Recorded], str, datetime, Any], dict[str, Any] | None]
    excluded: frozenset[str] = frozenset()
    from_command: bool = False

    async def find(self, call: Call, entity_id: str) -> dict[str, Any] | None:
        """Return the resource of an id, if there is one; another tenant's id reads like one that nobody has."""
        # What can be no id is not worth asking for.
        row = await self.row(call.service, call.caller.tenant, entity_id) if self.may_be(entity_id) else None
        return None if row is None else self.resource(row, call.service.clock())

    def may_be(self, entity_id: str) -> bool:
        """Tell whether a text can be an id of this kind."""
        return entity_id not in self.excluded and ID.match(entity_id) is not None

    def unknown(self) -> ApiError:
        """Return the refusal of an id that nobody has."""
        return ApiError("not-found", f"there is no {self.noun} of this id")


@dataclass(frozen=True, slots=True)
class Done:
    """What a write came to. `resource` is None while the outcome is not known, or nobody can show it in time.

    `events` are the command's own, when the read model was too late to show them.
    """

    answered: Answered
    resource: dict[str, Any] | None = None
    events: tuple[Recorded, ...] = ()

    @property
    def reply(self) -> Reply | None:
        """Return the worker's answer, if it came."""
        return self.answered.reply


async def submit(
    call: Call,
    command: str,
    data: Request | Mapping[str, Any],
    entity: Entity,
    *,
    entity_id: str | None = None,
    key: str | None = None,
    marks: Sequence[str] = (),
    given: Mapping[str, Any] | None = None,
) -> Done:
    """Give a command, wait for its answer and for the read models, and return the resource that it leaves.

    `entity_id` is that of the entity which the command is about, unless it creates one. Where only the command's events
    tell which one it was, `marks` are their types. `key` is the request's `Idempotency-Key` unless it is given. `given`
    is what the command says beside the request.

    Raises `ApiError` with the command's refusal, its place as it is in the request.
    """
    try:
        return await _submit(call, command, data, entity, entity_id, key, marks, given or {})
    except (ApiError, wire.InvalidMessage) as error:
        refused = ApiError.caused_by(error)
        if isinstance(data, Request) and refused.pointer:
            refused = refused.at(data.pointer(refused.pointer))
        raise refused from None


async def _submit(
    call: Call,
    command: str,
    request: Request | Mapping[str, Any],
    entity: Entity,
    entity_id: str | None,
    key: str | None,
    marks: Sequence[str],
    given: Mapping[str, Any],
) -> Done:
    service, caller = call.service, call.caller
    if given:
        # It may come from the path, which was not read by the rules of a body.
        wire.load_json(msgspec.json.encode(given))
    typed = isinstance(request, Request)
    data = {**given, **(request.data() if isinstance(request, Request) else request)}
    key = key if key is not None else idempotency_key()
    if command == entity.creates:
        # Without a key the id is drawn here, so the command has its place in the order of what belongs together; with
        # one it is left to the worker, or a repetition would be another command.
        if key is None:
            data.setdefault("id", new_id())
        route = data["id"] if "id" in data else key_route(key or "")
        # What is there already may be created again, and then no event tells which one it is.
        entity_id = data.get("id") if not marks else None
    elif entity_id is not None:
        if not entity.may_be(entity_id):
            raise entity.unknown()
        data["id"] = entity_id
        route = await route_of(service, caller.tenant, command, data)
    else:
        # A person's commands stay in their order, whoever gives them.
        route = data.get("member", caller.actor)
    command_out = outgoing(service, caller, command, data, route, idempotency_key=key, typed=typed)
    answered = await give(service, command_out, entity.models)
    reply = answered.reply
    if reply is not None and reply.error is not None:
        raise ApiError.of(reply.error)
    if entity_id is None:
        told = marks or (entity.created,)
        events = reply.events if reply is not None else ()
        stream = next((event.stream for event in events if event.type in told), None)
        if stream is None:
            return Done(answered)
        entity_id = stream.partition("-")[2]
    return await left(service, caller.tenant, answered, entity, entity_id)


async def left(service: Service, tenant: str, answered: Answered, entity: Entity, entity_id: str) -> Done:
    """Return an answered write with its resource: the read model's, or one made from the command's events."""
    reply = answered.reply
    if reply is None:
        return Done(answered)
    now = service.clock()
    try:
        row = None if entity.from_command else await entity.row(service, tenant, entity_id)
        # A read model that holds the entity back passes the position without its row.
        if answered.visible and row is not None:
            return Done(answered, entity.resource(row, now))
        events = await events_of(service, reply)
    except (ApiError, psycopg.Error) as error:
        if isinstance(error, ApiError) and error.code != "unavailable":
            raise
        # The command took effect; that the database went away since makes no failure of it.
        return Done(answered)
    base = row[0] if row is not None else None
    return Done(answered, entity.from_events(events, entity_id, now, base), tuple(events))


async def route_of(service: Service, tenant: str, name: str, data: Mapping[str, Any]) -> str:
    """Return the key that keeps an activity and all its tasks together; a wrong one would only be slower."""
    task_id = data.get("id")
    if name.startswith("task.") and name != "task.create" and isinstance(task_id, str) and ID.match(task_id):
        try:
            row = await service.loaders[tasks.NAME].row(tenant, task_id)
        except (ApiError, psycopg.Error):
            row = None
        if row is not None:
            return wire.routing_key(name, data, msgspec.json.decode(row[0]).get("activity_id"))
    return wire.routing_key(name, data)


# What the dialects' writes leave.

# A task and an activity are shown with their people, and each shows something of the other.
_MODELS = (activities.NAME, tasks.NAME, directory.NAME)


def _loaded(model: str) -> Callable[[Service, str, str], Awaitable[Row | None]]:
    return lambda service, tenant, entity_id: service.loaders[model].row(tenant, entity_id)


TASK = Entity(
    "task", "task.create", "task.created", _MODELS, _loaded(tasks.NAME), tasks.resource, tasks.render_from_events
)
ACTIVITY = Entity(
    "activity",
    "activity.create",
    "activity.created",
    _MODELS,
    _loaded(activities.NAME),
    activities.resource,
    activities.render_from_events,
)


def entry(kind: str, creates: str, created: str) -> Entity:
    """Return entries of a kind of the directory."""

    async def row(service: Service, tenant: str, entry_id: str) -> Row | None:
        found = await service.pool.fetch(*directory.get(tenant, kind, entry_id))
        return found[0] if found else None

    return Entity(
        noun=kind,
        creates=creates,
        created=created,
        models=(directory.NAME,),
        row=row,
        resource=lambda found, now: directory.resource(found),
        from_events=lambda events, entry_id, now, base: directory.render_from_events(events, kind, entry_id, base),
    )


WORKFLOW = entry(directory.WORKFLOW, "workflow.define", "workflow.defined")
