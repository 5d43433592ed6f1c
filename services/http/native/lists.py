"""The queries of the native API's resources: activities, tasks and their history, and the directory.

Resources are the read models' own bytes. The commands that the caller may send are added to activities and tasks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from pydantic import Field
from starlette.responses import Response

from domain.decider import SYSTEM
from domain.lifecycle import ASSIGNEE, OTHER, TABLE, Lifecycle, activity_actions, allowed_actions
from domain.limits import Number
from domain.streams import ENTRY_KINDS, ID
from projections import activities, directory, history
from projections.listing import PERSON, Listing
from projections.statement import Query as Statement
from projections.support.rendering import Kinds, Renderer
from projections.task import table as tasks
from services.http.core import past, tags
from services.http.core.call import Call, Documents, Ready, as_json
from services.http.core.entities import entry
from services.http.core.errors import ApiError
from services.http.core.middleware import header
from services.http.core.models import Json
from services.http.core.parameters import AsOf, MinPosition, Position, one, settled
from services.http.core.submit import Entity
from services.http.native.counts import by_status
from services.http.native.models import Explanation

_encode = msgspec.json.Encoder().encode
_ACTIONS = b',"allowed_actions":'
_ENTITIES = {kind: entry(kind) for kind in ENTRY_KINDS}


class _Page(MinPosition):
    limit: Annotated[int, Number(1, 500)] = Field(50, description="Rows of a page")


class ListResources(_Page):
    """The page of a list, beside filters and an order."""

    cursor: str | None = Field(None, description="What `next` of the page before says")


class CountedList(ListResources):
    """The page of a list of resources that have a status."""

    counts: Literal["status"] | None = Field(
        None,
        description="Say beside the page how many there are by status, of what the filters but `status` find; left out"
        " when that takes too long",
    )


class ListTasks(CountedList, AsOf):
    """The page of a list of tasks; of an activity's as they were, too."""


class ListHistory(_Page):
    """The page of a history."""

    cursor: Position = Field(0, description="The last position seen")
    sort: Literal["position", "-position"] = Field("position", description="`-position` has the newest events first")


class GetEntry(MinPosition):
    """The parameters of reading an entry."""

    retired: bool = Field(False, description="Retired entries too")


class ListEntries(ListResources, GetEntry):
    """The page of entries."""


# Activities and tasks.


async def _kinds_for(call: Call) -> Kinds:
    """Return the kinds of the caller for a resource; a manager who took a task still manages it."""
    caller = call.caller
    if caller.actor == SYSTEM:
        return lambda assignees, project: (SYSTEM,)
    member = await call.service.members.one(caller.tenant, caller.actor)

    def kinds(assignees: Sequence[str], project: str | None) -> tuple[str, ...]:
        own = (ASSIGNEE,) if caller.actor in assignees else ()
        other = OTHER if member is None else member.standing(project)
        return own if own and other == OTHER else (*own, other)

    return kinds


def _task_actions(
    kinds: Sequence[str], status: str, assigned: bool, resolution: str, dispatchable: bool, assignable: bool
) -> Sequence[str]:
    state = Lifecycle[status.upper()]
    possible = {
        name
        for kind in kinds
        for name in allowed_actions(
            state, assigned, kind, resolution=resolution, dispatchable=dispatchable, assignable=assignable
        )
    }
    return [name for name in TABLE if name in possible]


def _activity_actions(kinds: Sequence[str], status: str) -> Sequence[str]:
    return list(dict.fromkeys(name for kind in kinds for name in activity_actions(Lifecycle[status.upper()], kind)))


@dataclass(frozen=True, slots=True)
class Model:
    """The queries of a read model: its filters, how its rows are rendered, and its history."""

    noun: str
    name: str
    listing: Listing
    render: Renderer
    events: Callable[..., Statement]
    query: type[CountedList] = CountedList

    async def row(self, call: Call) -> Sequence[Any]:
        """Return a row by id; raises `ApiError`. Ids of other tenants do not exist."""
        found = await past.row(call, self.name, call.id)
        if found is None:
            raise ApiError("not-found", f"there is no {self.noun} of this id")
        return found

    async def get(self, call: Call) -> Response:
        """Answer with one resource."""
        if call.scope["query_string"] or header(b"foldwork-position") is not None:
            await settled(call, AsOf.read(call), self.name)
        row = await self.row(call)
        (shown,) = self.render((row,), call.now, await _kinds_for(call))
        # What the caller may do comes last, and is the caller's own.
        return _one(shown, tags.tag(self.render.mark(row), shown[shown.rindex(_ACTIONS) :]))

    async def page(self, call: Call) -> Response:
        """Answer with a page of resources."""
        service, tenant, parameters = call.service, call.caller.tenant, call.parameters()
        query = self.query.take(parameters)
        await settled(call, query, self.name)
        sort = one(parameters, "sort")
        # Several values if it is repeated, none if it is empty.
        filters = {name: texts if len(texts) > 1 else texts[0] or None for name, texts in parameters.items()}
        if filters.get(PERSON) is not None:
            named = await service.members.named(tenant, parameters[PERSON], PERSON)
            filters[PERSON] = [member for members in named.values() for member in members]
        await past.take_tasks(call, filters.get("activity_id"), "activity_id")
        asked = self.listing.page(tenant, filters, sort, query.cursor, query.limit + 1)
        found, counts = await asyncio.gather(
            call.documents(asked), by_status(call, self.listing, filters) if query.counts else _nothing()
        )
        kinds, now = await _kinds_for(call), call.now
        return await _page(
            call,
            found,
            query.limit,
            lambda row: self.listing.cursor(row, sort),
            lambda rows: self.render(rows, now, kinds),
            counts,
        )

    async def history(self, call: Call) -> Response:
        """Answer with a page of the events of one resource."""
        query = ListHistory.read(call)
        await settled(call, query, history.NAME)
        found = Documents([])
        if ID.match(call.id):
            cursor = query.cursor if "cursor" in query.model_fields_set else None
            newest = query.sort == "-position"
            asked = self.events(call.caller.tenant, call.id, cursor, query.limit + 1, newest=newest)
            found = await call.documents(asked)
        if not found.rows and query.cursor == 0:
            await self.row(call)
        return await _page(
            call, found, query.limit, lambda row: str(row[1]), lambda rows: map(history.resource_bytes, rows)
        )


TASKS = Model(
    "task",
    tasks.NAME,
    tasks.LISTING,
    Renderer(
        tasks.Shown,
        tasks.work,
        lambda task: (task.status, bool(task.assignees), task.resolution, task.dispatchable, task.assignable),
        _task_actions,
    ),
    history.of_task,
    ListTasks,
)
ACTIVITIES = Model(
    "activity",
    activities.NAME,
    activities.LISTING,
    Renderer(activities.Shown, activities.work, lambda activity: (activity.status,), _activity_actions),
    history.of_activity,
)


def _one(shown: bytes, tag: str) -> Response:
    """Answer with one resource and its tag, unless the caller has it already."""
    return tags.unchanged(tag) or Ready(shown, tags.raw_headers(tag))


async def _page(
    call: Call,
    found: Documents,
    limit: int,
    cursor: Callable[[Any], str],
    render: Callable[[list[Any]], Iterable[bytes]],
    counts: list[Json] | None = None,
) -> Response:
    """Answer with a page. There is another one, which begins at a cursor, if there is a row more than its limit.

    Or if not all rows are there, since their documents are too large together.
    """
    rows, follow = found.rows[:limit], None
    if found.left or len(found.rows) > limit:
        follow = next_page(call, cursor(rows[-1]))
    said = b"" if counts is None else b',"counts":%b' % _encode(counts)
    return await call.worked(
        lambda: Ready(b'{"data":[%b],"next":%b%b}' % (b",".join(render(rows)), _encode(follow), said))
    )


async def _nothing() -> None:
    """Count nothing."""


def next_page(call: Call, cursor: str) -> str:
    """Return the address of the same list from a cursor on, which needs no escaping; its counts are those of before."""
    parts = call.scope["query_string"].decode("latin-1").split("&")
    kept = [part for part in parts if part and not part.startswith(("cursor=", "counts=", "min_position="))]
    return f"{call.scope['raw_path'].decode('latin-1')}?{'&'.join([*kept, f'cursor={cursor}'])}"


async def explain(call: Call) -> Response:
    """Answer with the rule that gave an activity its status."""
    await settled(call, AsOf.read(call), activities.NAME)
    return as_json(Explanation.show(activities.explain(await ACTIVITIES.row(call))))


# The directory.


def entity_of(call: Call) -> Entity:
    """Return the entries of the kind in the path."""
    kind = call.parts["kind"]
    if kind not in _ENTITIES:
        raise ApiError("not-found", f"the directory's kinds are {', '.join(_ENTITIES)}")
    return _ENTITIES[kind]


async def list_entries(call: Call) -> Response:
    """Answer with a page of the entries of a kind."""
    kind, query = entity_of(call).noun, ListEntries.read(call)
    await settled(call, query, directory.NAME)
    if query.cursor is not None and not ID.match(query.cursor):
        raise ApiError("bad-cursor", "a cursor is what `next` of the page before says", parameter="cursor")
    retired = None if query.retired else False
    statement = directory.page(call.caller.tenant, kind, query.cursor, query.limit + 1, retired=retired)
    found = await call.documents(statement)
    return await _page(
        call, found, query.limit, lambda row: str(row[1]), lambda rows: map(directory.resource_bytes, rows)
    )


async def get_entry(call: Call) -> Response:
    """Answer with one entry."""
    entity, query = entity_of(call), GetEntry.read(call)
    await settled(call, query, directory.NAME)
    row = await entity.row(call.service, call.caller.tenant, call.id) if entity.may_be(call.id) else None
    found = directory.resource(row) if row is not None else None
    if row is None or found is None or (not query.retired and found["retired"]):
        raise entity.unknown()
    return _one(directory.resource_bytes(row), tags.tag_of(found, None))
