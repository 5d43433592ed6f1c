"""Work units as JSON:API resources: runs of a project's workflow that are listed, read, created and changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from starlette.responses import Response

from domain.limits import Id, Title
from projections import activities, directory, entries
from projections.statement import Query
from projections.support.conditions import Asked, Where
from projections.task import pages, runs
from projections.task.pages import Order
from services.http.core.call import Call, as_json
from services.http.core.entities import ACTIVITY
from services.http.core.errors import ApiError
from services.http.core.models import LEFT_OUT, Json, Request, To, View
from services.http.core.operation import Link, Operation
from services.http.core.parameters import AsOf, MinPosition, nothing_else, settled
from services.http.core.past import AS_OF
from services.http.core.submit import submit
from services.http.workflow import beside, lists
from services.http.workflow.collection import Collection, Rows
from services.http.workflow.dialect import UNITS, WORKFLOW, write
from services.http.workflow.documents import Document, ResourceId, ToProject
from services.http.workflow.errors import JSON_API
from services.http.workflow.filters import where_of
from services.http.workflow.lists import Links, Meta, Wanted
from services.http.workflow.parameters import of_list, of_one
from services.http.workflow.related import Node, UnitChanged, WorkUnit

_UNIT = "workflow/work_units"
_RELATED = ("nodes",)
_PROJECT, _WORKFLOW = "/data/relationships/project/data/id", "/data/relationships/workflow/data/id"
_FILTERS = {name: name for name in ("id", "name", "status", "created_at", "priority")} | {
    "project_id": "project",
    "created_by_id": "created_by",
}


class UnitAttributesGiven(Request):
    """What a caller says of a work unit."""

    name: Annotated[Title, To("title")] = Field(LEFT_OUT, examples=["Order 7"])
    priority: Annotated[int, Field(ge=-(2**31), lt=2**31), To("fields/priority")] = LEFT_OUT


class WorkflowLink(Request):
    type: Literal["workflow/workflows"]
    id: Id


class ToWorkflow(Request):
    link: WorkflowLink = Field(alias="data")


class UnitLinks(Request):
    project: ToProject
    workflow: ToWorkflow = Field(LEFT_OUT, description="Which workflow, where the project has several")


class UnitChangeGiven(Request):
    type: Literal["workflow/work_units"]
    id: ResourceId = None
    attributes: UnitAttributesGiven


class UnitGiven(UnitChangeGiven):
    relationships: UnitLinks


class NewUnit(Document):
    """A work unit of a project."""

    attributes = UnitAttributesGiven
    beside: ClassVar[Mapping[str, str]] = {"/workflow_id": "/relationships/project/data/id"}
    resource: UnitGiven = Field(alias="data")

    example: ClassVar[Json] = {
        "data": {
            "type": _UNIT,
            "attributes": {"name": "Order 7"},
            "relationships": {"project": {"data": {"type": "workflow/projects", "id": "north"}}},
        }
    }


class UnitChange(Document):
    """What is to be different; what is left out stays as it is."""

    attributes = UnitAttributesGiven
    resource: UnitChangeGiven = Field(alias="data")

    example: ClassVar[Json] = {"data": {"type": _UNIT, "attributes": {"name": "Order 8", "priority": 2}}}


_Included = Annotated[list[Node], Field(description="What `included` asks for, each once")]


class UnitPage(View):
    """A page"""

    data: list[WorkUnit]
    included: _Included = Field([])
    meta: Meta
    links: Links


class UnitFound(UnitChanged):
    """The work unit"""

    included: _Included = Field([])


class UnitCreated(UnitChanged):
    """As it was created"""


async def _shown(call: Call, units: Sequence[Json], wanted: Wanted) -> tuple[list[Json], Json]:
    people = await call.service.members.by_id(call.caller.tenant, [unit["created_by"] for unit in units])
    included = await beside.nodes(call, units) if wanted.included else []
    shown = await call.worked(lambda: [WorkUnit.show(unit, people) for unit in units])
    return beside.narrowed(wanted, shown, included)


async def _listed(call: Call, rows: Rows, wanted: Wanted) -> tuple[list[Json], Json]:
    now = call.service.clock()
    return await _shown(call, await call.worked(lambda: [activities.resource(row, now) for row in rows]), wanted)


def _where(asked: Asked) -> Where:
    return runs.where(asked) if asked.name in runs.FILTERS else where_of(asked)


def _page(tenant: str, where: Sequence[Where], order: Order, limit: int, offset: int) -> Query:
    return pages.page(tenant, where, order, limit, offset, "activities")


_COLLECTION = Collection(
    models=ACTIVITY.models, filters=_FILTERS, sorts=_FILTERS, where=_where, page=_page,
    count=lambda tenant, where: pages.count(tenant, where, "activities"), shown=_listed,
    related=_RELATED,
)  # fmt: skip


async def _get(call: Call) -> Response:
    parameters = call.parameters()
    query, wanted = AsOf.take(parameters), Wanted.take(parameters, _RELATED)
    nothing_else(parameters, (*lists.OF_ONE, AS_OF))
    await settled(call, query, *ACTIVITY.models)
    (found,), included = await _shown(call, [await ACTIVITY.read(call)], wanted)
    return as_json({"data": found, **included}, media=JSON_API)


async def _workflow_of(call: Call, relationships: UnitLinks) -> Json:
    """Return the workflow that a work unit of a project runs through: the one that is named, or the only one."""
    project = relationships.project.link.id
    rows = await call.service.pool.fetch(*entries.workflows_of(call.caller.tenant, project, 100))
    found = {row[1]: directory.resource(row)["fields"] for row in rows}
    if relationships.workflow is not None:
        named = relationships.workflow.link.id
        if named not in found:
            raise ApiError("invalid", f"the project has no workflow {named}", _WORKFLOW)
        return {"workflow_id": named, "tasks": [{} for _ in found[named]["steps"]]}
    if len(found) != 1:
        detail = f"name one of the workflows {', '.join(found)}" if found else "the project has no workflow"
        raise ApiError("invalid", detail, _WORKFLOW if found else _PROJECT)
    ((workflow, fields),) = found.items()
    return {"workflow_id": workflow, "tasks": [{} for _ in fields["steps"]]}


async def _create(call: Call) -> Response:
    nothing_else(call.parameters())
    request = NewUnit.read(await call.json(), call.parts)
    data: dict[str, Any] = await _workflow_of(call, request.resource.relationships)
    result = await submit(call, "activity.create", request, ACTIVITY, extra_data=data)
    return await WORKFLOW.answer(call, result, UnitCreated, "work unit", 201)


_operation = partial(Operation, WORKFLOW)
OPERATIONS = (
    _operation(
        "GET", UNITS, "read", "workflow_list_work_units", "List work units",
        parameters=of_list(_UNIT, _FILTERS, _FILTERS, _RELATED), query=MinPosition, handler=_COLLECTION.answer,
        view=UnitPage, refusals=(400, 422), links={"first": Link("workflow_get_work_unit", "/data/0/id")},
    ),
    _operation(
        "GET", f"{UNITS}/{{id}}", "read", "workflow_get_work_unit", "Read a work unit",
        parameters=of_one(_UNIT, _RELATED), query=AsOf, handler=_get, view=UnitFound, refusals=(400, 404, 422),
        links={"cancel": Link("workflow_cancel_work_unit", "/data/id")},
    ),
    _operation(
        "POST", UNITS, "write", "workflow_create_work_unit", "Create a work unit with an activity for each step",
        request=NewUnit, gives=("activity.create",), handler=_create, view=UnitCreated, status=201,
    ),
    _operation(
        "PATCH", f"{UNITS}/{{id}}", "write", "workflow_change_work_unit", "Change a work unit", request=UnitChange,
        command="activity.change", entity=ACTIVITY, view=UnitChanged,
    ),
    write(
        "POST", f"{UNITS}/{{id}}/cancel", "cancel_work_unit", "Cancel a work unit with all its open activities",
        "activity.cancel", entity=ACTIVITY, view=UnitChanged,
    ),
)  # fmt: skip
