"""Activities and tasks as they are: by id, in pages, with their history; the read model's own bytes.

What a caller may do with each is added here, since only here it is known who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.responses import Response

from domain.decider import SYSTEM
from domain.lifecycle import ASSIGNEE, MANAGER, OTHER
from projections import activities, history, tasks
from projections.listing import PERSON, Listing
from projections.support.query import Query
from services.http.core.authenticator import Caller
from services.http.core.errors import ApiError
from services.http.core.members import Member
from services.http.core.service import Service
from services.http.endpoints import JSON, Call, Endpoint, Ready, nothing_else, number, one
from services.http.native import examples_queries as examples
from services.http.native.rendering import Kinds, Renderer, shown_activities, shown_tasks

DEFAULT_LIMIT, MOST_LIMIT = 50, 500


@dataclass(frozen=True, slots=True)
class Model:
    """A read model as it is served: what may be asked of it, and how its rows are shown."""

    name: str
    listing: Listing
    shown: Renderer


TASKS = Model(tasks.NAME, tasks.LISTING, shown_tasks)
ACTIVITIES = Model(activities.NAME, activities.LISTING, shown_activities)
_encode = msgspec.json.Encoder().encode


_SYSTEM = (SYSTEM,)


def kinds_of(caller: Caller, member: Member | None, assignees: Sequence[str], project: str | None) -> tuple[str, ...]:
    """Return what a caller is to a thing; a manager who took a task still manages it."""
    if caller.actor == SYSTEM:
        return _SYSTEM
    kinds = (ASSIGNEE,) if caller.actor in assignees else ()
    if member is not None and member.manages(project):
        return (*kinds, MANAGER)
    return kinds or (OTHER,)


def endpoints(service: Service) -> list[Endpoint]:
    """Return the native endpoints of both read models."""
    return [
        *_of_model(service, ACTIVITIES, examples.ACTIVITY_QUERIES),
        *_of_model(service, TASKS, examples.TASK_QUERIES),
        Endpoint("GET", "/v1/activities/{id}/explain", "read", _explain(service), examples.EXPLAIN),
        Endpoint(
            "GET",
            "/v1/activities/{id}/history",
            "read",
            _history(service, ACTIVITIES, history.of_activity, "activity"),
            examples.ACTIVITY_HISTORY,
        ),
        Endpoint(
            "GET",
            "/v1/tasks/{id}/history",
            "read",
            _history(service, TASKS, history.of_task, "task"),
            examples.TASK_HISTORY,
        ),
    ]


async def settled(service: Service, parameters: dict[str, list[str]], *models: str) -> None:
    """Take `min_position`, when there is one, and wait for these read models to get there."""
    if "min_position" in parameters:
        position = number(parameters, "min_position", 0, 0)
        await service.positions.demand(models, position, service.settings.view_timeout)


async def one_row(service: Service, model: Model, tenant: str, entity_id: str, noun: str) -> tuple[Any, ...]:
    """Return a row by id, or refuse; another tenant's id reads like one that nobody has."""
    # What is no id cannot be there, and is not worth asking for.
    row = await service.loaders[model.name].row(tenant, entity_id) if _is_id(entity_id) else None
    if row is None:
        raise ApiError("not-found", f"there is no {noun} of this id")
    return row


def _is_id(text: str) -> bool:
    return len(text) <= 64 and "\0" not in text and text.isascii()


def _of_model(service: Service, model: Model, about: dict[str, Any]) -> list[Endpoint]:
    noun = about["noun"]

    async def kinds_for(caller: Caller) -> Kinds:
        if caller.actor == SYSTEM:
            return lambda assignees, project: _SYSTEM
        member = await service.members.one(caller.tenant, caller.actor)
        return lambda assignees, project: kinds_of(caller, member, assignees, project)

    async def get(call: Call) -> Response:
        parameters = call.parameters()
        if parameters:
            await settled(service, parameters, model.name)
            nothing_else(parameters, ("min_position",))
        row = await one_row(service, model, call.caller.tenant, call.id, noun)
        return Ready(model.shown((row,), service.clock(), await kinds_for(call.caller))[0])

    async def page(call: Call) -> Response:
        parameters = call.parameters()
        await settled(service, parameters, model.name)
        limit = number(parameters, "limit", DEFAULT_LIMIT, 1, MOST_LIMIT)
        sort, cursor = one(parameters, "sort"), one(parameters, "cursor")
        filters = {name: _value(values) for name, values in parameters.items()}
        if filters.get(PERSON) is not None:
            filters[PERSON] = await _members(service, call.caller.tenant, parameters[PERSON])
        # One row more than is shown tells whether another page follows.
        query = model.listing.page(call.caller.tenant, filters, sort, cursor, limit + 1)
        rows = await service.pool.fetch(*query)
        follow = b"null"
        if len(rows) > limit:
            del rows[limit:]
            follow = _encode(_next(call, model.listing.cursor(rows[-1], sort)))
        data = b",".join(model.shown(rows, service.clock(), await kinds_for(call.caller)))
        return Ready(b'{"data":[%b],"next":%b}' % (data, follow))

    return [
        Endpoint("GET", about["path"], "read", page, about["page"]),
        Endpoint("GET", f"{about['path']}/{{id}}", "read", get, about["get"]),
    ]


async def _members(service: Service, tenant: str, references: list[str]) -> list[str]:
    """Return the ids of the members that a filter names; nobody, when it names nobody."""
    found = await service.members.named(tenant, references, PERSON)
    return [member for members in found.values() for member in members]


def _next(call: Call, cursor: str) -> str:
    """Return the same question with another cursor, which needs no escaping."""
    parts = call.scope["query_string"].decode("latin-1").split("&")
    kept = [part for part in parts if part and not part.startswith(("cursor=", "min_position="))]
    return f"{call.scope['path']}?{'&'.join([*kept, f'cursor={cursor}'])}"


def _value(values: list[str]) -> Any:
    """Return a filter's value: several when it is repeated, none at all when it is empty."""
    if len(values) > 1:
        return values
    return values[0] or None


def _explain(service: Service) -> Callable[[Call], Any]:
    async def explain(call: Call) -> Response:
        parameters = call.parameters()
        await settled(service, parameters, activities.NAME)
        nothing_else(parameters, ("min_position",))
        row = await one_row(service, ACTIVITIES, call.caller.tenant, call.id, "activity")
        return Response(_encode(activities.explain(row)), 200, media_type=JSON)

    return explain


def _history(service: Service, model: Model, ask: Callable[..., Query], noun: str) -> Callable[[Call], Any]:
    async def read(call: Call) -> Response:
        parameters = call.parameters()
        await settled(service, parameters, history.NAME)
        limit = number(parameters, "limit", DEFAULT_LIMIT, 1, MOST_LIMIT)
        after = number(parameters, "cursor", 0, 0)
        nothing_else(parameters, ("limit", "cursor", "min_position"))
        tenant, entity_id = call.caller.tenant, call.id
        rows = await service.pool.fetch(*ask(tenant, entity_id, after, limit + 1)) if _is_id(entity_id) else []
        if not rows and after == 0:
            await one_row(service, model, tenant, entity_id, noun)
        follow = b"null"
        if len(rows) > limit:
            del rows[limit:]
            follow = _encode(_next(call, str(rows[-1][1])))
        data = b",".join([history.resource_bytes(row) for row in rows])
        return Response(b'{"data":[%b],"next":%b}' % (data, follow), 200, media_type=JSON)

    return read
