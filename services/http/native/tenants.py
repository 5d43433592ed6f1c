"""Which tenant loads the system: figures of all tenants, for the permission that no key is given over HTTP."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import Field
from starlette.responses import Response

from domain.limits import Number
from projections.task import table as tasks
from services.http.core.call import Call, as_json
from services.http.core.models import Json, View
from services.http.core.parameters import Query, settled
from services.http.native.counts import MOST, Bounded, bounded
from services.http.native.models import Count
from services.http.native.overview import OPEN, CommandQueue, command_queue
from services.store import figures, tenants
from services.store.tenants import Load, Loads


class Lately(Query):
    """For how long events and commands are counted."""

    minutes: Annotated[int, Number(1, 15)] = Field(5, description="Minutes for which events and commands are counted")


class LoadEvents(View):
    """Events that were recorded."""

    count: Count
    per_second: float = Field(ge=0)
    bytes: Count = Field(description="as they are stored")


class LoadCommands(View):
    """Commands that were decided."""

    decided: Count
    refused: Count = Field(description="of those decided")


class TenantLoad(View):
    """What a tenant had the system do, and what waits for it."""

    tenant: str
    share: float = Field(ge=0, le=100, description="percent of all events and refused commands")
    events: LoadEvents
    commands: LoadCommands
    open_tasks: Bounded = Field(description="those that are not ended")
    dead_letters: Bounded = Field(description="those that wait for an operator")
    bulks: Count = Field(description="those that are being previewed, sent or aborted")
    deliveries: Count = Field(description="events that wait for active webhooks")


class TenantLoads(View):
    """Figures of all tenants, which may be some seconds old"""

    at: datetime
    minutes: int = Field(ge=1, le=15)
    exact: bool = Field(description="whether events are counted; else they are estimated from a sample")
    queue: CommandQueue | None = Field(description="null while the broker cannot be asked")
    data: list[TenantLoad] = Field(max_length=tenants.MOST, description="the greatest load first")
    more: Count = Field(description="how many tenants with a smaller load are left out")

    example: ClassVar[Json] = {
        "at": "2025-10-31T01:50:00Z", "minutes": 5, "exact": True,
        "queue": {"waiting": 0, "consumers": 1, "dead_letters": 0},
        "data": [{
            "tenant": "acme", "share": 100.0, "events": {"count": 600, "per_second": 2.0, "bytes": 480000},
            "commands": {"decided": 420, "refused": 3}, "open_tasks": {"count": 12, "more": False},
            "dead_letters": {"count": 0, "more": False}, "bulks": 0, "deliveries": 4,
        }],
        "more": 0,
    }  # fmt: skip


async def loads(call: Call) -> Response:
    """Answer with the tenants that load the system most."""
    minutes = Lately.read(call).minutes
    await settled(call, None)
    # It takes the longer the more is done, and is asked for most when there is too much.
    return as_json(await call.service.figures.get(("tenants", minutes), lambda: _loads(call, minutes), times=5))


async def _loads(call: Call, minutes: int) -> Json:
    lists, caller = call.service.lists, call.caller.tenant
    events, commands, waits, queue = await asyncio.gather(
        lists.fetch(caller, *figures.by_tenant(60 * minutes)),
        lists.fetch(caller, *tenants.decided(60 * minutes)),
        lists.fetch(caller, *tenants.waiting()),
        command_queue(call),
    )
    found: Loads = tenants.ranked(events, commands, waits)
    names = [load.tenant for load in found.tenants]
    counted = await lists.fetch(caller, *tasks.LISTING.standing_of(names, OPEN, MOST))
    open_tasks: dict[str, int] = dict(counted)
    data = [_shown(load, minutes, open_tasks[load.tenant]) for load in found.tenants]
    return TenantLoads.show(
        {"at": found.at, "minutes": minutes, "exact": found.exact, "queue": queue, "data": data, "more": found.others}
    )


def _shown(load: Load, minutes: int, open_tasks: int) -> Json:
    per_second = round(load.events / (60 * minutes), 2)
    return {
        "tenant": load.tenant,
        "share": load.share,
        "events": {"count": load.events, "per_second": per_second, "bytes": load.bytes},
        "commands": {"decided": load.decided, "refused": load.refused},
        "open_tasks": bounded(open_tasks, MOST),
        "dead_letters": bounded(load.letters, tenants.MOST_LETTERS),
        "bulks": load.bulks,
        "deliveries": load.deliveries,
    }
