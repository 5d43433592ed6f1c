"""What a dialect's write has in common with every other: one command, its answer, and the resource that it leaves.

The resource is the read model's when it is there in time, else it is made from the command's own events; a dialect only
translates on both sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import msgspec
import psycopg

from domain.recorded import Recorded
from domain.streams import ID
from projections import activities, directory, tasks
from services.commands import wire
from services.commands.wire import Reply
from services.http.auth import Caller
from services.http.problems import Refused
from services.http.service import Service
from services.http.writes import Answered, events_of, give, idempotency_key, key_route, new_id, outgoing

# What a write waits for by default: the task, its activity, and the people whom both show.
MODELS = (activities.NAME, tasks.NAME, directory.NAME)
_READ_MODELS: Mapping[str, ModuleType] = {"activity": activities, "task": tasks}


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


async def create(
    service: Service, caller: Caller, name: str, data: dict[str, Any], noun: str, key: str | None = None
) -> Done:
    """Give the command that makes a task or an activity, and return what it made.

    Raises `Refused` with the command's refusal. Without a key the id is drawn here, so the command has its place
    in the order of its activity; with one it is left to the worker, or a repetition would be another command.
    """
    key = key if key is not None else idempotency_key()
    if key is None:
        data = {"id": new_id(), **data}
    route = data["id"] if "id" in data else key_route(key or "")
    answered = await command(service, caller, name, data, route, key)
    created = f"{noun}.created"
    events = answered.reply.events if answered.reply is not None else ()
    stream = next((event.stream for event in events if event.type == created), None)
    if stream is None:
        return Done(answered)
    return await shown(service, caller.tenant, answered, noun, stream.partition("-")[2])


async def change(
    service: Service,
    caller: Caller,
    name: str,
    data: dict[str, Any],
    noun: str = "task",
    models: Iterable[str] = MODELS,
) -> Done:
    """Give a command on the task or activity that `data["id"]` names, and return it as it is after that."""
    entity_id = data["id"]
    if not ID.match(entity_id):
        raise Refused("not-found", f"there is no {noun} of this id")
    route = await route_of(service, caller.tenant, name, data)
    answered = await command(service, caller, name, data, route, idempotency_key(), models)
    return await shown(service, caller.tenant, answered, noun, entity_id)


async def command(
    service: Service,
    caller: Caller,
    name: str,
    data: Mapping[str, Any],
    route: str,
    key: str | None = None,
    models: Iterable[str] = MODELS,
) -> Answered:
    """Give a command and wait for its answer and these read models; raises `Refused` with the command's refusal."""
    answered = await give(service, outgoing(service, caller, name, data, route, idempotency_key=key), models)
    reply = answered.reply
    if reply is not None and reply.error is not None:
        raise Refused.of(reply.error)
    return answered


async def route_of(service: Service, tenant: str, name: str, data: Mapping[str, Any]) -> str:
    """Return the key that keeps an activity and all its tasks together; a wrong one would only be slower."""
    task_id = data.get("id")
    if name.startswith("task.") and name != "task.create" and isinstance(task_id, str) and ID.match(task_id):
        try:
            row = await service.loaders[tasks.NAME].row(tenant, task_id)
        except (Refused, psycopg.Error):
            row = None
        if row is not None:
            return wire.routing_key(name, data, msgspec.json.decode(row[0]).get("activity_id"))
    return wire.routing_key(name, data)


async def shown(service: Service, tenant: str, answered: Answered, noun: str, entity_id: str) -> Done:
    """Return an answered write with its resource: the read model's, or one made from the command's events."""
    reply = answered.reply
    if reply is None:
        return Done(answered)
    model, now = _READ_MODELS[noun], service.clock()
    try:
        row = await service.loaders[model.NAME].row(tenant, entity_id)
        if answered.visible:
            return Done(answered, None if row is None else model.resource(row, now))
        events = await events_of(service, reply)
    except Refused as refused:
        if refused.code != "unavailable":
            raise
        # The command took effect; that the database went away since makes no failure of it.
        return Done(answered)
    base = row[0] if row is not None else None
    return Done(answered, model.render_from_events(events, entity_id, now, base), tuple(events))
