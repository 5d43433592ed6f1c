"""Workflows in the field dialect: defined, listed, read, changed and retired."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from domain.recorded import Recorded
from domain.streams import ID
from projections import directory
from services.http.actions import command
from services.http.endpoints import Call, Endpoint, nothing_else, number
from services.http.field import examples_workflows as examples
from services.http.field.answers import accepted, answer, emails, paginator
from services.http.field.errors import failed, is_of_person
from services.http.field.lists import DEFAULT_LIMIT, MOST_LIMIT
from services.http.field.workflow_shapes import changed_definition, definition, people_of, workflow
from services.http.problems import Refused
from services.http.queries import settled
from services.http.service import Service
from services.http.writes import Answered, events_of, idempotency_key, key_route, new_id

# Another dialect lives at these places, so a workflow that was given one of these ids elsewhere has no place here.
RESERVED = frozenset({"activities", "tracker", "work_units"})
_MODELS = (directory.NAME,)


def endpoints(service: Service) -> list[Endpoint]:
    """Return the endpoints of workflows."""

    async def page(call: Call) -> Response:
        parameters = call.parameters()
        await settled(service, parameters, *_MODELS)
        return answer(await _page(service, call, parameters))

    async def post(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        data, key = definition(await call.json()), idempotency_key()
        # With a key the id is left to the worker, or a repetition would be another command.
        workflow_id = new_id() if key is None else None
        if workflow_id is not None:
            data = {"id": workflow_id, **data}
        answered = await _give(service, call, "workflow.define", data, workflow_id or key_route(key or ""))
        return await _answer(service, call, answered, _defined(answered), "created", 201)

    async def get(call: Call) -> Response:
        parameters = call.parameters()
        await settled(service, parameters, *_MODELS)
        nothing_else(parameters, ("min_position",))
        rows = await service.database.fetch(*directory.get(call.caller.tenant, directory.WORKFLOW, _id(call)))
        entry = directory.resource(rows[0]) if rows else None
        if entry is None or entry["retired"]:
            raise _unknown()
        return answer({"status": True, "message": "Workflow found", "workflow": await _shown(service, call, entry)})

    async def put(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        data = {**changed_definition(await call.json()), "id": _id(call)}
        answered = await _give(service, call, "workflow.change", data, call.id)
        return await _answer(service, call, answered, call.id, "updated")

    async def delete(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        answered = await _give(service, call, "workflow.retire", {"id": _id(call)}, call.id)
        return await _answer(service, call, answered, call.id, "deleted")

    return [
        Endpoint("GET", "/api/v3/internal/workflows", "read", page, examples.LIST_WORKFLOWS, failed),
        Endpoint("POST", "/api/v3/internal/workflows", "write", post, examples.CREATE_WORKFLOW, failed),
        Endpoint("GET", "/api/v3/workflow/{id}", "read", get, examples.GET_WORKFLOW, failed),
        Endpoint("PUT", "/api/v3/workflow/{id}", "write", put, examples.UPDATE_WORKFLOW, failed),
        Endpoint("DELETE", "/api/v3/workflow/{id}", "write", delete, examples.DELETE_WORKFLOW, failed),
    ]


async def _page(service: Service, call: Call, parameters: dict[str, list[str]]) -> dict[str, Any]:
    link = {name: values for name, values in parameters.items() if name != "page"}
    limit = number(parameters, "limit", DEFAULT_LIMIT, 1, MOST_LIMIT)
    page = number(parameters, "page", 1, 1, 1_000_000)
    nothing_else(parameters, ("limit", "page", "min_position"))
    tenant, offset = call.caller.tenant, (page - 1) * limit
    total = int((await service.database.fetch(*directory.count(tenant, directory.WORKFLOW)))[0][0])
    rows = []
    if offset < total:
        rows = await service.database.fetch(*directory.page(tenant, directory.WORKFLOW, limit=limit, offset=offset))
    entries = [directory.resource(row) for row in rows]
    addresses = await emails(service, tenant, [member for entry in entries for member in people_of(entry)])
    data = [workflow(entry, tenant, addresses) for entry in entries]
    shown = paginator(call, link, data, page=page, limit=limit, total=total)
    return {"status": True, "message": "Workflows found", "workflows": shown}


def _id(call: Call) -> str:
    """Return the id in the path; refuse what can be no workflow's here."""
    if call.id in RESERVED or not ID.match(call.id):
        raise _unknown()
    return call.id


def _unknown() -> Refused:
    return Refused("no-workflow", "there is no workflow of this id")


async def _give(service: Service, call: Call, name: str, data: dict[str, Any], route: str) -> Answered:
    """Give the command, and refuse in the dialect's words: what is retired is not there any more."""
    try:
        return await command(service, call.caller, name, data, route, idempotency_key(), _MODELS)
    except Refused as refused:
        if refused.code in ("not-found", "retired") and refused.pointer == "/id":
            raise _unknown() from None
        if refused.code == "invalid" and not is_of_person(refused.pointer):
            raise Refused("workflow-rule", refused.detail, refused.pointer) from None
        raise


def _defined(answered: Answered) -> str | None:
    events = answered.reply.events if answered.reply is not None else ()
    return next((event.stream.partition("-")[2] for event in events if event.type == "workflow.defined"), None)


async def _answer(
    service: Service, call: Call, answered: Answered, workflow_id: str | None, what: str, status: int = 200
) -> Response:
    entry, events = await _entry(service, call.caller.tenant, answered, workflow_id)
    if entry is None:
        return accepted(answered, "Workflow")
    body: dict[str, Any] = {"status": True, **({"code": status} if status != 200 else {})}
    body |= {"message": f"Workflow {what} successfully", "workflow": await _shown(service, call, entry, events)}
    return answer(body, status)


async def _entry(
    service: Service, tenant: str, answered: Answered, workflow_id: str | None
) -> tuple[dict[str, Any] | None, Sequence[Recorded]]:
    """Return the workflow as the command left it: the read model's, or one made from the command's own events."""
    if answered.reply is None or workflow_id is None:
        return None, ()
    try:
        rows = await service.database.fetch(*directory.get(tenant, directory.WORKFLOW, workflow_id))
        events = [] if answered.visible else await events_of(service, answered.reply)
    except Refused as refused:
        if refused.code != "unavailable":
            raise
        # The command took effect; that the database went away since makes no failure of it.
        return None, ()
    base = rows[0][0] if rows else None
    return directory.render_from_events(events, directory.WORKFLOW, workflow_id, base), events


async def _shown(
    service: Service, call: Call, entry: dict[str, Any], events: Sequence[Recorded] = ()
) -> dict[str, Any]:
    tenant = call.caller.tenant
    return workflow(entry, tenant, await emails(service, tenant, people_of(entry), events))
