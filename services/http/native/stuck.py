"""What is stuck, in the native API: everything of the caller's tenant that does not move though it should, and why."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, Any, ClassVar

import msgspec
from pydantic import Field
from starlette.responses import Response

from domain.limits import Number
from domain.streams import ID
from projections.support.query import BadQuery, demand_text
from services.http.core.call import Call, Ready
from services.http.core.models import View
from services.http.core.openapi import PERSONS
from services.http.core.parameters import Query, settled
from services.http.native.lists import next_page
from services.store import stuck

_encode = msgspec.json.Encoder().encode
_ID: dict[str, Any] = {"pattern": f"^{ID.pattern[:-2]}$"}
_CAUSES = list(stuck.BY_CAUSE)


class ListStuck(Query):
    """Which of what is stuck is listed."""

    causes: list[Annotated[str, Field(json_schema_extra={"enum": [*_CAUSES]})]] | None = Field(
        None, alias="cause", description="A cause; may be repeated"
    )
    project: str | None = Field(None, description="A project", json_schema_extra=_ID)
    members: list[Annotated[str, Field(min_length=1, max_length=1000)]] | None = Field(
        None, alias="member", description=f"A member who has it; may be repeated. It is {PERSONS}"
    )
    activity: str | None = Field(None, description="An activity", json_schema_extra=_ID)
    limit: Annotated[int, Number(1, 500)] = Field(50, description="Rows of a page")
    cursor: str | None = Field(None, min_length=1, description="What `next` of the page before says")


class Reference(View):
    """A resource by kind and id"""

    kind: str
    id: str


class Waits(View):
    """What waits: an activity, or so many events"""

    kind: str
    id: str | None
    count: int | None


class Remedy(View):
    """What to do"""

    text: str
    command: dict[str, Any] | None = Field(description="a command for `POST /v1/commands`, as it is")
    cli: str | None = Field(description="a command line for an operator")


class Stuck(View):
    """Something that does not move though it should"""

    cause: str = Field(json_schema_extra={"enum": [*_CAUSES]})
    since: str | None = Field(json_schema_extra={"format": "date-time"})
    resource: Reference
    activity_id: str | None
    project: str | None
    members: list[str]
    waits: list[Waits]
    remedy: Remedy


class Count(View):
    """How many there are of a cause"""

    cause: str = Field(json_schema_extra={"enum": [*_CAUSES]})
    count: int
    more: bool = Field(description="whether there are more, which are not counted")


class StuckPage(View):
    """A page"""

    data: list[Stuck]
    counts: list[Count] = Field(
        description="of all that the filters leave; causes of which there is nothing are absent"
    )
    next: str | None = Field(description="the next page's address")
    example: ClassVar[dict[str, Any]] = {
        "data": [
            {
                "cause": "task-overdue",
                "since": "2025-10-31T01:50:00.000Z",
                "resource": {"kind": "task", "id": "t1"},
                "activity_id": "a1",
                "project": None,
                "members": ["ann"],
                "waits": [{"kind": "activity", "id": "a1", "count": None}],
                "remedy": {
                    "text": "complete it, or take its end away or set another one",
                    "command": {"type": "task.change", "data": {"id": "t1", "end": None}},
                    "cli": None,
                },
            }
        ],
        "counts": [{"cause": "task-overdue", "count": 1, "more": False}],
        "next": None,
    }


async def list_stuck(call: Call) -> Response:
    """Answer with a page of what is stuck, cause by cause."""
    query = ListStuck.read(call)
    await settled(call, None)
    wanted = await _wanted(call, query)
    after = None if query.cursor is None else _place(query.cursor)
    tenant = call.caller.tenant
    counted = {cause: int(count) for cause, count in await _fetch(call, stuck.counts(tenant, wanted)) if count}
    found: list[stuck.Stuck] = []
    last: tuple[str, str] | None = None
    more = False
    for source in stuck.wanted_sources(wanted):
        key = ""
        if after is not None:
            if _CAUSES.index(source.cause) < _CAUSES.index(after[0]):
                continue
            key = after[1] if source.cause == after[0] else ""
        if source.cause not in counted:
            continue
        left = query.limit - len(found)
        rows = await _fetch(call, stuck.page(source, tenant, wanted, key, left + 1))
        found += (stuck.shown(source, row) for row in rows[:left])
        if rows[:left]:
            last = source.cause, rows[:left][-1][0]
        if len(rows) > left:
            more = True
            break
    counts = [
        {"cause": cause, "count": min(counted[cause], stuck.MOST), "more": counted[cause] > stuck.MOST}
        for cause in _CAUSES
        if cause in counted
    ]
    follow = next_page(call, _cursor(*last)) if more and last is not None else None
    return Ready(_encode({"data": found, "counts": counts, "next": follow}))


async def _fetch(call: Call, asked: stuck.Asked) -> Any:
    return await call.service.lists.fetch(call.caller.tenant, asked.sql, asked.params)


async def _wanted(call: Call, query: ListStuck) -> stuck.Wanted:
    for cause in query.causes or ():
        if cause not in stuck.BY_CAUSE:
            raise BadQuery("bad-filter", f"{cause[:100]!r} is no cause", "cause")
    for name in ("project", "activity"):
        value = getattr(query, name)
        if value is not None and not ID.match(value):
            raise BadQuery("bad-filter", f"{value[:100]!r} is no id", name)
    members = None
    if query.members is not None:
        named = await call.service.members.named(call.caller.tenant, query.members, "member")
        members = tuple(member for each in named.values() for member in each)
    causes = None if query.causes is None else tuple(query.causes)
    return stuck.Wanted(causes, query.project, members, query.activity)


def _cursor(cause: str, key: str) -> str:
    return urlsafe_b64encode(f"{cause} {key}".encode()).decode().rstrip("=")


def _place(cursor: str) -> tuple[str, str]:
    try:
        cause, _, key = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(" ")
    except ValueError:
        cause, key = "", ""
    if cause not in stuck.BY_CAUSE or _cursor(cause, key) != cursor:
        raise BadQuery("bad-cursor", "a cursor is what `next` of the page before says", "cursor")
    return cause, demand_text(key, "cursor")
