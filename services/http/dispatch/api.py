"""The dispatch dialect's endpoints: activities that go out over a channel, on the same commands and read models."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from projections import tasks
from services.http.actions import Done, change
from services.http.core.errors import ApiError
from services.http.core.middleware import header
from services.http.core.service import Service
from services.http.dispatch import configuration, examples
from services.http.dispatch.answers import accepted, as_json
from services.http.dispatch.create import create
from services.http.dispatch.errors import failed
from services.http.dispatch.lists import list_activities
from services.http.dispatch.shapes import (
    activity,
    attributes,
    create_data,
    fields_of,
    people_of,
    result_data,
    targets,
    text,
)
from services.http.dispatch.status_events import status_events
from services.http.endpoints import Call, Endpoint, Handler, nothing_else, number
from services.http.native.queries import TASKS, one_row, settled

VIEW, CREATE, CANCEL, DISPATCH = "VIEW_ACTIVITIES", "CREATE_ACTIVITY", "CANCEL_ACTIVITY", "DISPATCH_ACTIVITY"
_PATH = "/api/activities"


def endpoints(service: Service) -> list[Endpoint]:
    """Return the endpoints of the dialect."""
    # (method, path, permission, handler, documentation); who submits results is who creates, an agent at work.
    found = [
        ("POST", f"{_PATH}/tasks", CREATE, _create(service), examples.CREATE),
        ("GET", _PATH, VIEW, _page(service), examples.LIST),
        ("GET", f"{_PATH}/{{id}}", VIEW, _get(service), examples.GET),
        ("GET", f"{_PATH}/{{id}}/attributes", VIEW, _part(service, attributes), examples.ATTRIBUTES),
        ("GET", f"{_PATH}/{{id}}/target-users", VIEW, _part(service, targets), examples.TARGETS),
        ("GET", f"{_PATH}/{{id}}/status-events", VIEW, _status_events(service), examples.STATUS_EVENTS),
        ("PATCH", f"{_PATH}/{{id}}/cancel", CANCEL, _cancel(service), examples.CANCEL),
        (
            "PATCH",
            f"{_PATH}/{{id}}/retry-resolution",
            DISPATCH,
            _act(service, "task.retry-resolution"),
            examples.RETRY_RESOLUTION,
        ),
        (
            "PATCH",
            f"{_PATH}/{{id}}/target-users/{{target_id}}/resolve",
            DISPATCH,
            _resolve(service),
            examples.RESOLVE,
        ),
        ("POST", f"{_PATH}/tasks/{{id}}/dispatch", DISPATCH, _dispatch(service), examples.DISPATCH),
        ("POST", "/api/activity-results/tasks", CREATE, _result(service), examples.RESULT),
        *configuration.endpoints(service),
    ]
    return [
        Endpoint(method, path, permission, _of_tenant(handler), about, failed)
        for method, path, permission, handler, about in found
    ]


def _of_tenant(handler: Handler) -> Handler:
    """Refuse a request for another tenant than the token's own; a request need not say which one it is for."""

    async def served(call: Call) -> Response:
        for name, value in call.scope["headers"]:
            if name == b"x-tenant-id" and value.decode("latin-1").strip() != call.caller.tenant:
                raise ApiError("forbidden", "the token is of another tenant", parameter="x-tenant-id")
        return await handler(call)

    return served


async def _optional_body(call: Call) -> Any:
    """Return the body of a request that may do without one."""
    if header(b"transfer-encoding") is None and (header(b"content-length") or "0") == "0":
        return {}
    return await call.json()


def _create(service: Service) -> Handler:
    async def post(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        data, key = create_data(await call.json())
        answered, shown = await create(service, call.caller, data, key)
        return as_json(shown, 201) if shown else accepted(answered)

    return post


def _page(service: Service) -> Handler:
    async def page(call: Call) -> Response:
        parameters = call.parameters()
        await settled(service, parameters, TASKS.name)
        return as_json(await list_activities(service, call.caller.tenant, parameters))

    return page


async def _read(service: Service, call: Call) -> dict[str, Any]:
    parameters = call.parameters()
    await settled(service, parameters, TASKS.name)
    nothing_else(parameters, ("min_position",))
    row = await one_row(service, TASKS, call.caller.tenant, call.id, "activity")
    return tasks.resource(row, service.clock())


def _get(service: Service) -> Handler:
    async def get(call: Call) -> Response:
        return await _shown(service, call, await _read(service, call))

    return get


def _part(service: Service, shape: Any) -> Handler:
    async def get(call: Call) -> Response:
        return as_json(shape(await _read(service, call)))

    return get


def _status_events(service: Service) -> Handler:
    async def get(call: Call) -> Response:
        parameters = call.parameters()
        await _demand_position(service, number(parameters, "min_position", 0, 0))
        nothing_else(parameters, ("min_position",))
        return as_json(await status_events(service, call.caller.tenant, call.id))

    return get


async def _demand_position(service: Service, position: int) -> None:
    """Refuse a position beyond the log's end; the log itself is never late, so there is nothing to wait for."""
    positions = service.positions
    if position > positions.head:
        await positions.refresh()
        if position > positions.head:
            detail = f"the log ends at position {positions.head}"
            raise ApiError("position-beyond-head", detail, parameter="min_position")


async def _shown(service: Service, call: Call, task: dict[str, Any], done: Done | None = None) -> Response:
    events = done.events if done is not None else ()
    return as_json(activity(task, await service.members.by_id(call.caller.tenant, people_of(task), events)))


async def _changed(service: Service, call: Call, name: str, data: dict[str, Any]) -> Response:
    nothing_else(call.parameters(), ())
    done = await change(service, call.caller, name, data)
    return accepted(done.answered) if done.resource is None else await _shown(service, call, done.resource, done)


def _act(service: Service, name: str) -> Handler:
    async def patch(call: Call) -> Response:
        return await _changed(service, call, name, {"id": call.id})

    return patch


def _cancel(service: Service) -> Handler:
    async def patch(call: Call) -> Response:
        given = fields_of(await _optional_body(call), ("reason",))
        return await _changed(service, call, "task.cancel", {"id": call.id, **given})

    return patch


def _resolve(service: Service) -> Handler:
    async def patch(call: Call) -> Response:
        given = fields_of(await call.json(), ("user_id",))
        data = {"id": call.id, "target": call.part("target_id"), "user": text(given, "user_id")}
        return await _changed(service, call, "task.resolve-target", data)

    return patch


def _dispatch(service: Service) -> Handler:
    async def post(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        done = await change(service, call.caller, "task.dispatch", {"id": call.id})
        return accepted(done.answered) if done.reply is None else Response(status_code=204)

    return post


def _result(service: Service) -> Handler:
    async def post(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        data = result_data(await call.json())
        done = await change(service, call.caller, "task.submit-result", data)
        if done.resource is None:
            return accepted(done.answered)
        members = await service.members.by_id(call.caller.tenant, people_of(done.resource), done.events)
        shown = activity(done.resource, members)
        body = {
            "activityId": shown["id"],
            "result": data["result"],
            "hardOverride": data.get("hard_override", False),
            "data": data.get("data", {}),
            "comment": data.get("comment"),
            "status": shown["status"],
        }
        return as_json(body, 201)

    return post
