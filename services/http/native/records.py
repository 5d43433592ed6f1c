"""The queries of the native API that are answered from the log and the ledger: events and receipts."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from starlette.responses import Response

from domain import EVENTS
from domain.errors import Refusal
from domain.limits import Number
from domain.streams import ID, split_stream
from services import cloud_events
from services.http.core.bulks import progress
from services.http.core.call import Call, Documents, Ready, as_json
from services.http.core.errors import ApiError
from services.http.core.middleware import CURRENT
from services.http.core.parameters import Position, Query, nothing_else, settled
from services.http.native.models import Bulk, Receipt
from services.store import dead_letters, ledger, log
from services.store.log import LogRow

# How far one request looks for a tenant's events, so that a long stretch without any costs little and `next` moves on.
_WINDOW = 20_000


class ListEvents(Query):
    """The page of events."""

    after: Position = Field(0, description="The position to read on from")
    types: list[Annotated[str, Field(json_schema_extra={"enum": list(EVENTS)})]] | None = Field(
        None, alias="type", description="A type of event; may be repeated"
    )
    limit: Annotated[int, Number(1, 500)] = Field(100, description="Most events of an answer")


async def events(call: Call) -> Response:
    """Answer with the tenant's events in order of position, as the bytes that are published."""
    query, pool = ListEvents.read(call), call.service.pool
    await settled(call, None)
    for name in query.types or ():
        if name not in EVENTS:
            raise ApiError("bad-filter", f"{name[:100]!r} is no type of event", parameter="type")
    head = CURRENT.get().position = int((await pool.fetch(log.HEAD))[0][0])
    if query.after > head:
        raise ApiError("position-beyond-head", f"the log ends at position {head}", parameter="after")
    end = min(query.after + _WINDOW, head)
    found = Documents([])
    if end > query.after:
        asked = log.events_of_tenant(call.caller.tenant, query.after, end, query.types, query.limit)
        found = await call.documents(asked, column="state")
    rows = found.rows
    follow = rows[-1][0] if found.left or len(rows) == query.limit else end

    def answered() -> Response:
        data = b",".join([cloud_events.cloud_event(LogRow(*row)) for row in rows])
        return Ready(b'{"events":[%b],"next":%d,"head":%d}' % (data, follow, head))

    return await call.worked(answered)


async def get_receipt(call: Call) -> Response:
    """Answer with the outcome of a command."""
    nothing_else(call.parameters())
    await settled(call, None)
    command_id, pool = call.id, call.service.pool
    rows = await pool.fetch(*ledger.receipt(call.caller.tenant, command_id)) if "\0" not in command_id else []
    if not rows:
        return as_json(Receipt.show(await _parked(call, command_id)))
    code, detail, pointer, first, last, recorded_at, _ = rows[0]
    outcome, events, error = "accepted", [], None
    if code is not None:
        outcome, error = "rejected", Refusal(code, detail or "", pointer or "")
    elif first is not None:
        events = [
            {"position": position, "type": name, "stream": "-".join(split_stream(stream)[1:]), "version": version}
            for position, name, stream, version in await pool.fetch(*log.summaries_between(first, last))
        ]
    receipt = {"command_id": command_id, "outcome": outcome, "recorded_at": recorded_at, "position": last}
    return as_json(Receipt.show({**receipt, "events": events, "error": error}))


async def _parked(call: Call, command_id: str) -> dict[str, Any]:
    """Return the receipt of a command that is a dead letter."""
    asked = dead_letters.receipt(call.caller.tenant, command_id)
    rows = await call.service.pool.fetch(*asked) if "\0" not in command_id else []
    if not rows:
        raise ApiError("unknown-or-undecided", "no command of this id was decided here, or not yet")
    state, code, detail, pointer, last_at = rows[0]
    outcome = "discarded" if state == "discarded" else "parked"
    receipt = {"command_id": command_id, "outcome": outcome, "recorded_at": last_at, "position": None}
    return {**receipt, "events": [], "error": Refusal(code, detail, pointer)}


async def get_bulk(call: Call) -> Response:
    """Answer with the progress of a bulk in the background."""
    nothing_else(call.parameters())
    await settled(call, None)
    bulk = await progress(call.service.pool, call.caller.tenant, call.id) if ID.match(call.id) else None
    if bulk is None:
        raise ApiError("not-found", "there is no bulk of this id, or no longer")
    return as_json(Bulk.show(bulk))
