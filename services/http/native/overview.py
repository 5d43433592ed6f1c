"""The overview of the native API: figures of now for the caller's tenant, each from a bounded statement."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar

from pydantic import Field
from starlette.responses import Response

from domain.lifecycle import TERMINAL, Lifecycle
from domain.limits import Number
from projections import BY_NAME, activities
from projections.listing import Listing
from projections.task import table as tasks
from services.broker.command_queue import BrokerAway, Counts
from services.http.core.call import Call, as_json
from services.http.core.models import Json, View
from services.http.core.parameters import Query, settled
from services.http.native.counts import MOST, Bounded, StatusCount, bounded
from services.http.native.models import Count
from services.store import figures, standing, stuck

# Periods in which events are counted.
BUCKETS = 30
OPEN = [state.value.lower() for state in Lifecycle if state not in TERMINAL]
_PARKED = "command-parked"


class HowLong(Query):
    """For how long events are counted."""

    minutes: Annotated[int, Number(1, 60)] = Field(5, description="Minutes for which events are counted")


class EventBucket(View):
    """Events of a period."""

    at: datetime = Field(description="its beginning")
    count: Count


class RecentEvents(View):
    """The tenant's events."""

    last_minute: Count
    per_second: float = Field(ge=0, description="over the last minute")
    bucket_seconds: Count
    exact: bool = Field(description="whether they are counted; else they are estimated from a sample")
    buckets: list[EventBucket] = Field(description="the oldest first")


class Visible(View):
    """From the record of an event until a read model shows it, of the one that is furthest behind."""

    lag: Count = Field(description="events of the log")
    lag_seconds: float = Field(ge=0, description="the age of the next event; 0 without one")


class CommandQueue(View):
    """The broker's queues of all tenants."""

    waiting: Count = Field(description="commands that wait for a consumer")
    consumers: Count
    dead_letters: Count = Field(description="dead letters that are still to be stored")


class OfCause(Bounded):
    """How much is stuck for a cause."""

    cause: str = Field(json_schema_extra={"enum": list(stuck.BY_CAUSE)})
    path: str = Field(description="lists it")


class Overview(View):
    """Figures, which may be some seconds old"""

    at: datetime
    events: RecentEvents
    visible: Visible
    queue: CommandQueue | None = Field(description="null while the broker cannot be asked")
    dead_letters: Bounded = Field(description="those that wait for an operator")
    stuck: list[OfCause]
    activities: list[StatusCount] = Field(description="those that are not ended")
    tasks: list[StatusCount] = Field(description="those that are not ended")

    example: ClassVar[Json] = {
        "at": "2025-10-31T01:50:00Z",
        "events": {
            "last_minute": 120, "per_second": 2.0, "bucket_seconds": 10, "exact": True,
            "buckets": [{"at": "2025-10-31T01:45:00Z", "count": 20}],
        },
        "visible": {"lag": 0, "lag_seconds": 0.0},
        "queue": {"waiting": 0, "consumers": 1, "dead_letters": 0},
        "dead_letters": {"count": 0, "more": False},
        "stuck": [{"cause": "task-overdue", "count": 1, "more": False, "path": "/v1/stuck?cause=task-overdue"}],
        "activities": [{"status": "open", "count": 1, "more": False}],
        "tasks": [{"status": "open", "count": 2, "more": False}],
    }  # fmt: skip


async def overview(call: Call) -> Response:
    """Answer with the figures."""
    minutes = HowLong.read(call).minutes
    await settled(call, None)
    kept = call.service.figures
    return as_json(await kept.get((call.caller.tenant, minutes), lambda: _figures(call, minutes)))


async def _figures(call: Call, minutes: int) -> Json:
    tenant = call.caller.tenant
    (recent, last), followers, found, of_activities, of_tasks, queue = await asyncio.gather(
        asyncio.gather(_recent(call, minutes * 60, BUCKETS), _recent(call, 60, 1)),
        call.service.pool.fetch(*standing.FIGURES),
        call.service.lists.fetch(tenant, *stuck.counts(tenant, stuck.Wanted())),
        _open(call, activities.LISTING),
        _open(call, tasks.LISTING),
        command_queue(call),
    )
    causes = {cause: bounded(int(count), stuck.MOST) for cause, count in found if count}
    behind = [row for row in followers if row[0] in BY_NAME and row[2]]
    return Overview.show(
        {
            "at": recent.at,
            "events": _events(recent, last, minutes * 60 // BUCKETS),
            "visible": {
                "lag": max((max(0, row[7] - row[3]) for row in behind), default=0),
                "lag_seconds": round(max((max(0.0, row[8] or 0.0) for row in behind), default=0.0), 3),
            },
            "queue": queue,
            "dead_letters": causes.get(_PARKED, bounded(0, stuck.MOST)),
            "stuck": [
                {"cause": cause, **causes[cause], "path": f"/v1/stuck?cause={cause}"}
                for cause in stuck.BY_CAUSE
                if cause in causes
            ],
            "activities": of_activities,
            "tasks": of_tasks,
        }
    )


async def _recent(call: Call, seconds: int, buckets: int) -> figures.Recent:
    tenant = call.caller.tenant
    rows = await call.service.lists.fetch(tenant, *figures.recent(tenant, seconds, buckets))
    return figures.counted(rows, buckets)


def _events(recent: figures.Recent, last: figures.Recent, seconds: int) -> Json:
    first = recent.at - timedelta(seconds=seconds * len(recent.counts))
    return {
        "last_minute": last.counts[0],
        "per_second": round(last.counts[0] / 60, 2),
        "bucket_seconds": seconds,
        "exact": recent.exact and last.exact,
        "buckets": [
            {"at": first + timedelta(seconds=seconds * number), "count": count}
            for number, count in enumerate(recent.counts)
        ],
    }


async def _open(call: Call, listing: Listing) -> list[Json]:
    tenant = call.caller.tenant
    rows: Sequence[Any] = await call.service.lists.fetch(tenant, *listing.standing(tenant, OPEN, MOST))
    return [{"status": status, **bounded(count, MOST)} for status, count in rows]


async def command_queue(call: Call) -> Json | None:
    """Return what waits in the broker, None while it cannot be asked."""
    found: Json | None = await call.service.figures.get("queue", lambda: _queue(call))
    return found


async def _queue(call: Call) -> Json | None:
    try:
        counts: Counts = await call.service.queue.counts()
    except BrokerAway:
        return None
    return {"waiting": counts.waiting, "consumers": counts.consumers, "dead_letters": counts.dead}
