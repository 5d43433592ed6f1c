"""Activities under paths of their own: lists, one, and its deletion."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import Response

from projections import activities
from projections.sides import Side, merged, total
from services.http.core.call import Call, as_json
from services.http.core.entities import ACTIVITY, WORKFLOW
from services.http.core.errors import ApiError
from services.http.core.models import From
from services.http.core.operation import Operation
from services.http.core.pages import PageQuery, page_by
from services.http.core.parameters import AsOf, Position, settled
from services.http.core.shown import CAMEL, CamelView, Count
from services.http.field.dialect import FIELD, answer, beside
from services.http.field.lists import LIMIT, OF_MASTERS, SORTS, WAITED_FOR, Limit, keys_of, listed, only
from services.http.field.models import MASTER, Master, Status

_KEYS: Any = Field("", alias="fields", description="Just these keys, with commas between")
_Sort = Literal["createdTime", "updatedTime", "startTime", "endTime", "title"]


class ListOfWorkflow(PageQuery):
    """Which activities of a workflow are asked for."""

    model_config = CAMEL

    limit: Limit = Field(15, alias="pageSize", description=LIMIT.description)
    min_position: Position = WAITED_FOR
    sort: _Sort = Field("updatedTime", description="Order")
    order: Literal["asc", "desc"] = Field("desc", description="Direction")
    status: Status | None = Field(None, description="In this status")
    hub_id: str | None = Field(None, description="Of this hub")
    keys: str = _KEYS


class ListActivities(ListOfWorkflow):
    """Which activities are asked for."""

    workflow_id: str | None = Field(None, description="Of this workflow")


class GetActivity(AsOf):
    """What is asked of an activity."""

    model_config = CAMEL

    min_position: Position = WAITED_FOR
    keys: str = _KEYS


_Listed = listed(Master, task_type=str)


class ActivityPage(CamelView):
    """A page of activities"""

    activities: Annotated[list[_Listed], From("", lambda page, _: page.rows)]  # type: ignore[valid-type]
    total: Annotated[Count, From("", lambda page, _: page.total)] = Field(examples=[1])
    current_page: Annotated[Count, From("", lambda page, _: page.number)] = Field(examples=[1])
    last_page: Annotated[Count, From("", lambda page, _: page.last)] = Field(examples=[1])
    per_page: Annotated[Count, From("", lambda page, _: page.limit)] = Field(examples=[15])


_ACTIVITIES_FOUND = answer("ActivitiesFound", "A page", None, 200, data=ActivityPage)
_ACTIVITY_FOUND = answer(
    "ActivityFound", "The activity", None, 200,
    data=Annotated[_Listed, From("", lambda found, beside: only(found["keys"], Master.show(found, beside)))],
)  # fmt: skip
_DELETED = answer("ActivityDeleted", "Cancelled", "Activity deleted successfully", 200)


def _keys(text: str) -> set[str]:
    # As in the original, two keys are always shown.
    keys = keys_of(text)
    return {*keys, "organizationId"} if keys else keys


async def _page(call: Call, query: ListOfWorkflow, workflow_id: str | None) -> Response:
    tenant, now = call.caller.tenant, call.service.clock()
    given = {"hub": query.hub_id, "workflow_id": workflow_id}
    filters = {name: value for name, value in given.items() if value is not None}
    more = [] if query.status is None else [OF_MASTERS[query.status]]
    sides = [Side(MASTER, activities.LISTING, filters, more)]
    sort = ("-" if query.order == "desc" else "") + SORTS[query.sort]
    page = await page_by(
        call,
        query,
        total(tenant, sides),
        lambda page: merged(tenant, sides, sort, page.limit, page.offset),
        lambda row: activities.resource(row[1:], now),
    )
    shown_with, keys = await beside(call, page.rows), _keys(query.keys)

    def answered() -> Response:
        rows = [only(keys, Master.show(found, shown_with)) for found in page.rows]
        return as_json(_ACTIVITIES_FOUND.show(page.with_rows(rows)))

    return await call.worked(answered)


async def _list(call: Call) -> Response:
    query = ListActivities.read(call)
    await settled(call, query, *ACTIVITY.models)
    return await _page(call, query, query.workflow_id)


async def _of_workflow(call: Call) -> Response:
    query = ListOfWorkflow.read(call)
    await settled(call, query, *ACTIVITY.models)
    if await WORKFLOW.find(call, call.id) is None:
        raise ApiError("no-workflow", "Workflow not found")
    return await _page(call, query, call.id)


async def _get(call: Call) -> Response:
    query = GetActivity.read(call)
    await settled(call, query, *ACTIVITY.models)
    found = await ACTIVITY.find(call, call.id)
    if found is None:
        raise _unknown()
    return await FIELD.show(call, _ACTIVITY_FOUND, {**found, "keys": _keys(query.keys)})


def _unknown() -> ApiError:
    return ApiError("no-activity", "Activity not found")


def _of_activity(refused: ApiError) -> ApiError:
    return _unknown() if refused.code == "not-found" else refused


_ONE = "/api/v3/activity/{id}"
OPERATIONS = (
    Operation(
        FIELD, "GET", "/api/v3/activities", "read", "field_list_activities", "List activities",
        query=ListActivities, handler=_list, view=_ACTIVITIES_FOUND, topic="activity",
    ),
    Operation(
        FIELD, "GET", "/api/v3/activities/workflow/{id}", "read", "field_list_activities_of_workflow",
        "List the activities of a workflow",
        query=ListOfWorkflow, handler=_of_workflow, view=_ACTIVITIES_FOUND, topic="activity",
    ),
    Operation(
        FIELD, "GET", _ONE, "read", "field_get_activity", "Read one activity",
        query=GetActivity, handler=_get, view=_ACTIVITY_FOUND, topic="activity", tagged=True,
    ),
    Operation(
        FIELD, "DELETE", _ONE, "write", "field_delete_activity", "Cancel an activity with its open tasks",
        command="activity.cancel", entity=ACTIVITY, view=_DELETED, topic="activity", rephrase=_of_activity,
    ),
)  # fmt: skip
