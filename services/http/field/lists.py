"""The field dialect's lists: pages of masters and tasks, filtered by its own words, and of workflows; bulks of tasks.

What its words mean is asked of the functions that show a task and an activity.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, create_model

from domain.limits import Items, Number
from domain.recorded import Recorded
from projections import activities, directory
from projections.listing import Side, merged, total
from projections.statement import Query as Asked
from projections.support.conditions import by_word
from projections.support.query import MAX_ROWS
from projections.task import table as tasks
from projections.task.filters import presence
from services.http.core.call import Call
from services.http.core.components import example_of
from services.http.core.entities import TASK
from services.http.core.errors import ApiError
from services.http.core.models import From, Json, View, refuse
from services.http.core.pages import Page, PageQuery, page_by, page_of_entries
from services.http.core.parameters import Position, settled
from services.http.core.shown import CAMEL, CamelRequest, CamelView, Count
from services.http.field.models import (
    CHILD,
    MASTER,
    STATUSES,
    Beside,
    Master,
    NewTask,
    Status,
    Task,
    activity_status,
    people_of,
    task_or_master,
    task_status,
)
from services.http.field.workflows import Workflow

_SORTS = {
    "createdTime": "created_at",
    "updatedTime": "updated_at",
    "startTime": "start",
    "endTime": "end",
    "title": "title",
}
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}\Z")
_NAMES = r"^$|^\s*[A-Za-z0-9_.-]{1,100}\s*(,\s*[A-Za-z0-9_.-]{1,100}\s*)*$"
_ORDERS = ("asc", "desc")


class ListTasks(PageQuery):
    """Which masters and tasks are asked for."""

    model_config = CAMEL

    page: Annotated[int, Number(1, 1_000_000)] = Field(
        1, description="From 1; without a taskType the pages end at row 1000"
    )
    hub_id: str | None = Field(None, description="Of this hub")
    status: Status | None = Field(None, description="In this status")
    flow_id: str | None = Field(None, description="Of this flow")
    task_type: Literal["activityMaster", "activityChild", "task"] | None = Field(None, description="Of this type")
    parent_id: str | None = Field(None, description="Children of this master")
    sort_by: Literal["createdTime", "updatedTime", "startTime", "endTime", "title"] = Field(
        "createdTime", description="Order"
    )
    sort_order: str = Field("desc", description="Direction", json_schema_extra={"enum": list(_ORDERS)})
    min_position: Position = Field(
        0, alias="min_position", description="Wait until the read model has handled this position"
    )
    keys: str = Field(
        "", alias="fields", description="Just these keys, with commas between", json_schema_extra={"pattern": _NAMES}
    )

    @classmethod
    def take(cls, given: dict[str, list[str]]) -> Self:
        """Take the parameters; an order that is empty is the default one."""
        for name in ("sortBy", "sortOrder"):
            if given.get(name) == [""]:
                del given[name]
        return super().take(given)


class ListWorkflows(PageQuery):
    """A page of workflows."""


_OF_TASKS = by_word(tasks.FACTS, task_status, STATUSES)
_OF_MASTERS = by_word(activities.FACTS, activity_status, STATUSES)


async def beside(call: Call, resources: Sequence[Mapping[str, Any]], events: Sequence[Recorded] = ()) -> Beside:
    """Return what is shown beside resources; `events` are ones that the directory may not show yet."""
    tenant = call.caller.tenant
    people = [member for resource in resources for member in people_of(resource)]
    known = await call.service.members.by_id(tenant, people, events)
    return Beside(tenant, {member: found.email for member, found in known.items() if found.email is not None})


async def page_of_tasks(call: Call, query: ListTasks) -> Page:
    """Return a page of masters and tasks as they are shown."""
    await settled(call, query, *TASK.models)
    tenant, now = call.caller.tenant, call.service.clock()
    sides, sort, keys = _sides(query), _sort(query), _keys(query.keys)

    def asked(page: Page) -> Asked:
        if len(sides) > 1 and page.offset + page.limit > MAX_ROWS:
            detail = f"masters and tasks together have {MAX_ROWS} rows at most; ask with a taskType to go on"
            raise ApiError("bad-limit", detail, parameter="page")
        return merged(tenant, sides, sort, page.limit, page.offset)

    def resource(row: Sequence[Any]) -> dict[str, Any]:
        return _RESOURCES[row[0]](row[1:], now)

    page = await page_by(call, query, total(tenant, sides), asked, resource)
    shown_with = await beside(call, page.rows)
    rows = [task_or_master(found, shown_with) for found in page.rows]
    return page.with_rows([{key: its for key, its in row.items() if key in keys} for row in rows] if keys else rows)


# How rows become resources, by the mark of their side.
_RESOURCES = {MASTER: activities.resource, CHILD: tasks.resource}


def _sides(query: ListTasks) -> list[Side]:
    """Return the sides that may hold something that fits."""
    shared = {} if query.hub_id is None else {"hub": query.hub_id}
    # What masters do not have.
    own = {"flow_id": query.flow_id, "activity_id": query.parent_id}
    own = {column: value for column, value in own.items() if value is not None}
    sides = []
    if query.task_type != MASTER:
        where = [] if query.status is None else [_OF_TASKS[query.status]]
        where += [] if query.task_type is None else [presence("activity_id", query.task_type == CHILD)]
        sides.append(Side(CHILD, tasks.LISTING, {**shared, **own}, where))
    if query.task_type in (None, MASTER) and not own:
        where = [] if query.status is None else [_OF_MASTERS[query.status]]
        sides.append(Side(MASTER, activities.LISTING, shared, where))
    return sides


def _sort(query: ListTasks) -> str:
    order = query.sort_order.lower()
    if order not in _ORDERS:
        raise ApiError("bad-filter", f"sortOrder is one of {', '.join(_ORDERS)}", parameter="sortOrder")
    return ("-" if order == "desc" else "") + _SORTS[query.sort_by]


def _keys(text: str) -> set[str]:
    """Return the keys that are asked for, with the id; none when all are."""
    keys = [name.strip() for name in text.split(",")] if text else []
    if len(keys) > 100 or not all(_NAME.match(name) for name in keys):
        raise ApiError("bad-filter", "fields is a list of at most 100 names with commas between", parameter="fields")
    return {"_id", *keys} if keys else set()


async def page_of_workflows(call: Call, query: ListWorkflows) -> Page:
    """Return a page of workflows as they are shown, in the order of their ids."""
    page = await page_of_entries(call, query, directory.WORKFLOW)
    shown_with = await beside(call, page.rows)
    return page.with_rows([Workflow.show(entry, shown_with) for entry in page.rows])


# Pages as they are shown.


class Listed(CamelView):
    """A master or a task; with `fields` just what was asked for."""

    model_config = ConfigDict(extra="allow")

    id: str = Field(alias="_id")
    task_type: str = Field("", description="The type")


_KEYS: Any = {
    name: (field.annotation | None, None)  # type: ignore[operator]
    for model in (Master, Task)
    for name, field in model.model_fields.items()
    if name not in ("id", "task_type")
}
ListedTask = create_model("ListedTask", __base__=Listed, __module__=__name__, __doc__=Listed.__doc__, **_KEYS)
ListedTask.example = example_of(Task)


class Paged(View):
    """Rows with what leads to the pages beside theirs."""

    current_page: Annotated[Count, From("", lambda page, _: page.number)] = Field(examples=[1])
    data: Annotated[list[Any], From("", lambda page, _: page.rows)]
    first: Annotated[int | None, From("", lambda page, _: page.offset + 1 if page.rows else None)] = Field(
        alias="from", examples=[1]
    )
    last_page: Annotated[Count, From("", lambda page, _: page.last)] = Field(examples=[1])
    next_page_url: Annotated[str | None, From("", lambda page, _: page.url(page.number + 1))]
    path: Annotated[str, From("", lambda page, _: page.path)] = Field(examples=["/api/v3/tasks"])
    per_page: Annotated[Count, From("", lambda page, _: page.limit)] = Field(examples=[15])
    prev_page_url: Annotated[str | None, From("", lambda page, _: page.url(page.number - 1))]
    to: Annotated[int | None, From("", lambda page, _: page.offset + len(page.rows) if page.rows else None)] = Field(
        examples=[1]
    )
    total: Annotated[Count, From("", lambda page, _: page.total)] = Field(examples=[1])


def _page_of(name: str, said: str, view: Any) -> type[Paged]:
    data: Any = Annotated[list[view], From("", lambda page, _: page.rows)]
    return create_model(name, __base__=Paged, __module__=__name__, __doc__=said, data=data)


TaskPage = _page_of("TaskPage", "Masters and tasks.", ListedTask)
WorkflowPage = _page_of("WorkflowPage", "Workflows in the order of their ids.", Workflow)


# Many tasks by one request.

# The most tasks, and characters of a task's `refId`.
MAX_TASKS, MAX_REF = 2000, 255


def _of_a_size(tasks: list[Any]) -> list[Any]:
    if not 1 <= len(tasks) <= MAX_TASKS:
        refuse("bulk-size", f"a bulk request has from 1 to {MAX_TASKS} tasks")
    return tasks


# What is wrong with one task fails that task alone, so nothing is demanded of it here.
_BulkTask = Annotated[
    Any,
    Field(
        description=f"As for POST /api/v3/task, with a `refId` of 1 to {MAX_REF} characters that is the request's own"
        " name for it and stays a field of the task"
    ),
]


class NewTasks(CamelRequest):
    """Tasks that stand alone, each created by itself."""

    background: bool = Field(False, description="Answer at once, with a receipt that tells of the rest")
    tasks: Annotated[list[_BulkTask], AfterValidator(_of_a_size), Items(MAX_TASKS, 1)]

    example: ClassVar[Json] = {"tasks": [{"refId": ref, **NewTask.example} for ref in ("order-1", "order-2")]}


class BulkTask(CamelView):
    """What became of one task of a bulk request."""

    status: bool = Field(examples=[True])
    message: str = Field(examples=["Task created successfully"])
    id: str | None = Field(alias="_id", description="null of a task that failed", examples=["019a3d5e-3c1f-7a64"])
    ref_id: str | None = Field(examples=["order-1"])
    failed_code: str = Field("", description="Of a task that failed")
    receipt: str = Field("", description="Of a task whose outcome is not known yet")


class BulkDone(CamelView):
    """All outcomes are known"""

    success: Count = Field(examples=[1])
    failed: Count
    tasks: list[BulkTask]


class BulkAccepted(CamelView):
    """Some outcomes are not known yet; these tasks have a receipt, and in the background so has the bulk"""

    success: Count = Field(examples=[1])
    failed: Count
    receipt: str = Field("", description="Of a bulk that is carried out in the background")
    tasks: list[BulkTask]
