"""The directory over HTTP: entries of every kind, one or many at a time, registered, changed, retired and read.

Nothing is checked here that a command checks: what an entry may hold is the domain's to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.responses import Response

from domain.lifecycle import TERMINAL, Lifecycle
from domain.streams import ENTRY_KINDS, ID
from projections import directory, tasks
from services.commands import wire
from services.http.actions import command
from services.http.core.authenticator import Caller
from services.http.core.bulks import Bulk, Item, prepared
from services.http.core.command import Answered, events_of, idempotency_key, key_route, new_id
from services.http.core.errors import ApiError
from services.http.core.service import Service
from services.http.endpoints import JSON, Call, Endpoint, Ready, nothing_else, number, one
from services.http.native import examples_directory as examples
from services.http.native.components import MAX_HELD
from services.http.native.queries import DEFAULT_LIMIT, MOST_LIMIT, settled

MOST_ENTRIES = 1000
_OPEN = [state.value.lower() for state in Lifecycle if state not in TERMINAL]
_MODELS = (directory.NAME,)
_encode = msgspec.json.Encoder().encode


def endpoints(service: Service) -> list[Endpoint]:
    """Return the endpoints of the directory."""

    async def register(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        kind = _kind(call)
        body = _object(await call.json(), "an entry, or a list of `entries`, is sent as an object")
        if "entries" in body:
            return await _register_many(call, kind, body)
        data = {"kind": kind, **_known(body, ("id", "fields"), "")}
        key = idempotency_key()
        answered, entry_id = await _register(service, call.caller, data, key)
        status = 201 if answered.reply is not None and answered.reply.events else 200
        return await _shown(service, call.caller, answered, kind, entry_id, status)

    async def page(call: Call) -> Response:
        kind, parameters = _kind(call), call.parameters()
        await settled(service, parameters, directory.NAME)
        limit = number(parameters, "limit", DEFAULT_LIMIT, 1, MOST_LIMIT)
        cursor, retired = one(parameters, "cursor"), _retired_too(parameters)
        nothing_else(parameters, ("limit", "cursor", "retired", "min_position"))
        if cursor is not None and not ID.match(cursor):
            raise ApiError("bad-cursor", "a cursor is what `next` of the page before says", parameter="cursor")
        query = directory.page(call.caller.tenant, kind, cursor, limit + 1, retired=None if retired else False)
        rows = await service.pool.fetch(*query)
        follow = b"null"
        if len(rows) > limit:
            del rows[limit:]
            more = f"&limit={limit}{'&retired=true' if retired else ''}"
            follow = _encode(f"/v1/directory/{kind}?cursor={rows[-1][1]}{more}")
        return Ready(b'{"data":[%b],"next":%b}' % (b",".join(map(directory.resource_bytes, rows)), follow))

    async def get(call: Call) -> Response:
        kind, parameters = _kind(call), call.parameters()
        await settled(service, parameters, directory.NAME)
        retired = _retired_too(parameters)
        nothing_else(parameters, ("retired", "min_position"))
        row = await _row(service, call.caller.tenant, kind, call.id)
        if row is None or (not retired and directory.resource(row)["retired"]):
            raise _unknown(kind)
        return Ready(directory.resource_bytes(row))

    async def change(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        kind = _kind(call)
        body = _object(await call.json(), "a change is an object with `fields`")
        data = {"kind": kind, "id": _id(call, kind), **_known(body, ("fields",), "")}
        answered = await command(service, call.caller, "directory.change", data, data["id"], idempotency_key(), _MODELS)
        return await _shown(service, call.caller, answered, kind, data["id"])

    async def retire(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        kind = _kind(call)
        data = {"kind": kind, "id": _id(call, kind)}
        models = (*_MODELS, tasks.NAME) if kind == "member" else _MODELS
        answered = await command(service, call.caller, "directory.retire", data, data["id"], idempotency_key(), models)
        more = {"open_tasks": await _open_tasks(service, call, answered)} if kind == "member" else {}
        return await _shown(service, call.caller, answered, kind, data["id"], more=more)

    return [
        Endpoint("POST", "/v1/directory/{kind}", "write", register, examples.REGISTER),
        Endpoint("GET", "/v1/directory/{kind}", "read", page, examples.LIST),
        Endpoint("GET", "/v1/directory/{kind}/{id}", "read", get, examples.GET),
        Endpoint("PATCH", "/v1/directory/{kind}/{id}", "write", change, examples.CHANGE),
        Endpoint("DELETE", "/v1/directory/{kind}/{id}", "write", retire, examples.RETIRE),
    ]


async def _open_tasks(service: Service, call: Call, answered: Answered) -> dict[str, Any] | None:
    """Return which tasks a retired member still has, the oldest first; None while the read model is behind.

    No command gives a retired member a task that the member does not have, so what is read at the retirement's position
    or later is all of it. Of a failed task, which has ended, the member is left out when it is opened again.
    """
    if not answered.visible:
        return None
    held = {"assignee": call.id, "status": _OPEN}
    try:
        rows = await service.pool.fetch(*tasks.page(call.caller.tenant, held, "created_at", limit=MAX_HELD))
        total = (await service.pool.fetch(*tasks.count(call.caller.tenant, held)))[0][0]
    except ApiError:
        # The command took effect; that the database went away since makes no failure of it.
        return None
    return {"total": total, "ids": [row[1] for row in rows]}


def _kind(call: Call) -> str:
    kind = call.part("kind")
    if kind not in ENTRY_KINDS:
        raise ApiError("not-found", f"the directory's kinds are {', '.join(ENTRY_KINDS)}")
    return kind


def _id(call: Call, kind: str) -> str:
    if not ID.match(call.id):
        raise _unknown(kind)
    return call.id


def _unknown(kind: str) -> ApiError:
    return ApiError("not-found", f"there is no {kind} of this id")


def _object(value: Any, detail: str, pointer: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ApiError("wrong-shape", detail, pointer)
    return value


def _known(body: dict[str, Any], keys: Sequence[str], pointer: str) -> dict[str, Any]:
    # `kind` stands in the path, so the command's own check of its keys would let it through.
    for key in body:
        if key not in keys:
            place = wire.pointer_of((key,))
            raise ApiError("unknown-field", f"known here: {', '.join(keys)}", f"{pointer}{place}")
    return body


def _retired_too(parameters: dict[str, list[str]]) -> bool:
    text = one(parameters, "retired")
    if text not in (None, "true", "false"):
        raise ApiError("bad-filter", "retired is true or false", parameter="retired")
    return text == "true"


async def _row(service: Service, tenant: str, kind: str, entry_id: str) -> tuple[Any, ...] | None:
    # What is no id cannot be there, and is not worth asking for.
    rows = await service.pool.fetch(*directory.get(tenant, kind, entry_id)) if ID.match(entry_id) else []
    return rows[0] if rows else None


async def _register(
    service: Service, caller: Caller, data: dict[str, Any], key: str | None
) -> tuple[Answered, str | None]:
    """Register one entry, and return its id with the answer.

    Without a key the id is drawn here; with one it is left to the worker, or a repetition would be another command.
    """
    if data.get("id") is None:
        data = {name: value for name, value in data.items() if name != "id"}
        if key is None:
            data["id"] = new_id()
    route = data.get("id") or key_route(key or "")
    if not isinstance(route, str) or not ID.match(route):
        route = "new"  # no id, so the command is refused; any route will do
    answered = await command(service, caller, "directory.register", data, route, key, _MODELS)
    entry_id = data.get("id")
    for event in answered.reply.events if answered.reply is not None else ():
        entry_id = event.stream.partition("-")[2]
    return answered, entry_id


async def _shown(
    service: Service,
    caller: Caller,
    answered: Answered,
    kind: str,
    entry_id: str | None,
    status: int = 200,
    more: Mapping[str, Any] | None = None,
) -> Response:
    """Answer with the entry: the read model's, or when that is late, as the command's own events leave it.

    `more` is what the answer says beside the entry.
    """
    if answered.reply is not None and entry_id is not None:
        tenant = caller.tenant
        headers = {"Location": f"/v1/directory/{kind}/{quote(entry_id)}"} if status == 201 else None
        try:
            row = await _row(service, tenant, kind, entry_id)
            if answered.visible and row is not None and not more:
                return Response(directory.resource_bytes(row), status, headers, JSON)
            events = await events_of(service, answered.reply)
        except ApiError as refused:
            # The command took effect; that the database went away since makes no failure of it.
            if refused.code != "unavailable":
                raise
        else:
            shown = directory.render_from_events(events, kind, entry_id, row[0] if row is not None else None)
            if shown is not None:
                return Response(_encode({**shown, **(more or {})}), status, headers, JSON)
    body = {"command_id": answered.command_id, "outcome": "undecided", "receipt": answered.receipt}
    if answered.reply is not None:
        body["outcome"] = answered.reply.outcome
    return Response(_encode(body), 202, {"Location": answered.receipt}, JSON)


async def _register_many(call: Call, kind: str, body: dict[str, Any]) -> Response:
    """Register many entries, each by itself: one that is refused does not stop the others."""
    _known(body, ("entries", "background"), "")
    entries, background = body["entries"], body.get("background", False)
    if not isinstance(entries, list) or not 1 <= len(entries) <= MOST_ENTRIES:
        raise ApiError("wrong-shape", f"entries is a list of 1 to {MOST_ENTRIES} entries", "/entries")
    if not isinstance(background, bool):
        raise ApiError("wrong-shape", "background is true or false", "/background")
    first = _first_with_id(entries)

    def read(index: int, entry: Any) -> dict[str, Any]:
        given = _known(_object(entry, "an entry is an object"), ("id", "fields"), "")
        if first.get(_text(given.get("id")), index) != index:
            raise ApiError("invalid", f"entry {first[given['id']]} has this id, too", "/id")
        return {"kind": kind, **given}

    bulk = await prepared(call, "directory.register", entries, read)
    await bulk.carry_out(_MODELS, background)
    return _answer_many(bulk)


def _answer_many(bulk: Bulk) -> Response:
    found = [_shown_part(item, index) for index, item in enumerate(bulk.items)]
    counts = {name: sum(part["status"] == name for part in found) for name in examples.OUTCOMES}
    more = {} if bulk.receipt is None else {"receipt": bulk.receipt}
    body = {**counts, "position": bulk.position, **more, "entries": found}
    headers = {"Location": bulk.receipt} if bulk.receipt else None
    return Response(_encode(body), 202 if counts["undecided"] else 200, headers, JSON)


def _shown_part(item: Item, index: int) -> dict[str, Any]:
    """Return an entry's part of the answer."""
    if item.undecided or item.unsure:
        return {"status": "undecided", "id": item.id, "receipt": item.receipt}
    if item.refused is not None:
        refused = item.refused
        place = f"/entries/{index}{refused.pointer}"
        return {"status": "refused", "error": {"code": refused.code, "detail": refused.detail, "pointer": place}}
    assert item.reply is not None  # noqa: S101
    outcome = "registered" if item.reply.events else "unchanged"
    return {"status": outcome, "id": item.id, "position": item.reply.position}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _first_with_id(entries: Sequence[Any]) -> dict[str, int]:
    """Return where each id stands first: two entries of one id have no order among commands sent at once."""
    first: dict[str, int] = {}
    for index, entry in enumerate(entries):
        entry_id = _text(entry.get("id")) if isinstance(entry, dict) else ""
        if entry_id:
            first.setdefault(entry_id, index)
    return first
