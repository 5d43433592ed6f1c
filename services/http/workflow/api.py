"""The workflow dialect's endpoints: activities that a person works on, on the same commands and read models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.responses import Response

from projections import activities, directory, tasks
from services.http.actions import Done, change, command, shown
from services.http.core.command import idempotency_key
from services.http.core.errors import ApiError
from services.http.core.service import Service
from services.http.endpoints import Call, Endpoint, nothing_else
from services.http.native.queries import TASKS, one_row, settled
from services.http.workflow import examples
from services.http.workflow.answers import accepted, document, resources, whole
from services.http.workflow.bodies import account_of, body_of, comment_of, data_of, flag_of
from services.http.workflow.errors import failed
from services.http.workflow.listing import list_activities
from services.http.workflow.questions import taken_fields, taken_included
from services.http.workflow.shapes import work_unit

# Where the dialect speaks, beside the field dialect's own `/api/v3/workflow/{id}`.
PATHS = ("/api/v3/workflow/activities", "/api/v3/workflow/tracker/", "/api/v3/workflow/work_units/")
_PATH = "/api/v3/workflow/activities"

# A request as a command: its name and its data, but for the id.
Meant = tuple[str, dict[str, Any]]


def endpoints(service: Service) -> list[Endpoint]:
    """Return the endpoints of the dialect."""
    found = [
        ("GET", _PATH, "read", _page(service), examples.LIST),
        ("GET", f"{_PATH}/{{id}}", "read", _get(service), examples.GET),
        ("PATCH", f"{_PATH}/{{id}}", "write", _act(service, _save), examples.SAVE),
        ("PATCH", f"{_PATH}/{{id}}/assign", "write", _act(service, _assign), examples.ASSIGN),
        ("PATCH", f"{_PATH}/{{id}}/reassign", "write", _act(service, _reassign), examples.REASSIGN),
        ("PATCH", f"{_PATH}/{{id}}/unassign", "write", _act(service, _plain("task.unassign")), examples.UNASSIGN),
        ("PATCH", f"{_PATH}/{{id}}/process", "write", _act(service, _plain("task.process")), examples.PROCESS),
        ("PATCH", f"{_PATH}/{{id}}/complete", "write", _act(service, _complete), examples.COMPLETE),
        ("POST", f"{_PATH}/{{id}}/error", "write", _act(service, _error), examples.ERROR),
        ("POST", f"{_PATH}/{{id}}/cancel", "write", _act(service, _plain("task.cancel")), examples.CANCEL),
        ("POST", "/api/v3/workflow/tracker/pause", "write", _track(service, "pause"), examples.PAUSE),
        ("POST", "/api/v3/workflow/tracker/resume", "write", _track(service, "resume"), examples.RESUME),
        ("POST", "/api/v3/workflow/work_units/{id}/cancel", "write", _cancel_unit(service), examples.CANCEL_UNIT),
    ]
    return [
        Endpoint(method, path, permission, handler, about, failed) for method, path, permission, handler, about in found
    ]


def _page(service: Service) -> Callable[[Call], Awaitable[Response]]:
    async def page(call: Call) -> Response:
        return await list_activities(service, call)

    return page


def _get(service: Service) -> Callable[[Call], Awaitable[Response]]:
    async def get(call: Call) -> Response:
        parameters = call.parameters()
        await settled(service, parameters, tasks.NAME, activities.NAME, directory.NAME)
        included, fields = taken_included(parameters), taken_fields(parameters)
        nothing_else(parameters, ("included", "fields[type]", "min_position"))
        tenant = call.caller.tenant
        row = await one_row(service, TASKS, tenant, call.id, "activity")
        found = [tasks.resource(row, service.clock())]
        shown, beside = await resources(service, tenant, found, included, fields)
        return document({"data": shown[0], **({"included": beside} if included else {})})

    return get


def _act(service: Service, meaning: Callable[[Call], Awaitable[Meant]]) -> Callable[[Call], Awaitable[Response]]:
    """Give the command that a request means, and answer with the activity as it leaves it."""

    async def act(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        name, data = await meaning(call)
        return await _answer(service, call, await change(service, call.caller, name, {"id": call.id, **data}))

    return act


async def _answer(service: Service, call: Call, done: Done) -> Response:
    if done.resource is None:
        return accepted(done.answered)
    return document({"data": await whole(service, call.caller.tenant, done.resource, done.events)})


def _plain(name: str) -> Callable[[Call], Awaitable[Meant]]:
    async def meant(call: Call) -> Meant:
        await body_of(call, ())
        return name, {}

    return meant


async def _save(call: Call) -> Meant:
    return "task.save", {"data": data_of(await body_of(call, ("data",), ("data",)))}


async def _complete(call: Call) -> Meant:
    return "task.complete", {"data": data_of(await body_of(call, ("data",), ("data",)))}


async def _error(call: Call) -> Meant:
    comment = comment_of(await body_of(call, ("data",)))
    return "task.error", {} if comment is None else {"comment": comment}


async def _assign(call: Call) -> Meant:
    body = await body_of(call, ("account_id", "start_working", "self_assigning"), ("start_working",))
    account, start = account_of(body), flag_of(body, "start_working")
    if flag_of(body, "self_assigning"):
        # Who one is need not be said; who says it is held to it.
        member = {} if account is None else {"member": f"account:{account}"}
        return "task.claim", {**member, "start": start}
    if account is None:
        raise ApiError("wrong-shape", "name an account_id, unless you are self_assigning", "/account_id")
    return "task.assign", {"assignees": [f"account:{account}"], "start": start}


async def _reassign(call: Call) -> Meant:
    account = account_of(await body_of(call, ("account_id",), ("account_id",)))
    return "task.reassign", {"assignees": [f"account:{account}"]}


def _track(service: Service, way: str) -> Callable[[Call], Awaitable[Response]]:
    """Pause or resume what a person works on, and answer with that activity."""

    async def track(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        caller, account = call.caller, account_of(await body_of(call, ("account_id",)))
        data = {} if account is None else {"member": f"account:{account}"}
        # Whoever's tracker it is, his commands stay in their order.
        route = data.get("member", caller.actor)
        answered = await command(service, caller, f"tracker.{way}", data, route, idempotency_key())
        moved = ("task.paused",) if way == "pause" else ("task.resumed", "task.started")
        events = answered.reply.events if answered.reply is not None else ()
        stream = next((event.stream for event in events if event.type in moved), None)
        if stream is None:
            return accepted(answered)
        done = await shown(service, caller.tenant, answered, "task", stream.partition("-")[2])
        return await _answer(service, call, done)

    return track


def _cancel_unit(service: Service) -> Callable[[Call], Awaitable[Response]]:
    async def cancel(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        await body_of(call, ())
        done = await change(service, call.caller, "activity.cancel", {"id": call.id}, "activity")
        return accepted(done.answered) if done.resource is None else document({"data": work_unit(done.resource, {})})

    return cancel
