"""The operations of the native API: commands, activities, tasks, events and the directory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import Field, create_model
from starlette.responses import Response

from domain.decider import SYSTEM
from domain.lifecycle import TERMINAL, Lifecycle
from projections import directory
from projections.task import table as tasks
from services.commands import wire
from services.commands.wire import InvalidMessage
from services.http.core import dry_runs
from services.http.core.bulks import Item, prepared
from services.http.core.call import JSON, Call, as_json
from services.http.core.components import PREFIX
from services.http.core.errors import ApiError
from services.http.core.lasting import EVENT_STREAM
from services.http.core.models import View
from services.http.core.openapi import listing_parameters, parameter
from services.http.core.operation import Link, Operation
from services.http.core.parameters import AsOf, nothing_else
from services.http.core.sending import outgoing, route_of, send
from services.http.core.submit import idempotency_key, submit
from services.http.native import (
    bulk,
    effects,
    keys,
    letters,
    lists,
    models,
    operating,
    projections,
    records,
    streams,
    webhooks,
)  # fmt: skip
from services.http.native.counts import StatusCount
from services.http.native.dialect import NATIVE
from services.http.native.letter_models import Waiting
from services.http.native.lists import ACTIVITIES, TASKS, ListHistory, entity_of
from services.store.unavailable import StoreUnavailable

_DIRECTORY = replace(NATIVE, tag="directory")
_EVENTS = replace(NATIVE, tag="events")


async def _post_command(call: Call) -> Response:
    """Send a command as it is."""
    dry_runs.asked(call)
    command = models.Command.read(await call.json())
    caller, actor = call.caller, command.actor or call.caller.actor
    if actor != caller.actor:
        if caller.actor != SYSTEM:
            raise ApiError("forbidden", "only a key of `system` may name another actor", "/actor")
        caller.demand("impersonate")
    route = command.routing_key or await route_of(call.service, caller.tenant, command.type, command.own)
    own_id: dict[str, Any] = {} if command.id is None else {"command_id": command.id}
    try:
        message = outgoing(
            call.service, caller, command.type, command.own, route, actor=actor,
            expected_version=command.expected_version, idempotency_key=idempotency_key(), ordered=command.ordered,
            caused_by=command.caused_by, **own_id,
        )  # fmt: skip
    except InvalidMessage as error:
        refused = ApiError.caused_by(error)
        raise (refused if refused.parameter else refused.at(f"/data{refused.pointer}")) from None
    result = await send(call.service, message)
    if (reply := result.reply) is None or reply.outcome == wire.PARKED:
        parked = {"outcome": wire.PARKED, "error": reply.error} if reply else {"outcome": "undecided", "error": None}
        answer = Waiting.show({"command_id": result.command_id, "receipt": result.receipt, **parked})
        return as_json(answer, 202, {"Location": result.receipt})
    if reply.error is not None:
        extra = {"command_id": reply.command_id, "position": reply.position, "duplicate": reply.duplicate}
        pointer = f"/data{reply.error.pointer}" if reply.error.pointer else ""
        raise ApiError(reply.error.code, reply.error.detail, pointer, extra=extra)
    return Response(wire.encode_reply(reply), 200, {"Location": result.receipt}, JSON)


# The directory.


async def _register(call: Call) -> Response:
    """Register one entry, or many."""
    nothing_else(call.parameters())
    entity, body = entity_of(call), await call.json()
    if isinstance(body, dict) and "entries" in body:
        return await _register_many(call, entity.noun, models.NewEntries.read(body))
    entry = models.NewEntry.read(body)
    result = await submit(call, entity.creates, entry, entity, extra_data={"kind": entity.noun})
    new = result.reply is not None and bool(result.reply.events)
    answer = await NATIVE.answer(call, result, models.Entry, entity.noun, 201 if new else 200)
    if new and result.resource is not None:
        answer.headers["Location"] = f"/v1/directory/{entity.noun}/{result.resource['id']}"
    return answer


async def _register_many(call: Call, kind: str, request: models.NewEntries) -> Response:
    """Register many entries, each by itself: one that is refused does not stop the others."""
    ids = [entry.get("id") if isinstance(entry, dict) else None for entry in request.entries]

    def read(index: int, entry: Any) -> models.NewEntry:
        new = models.NewEntry.read(entry)
        # Two entries of one id have no order among commands sent at once.
        if new.id is not None and (first := ids.index(new.id)) != index:
            raise ApiError("invalid", f"entry {first} has this id, too", "/id")
        return new

    sent = await prepared(call, "directory.register", request.entries, read, extra_data={"kind": kind})
    await sent.carry_out((directory.NAME,), request.background)
    entries = [_registered(item, index) for index, item in enumerate(sent.items)]
    counts = {name: sum(entry["status"] == name for entry in entries) for name in models.REGISTERED}
    answer = {**counts, "position": sent.position, "receipt": sent.receipt, "entries": entries}
    headers = {"Location": sent.receipt} if sent.receipt else None
    return as_json(models.Registrations.show(answer), 202 if counts["undecided"] else 200, headers)


def _registered(item: Item, index: int) -> dict[str, Any]:
    """Return the outcome of an entry of a list."""
    entry: dict[str, Any] = dict.fromkeys(("id", "position", "error", "receipt"))
    if item.undecided or item.unsure:
        return {**entry, "status": "undecided", "id": item.id, "receipt": item.receipt}
    if item.refused is not None:
        refused = item.refused.at(f"/entries/{index}{item.refused.pointer}")
        return {**entry, "status": "refused", "error": refused.refusal}
    assert item.reply is not None  # noqa: S101
    status = "registered" if item.reply.events else "unchanged"
    return {**entry, "status": status, "id": item.id, "position": item.reply.position}


async def _retire(call: Call) -> Response:
    """Retire an entry; for a member, with the tasks that it still has."""
    nothing_else(call.parameters())
    entity = entity_of(call)
    kind = entity.noun
    if kind == "member":
        entity = replace(entity, models=(directory.NAME, tasks.NAME))
    result = await submit(call, "directory.retire", {"kind": kind}, entity, entity_id=call.id)
    if kind == "member" and result.resource is not None:
        result = replace(result, resource={**result.resource, "open_tasks": await _open_tasks(call, result.visible)})
    return await NATIVE.answer(call, result, models.RetiredEntry, kind)


async def _open_tasks(call: Call, visible: bool) -> dict[str, Any] | None:
    """Return which tasks a retired member still has, the oldest first; None while the read model is behind.

    No command gives a retired member a task that the member does not have, so what is read at the retirement's position
    or later is all of it. Of a failed task, which has ended, the member is left out when it is opened again.
    """
    if not visible:
        return None
    open_states = [state.value.lower() for state in Lifecycle if state not in TERMINAL]
    pool, tenant, held = call.service.pool, call.caller.tenant, {"assignee": call.id, "status": open_states}
    try:
        rows = await pool.fetch(*tasks.page(tenant, held, "created_at", limit=models.MAX_OPEN_TASKS))
        ((total,),) = await pool.fetch(*tasks.count(tenant, held))
    except StoreUnavailable:
        # The command took effect; that the database went away since makes no failure of it.
        return None
    return {"total": total, "ids": [row[1] for row in rows]}


_COMMANDS = (
    Operation(
        NATIVE, "POST", "/v1/commands", "write", "post_command", "Give a command and wait for its answer",
        description="The body is checked here as the workers check it. A key of `system` with the permission"
        " `impersonate` may name another `actor`. Without an answer in time the command is still on its way: 202; so is"
        " one that is `ordered` while it is parked behind a dead letter.",
        query=dry_runs.MayBeDry, request=models.Command, handler=_post_command, view=models.Reply, located=True,
        also={202: Waiting},
        links={"receipt": Link("get_receipt", "/command_id"), "effects": Link("get_effects", "/command_id")},
    ),
    Operation(
        NATIVE, "GET", "/v1/commands/{id:path}", "read", "get_receipt", "Read a command's receipt",
        handler=records.get_receipt, view=models.Receipt,
    ),
    effects.OPERATION,
    Operation(
        NATIVE, "GET", "/v1/bulks/{id}", "read", "get_bulk",
        "Read the receipt of a bulk that is carried out in the background",
        description="A bulk is `running` until each of its parts is accepted or rejected. A part that is `undecided` is"
        " still to be sent or decided, and has its `receipt` afterwards. Kept as long as the receipts of commands are.",
        handler=records.get_bulk, view=models.Bulk,
    ),
)  # fmt: skip


class _CountedPage(models.Page):
    counts: list[StatusCount] | None = Field(None, description="there if it was asked for, and did not take too long")


def _page_of(view: type[View], name: str, base: type[models.Page] = models.Page) -> type[View]:
    return create_model(name, __base__=base, __doc__="A page", __module__=__name__, data=(list[view], ...))  # type: ignore[valid-type]


_HISTORY = _page_of(models.HistoryEntry, "HistoryPage")


def _of_model(model: lists.Model, path: str, view: type[View]) -> tuple[Operation, Operation, Operation]:
    noun, plural = model.noun, path.rpartition("/")[2]
    dialect = replace(NATIVE, tag=plural)
    return (
        Operation(
            dialect, "GET", path, "read", f"list_{plural}", f"List {plural}",
            query=model.query, parameters=listing_parameters(model.listing), handler=model.page,
            view=_page_of(view, f"{noun.capitalize()}Page", _CountedPage),
            links={
                "first": Link(f"get_{noun}", "/data/0/id"),
                "history": Link(f"get_{noun}_history", "/data/0/id"),
            },
        ),
        Operation(
            dialect, "GET", f"{path}/{{id}}", "read", f"get_{noun}", f"Read one {noun}",
            query=AsOf, handler=model.get, view=view, tagged=True,
        ),
        Operation(
            dialect, "GET", f"{path}/{{id}}/history", "read", f"get_{noun}_history",
            f"Read what happened to one {noun}, oldest first",
            query=ListHistory, handler=model.history, view=_HISTORY,
        ),
    )  # fmt: skip


_QUERIES = (
    *_of_model(ACTIVITIES, "/v1/activities", models.Activity),
    *_of_model(TASKS, "/v1/tasks", models.Task),
    Operation(
        replace(NATIVE, tag="activities"), "GET", "/v1/activities/{id}/explain", "read", "explain_activity",
        "Say why an activity has its status",
        query=AsOf, handler=lists.explain, view=models.Explanation,
    ),
    Operation(
        _EVENTS, "GET", "/v1/events", "read", "get_events", "Read the tenant's events in order",
        description="Ask again with `after` = `next`. A stretch without events of this tenant moves `next` on as well;"
        " `next` = `head` means that there is nothing more for now.",
        query=records.ListEvents, handler=records.events, view=models.Events,
    ),
    Operation(
        replace(_EVENTS, media=EVENT_STREAM), "GET", "/v1/events/stream", "read", "stream_events",
        "Follow the tenant's events as they are recorded",
        description="Server-Sent Events that last until the client ends them. A client that connects again says the id"
        " that it received last in `Last-Event-ID`, and misses nothing. A block without `data` is no event: its id says"
        " how far the log was read. Of each filter an event has one of the values.",
        parameters=(streams.RESUMED,), query=streams.StreamEvents, handler=streams.stream, view=streams.EventStream,
        lasts=True, refusals=(400, 429),
    ),
)  # fmt: skip

_KIND = {**parameter("kind", "What kind of entry", place="path"), "schema": {"$ref": f"{PREFIX}Kind"}}
_ENTRIES, _ENTRY = "/v1/directory/{kind}", "/v1/directory/{kind}/{id}"
_ENTRY_OPERATIONS = (
    Operation(
        _DIRECTORY, "POST", _ENTRIES, "write", "register_directory_entries", "Register an entry, or up to 1000 at once",
        description="Whatever is registered may be referred to by the next command at once. Registering the same again"
        " is accepted and changes nothing. A list is no transaction: each entry is registered or refused by itself;"
        " with an `Idempotency-Key` each has a key of its own by its place in the list. Two entries of one id in a"
        " list: the second is refused. A list is waited for as its length demands; with `background` it is answered at"
        " once, and its `receipt` says how far it is.\n\nWhat a kind demands of its fields (a member's `email`, a"
        " `policy`'s `value`, …) is said in the documentation of the domain.",
        parameters=(_KIND,), request=models.Registration, gives=("directory.register",), handler=_register,
        view=models.Entry, status=201, located=True,
        also={200: models.EntryOrRegistrations, 202: models.UndecidedEntries},
        links={name: Link(f"{name}_directory_entry", "/id", path=("kind",)) for name in ("get", "change", "retire")},
    ),
    Operation(
        _DIRECTORY, "GET", _ENTRIES, "read", "list_directory_entries", "List the entries of a kind by id",
        parameters=(_KIND,), query=lists.ListEntries, handler=lists.list_entries,
        view=_page_of(models.Entry, "EntryPage"),
    ),
    Operation(
        _DIRECTORY, "GET", _ENTRY, "read", "get_directory_entry", "Read one entry",
        parameters=(_KIND,), query=lists.GetEntry, handler=lists.get_entry, view=models.Entry, tagged=True,
    ),
    Operation(
        _DIRECTORY, "PATCH", _ENTRY, "write", "change_directory_entry", "Change fields of an entry",
        description="Fields that are left out stay as they are; null takes one away.",
        parameters=(_KIND,), request=models.EntryChange, command="directory.change", entity=entity_of,
        extra_data=lambda call: {"kind": call.parts["kind"]}, view=models.Entry,
    ),
    Operation(
        _DIRECTORY, "DELETE", _ENTRY, "write", "retire_directory_entry", "Retire an entry",
        description="No command may refer to it any more; what refers to it keeps its id. It may be registered again."
        " A member who is retired can do nothing, and its API keys let nobody in, even when it is registered again;"
        " the answer says which open tasks it has.",
        parameters=(_KIND,),
        gives=("directory.retire",), handler=_retire, view=models.RetiredEntry, refusals=(400, 404, 409, 422),
    ),
)  # fmt: skip

OPERATIONS = (
    *_COMMANDS, *bulk.OPERATIONS, *letters.OPERATIONS, *_QUERIES, *_ENTRY_OPERATIONS, *operating.OPERATIONS,
    *webhooks.OPERATIONS, *keys.OPERATIONS, *projections.OPERATIONS,
)  # fmt: skip
