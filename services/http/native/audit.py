"""The audit of the native API: what operators did in the caller's tenant."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from pydantic import Field
from starlette.responses import Response

from domain.limits import Number
from projections.support.query import BadQuery, demand_text, time_of
from services.http.core.call import Call, Ready
from services.http.core.models import View
from services.http.core.parameters import MOMENT, Position, Query, settled
from services.http.native.lists import next_page
from services.store import audit
from services.store.audit import WINDOW as WINDOW

_ID = "019a2d3c-7b1e-7c40-9d2a-0b8f6e1c2d3a"
_encode = msgspec.json.Encoder().encode


class ListActs(Query):
    """Which acts are listed."""

    act: str | None = Field(None, min_length=1, description="An act, such as `key.create`")
    actor: str | None = Field(None, min_length=1, description="Who did it: the actor of an API key, or `cli:<user>`")
    target: str | None = Field(None, min_length=1, description="How the target begins, such as `key/`")
    outcome: Literal["started", "succeeded", "failed"] | None = Field(None, description="How it ended")
    since: str | None = Field(None, description="Recorded at this time or later", json_schema_extra=MOMENT)
    until: str | None = Field(None, description="Recorded before this time", json_schema_extra=MOMENT)
    limit: Annotated[int, Number(1, audit.MAX_PAGE)] = Field(50, description="Most acts of a page")
    cursor: Position = Field(0, description="What `next` of the page before says")


class Act(View):
    """What an operator did"""

    position: int = Field(description="in the log of all tenants")
    event_id: str
    operation_id: str = Field(description="the same for the start of an act and its outcome")
    act: str
    target: str
    outcome: Literal["started", "succeeded", "failed"]
    reason: str | None = Field(description="why it failed")
    actor: str
    key_id: str | None = Field(description="the API key that it was done with")
    recorded_at: str = Field(json_schema_extra={"format": "date-time"})
    details: dict[str, Any]
    example: ClassVar[dict[str, Any]] = {
        "position": 42, "event_id": _ID, "operation_id": _ID, "act": "key.create", "target": "key/0123456789abcdef",
        "outcome": "succeeded", "reason": None, "actor": "cli:root", "key_id": None,
        "recorded_at": "2025-10-31T01:50:00.000Z", "details": {"permissions": ["read"]},
    }  # fmt: skip


async def list_acts(call: Call) -> Response:
    """Answer with a page of the tenant's acts, the newest first."""
    query = ListActs.read(call)
    await settled(call, None)
    wanted = audit.Wanted(
        _text(query.act, "act"), _text(query.actor, "actor"), _text(query.target, "target"), query.outcome,
        _time(query.since, "since"), _time(query.until, "until"),
    )  # fmt: skip
    tenant = call.caller.tenant
    before = int((await call.service.pool.fetch(*audit.version(tenant)))[0][0]) + 1
    if "cursor" in query.model_fields_set:
        before = min(before, query.cursor)
    found = await call.documents(audit.page(tenant, wanted, before, query.limit), column="state")
    rows = found.rows
    last = rows[-1][2] if found.left else audit.following(rows, before, query.limit)
    follow = None if last is None else next_page(call, str(last))
    return await call.worked(
        lambda: Ready(
            b'{"data":[%b],"next":%b}' % (b",".join(_encode(audit.entry(row)) for row in rows), _encode(follow))
        )
    )


def _text(text: str | None, name: str) -> str | None:
    if text == "":
        raise BadQuery("bad-filter", "this filter needs a value", name)
    return None if text is None else demand_text(text, name)


def _time(text: str | None, name: str) -> datetime | None:
    return None if text is None else time_of(text, name)
