"""The directory: entries of every kind, one or many at a time, registered, changed, retired and read.

Nothing is checked here that a command checks: what an entry may hold is the domain's to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.responses import Response

from domain import EVENT_NAMES
from domain.directory import EntryRegistered
from domain.lifecycle import TERMINAL, Lifecycle
from domain.streams import ENTRY_KINDS
from projections import directory
from projections.task import table as tasks
from services.http.core.bulks import Bulk, Item, prepared
from services.http.core.call import Call, Ready, as_json
from services.http.core.entities import entry
from services.http.core.errors import ApiError
from services.http.core.parameters import nothing_else, settled
from services.http.core.submit import CommandResult, Entity, submit
from services.http.native import lists
from services.http.native.commands import undecided
from services.http.native.derived import MAX_HELD
from services.http.native.lists import GetEntry
from services.http.native.receipts import REGISTERED, Registrations
from services.http.native.requests import EntryChange, NewEntries, NewEntry

_OPEN = [state.value.lower() for state in Lifecycle if state not in TERMINAL]


def _bytes(row: Sequence[Any], _: Any) -> Any:
    return msgspec.Raw(directory.resource_bytes(row))


def _entity(kind: str) -> Entity:
    made = entry(kind, "directory.register", EVENT_NAMES[EntryRegistered])
    return replace(made, resource=_bytes)


_ENTITIES = {kind: _entity(kind) for kind in ENTRY_KINDS}
# Its open tasks stand beside the member.
_RETIRED_MEMBER = replace(entry("member", "", ""), models=(directory.NAME, tasks.NAME))


def _kind(call: Call) -> str:
    kind = call.part("kind")
    if kind not in ENTRY_KINDS:
        raise ApiError("not-found", f"the directory's kinds are {', '.join(ENTRY_KINDS)}")
    return kind


def _entity_of_id(call: Call) -> Entity:
    """Return the entries among which the path's id is looked for."""
    entity = _ENTITIES[_kind(call)]
    if not entity.may_be(call.id):
        raise entity.unknown()
    return entity


def _answer(kind: str, result: CommandResult, status: int = 200) -> Response:
    """Answer with the entry that a command left."""
    if result.resource is None:
        return undecided(result)
    headers = None
    if status == 201 and result.reply is not None:
        headers = {"Location": f"/v1/directory/{kind}/{quote(_registered(result))}"}
    return as_json(result.resource, status, headers)


def _registered(result: CommandResult) -> str:
    assert result.reply is not None  # noqa: S101
    return result.reply.events[-1].stream.partition("-")[2]


async def register(call: Call) -> Response:
    """Register one entry, or many."""
    nothing_else(call.parameters())
    kind = _kind(call)
    body = await call.json()
    if not isinstance(body, dict):
        raise ApiError("wrong-shape", "an entry, or a list of `entries`, is sent as an object")
    if "entries" in body:
        return await _register_many(call, kind, NewEntries.read(body))
    NewEntry.read(body)
    data = {"kind": kind, **body}
    if data.get("id") is None:
        data.pop("id", None)
    result = await submit(call, "directory.register", data, _ENTITIES[kind], entity_id=data.get("id"))
    return _answer(kind, result, 201 if result.reply is not None and result.reply.events else 200)


async def page(call: Call) -> Response:
    """Answer with a page of entries."""
    return await lists.page_of_entries(call, _kind(call))


async def get(call: Call) -> Response:
    """Answer with one entry."""
    kind, query = _kind(call), GetEntry.read(call)
    await settled(call, query, directory.NAME)
    entity, row = _ENTITIES[kind], None
    if entity.may_be(call.id):
        row = await entity.row(call.service, call.caller.tenant, call.id)
    if row is None or (not query.retired and directory.resource(row)["retired"]):
        raise entity.unknown()
    return Ready(directory.resource_bytes(row))


async def change(call: Call) -> Response:
    """Change fields of an entry."""
    nothing_else(call.parameters())
    kind = _kind(call)
    body = await call.json()
    entity = _entity_of_id(call) if isinstance(body, dict) else _ENTITIES[kind]
    EntryChange.read(body)
    data = {"kind": kind, "id": call.id, **body}
    return _answer(kind, await submit(call, "directory.change", data, entity, entity_id=call.id))


async def retire(call: Call) -> Response:
    """Retire an entry."""
    nothing_else(call.parameters())
    kind, entity = _kind(call), _entity_of_id(call)
    if kind == "member":
        entity = _RETIRED_MEMBER
    result = await submit(call, "directory.retire", {"kind": kind, "id": call.id}, entity, entity_id=call.id)
    if kind == "member" and result.resource is not None:
        result = replace(result, resource={**result.resource, "open_tasks": await _open_tasks(call, result)})
    return _answer(kind, result)


async def _open_tasks(call: Call, result: CommandResult) -> dict[str, Any] | None:
    """Return which tasks a retired member still has, the oldest first; None while the read model is behind.

    No command gives a retired member a task that the member does not have, so what is read at the retirement's position
    or later is all of it. Of a failed task, which has ended, the member is left out when it is opened again.
    """
    if not result.visible:
        return None
    pool, held = call.service.pool, {"assignee": call.id, "status": _OPEN}
    try:
        rows = await pool.fetch(*tasks.page(call.caller.tenant, held, "created_at", limit=MAX_HELD))
        total = (await pool.fetch(*tasks.count(call.caller.tenant, held)))[0][0]
    except ApiError:
        # The command took effect; that the database went away since makes no failure of it.
        return None
    return {"total": total, "ids": [row[1] for row in rows]}


async def _register_many(call: Call, kind: str, request: NewEntries) -> Response:
    """Register many entries, each by itself: one that is refused does not stop the others."""
    first = _first_with_id(request.entries)

    def read(index: int, given: Any) -> dict[str, Any]:
        NewEntry.read(given)
        if first.get(_text(given.get("id")), index) != index:
            raise ApiError("invalid", f"entry {first[given['id']]} has this id, too", "/id")
        return {"kind": kind, **given}

    bulk = await prepared(call, "directory.register", request.entries, read)
    await bulk.carry_out((directory.NAME,), request.background)
    return _answer_many(bulk)


def _answer_many(bulk: Bulk) -> Response:
    found = [_shown_part(item, index) for index, item in enumerate(bulk.items)]
    counts = {name: sum(part["status"] == name for part in found) for name in REGISTERED}
    more = {} if bulk.receipt is None else {"receipt": bulk.receipt}
    body = Registrations.show({**counts, "position": bulk.position, **more, "entries": found})
    headers = {"Location": bulk.receipt} if bulk.receipt else None
    return as_json(body, 202 if counts["undecided"] else 200, headers)


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
    for index, given in enumerate(entries):
        entry_id = _text(given.get("id")) if isinstance(given, dict) else ""
        if entry_id:
            first.setdefault(entry_id, index)
    return first
