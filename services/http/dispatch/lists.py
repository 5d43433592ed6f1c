"""The dispatch dialect's queries: pages of activities, what an activity consists of, and what happened to it.

What a status means is asked of the function that shows a task.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from domain.limits import Number
from domain.plan import CriterionType
from domain.recorded import Recorded
from domain.streams import ID, stream_of
from domain.task import EVENTS, DispatchFailed, ResolutionFailed, ResultRecorded, Task, TaskFailed, TaskReopened, evolve
from projections.support.conditions import Where, by_word
from projections.support.query import BadQuery
from projections.support.time import stamp
from projections.task import table as tasks
from services.commands.outcome import IDEMPOTENCY, row_of_key
from services.http.core.call import Call
from services.http.core.errors import ApiError
from services.http.core.list_view import ListView
from services.http.core.models import From, View
from services.http.core.pages import Page, PageQuery, page_by
from services.http.core.parameters import MinPosition, Query, settled
from services.http.core.shown import CamelView, Count, MaybeTime, Time
from services.http.dispatch.models import READY, STATUSES, Status, status_of
from services.store import ledger, log
from services.store.log import LogRow

_MAX_PER_PAGE, _DEFAULT = 100, 25
CONDITIONS = by_word(tasks.FACTS, status_of, STATUSES)


# Pages.


class ListEntries(PageQuery):
    """A page of what is configured."""

    limit: Annotated[int, Number(1, _MAX_PER_PAGE)] = Field(0, description="Another name of per_page")
    page: Annotated[int, Number(1, 100_000)] = Field(1, description="From 1")
    per_page: Annotated[int, Number(1, _MAX_PER_PAGE)] = Field(_DEFAULT, description="Rows of a page")

    def page_of(self, call: Call, total: int) -> Page:
        """Return the page that is asked for, without its rows."""
        sizes = {getattr(self, name) for name in ("per_page", "limit") if name in self.model_fields_set}
        if len(sizes) > 1:
            raise ApiError("bad-limit", "per_page and limit are two names of one size", parameter="limit")
        return Page(self.page, sizes.pop() if sizes else _DEFAULT, total, [])


class _Filters(Query):
    """Which activities are asked for; a filter is called as tasks are filtered."""

    channel: str | None = Field(None, max_length=1000, description="Over this channel")
    commerce: str | None = Field(None, alias="commerce_id", max_length=1000, description="For this commerce")
    scheduled_at__gte: MaybeTime = Field(
        None, alias="scheduled_from", description="Scheduled at this time or later, RFC 3339"
    )
    scheduled_at__lte: MaybeTime = Field(
        None, alias="scheduled_to", description="Scheduled at this time or earlier, RFC 3339"
    )
    search: str | None = Field(None, max_length=1000, description="Part of the reason, in any case of letters")


class ListActivities(ListEntries, _Filters):
    """A page of activities."""

    status: Status | None = Field(None, description="In this status")
    type: Literal["TASK"] | None = Field(None, description="Of this type")
    sort_by: Literal["created_at", "updated_at", "scheduled_at"] = Field("created_at", description="Order")
    sort_order: Literal["asc", "desc"] = Field("desc", description="Direction")


async def page_of_activities(call: Call, query: ListActivities) -> Page:
    """Return a page of tasks as resources; raises `ApiError`."""
    await settled(call, query, tasks.NAME)
    tenant, now = call.caller.tenant, call.service.clock()
    filters = {name: getattr(query, name) for name in _Filters.model_fields if name in query.model_fields_set}
    where: list[Where] = [] if query.status is None else [CONDITIONS[query.status]]
    sort = ("-" if query.sort_order == "desc" else "") + query.sort_by
    try:
        return await page_by(
            call,
            query,
            tasks.LISTING.count(tenant, filters, where),
            lambda page: tasks.LISTING.page(tenant, filters, sort, limit=page.limit, offset=page.offset, where=where),
            lambda row: tasks.resource(row, now),
        )
    except BadQuery as error:
        field = ListActivities.model_fields.get(error.parameter)
        name = field.alias if field is not None and field.alias else error.parameter
        raise ApiError(error.code, error.detail, parameter=name) from None


class Meta(CamelView):
    """Where a page lies among all."""

    page: Annotated[Count, From("", lambda page, _: page.number)] = Field(..., examples=[1])
    limit: Annotated[Count, From("", lambda page, _: page.limit)] = Field(..., examples=[_DEFAULT])
    total: Annotated[Count, From("", lambda page, _: page.total)] = Field(..., examples=[1])
    total_pages: Annotated[Count, From("", lambda page, _: -(-page.total // page.limit))] = Field(..., examples=[1])


def page_of(view: type[View]) -> type[View]:
    """Return the answer that is a page of views."""

    def rows(page: Page, context: Any) -> list[Any]:
        return [view.show(row, context) for row in page.rows]

    fields: Any = {"data": Annotated[list[view], From("", rows)], "meta": Annotated[Meta, From("")]}  # type: ignore[valid-type]
    name, module = f"{view.__name__}Page", view.__module__
    return create_model(name, __base__=CamelView, __module__=module, __doc__="A page", **fields)


# What an activity consists of.


class Attribute(CamelView):
    """An attribute with its value."""

    key: str = Field(..., examples=["promotions"])
    value: Any = Field(..., examples=[["2 for 1"]])


class Attributes(ListView):
    """The attributes, in the order in which they were resolved"""

    root: list[Attribute]


class TargetUser(CamelView):
    """A user that an activity is meant for, or the place of one that was not found."""

    id: str = Field(..., examples=["t1"])
    criterion: CriterionType
    status: Literal["PENDING", "RESOLVED", "FAILED", "LOCKED"] = Field(..., examples=["RESOLVED"])
    user_id: Annotated[str | None, From("user")] = Field(..., examples=["u-7"])
    reason: str | None


class TargetUsers(ListView):
    """The targets"""

    root: list[TargetUser]


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

# What touches none of the facts that a status is made of; a task that is often saved has thousands of them.
_BESIDE = frozenset(
    {
        "task.attributes-resolved",
        "task.became-overdue",
        "task.data-saved",
        "task.fields-changed",
        "task.fields-mapped",
        "task.rescheduled",
        "task.wake-set",
    }
)
EVENT_NAMES: tuple[str, ...] = tuple(name for name in EVENTS if name not in _BESIDE)
# What is work on a task and no step of its way out; shown only when it changes the status all the same.
_WORK = frozenset(
    {"task.assigned", "task.reassigned", "task.unassigned", "task.started", "task.paused", "task.resumed"}
)


def _type_of(name: str, _: Any = None) -> str:
    """Return the dialect's name of an event."""
    return name.partition(".")[2].replace("-", "_").upper()


class StatusEvent(CamelView):
    """What happened to an activity."""

    id: Annotated[str, From("event_id")] = Field(..., examples=["0199a1f0-0000-7000-8000-000000000001"])
    event_type: Annotated[str, From("name", _type_of)] = Field(
        ..., json_schema_extra={"enum": [_type_of(name) for name in EVENT_NAMES]}, examples=["DISPATCH_FAILED"]
    )
    from_status: Status | None = Field(..., examples=[READY])
    to_status: Status
    error_code: str | None = Field(..., examples=["http-503"])
    error_message: str | None = Field(..., examples=["the provider answered 503"])
    occurred_at: Annotated[Time, From("occurred_at", lambda moment, _: stamp(moment))]


class StatusEvents(ListView):
    """The events"""

    root: list[StatusEvent]


async def status_events(call: Call) -> list[dict[str, Any]]:
    """Return the activity's status events, oldest first; refuses an id that nobody in the tenant has."""
    # The log itself is never late, so there is nothing to wait for.
    await settled(call, MinPosition.read(call))
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
                    "event_id": event.event_id,
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
    if task is None:
        return None
    facts = {"status": task.lifecycle.value.lower(), "resolution": task.resolution.value}
    return status_of({**facts, "dispatch": task.dispatch.value})


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
