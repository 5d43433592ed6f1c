"""Activities and tasks as they are: by id, in pages, with their history; and the log. The store's own bytes.

What a caller may do with each is added here, since only here it is known who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from pydantic import Field
from starlette.responses import Response

from domain import EVENTS
from domain.decider import SYSTEM
from domain.lifecycle import ASSIGNEE, MANAGER, OTHER
from domain.limits import Number
from domain.streams import ID
from projections import activities, directory, history
from projections.listing import PERSON, Listing
from projections.statement import Query as Asked
from projections.task import table as tasks
from services import cloud_events
from services.http.core.authenticator import Caller
from services.http.core.call import JSON, Call, Ready, as_json
from services.http.core.errors import ApiError
from services.http.core.members import Member
from services.http.core.parameters import MinPosition, Position, Query, one, settled
from services.http.native.rendering import Kinds, Renderer, shown_activities, shown_tasks
from services.http.native.views import Explanation
from services.store import log
from services.store.log import LogRow

_encode = msgspec.json.Encoder().encode
_SYSTEM = (SYSTEM,)
# How far one request looks for a tenant's events, so that a long stretch without any costs little and `next` moves on.
_WINDOW = 20_000


class _Limited(Query):
    limit: Annotated[int, Number(1, 500)] = Field(50, description="Rows of a page")


class _Paged(_Limited):
    cursor: str | None = Field(None, description="What `next` of the page before says")


class _After(_Limited):
    cursor: Position = Field(0, description="The last position seen")


class _Retired(Query):
    retired: bool = Field(False, description="Retired entries too")


class ListResources(MinPosition, _Paged):
    """Which page of a list is asked for, beside filters and an order."""


class ListHistory(MinPosition, _After):
    """Which page of a history is asked for."""


class GetEntry(MinPosition, _Retired):
    """How an entry is asked for."""


class ListEntries(MinPosition, _Retired, _Paged):
    """Which page of entries is asked for."""


class ListEvents(Query):
    """Which events are asked for."""

    after: Position = Field(0, description="The position to read on from")
    types: list[Annotated[str, Field(json_schema_extra={"enum": list(EVENTS)})]] | None = Field(
        None, alias="type", description="A type of event; may be repeated"
    )
    limit: Annotated[int, Number(1, 500)] = Field(100, description="Most events of an answer")


def kinds_of(caller: Caller, member: Member | None, assignees: Sequence[str], project: str | None) -> tuple[str, ...]:
    """Return what a caller is to a thing; a manager who took a task still manages it."""
    if caller.actor == SYSTEM:
        return _SYSTEM
    kinds = (ASSIGNEE,) if caller.actor in assignees else ()
    if member is not None and member.manages(project):
        return (*kinds, MANAGER)
    return kinds or (OTHER,)


async def _kinds_for(call: Call) -> Kinds:
    caller = call.caller
    if caller.actor == SYSTEM:
        return lambda assignees, project: _SYSTEM
    member = await call.service.members.one(caller.tenant, caller.actor)
    return lambda assignees, project: kinds_of(caller, member, assignees, project)


@dataclass(frozen=True, slots=True)
class Model:
    """A read model as it is served: what may be asked of it, and how its rows are shown."""

    noun: str
    name: str
    listing: Listing
    shown: Renderer
    events: Callable[..., Asked]

    async def row(self, call: Call) -> tuple[Any, ...]:
        """Return a row by id, or refuse; another tenant's id reads like one that nobody has."""
        # What is no id cannot be there, and is not worth asking for.
        row = await call.service.loaders[self.name].row(call.caller.tenant, call.id) if _is_id(call.id) else None
        if row is None:
            raise ApiError("not-found", f"there is no {self.noun} of this id")
        return row

    async def get(self, call: Call) -> Response:
        """Answer with one resource."""
        if call.scope["query_string"]:
            await settled(call, MinPosition.read(call), self.name)
        row = await self.row(call)
        return Ready(self.shown((row,), call.service.clock(), await _kinds_for(call))[0])

    async def page(self, call: Call) -> Response:
        """Answer with a page of resources."""
        service, tenant, parameters = call.service, call.caller.tenant, call.parameters()
        query = ListResources.take(parameters)
        await settled(call, query, self.name)
        sort = one(parameters, "sort")
        filters = {name: _value(values) for name, values in parameters.items()}
        if filters.get(PERSON) is not None:
            named = await service.members.named(tenant, parameters[PERSON], PERSON)
            # Nobody, when it names nobody.
            filters[PERSON] = [member for members in named.values() for member in members]
        # One row more than is shown tells whether another page follows.
        asked = self.listing.page(tenant, filters, sort, query.cursor, query.limit + 1)
        rows = await service.pool.fetch(*asked)
        follow = None
        if len(rows) > query.limit:
            del rows[query.limit :]
            follow = _next(call, self.listing.cursor(rows[-1], sort))
        return page_of(self.shown(rows, service.clock(), await _kinds_for(call)), follow)

    async def history(self, call: Call) -> Response:
        """Answer with a page of what happened to one resource."""
        query = ListHistory.read(call)
        await settled(call, query, history.NAME)
        rows: list[Any] = []
        if _is_id(call.id):
            asked = self.events(call.caller.tenant, call.id, query.cursor, query.limit + 1)
            rows = await call.service.pool.fetch(*asked)
        if not rows and query.cursor == 0:
            await self.row(call)
        follow = None
        if len(rows) > query.limit:
            del rows[query.limit :]
            follow = _next(call, str(rows[-1][1]))
        return page_of([history.resource_bytes(row) for row in rows], follow)


TASKS = Model("task", tasks.NAME, tasks.LISTING, shown_tasks, history.of_task)
ACTIVITIES = Model("activity", activities.NAME, activities.LISTING, shown_activities, history.of_activity)


def page_of(resources: Sequence[bytes], follow: str | None) -> Ready:
    """Return a page of resources, with the address of the next one."""
    return Ready(b'{"data":[%b],"next":%b}' % (b",".join(resources), _encode(follow)))


def _is_id(text: str) -> bool:
    return len(text) <= 64 and "\0" not in text and text.isascii()


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


async def explain(call: Call) -> Response:
    """Answer with why an activity has its status."""
    await settled(call, MinPosition.read(call), activities.NAME)
    return as_json(Explanation.show(activities.explain(await ACTIVITIES.row(call))))


async def page_of_entries(call: Call, kind: str) -> Response:
    """Answer with a page of the directory's entries of a kind."""
    query = ListEntries.read(call)
    await settled(call, query, directory.NAME)
    if query.cursor is not None and not ID.match(query.cursor):
        raise ApiError("bad-cursor", "a cursor is what `next` of the page before says", parameter="cursor")
    limit, retired = query.limit, query.retired
    asked = directory.page(call.caller.tenant, kind, query.cursor, limit + 1, retired=None if retired else False)
    rows = await call.service.pool.fetch(*asked)
    follow = None
    if len(rows) > limit:
        del rows[limit:]
        follow = f"/v1/directory/{kind}?cursor={rows[-1][1]}&limit={limit}{'&retired=true' if retired else ''}"
    return page_of([directory.resource_bytes(row) for row in rows], follow)


async def events(call: Call) -> Response:
    """Answer with a tenant's own events in order of position, the same bytes as are published."""
    query, pool = ListEvents.read(call), call.service.pool
    for name in query.types or ():
        if name not in EVENTS:
            raise ApiError("bad-filter", f"{name[:100]!r} is no type of event", parameter="type")
    head = int((await pool.fetch(log.HEAD))[0][0])
    if query.after > head:
        raise ApiError("position-beyond-head", f"the log ends at position {head}", parameter="after")
    end = min(query.after + _WINDOW, head)
    asked = log.events_of_tenant(call.caller.tenant, query.after, end, query.types, query.limit)
    rows = await pool.fetch(*asked) if end > query.after else []
    found = b",".join([cloud_events.cloud_event(LogRow(*row)) for row in rows])
    follow = rows[-1][0] if len(rows) == query.limit else end
    return Response(b'{"events":[%b],"next":%d,"head":%d}' % (found, follow, head), media_type=JSON)
