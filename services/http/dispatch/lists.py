"""The dispatch dialect's lists: activities and configuration by pages, and what happened to one activity.

What a status means is asked of the function that shows a task.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field

from domain.limits import Number
from domain.recorded import Recorded
from domain.streams import ID, stream_of
from domain.task import DispatchFailed, ResolutionFailed, ResultRecorded, Task, TaskFailed, TaskReopened, evolve
from projections import directory
from projections.support.conditions import Where, by_word
from projections.support.query import BadQuery
from projections.task import table as tasks
from services.commands.outcome import IDEMPOTENCY, row_of_key
from services.http.core.call import Call
from services.http.core.errors import ApiError
from services.http.core.pages import Page
from services.http.core.parameters import MinPosition, Query
from services.http.dispatch.models_activities import STATUSES, Status, status_of
from services.http.dispatch.models_parts import EVENT_NAMES
from services.store import ledger, log
from services.store.log import LogRow

_MAX_PER_PAGE, _DEFAULT = 100, 25
CONDITIONS = by_word(
    tasks.FACTS, lambda facts: status_of(facts["status"], facts["resolution"], facts["dispatch"]), STATUSES
)


class _Size(Query):
    page: Annotated[int, Number(1, 100_000)] = Field(1, description="From 1")
    per_page: Annotated[int, Number(1, _MAX_PER_PAGE)] = Field(_DEFAULT, description="Rows of a page")
    limit: Annotated[int, Number(1, _MAX_PER_PAGE)] = Field(0, description="Another name of per_page")

    def page_of(self, total: int) -> Page:
        """Return the page that is asked for, without its rows."""
        sizes = {getattr(self, name) for name in ("per_page", "limit") if name in self.model_fields_set}
        if len(sizes) > 1:
            raise ApiError("bad-limit", "per_page and limit are two names of one size", parameter="limit")
        return Page(self.page, sizes.pop() if sizes else _DEFAULT, total, [])


class ListEntries(MinPosition, _Size):
    """A page of what is configured."""


class _Which(Query):
    """Which activities are asked for; a filter is called as tasks are filtered."""

    status: Status | None = Field(None, description="In this status")
    type: Literal["TASK"] | None = Field(None, description="Of this type")
    channel: str | None = Field(None, max_length=1000, description="Over this channel")
    commerce: str | None = Field(None, alias="commerce_id", max_length=1000, description="For this commerce")
    scheduled_at__gte: str | None = Field(
        None,
        alias="scheduled_from",
        description="Scheduled at this time or later, RFC 3339",
        json_schema_extra={"format": "date-time"},
    )
    scheduled_at__lte: str | None = Field(
        None,
        alias="scheduled_to",
        description="Scheduled at this time or earlier, RFC 3339",
        json_schema_extra={"format": "date-time"},
    )
    search: str | None = Field(None, max_length=1000, description="Part of the reason, in any case of letters")
    sort_by: Literal["created_at", "updated_at", "scheduled_at"] = Field("created_at", description="Order")
    sort_order: Literal["asc", "desc"] = Field("desc", description="Direction")


_FILTERS = ("channel", "commerce", "scheduled_at__gte", "scheduled_at__lte", "search")


class ListActivities(ListEntries, _Which):
    """A page of activities."""


async def page_of_activities(call: Call, query: ListActivities) -> Page:
    """Return a page of tasks as resources; raises `ApiError`."""
    tenant, fetch, now = call.caller.tenant, call.service.pool.fetch, call.service.clock()
    filters = {name: getattr(query, name) for name in _FILTERS if name in query.model_fields_set}
    where: list[Where] = [] if query.status is None else [CONDITIONS[query.status]]
    sort = ("-" if query.sort_order == "desc" else "") + query.sort_by
    try:
        page = query.page_of(int((await fetch(*tasks.count(tenant, filters, where)))[0][0]))
        if page.offset >= page.total:
            return page
        asked = tasks.page(tenant, filters, sort, limit=page.limit, offset=page.offset, where=where)
    except BadQuery as error:
        field = ListActivities.model_fields.get(error.parameter)
        name = field.alias if field is not None and field.alias else error.parameter
        raise ApiError(error.code, error.detail, parameter=name) from None
    return page.with_rows([tasks.resource(row, now) for row in await fetch(*asked)])


async def page_of_entries(call: Call, query: ListEntries, kind: str) -> Page:
    """Return a page of the entries of a kind, in order of id."""
    tenant, fetch = call.caller.tenant, call.service.pool.fetch
    page = query.page_of(int((await fetch(*directory.count(tenant, kind)))[0][0]))
    if page.offset >= page.total:
        return page
    rows = await fetch(*directory.page(tenant, kind, limit=page.limit, offset=page.offset))
    return page.with_rows([directory.resource(row) for row in rows])


# Who used a key.


async def holder(call: Call, key: str) -> tuple[str | None, str | None]:
    """Return which command took a key, and the id of what it made."""
    tenant, fetch = call.caller.tenant, call.service.pool.fetch
    rows = await fetch(*ledger.holder(tenant, IDEMPOTENCY, key))
    if not rows:
        return None, None
    row = row_of_key(tenant, rows[0][0])
    if row.first_position is None:
        return row.command_id, None
    found = await fetch(*log.summaries_between(row.first_position, row.last_position or 0))
    return row.command_id, made_by((name, stream.partition("/")[2]) for _, name, stream, _ in found)


def made_by(events: Iterable[tuple[str, str]]) -> str | None:
    """Return the id of the task that events make, or of the activity, when another dialect took the key."""
    made = {name: stream.partition("-")[2] for name, stream in reversed(list(events))}
    return made.get("activity.created") or made.get("task.created")


# What happened to one activity, as a dispatch client sees it, straight from the task's own stream.

# What is work on a task and no step of its way out; shown only when it changes the status all the same.
_WORK = frozenset(
    {"task.assigned", "task.reassigned", "task.unassigned", "task.started", "task.paused", "task.resumed"}
)


async def status_events(call: Call) -> list[dict[str, Any]]:
    """Return the activity's status events, oldest first; refuses an id that nobody in the tenant has."""
    # The log itself is never late, so there is nothing to wait for.
    position, positions = MinPosition.read(call).min_position, call.service.positions
    if position > positions.head:
        await positions.refresh()
        if position > positions.head:
            detail = f"the log ends at position {positions.head}"
            raise ApiError("position-beyond-head", detail, parameter="min_position")
    rows = []
    if ID.match(call.id):
        stream = stream_of(call.caller.tenant, "task", call.id)
        rows = await call.service.pool.fetch(*log.events_of_stream(stream, EVENT_NAMES))
    if not rows:
        raise ApiError("not-found", "there is no activity of this id")
    return _told(LogRow(*row).recorded() for row in rows)


def _told(events: Iterable[Recorded]) -> list[dict[str, Any]]:
    """Return what a dispatch client is told of a task's events: every change of status, and every attempt."""
    found = []
    task: Task | None = None
    before: str | None = None
    previous: Any = None
    for event in events:
        code, message = _failure(event.data, previous)
        task = evolve(task, event.data)
        after = status_of_task(task)
        if after != before or event.name not in _WORK:
            found.append(
                {
                    "id": event.event_id,
                    "name": event.name,
                    "from_status": before,
                    "to_status": after,
                    "error_code": code,
                    "error_message": message,
                    "occurred_at": event.occurred_at,
                }
            )
        before = after
        if not isinstance(event.data, TaskReopened):
            previous = event.data
    return found


def status_of_task(task: Task | None) -> str | None:
    """Return the dialect's status of a task's state."""
    return None if task is None else status_of(task.lifecycle.value.lower(), task.resolution.value, task.dispatch.value)


def _failure(event: Any, previous: Any) -> tuple[str | None, str | None]:
    """Return the code and the words for what an event says went wrong; its cause is recorded right before it."""
    match event:
        case DispatchFailed():
            return event.code, event.message
        case ResolutionFailed():
            return "resolution-failed", event.reason
        case TaskFailed() if isinstance(previous, ResultRecorded):
            return "not-executed", event.comment
        case TaskFailed() if isinstance(previous, DispatchFailed) and previous.final:
            return "dispatch-failed", event.comment
        case TaskFailed():
            return "failed", event.comment
    return None, None
