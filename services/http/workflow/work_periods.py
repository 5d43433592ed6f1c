"""Periods of work as JSON:API resources, listed and read, and the last one of the caller."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from pydantic import Field
from starlette.responses import Response

from projections import periods
from projections.statement import Query
from projections.support.conditions import Where
from projections.task.pages import Order
from services.http.core.call import Call, as_json
from services.http.core.entities import TASK
from services.http.core.errors import ApiError
from services.http.core.models import From, Json, View
from services.http.core.operation import Link, Operation
from services.http.core.parameters import MinPosition, nothing_else, settled
from services.http.workflow import beside, lists
from services.http.workflow.collection import Collection, Rows
from services.http.workflow.dialect import PERIODS, TRACKER, WORKFLOW
from services.http.workflow.errors import JSON_API
from services.http.workflow.lists import Links, Meta, Wanted
from services.http.workflow.models import Activity
from services.http.workflow.parameters import of_list, of_one
from services.http.workflow.related import Project, WorkPeriod, WorkUnit

_PERIOD = "workflow/work_periods"
_RELATED = ("project", "activity", "activity.work_unit")
_MODELS = (periods.NAME, *TASK.models)
_SORTS = {
    "id": "id",
    "started_at": "started_at",
    "ended_at": "ended_at",
    "project_id": "project",
    "account_id": "member",
    "activity_id": "task_id",
}
# Time is recorded on activities alone, so the two are the same here.
_FILTERS = {**_SORTS, "related_to_project_id": "project"}
_Included = Annotated[list[Project | Activity | WorkUnit], Field(description="What `included` asks for, each once")]


class PeriodFound(View):
    """The period"""

    data: Annotated[WorkPeriod, From("")]
    included: _Included = Field([])


class LastPeriod(View):
    """The period, or null"""

    data: Annotated[WorkPeriod | None, From("")]
    included: _Included = Field([])


class PeriodPage(View):
    """A page"""

    data: list[WorkPeriod]
    included: _Included = Field([])
    meta: Meta
    links: Links


async def _shown(call: Call, rows: Rows, wanted: Wanted) -> tuple[list[Json], Json]:
    found = [periods.resource(row) for row in rows]
    people = await call.service.members.by_id(call.caller.tenant, {one["member"] for one in found} - {None})
    included: list[Json] = []
    if "project" in wanted.included:
        included += await beside.projects(call, (one["project"] for one in found))
    if wanted.included & {"activity", "activity.work_unit"}:
        tasks = await beside.tasks_of(call, (one["task_id"] for one in found))
        included += await beside.activities(call, tasks)
        if "activity.work_unit" in wanted.included:
            included += await beside.units(call, (task["activity_id"] for task in tasks))
    return beside.narrowed(wanted, [WorkPeriod.show(one, people) for one in found], included)


def _page(tenant: str, where: Sequence[Where], order: Order, limit: int, offset: int) -> Query:
    return periods.page(tenant, where, order.by, limit, offset)


_COLLECTION = Collection(
    models=_MODELS, filters=_FILTERS, sorts=_SORTS, where=periods.where, page=_page, count=periods.count, shown=_shown,
    related=_RELATED, documents=False,
)  # fmt: skip


async def _wanted(call: Call) -> Wanted:
    parameters = call.parameters()
    query, wanted = MinPosition.take(parameters), Wanted.take(parameters, _RELATED)
    nothing_else(parameters, lists.OF_ONE)
    await settled(call, query, *_MODELS)
    return wanted


async def _answer(call: Call, rows: Rows, wanted: Wanted) -> Response:
    data, included = await _shown(call, rows, wanted)
    return as_json({"data": data[0] if data else None, **included}, media=JSON_API)


async def _get(call: Call) -> Response:
    wanted = await _wanted(call)
    # An invalid id need not be queried.
    asked = periods.ID.match(call.id)
    rows = await call.service.pool.fetch(*periods.get(call.caller.tenant, call.id)) if asked else []
    if not rows:
        raise ApiError("not-found", "there is no work period of this id")
    return await _answer(call, rows, wanted)


async def _last(call: Call) -> Response:
    """Answer with the last period of the caller, which may still go on; `system` works on nothing itself."""
    wanted = await _wanted(call)
    return await _answer(
        call, await call.service.pool.fetch(*periods.last(call.caller.tenant, call.caller.actor)), wanted
    )


_operation = partial(Operation, WORKFLOW)
OPERATIONS = (
    _operation(
        "GET", PERIODS, "read", "workflow_list_work_periods", "List periods of work",
        parameters=of_list(_PERIOD, _FILTERS, _SORTS, _RELATED), query=MinPosition, handler=_COLLECTION.answer,
        view=PeriodPage, refusals=(400, 422), links={"first": Link("workflow_get_work_period", "/data/0/id")},
    ),
    _operation(
        "GET", f"{PERIODS}/{{id}}", "read", "workflow_get_work_period", "Read a period of work",
        parameters=of_one(_PERIOD, _RELATED), query=MinPosition, handler=_get, view=PeriodFound,
        refusals=(400, 404, 422),
    ),
    _operation(
        "GET", f"{TRACKER}/last", "read", "workflow_get_last_period", "Read the last period of work of the caller",
        description="It has no end while the caller is still at work.", parameters=of_one(_PERIOD, _RELATED),
        query=MinPosition, handler=_last, view=LastPeriod, refusals=(400, 422),
    ),
)  # fmt: skip
