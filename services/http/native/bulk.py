"""Bulks of the native API: a command for many, previewed first, then run as it was shown."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import psycopg
from starlette.responses import Response
from starlette.types import Receive, Send

from domain.streams import ID
from services.http.core import bulk_acts
from services.http.core.acts import act, by
from services.http.core.bulk_selection import NewBulk, chosen, preview
from services.http.core.bulk_states import ITEM_STATES, PREVIEWING
from services.http.core.bulk_watch import Watcher
from services.http.core.call import Call, as_json
from services.http.core.errors import ApiError
from services.http.core.lasting import CHECK, EVENT_STREAM, HEARTBEAT, Lasting, when_gone
from services.http.core.middleware import CURRENT
from services.http.core.models import Json
from services.http.core.operation import Link, Operation
from services.http.core.parameters import nothing_else, settled
from services.http.core.submit import idempotency_key, new_id
from services.http.native.bulk_models import (
    BulkAction,
    BulkItems,
    BulkPage,
    BulkProgress,
    ListBulks,
    ListItems,
    RunBulk,
)
from services.http.native.dialect import NATIVE
from services.http.native.lists import next_page
from services.store import bulk_actions

# Seconds that a preview is waited for before it is answered as far as it is.
PREVIEW_WAIT, _LOOK = 2.0, 0.05
_encode = msgspec.json.Encoder().encode


async def _preview(call: Call) -> Response:
    """Choose the items of a bulk, store them, and have them previewed."""
    nothing_else(call.parameters())
    key, service, caller = idempotency_key(), call.service, call.caller
    request = NewBulk.checked(await call.json(), service.settings.command_limit)
    await settled(call, None, *request.models)
    named = f"bulk\0{caller.tenant}\0{caller.actor}\0{key}"
    bulk_id = new_id() if key is None else hashlib.sha256(named.encode()).hexdigest()[:32]

    async def fetch(sql: str, params: Any) -> Any:
        return await service.lists.fetch(caller.tenant, sql, params)

    items = await chosen(fetch, service.members, caller.tenant, request)
    trace = CURRENT.get().traceparent
    await act(call, lambda conn: preview(conn, caller.tenant, bulk_id, caller.actor, by(call), request, items, trace))
    service.bulk_runner.wake()
    until = time.monotonic() + PREVIEW_WAIT
    while (bulk := await _find(call, bulk_id))["state"] == PREVIEWING and time.monotonic() < until:
        await asyncio.sleep(_LOOK)
    return as_json(BulkAction.show(bulk), 201, {"Location": f"/v1/bulk/{bulk_id}"})


async def _find(call: Call, bulk_id: str) -> dict[str, Any]:
    return await bulk_acts.find(call.service.pool, call.caller.tenant, bulk_id)


async def _list(call: Call) -> Response:
    """Answer with a page of bulks, the newest first."""
    query = ListBulks.read(call)
    await settled(call, None)
    _demand_known(query.states, bulk_acts.STATES)
    after = None if query.cursor is None else bulk_acts.read_cursor(query.cursor)
    asked = bulk_actions.page(call.caller.tenant, query.states, after, query.limit + 1)
    found = await call.documents(asked, column="data")
    bulks = [bulk_acts.bulk_of(row) for row in found.rows[: query.limit]]
    counted = sum(bulk["total"] for bulk in bulks)
    # What is left out for the number of its items, or for its bytes, is on the next page.
    more = found.left > 0 or len(found.rows) > query.limit
    cursor = bulk_acts.cursor_of(bulks[-1]) if bulks else ""
    if not more and counted >= bulk_actions.MAX_COUNTED:
        before = bulk_acts.read_cursor(cursor)
        more = bool(await call.list_rows(bulk_actions.page(call.caller.tenant, query.states, before, 1)))
    follow = next_page(call, cursor) if more else None
    return await call.worked(lambda: as_json(BulkPage.show({"data": bulks, "next": follow})))


def _demand_known(asked: Sequence[str] | None, states: Sequence[str]) -> None:
    for state in asked or ():
        if state not in states:
            raise ApiError("bad-filter", f"states are {', '.join(states)}", parameter="state")


async def _get(call: Call) -> Response:
    """Answer with a bulk."""
    nothing_else(call.parameters())
    await settled(call, None)
    return as_json(BulkAction.show(await _find(call, call.id)))


async def _items(call: Call) -> Response:
    """Answer with a page of the items of a bulk."""
    query = ListItems.read(call)
    await settled(call, None)
    _demand_known(query.states, ITEM_STATES)
    await _find(call, call.id)
    pool, tenant = call.service.pool, call.caller.tenant
    rows = await bulk_acts.items(pool, tenant, call.id, query.cursor, query.limit + 1, query.states)
    shown, follow = rows[: query.limit], None
    if len(rows) > query.limit:
        states = "".join(f"&state={state}" for state in query.states or ())
        follow = f"/v1/bulk/{call.id}/items?limit={query.limit}{states}&cursor={shown[-1]['number']}"
    return as_json(BulkItems.show({"data": shown, "next": follow}))


async def _done(call: Call, verb: str, work: Callable[[psycopg.Connection[Any]], bool]) -> Response:
    """Do something with a bulk in a transaction, and answer with the bulk as it is then."""
    if not ID.match(call.id):
        raise bulk_acts.unknown()
    await act(call, lambda conn: bulk_acts.recorded(conn, call.caller.tenant, call.id, verb, by(call), work))
    call.service.bulk_runner.wake()
    return as_json(BulkAction.show(await _find(call, call.id)))


async def _run(call: Call) -> Response:
    """Run a bulk."""
    return await _go_on(call, "run")


async def _resume(call: Call) -> Response:
    """Go on with a bulk."""
    return await _go_on(call, "resume")


async def _go_on(call: Call, verb: str) -> Response:
    nothing_else(call.parameters())
    request = RunBulk.read(await call.json() if call.has_body else {})
    tenant, actor, resumed = call.caller.tenant, call.caller.actor, verb == "resume"
    return await _done(
        call, verb, lambda conn: bulk_acts.run(conn, tenant, call.id, actor, request.rate, resumed=resumed)
    )


async def _pause(call: Call) -> Response:
    """Pause a bulk."""
    nothing_else(call.parameters())
    return await _done(call, "pause", lambda conn: bulk_acts.pause(conn, call.caller.tenant, call.id))


async def _abort(call: Call) -> Response:
    """Abort a bulk."""
    nothing_else(call.parameters())
    return await _done(call, "abort", lambda conn: bulk_acts.abort(conn, call.caller.tenant, call.id))


async def _watch(call: Call) -> Response:
    """Answer with a bulk, and go on with whatever changes."""
    nothing_else(call.parameters())
    await settled(call, None)
    return _Watched(call, await _find(call, call.id))


class _Watched(Lasting):
    """A bulk each time that it changes, until it has ended."""

    def __init__(self, call: Call, bulk: Json) -> None:
        super().__init__(call)
        self._bulk = bulk

    async def serve(self, receive: Receive, send: Send) -> None:
        with self.call.service.bulk_watch.watch(self.call.caller.tenant, self.call.id) as watcher:
            watching = asyncio.create_task(when_gone(receive, watcher.end))
            try:
                await self._serve(watcher, send)
            finally:
                watching.cancel()

    async def _serve(self, watcher: Watcher, send: Send) -> None:
        shown: Json | None = None
        bulk, beat, checked = self._bulk, 0.0, time.monotonic()
        while True:
            now = time.monotonic()
            if bulk != shown:
                block, shown = b"data: %b\n\n" % _encode(BulkAction.show(bulk)), bulk
            else:
                block = b":\n" if now >= beat + HEARTBEAT else b""
            if block:
                beat = now
                await send({"type": "http.response.body", "body": block, "more_body": True})
            if shown["state"] in bulk_acts.ENDED or watcher.over:
                return
            if now >= checked + CHECK:
                checked = now
                if not await self.is_valid():
                    return
            await watcher.pause(max(0.0, min(checked + CHECK, beat + HEARTBEAT) - now))
            bulk = watcher.bulk or bulk


_BULK = replace(NATIVE, tag="bulk")
_ONE = "/v1/bulk/{id}"
_LOOKS = (400, 404)
_ACTS = (400, 404, 409, 429)
_RUNS = (*_ACTS, 408, 413, 415, 422)
OPERATIONS = (
    Operation(
        _BULK, "POST", "/v1/bulk", "operate", "preview_bulk", "Preview a command for many",
        description="The items are chosen now, and never again: what is executed is what the preview shows. Each is"
        " tried as a dry run, by itself and as things are now. A preview that takes longer than 2 seconds is answered"
        " as far as it is. A bulk that is not run within 24 hours expires. With an `Idempotency-Key`, a repetition is"
        " answered with the same bulk.",
        request=NewBulk, handler=_preview, view=BulkAction, status=201, located=True, act=True, keyed=True,
        further=("write",), refusals=(400, 408, 409, 413, 415, 422, 429),
        links={"items": Link("list_bulk_items", "/id"), "run": Link("run_bulk", "/id")},
    ),
    Operation(
        _BULK, "GET", "/v1/bulk", "read", "list_bulks", "List the tenant's bulks, the newest first",
        query=ListBulks, handler=_list, view=BulkPage,
        links={"bulk": Link("get_bulk_action", "/data/0/id"), "items": Link("list_bulk_items", "/data/0/id")},
    ),
    Operation(
        _BULK, "GET", _ONE, "read", "get_bulk_action", "Read how far a bulk is",
        handler=_get, view=BulkAction, refusals=_LOOKS,
    ),
    Operation(
        _BULK, "GET", f"{_ONE}/items", "read", "list_bulk_items", "List the items of a bulk, with their receipts",
        query=ListItems, handler=_items, view=BulkItems, refusals=_LOOKS,
    ),
    Operation(
        replace(_BULK, media=EVENT_STREAM), "GET", f"{_ONE}/events", "read", "watch_bulk", "Follow how far a bulk is",
        description="Server-Sent Events, until the bulk has ended: its state whenever it changes.",
        handler=_watch, view=BulkProgress, lasts=True, refusals=(*_LOOKS, 429),
    ),
    Operation(
        _BULK, "POST", f"{_ONE}/run", "operate", "run_bulk", "Run a bulk",
        description="The commands are those of the actor who previewed it, so it is run by that actor or by `system`."
        " An item that has changed since it was previewed is skipped, unless `on_change` is `run`.",
        request=RunBulk, body_optional=True, handler=_run, view=BulkAction, act=True, further=("write",),
        refusals=_RUNS,
    ),
    Operation(
        _BULK, "POST", f"{_ONE}/resume", "operate", "resume_bulk", "Go on with a bulk that is paused",
        description="A ramp begins anew.",
        request=RunBulk, body_optional=True, handler=_resume, view=BulkAction, act=True, further=("write",),
        refusals=_RUNS,
    ),
    Operation(
        _BULK, "POST", f"{_ONE}/pause", "operate", "pause_bulk", "Pause a bulk",
        description="Nothing more is sent; what was sent is decided.",
        handler=_pause, view=BulkAction, act=True, refusals=_ACTS,
    ),
    Operation(
        _BULK, "POST", f"{_ONE}/abort", "operate", "abort_bulk", "Abort a bulk",
        description="Nothing more is sent; what is left is skipped. It has ended once all that was sent is decided.",
        handler=_abort, view=BulkAction, act=True, refusals=_ACTS,
    ),
)  # fmt: skip
