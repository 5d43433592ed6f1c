"""The field dialect's lists: pages of masters and tasks, filtered by its own words, and of workflows.

What its words mean is asked of the functions that show a task and an activity.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Optional, Self

import msgspec
from pydantic import ConfigDict, Field, PrivateAttr, create_model

from domain.limits import MAX_KEY, Number
from domain.streams import ID
from projections import activities, directory, entries
from projections.listing import PERSON, current
from projections.sides import Side, merged, total
from projections.statement import Query as Asked
from projections.support.conditions import CONTAINS, Where, by_word
from projections.support.conditions import Asked as Filtered
from projections.support.query import MAX_MEMBERS, MAX_ROWS, demand_text, time_of
from projections.task import table as tasks
from projections.task.filters import presence, where
from services.http.core import past
from services.http.core.call import Call
from services.http.core.components import example_of
from services.http.core.entities import TASK
from services.http.core.errors import ApiError
from services.http.core.models import Json, View
from services.http.core.pages import Page, PageQuery, page_by, page_of_entries
from services.http.core.parameters import AsOf, Position, settled
from services.http.core.shown import CAMEL, CamelView
from services.http.field.dialect import beside
from services.http.field.models import (
    CHILD,
    MASTER,
    STATUSES,
    Master,
    Status,
    Task,
    activity_status,
    task_or_master,
    task_status,
)
from services.http.field.paged import at_address, continued, page_view
from services.http.field.requests import REFERENCES, with_zone
from services.http.field.workflows import Workflow

SORTS = {
    "createdTime": "created_at",
    "updatedTime": "updated_at",
    "startTime": "start",
    "endTime": "end",
    "title": "title",
    "orderIndex": "order_index",
    "doneTime": "completed_at",
}
_TIMES = {"createdTime": "created_at", "startTime": "start", "doneTime": "completed_at"}
_ORDERS = ("asc", "desc")
_SCALAR = re.compile(r"(true|false|-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,9})?)\Z")
Limit = Annotated[int, Number(1, MAX_ROWS)]
LIMIT: Any = Field(20, description="Rows of a page")
WAITED_FOR: Any = Field(0, alias="min_position", description="Wait until the read model has handled this position")


class ListPage(PageQuery):
    """Which page of a list is asked for."""

    model_config = CAMEL

    limit: Limit = LIMIT
    min_position: Position = WAITED_FOR


class ListTasks(ListPage, AsOf):
    """Which masters and tasks are asked for."""

    model_config = CAMEL

    page: Annotated[int, Number(1, 1_000_000)] = Field(
        1, description="From 1; without a taskType the pages end at row 1000"
    )
    hub_id: str | None = Field(None, description="Of this hub")
    status: Status | None = Field(None, description="In this status")
    flow: str | None = Field(None, description="Of the flows with these names, with commas between")
    flow_id: str | None = Field(None, description="Of these flows, with commas between")
    assignee: str | None = Field(None, description=f"Of one of these people, with commas between. {REFERENCES}")
    done_by: str | None = Field(
        None, description="Completed by one of these people, with commas between: references as above, or whole names"
    )
    active: bool = Field(False, description="Whose start has passed, and whose end has not")
    is_visit: bool = Field(False, description="Whose end has not passed")
    search: str | None = Field(None, description="With this in the title, without regard to case")
    time_by: Literal["createdTime", "startTime", "doneTime"] = Field(
        "createdTime", description="The time that timeFrom and timeTo are about"
    )
    time_from: str | None = Field(None, description="Not before this time, such as `2025-10-31 00:00:00`")
    time_to: str | None = Field(None, description="Not after this time")
    task_type: Literal["activityMaster", "activityChild", "task"] | None = Field(None, description="Of this type")
    parent_id: str | None = Field(None, description="Children of this master")
    sort_by: Literal["createdTime", "updatedTime", "startTime", "endTime", "title", "orderIndex", "doneTime"] = Field(
        "createdTime", description="Order"
    )
    lazy_load: Literal["0", "1", "false", "true"] = Field(
        "0", description="Go on after the `cursor`, whatever `page` is"
    )
    cursor: str | None = Field(None, description="The id of the last row seen, with `lazyLoad`")
    sort_order: str = Field("desc", description="Direction", json_schema_extra={"enum": list(_ORDERS)})
    keys: str = Field("", alias="fields", description="Just these keys, also ones of a flow, with commas between")
    _of_fields: dict[str, list[str]] = PrivateAttr(default_factory=dict)

    @classmethod
    def take(cls, given: dict[str, list[str]]) -> Self:
        """Take the parameters; an order that is empty is the default one."""
        for name in ("sortBy", "sortOrder"):
            if given.get(name) == [""]:
                del given[name]
        asked = {name: given.pop(name) for name in list(given) if name.startswith("field[") and name.endswith("]")}
        query = super().take(given)
        if query.is_lazy:
            query = query.model_copy(update={"page": 1})
        query._of_fields.update({name[len("field[") : -1]: values for name, values in asked.items()})
        return query

    @property
    def is_lazy(self) -> bool:
        """Tell whether the page goes on after a row, and has no number."""
        return self.lazy_load in ("1", "true")

    @property
    def of_fields(self) -> Mapping[str, list[str]]:
        """Return what fields of a flow are asked to be, by their names."""
        return self._of_fields


_OF_TASKS = by_word(tasks.FACTS, task_status, STATUSES)
OF_MASTERS = by_word(activities.FACTS, activity_status, STATUSES)


async def page_of_tasks(call: Call, query: ListTasks) -> Page:
    """Return a page of masters and tasks as they are shown."""
    await settled(call, query, *TASK.models)
    tenant, now = call.caller.tenant, call.now
    sort, keys, sides = sort_of(query), keys_of(query.keys), await sides_of(call, query)
    after = await _after(call, query, sort) if query.is_lazy else None

    def asked(page: Page) -> Asked:
        if len(sides) > 1 and page.offset + page.limit > MAX_ROWS:
            detail = f"masters and tasks together have {MAX_ROWS} rows at most; ask with a taskType to go on"
            raise ApiError("bad-limit", detail, parameter="page")
        return merged(tenant, sides, sort, page.limit, page.offset, after)

    def resource(row: Sequence[Any]) -> dict[str, Any]:
        return RESOURCES[row[0]](row[1:], now)

    counted = not query.is_lazy
    page = at_address(call, await page_by(call, query, total(tenant, sides), asked, resource, counted=counted))
    shown_with, found = await beside(call, page.rows), page.rows
    page = page.with_rows(await call.worked(lambda: [only(keys, task_or_master(each, shown_with)) for each in found]))
    return continued(page) if query.is_lazy else page


# How rows become resources, by the mark of their side.
RESOURCES = {MASTER: activities.resource, CHILD: tasks.resource}


async def _after(call: Call, query: ListTasks, sort: str) -> str | None:
    """Return the cursor of the row that a page goes on after."""
    if not query.cursor:
        return None
    for listing in (tasks.LISTING, activities.LISTING):
        rows = await call.list_rows(listing.cursor_at(call.caller.tenant, query.cursor, sort))
        if rows:
            return listing.cursor(rows[0], sort)
    raise ApiError("bad-cursor", "the cursor is the id of the last task seen", parameter="cursor")


async def _done_by(call: Call, query: ListTasks) -> dict[str, Any]:
    """Return the filter for who completed a task, by a reference or by the whole name."""
    if not query.done_by:
        return {}
    tenant, wanted = call.caller.tenant, _listed(query.done_by)
    references = [text for text in wanted if ID.match(text) or {*text} & {*"@:"}]
    named = await call.service.members.named(tenant, references, "doneBy")
    called = await call.list_rows(entries.called(tenant, "member", wanted, MAX_ROWS))
    return {"done_by": sorted({row[1] for row in called}.union(*named.values()))[:MAX_MEMBERS]}


async def _shared(call: Call, query: ListTasks) -> dict[str, Any]:
    """Return the filters that masters and tasks have alike."""
    found: dict[str, Any] = {} if query.hub_id is None else {"hub": query.hub_id}
    if query.search:
        found["search"] = query.search
    if query.assignee:
        wanted = await call.service.members.named(call.caller.tenant, _listed(query.assignee), "assignee")
        found[PERSON] = [member for members in wanted.values() for member in members]
    for bound, parameter, given in (("gte", "timeFrom", query.time_from), ("lte", "timeTo", query.time_to)):
        if given:
            found[f"{_TIMES[query.time_by]}__{bound}"] = with_zone(given)
            time_of(with_zone(given), parameter)
    return found


async def sides_of(call: Call, query: ListTasks) -> list[Side]:
    """Return the sides that may hold something that fits."""
    await past.take_tasks(call, query.parent_id, "parentId")
    shared = await _shared(call, query)
    # What masters do not have.
    own: dict[str, Any] = {
        **await _done_by(call, query),
        **({} if query.parent_id is None else {"activity_id": query.parent_id}),
    }
    own |= {} if query.flow is None else {"flow": _listed(query.flow)}
    own |= {} if query.flow_id is None else {"flow_id": _listed(query.flow_id)}
    fields = [_of_field(call.caller.tenant, name, values) for name, values in query.of_fields.items()]
    running = [current(call.now, query.active)] if query.active or query.is_visit else []
    sides = []
    if query.task_type != MASTER:
        more = [*running, *fields, *([] if query.status is None else [_OF_TASKS[query.status]])]
        more += [] if query.task_type is None else [presence("activity_id", query.task_type == CHILD)]
        sides.append(Side(CHILD, tasks.LISTING, {**shared, **own}, more))
    if query.task_type in (None, MASTER) and not own and not fields:
        more = [*running, *([] if query.status is None else [OF_MASTERS[query.status]])]
        sides.append(Side(MASTER, activities.LISTING, shared, more))
    return sides


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",")]


def _of_field(tenant: str, name: str, values: Sequence[str]) -> Where:
    """Return that a field is one of the texts, or what they mean as a number or a truth value."""
    parameter = f"field[{name}]"
    wanted: list[dict[str, Any]] = []
    for text in values:
        wanted.append({demand_text(name, parameter): demand_text(text, parameter)})
        if _SCALAR.match(text):
            wanted.append({name: msgspec.json.decode(text)})
    return where(Filtered(tenant, "data", CONTAINS, wanted, parameter))


def sort_of(query: ListTasks) -> str:
    order = query.sort_order.lower()
    if order not in _ORDERS:
        raise ApiError("bad-filter", f"sortOrder is one of {', '.join(_ORDERS)}", parameter="sortOrder")
    return ("-" if order == "desc" else "") + SORTS[query.sort_by]


def keys_of(text: str) -> set[str]:
    """Return the keys that are asked for, with the id; none when all are."""
    keys = _listed(text) if text else []
    if len(keys) > 100 or not all(1 <= len(name) <= MAX_KEY for name in keys):
        raise ApiError("bad-filter", "fields is a list of at most 100 names with commas between", parameter="fields")
    return {"_id", *keys} if keys else set()


def only(keys: set[str], shown: Json) -> Json:
    """Return what is shown under the keys; all of it if there are none."""
    return {key: value for key, value in shown.items() if key in keys} if keys else shown


async def page_of_workflows(call: Call, query: ListPage) -> Page:
    """Return a page of workflows as they are shown, in the order of their ids."""
    page = at_address(call, await page_of_entries(call, query, directory.WORKFLOW))
    shown_with, found = await beside(call, page.rows), page.rows
    return page.with_rows(await call.worked(lambda: [Workflow.show(entry, shown_with) for entry in found]))


# Pages as they are shown.


class Listed(CamelView):
    """One of a list; with `fields` just what was asked for."""

    model_config = ConfigDict(extra="allow")

    id: str = Field(alias="_id")


def listed(*views: type[View], **others: Any) -> Any:
    """Return the view of what is listed of these, the last of which is the example: any key may be missing.

    `others` are the types of fields that differ between them.
    """
    keys: Any = {
        name: (Optional[others.get(name, field.annotation)], None)  # noqa: UP045 - of types that are not written here
        for view in views
        for name, field in view.model_fields.items()
        if name != "id"
    }
    made = create_model(f"Listed{views[-1].__name__}", __base__=Listed, __module__=__name__, **keys)
    made.__doc__, made.example = Listed.__doc__, example_of(views[-1])
    return made


TaskPage = page_view("TaskPage", "Masters and tasks.", listed(Master, Task, task_type=str))
WorkflowPage = page_view("WorkflowPage", "Workflows in the order of their ids.", Workflow)
