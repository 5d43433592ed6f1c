"""Activities and tasks in the field dialect: created, read, changed and deleted, each write by one command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from domain.streams import ID, stream_of
from domain.task import TaskCreated
from projections import activities, directory, tasks
from services.http.actions import Done, change, create
from services.http.auth import Caller
from services.http.endpoints import Call, Endpoint, nothing_else
from services.http.field import examples
from services.http.field.answers import accepted, answer, emails
from services.http.field.errors import failed
from services.http.field.lists import list_tasks
from services.http.field.requests import changed_activity, changed_task, new_activity, new_task
from services.http.field.shapes import child, created_master, master, people_of
from services.http.problems import Refused
from services.http.queries import ACTIVITIES, TASKS, one_row, settled
from services.http.service import Service
from services.store import log
from services.store.log import LogRow

_Shape = Callable[[Mapping[str, Any], str, Mapping[str, str]], dict[str, Any]]
_SHAPES: Mapping[str, _Shape] = {"task": child, "activity": master}
_MODELS = (activities.NAME, tasks.NAME, directory.NAME)


@dataclass(frozen=True, slots=True)
class _Found:
    """What an id of this dialect names: an activity, a child or a task that stands alone."""

    noun: str
    activity_id: str | None = None


def endpoints(service: Service) -> list[Endpoint]:
    """Return the endpoints of activities and tasks."""

    async def create_activity(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        data = new_activity(await call.json())
        done = await create(service, call.caller, "activity.create", data, "activity")
        if done.resource is None:
            return accepted(done.answered, "Activity")
        shown = created_master(done.resource, call.caller.tenant, await _emails(service, call, done))
        return answer({"status": True, "code": 201, "message": "Activity created successfully", "data": shown}, 201)

    async def create_task(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        done = await create(service, call.caller, "task.create", new_task(await call.json()), "task")
        if done.resource is None:
            return accepted(done.answered, "Task")
        shown = child(done.resource, call.caller.tenant, await _emails(service, call, done))
        return answer({"status": True, "code": 201, "message": "Task created successfully", "task": shown}, 201)

    async def page(call: Call) -> Response:
        parameters = call.parameters()
        await settled(service, parameters, *_MODELS)
        return answer(await list_tasks(service, call, parameters))

    async def get(call: Call) -> Response:
        parameters = call.parameters()
        await settled(service, parameters, *_MODELS)
        nothing_else(parameters, ("min_position",))
        return await _get(service, call)

    async def put(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        body = await call.json()
        found = await _found(service, call)
        done = await _changed(service, call.caller, call.id, found, body)
        return await _written(service, call, found, done, "updated")

    async def delete(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        found = await _found(service, call)
        if found.activity_id is not None:
            raise Refused("child", f"the task is a part of activity {found.activity_id}; delete that")
        done = await change(service, call.caller, f"{found.noun}.cancel", {"id": call.id}, found.noun)
        return await _written(service, call, found, done, "deleted")

    return [
        Endpoint("POST", "/api/v3/activity", "write", create_activity, examples.CREATE_ACTIVITY, failed),
        Endpoint("POST", "/api/v3/task", "write", create_task, examples.CREATE_TASK, failed),
        Endpoint("GET", "/api/v3/tasks", "read", page, examples.LIST_TASKS, failed),
        Endpoint("GET", "/api/v3/task/{id}", "read", get, examples.GET_TASK, failed),
        Endpoint("PUT", "/api/v3/task/{id}", "write", put, examples.UPDATE_TASK, failed),
        Endpoint("DELETE", "/api/v3/task/{id}", "write", delete, examples.DELETE_TASK, failed),
    ]


async def _get(service: Service, call: Call) -> Response:
    tenant = call.caller.tenant
    try:
        row = await one_row(service, TASKS, tenant, call.id, "task")
        resource, shape = tasks.resource(row, service.clock()), _SHAPES["task"]
    except Refused as refused:
        if refused.code != "not-found":
            raise
        row = await one_row(service, ACTIVITIES, tenant, call.id, "task")
        resource, shape = activities.resource(row, service.clock()), _SHAPES["activity"]
    shown = shape(resource, tenant, await emails(service, tenant, people_of(resource)))
    return answer({"status": True, "message": "Task found", "task": shown})


async def _found(service: Service, call: Call) -> _Found:
    """Return what the id in the path names, a task before an activity; refuse one that names neither."""
    tenant = call.caller.tenant
    if ID.match(call.id):
        streams = [stream_of(tenant, category, call.id) for category in ("task", "activity")]
        # From the log, so that what was created a moment ago is found however late the views are.
        rows = [LogRow(*row) for row in await service.database.fetch(*log.first_events(streams))]
        for stream in streams:
            for row in rows:
                if row.stream == stream:
                    event = row.recorded()
                    made = event.data
                    return _Found(event.category, made.activity_id if isinstance(made, TaskCreated) else None)
    raise Refused("not-found", "there is no task of this id")


async def _changed(service: Service, caller: Caller, entity_id: str, found: _Found, body: Any) -> Done:
    if found.noun == "activity":
        data = {**changed_activity(body), "id": entity_id}
        return await change(service, caller, "activity.change", data, "activity")
    data = {**changed_task(body), "id": entity_id}
    return await change(service, caller, "task.change", data)


async def _written(service: Service, call: Call, found: _Found, done: Done, what: str) -> Response:
    noun = "Task" if found.noun == "task" else "Activity"
    if done.resource is None:
        return accepted(done.answered, noun)
    shown = _SHAPES[found.noun](done.resource, call.caller.tenant, await _emails(service, call, done))
    return answer({"status": True, "message": f"{noun} {what} successfully", "task": shown})


async def _emails(service: Service, call: Call, done: Done) -> dict[str, str]:
    return await emails(service, call.caller.tenant, people_of(done.resource or {}), done.events)
