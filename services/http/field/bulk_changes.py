"""Many tasks and activities changed, assigned, moved or deleted by one request, each by a command of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, ClassVar

from starlette.responses import Response

from domain.streams import ID
from services.commands.wire import InvalidMessage
from services.http.core.bulks import NOT_TAKEN, Change, prepared, seconds_for
from services.http.core.call import Call
from services.http.core.entities import TASK
from services.http.core.errors import ApiError, unavailable
from services.http.core.models import Json
from services.http.core.operation import Operation
from services.http.core.parameters import nothing_else
from services.http.core.shown import CamelRequest
from services.http.field.bulk import BulkAccepted, BulkDone, BulkRequest, answered, counted, demand_once
from services.http.field.dialect import FIELD
from services.http.field.documents import Changes, Found, change_of, find_all
from services.http.field.requests import Assignment, Move

# Tasks that are looked up at once; each may be as large as a task can be.
_STRETCH = 20
_IDS = ("019a3d5e-3c1f-7a64", "019a3d5e-3c1f-7a65")


class TaskChanges(BulkRequest):
    """Tasks and activities with their ids as `_id`, each as for the same method of /api/v3/task/{id}."""

    example: ClassVar[Json] = {"tasks": [{"_id": own, "receivedBy": "Jane Smith"} for own in _IDS]}


class Assignments(BulkRequest):
    """Tasks with their ids as `_id`, each as for PUT /api/v3/task/{id}/assign."""

    example: ClassVar[Json] = {"tasks": [{"_id": own, **Assignment.example} for own in _IDS]}


class Moves(BulkRequest):
    """Tasks and activities with their ids as `_id`, each as for PUT /api/v3/task/{id}/move."""

    example: ClassVar[Json] = {"tasks": [{"_id": own, **Move.example} for own in _IDS]}


class Deletions(BulkRequest):
    """Tasks that stand alone, and activities, each with nothing but its `_id`."""

    example: ClassVar[Json] = {"tasks": [{"_id": own} for own in _IDS]}


class _Nothing(CamelRequest):
    """Nothing but the id."""


# Tasks of a request whose documents are compared at the same time.
_LOOKUPS = 2
# Makes what is asked of a task of what is said of it, or raises why it is nothing.
_Maker = Callable[[Call, Found, Json], Awaitable[Change]]


def _by(one: Found, changes: Changes, verb: str = "change") -> Change:
    # A task of an activity is decided where the activity is.
    request, version, extra = changes
    return Change(request, f"{one.entity.noun}.{verb}", one.id, one.master or one.id, version, extra)


async def _changed(call: Call, one: Found, body: Json) -> Change:
    return _by(one, await change_of(call, one, body, replaces=call.scope["method"] == "PUT"))


async def _assigned(call: Call, one: Found, body: Json) -> Change:
    if not one.is_task:
        raise TASK.unknown()
    return _by(one, Changes(Assignment.read(body), None, {}))


async def _moved(call: Call, one: Found, body: Json) -> Change:
    return _by(one, Changes(Move.read(body), None, {}))


async def _deleted(call: Call, one: Found, body: Json) -> Change:
    one.demand_no_child()
    return _by(one, Changes(_Nothing.read(body), None, {}), "cancel")


async def _each(kind: type[BulkRequest], make: _Maker, call: Call) -> Response:
    """Carry out what is asked of each task, in the caller's time or in the background."""
    nothing_else(call.parameters())
    began = asyncio.get_running_loop().time()
    request = kind.read(await call.json())
    names, asked = counted(map(_id, request.tasks)), list[Change | ApiError]()

    # What each is asked for is looked up on the connections of single reads, of which others need some, too.
    turns = asyncio.Semaphore(_LOOKUPS)

    async def one(task: Any, there: dict[str, Found]) -> Change | ApiError:
        try:
            own = _id(task)
            if own is None:
                raise _without_id(task)
            demand_once(names, own, "_id")
            if own not in there:
                raise TASK.unknown()
            async with turns:
                return await make(call, there[own], {key: value for key, value in task.items() if key != "_id"})
        except (ApiError, InvalidMessage) as error:
            return ApiError.caused_by(error)

    try:
        # The other half of the time is for the commands.
        async with asyncio.timeout_at(began + seconds_for(call.service, len(request.tasks)) / 2):
            for start in range(0, len(request.tasks), _STRETCH):
                tasks = request.tasks[start : start + _STRETCH]
                there = await find_all(call, [own for own in map(_id, tasks) if own is not None])
                asked += await asyncio.gather(*(one(task, there) for task in tasks))
    except TimeoutError:
        asked += [unavailable(NOT_TAKEN)] * (len(request.tasks) - len(asked))

    def read(index: int, _: Any) -> Change:
        change = asked[index]
        if isinstance(change, ApiError):
            raise change
        return change

    bulk = await prepared(call, "task.change", request.tasks, read, _id, began=began)
    await bulk.carry_out(TASK.models, request.background)
    return answered(bulk, lambda item: {"id": item.ref, "ref_id": None}, "Success", 200)


def _id(task: Any) -> str | None:
    own = task.get("_id") if isinstance(task, dict) else None
    return own if isinstance(own, str) and ID.match(own) else None


def _without_id(task: Any) -> ApiError:
    if not isinstance(task, dict):
        return ApiError("wrong-shape", "a task is an object")
    if task.get("_id") is None:
        return ApiError("wrong-shape", "_id is required", "/_id")
    return TASK.unknown()


def _operation(
    method: str,
    path: str,
    name: str,
    summary: str,
    request: type[BulkRequest],
    make: _Maker,
    gives: tuple[str, ...],
    said: str = "",
) -> Operation:
    return Operation(
        FIELD, method, f"/api/v3/tasks/bulk{path}", "write", name, summary,
        description="The tasks of the answer stand in the request's order. One that fails does not stop the others."
        f" With an `Idempotency-Key` each takes effect once under its `_id`.{said}",
        request=request, gives=gives, handler=partial(_each, request, make), view=BulkDone, also={202: BulkAccepted},
        refusals=(400, 408, 413, 415, 422), topic="bulk", bulk=True,
    )  # fmt: skip


_CHANGES = ("task.change", "activity.change")

OPERATIONS = (
    _operation(
        "PUT", "", "field_bulk_update_tasks", "Change many tasks and activities, each by itself", TaskChanges, _changed,
        _CHANGES, " One with a `flow` is the whole of a task.",
    ),
    _operation(
        "PATCH", "", "field_bulk_patch_tasks", "Change some of many tasks and activities, each by itself", TaskChanges,
        _changed, _CHANGES,
    ),
    _operation(
        "DELETE", "", "field_bulk_delete_tasks", "Cancel many activities, and tasks that stand alone, each by itself",
        Deletions, _deleted, ("activity.cancel", "task.cancel"),
    ),
    _operation(
        "PUT", "/assign", "field_bulk_assign_tasks", "Give many tasks to other people, each by itself", Assignments,
        _assigned, ("task.change",),
    ),
    _operation(
        "PUT", "/move", "field_bulk_move_tasks", "Move many tasks and activities to other hubs, each by itself", Moves,
        _moved, _CHANGES,
    ),
)  # fmt: skip
