"""The field dialect: creating activities and reading tasks as its pages say, on the same commands and read models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from domain.directory import EntryRegistered
from domain.recorded import Recorded
from projections import activities, directory, tasks
from services import messages
from services.http import examples_field as examples
from services.http.auth import Caller
from services.http.endpoints import JSON, Call, Endpoint, nothing_else
from services.http.field_errors import failed
from services.http.field_lists import list_tasks
from services.http.field_shapes import activity_data, child, master, people_of
from services.http.problems import Refused
from services.http.queries import ACTIVITIES, TASKS, one_row, settled
from services.http.service import Service
from services.http.writes import Answered, events_of, give, idempotency_key, key_route, new_id, outgoing
from services.messages import Reply

_MODELS = (activities.NAME, tasks.NAME, directory.NAME)


def endpoints(service: Service) -> list[Endpoint]:
    """Return the endpoints of the dialect."""

    async def create(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        return await _create(service, call)

    async def get(call: Call) -> Response:
        parameters = call.parameters()
        await settled(service, parameters, ACTIVITIES.name, TASKS.name)
        nothing_else(parameters, ("min_position",))
        tenant = call.caller.tenant
        try:
            row = await one_row(service, TASKS, tenant, call.id, "task")
            resource, is_master = tasks.resource(row, service.clock()), False
        except Refused as refused:
            if refused.code != "not-found":
                raise
            row = await one_row(service, ACTIVITIES, tenant, call.id, "task")
            resource, is_master = activities.resource(row, service.clock()), True
        addresses = await emails(service, tenant, people_of(resource))
        shown = (master if is_master else child)(resource, tenant, addresses)
        return _json({"status": True, "message": "Task found", "task": shown})

    async def page(call: Call) -> Response:
        parameters = call.parameters()
        await settled(service, parameters, ACTIVITIES.name, TASKS.name)
        return _json(await list_tasks(service, call, parameters))

    return [
        Endpoint("POST", "/api/v3/activity", "write", create, examples.CREATE_ACTIVITY, failed),
        Endpoint("GET", "/api/v3/tasks", "read", page, examples.LIST_TASKS, failed),
        Endpoint("GET", "/api/v3/task/{id}", "read", get, examples.GET_TASK, failed),
    ]


def _json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body), status, headers, JSON)


async def emails(
    service: Service, tenant: str, members: Iterable[str], events: Sequence[Recorded] = ()
) -> dict[str, str]:
    """Return the members' e-mails; `events` are ones that the directory may not show yet."""
    fresh = {
        event.entity_id: event.data.fields["email"]
        for event in events
        if isinstance(event.data, EntryRegistered) and event.category == "member" and event.data.fields.get("email")
    }
    known = await service.people.members(tenant, [member for member in members if member not in fresh])
    return fresh | {member: found.email for member, found in known.items() if found.email is not None}


async def _create(service: Service, call: Call) -> Response:
    data = activity_data(await call.json())
    key = idempotency_key()
    if key is None:
        data["id"] = new_id()
    body = msgspec.json.encode(data)
    # What a worker would dead-letter without an answer is refused here.
    messages.parse_data("activity.create", body)
    command = outgoing(
        call.caller,
        "activity.create",
        body,
        service.settings.command_limit,
        idempotency_key=key,
        # With a key the id is left to the worker, or a repetition would not be the same command.
        routing_key=data["id"] if key is None else key_route(key),
    )
    answered = await give(service, command, _MODELS)
    reply = answered.reply
    if reply is None:
        return _accepted(answered)
    if reply.error is not None:
        raise Refused(reply.error.code, reply.error.detail, reply.error.pointer)
    try:
        shown = await _created(service, call.caller, reply, answered.visible)
    except Refused as refused:
        if refused.code != "unavailable":
            raise
        shown = None
    if shown is None:
        return _accepted(answered)
    return _json({"status": True, "code": 201, "message": "Activity created successfully", "data": shown}, 201)


def _accepted(answered: Answered) -> Response:
    receipt = {"commandId": answered.command_id, "receipt": answered.receipt}
    body = {"status": True, "code": 202, "message": "Activity accepted, its outcome is not known yet", "data": receipt}
    return _json(body, 202, {"Location": answered.receipt})


async def _created(service: Service, caller: Caller, reply: Reply, visible: bool) -> dict[str, Any] | None:
    """Return the master from the view, or from the command's own events while the view is behind."""
    stream = next((event.stream for event in reply.events if event.type == "activity.created"), None)
    if stream is None:
        return None
    activity_id = stream.partition("-")[2]
    now = service.clock()
    events: list[Recorded] = []
    if visible:
        row = await one_row(service, ACTIVITIES, caller.tenant, activity_id, "activity")
        resource: dict[str, Any] | None = activities.resource(row, now)
    else:
        events = await events_of(service, reply)
        resource = activities.render_from_events(events, activity_id, now)
    if resource is None:
        return None
    return master(resource, caller.tenant, await emails(service, caller.tenant, people_of(resource), events))
