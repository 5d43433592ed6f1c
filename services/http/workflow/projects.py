"""Projects as JSON:API resources: entries of the directory that are listed, read, created and changed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field
from starlette.responses import Response

from domain.limits import Text
from projections import directory, entries
from projections.statement import Query
from projections.support.conditions import Where
from projections.task.pages import Order
from services.commands import wire
from services.http.core.call import Call, as_json
from services.http.core.entities import entry
from services.http.core.models import LEFT_OUT, From, Json, Request, To, View, refuse
from services.http.core.operation import Link, Operation
from services.http.core.parameters import MinPosition, nothing_else, settled
from services.http.workflow import beside, lists
from services.http.workflow.collection import Collection, Rows
from services.http.workflow.dialect import PROJECTS, WORKFLOW
from services.http.workflow.documents import Document, ResourceId
from services.http.workflow.errors import JSON_API
from services.http.workflow.lists import Links, Meta, Wanted
from services.http.workflow.parameters import of_list, of_one
from services.http.workflow.related import Member, Project

PROJECT = entry("project")
_FILTERS = {name: name for name in entries.FILTERS}
_RELATED = ("members",)


def _definition(value: Any) -> Any:
    """Return a definition that a client gives as text as the object that it is."""
    if isinstance(value, str):
        try:
            value = wire.load_json(value.encode("utf-8", "surrogatepass"))
        except wire.InvalidMessage:
            refuse("wrong-shape", "definition is a JSON object, or one as text")
    if value is not None and not isinstance(value, dict):
        refuse("wrong-shape", "definition is a JSON object, or one as text")
    return value


class ProjectAttributesGiven(Request):
    """What a caller says of a project."""

    name: Annotated[str, Text(1, 200), To("fields/name")] = Field(LEFT_OUT, examples=["North"])
    enabled: Annotated[bool, To("fields/enabled")] = Field(LEFT_OUT)
    organization_id: Annotated[str | int, To("fields/organization_id", str)] = Field(LEFT_OUT)
    organizational_unit: Annotated[str, To("fields/organizational_unit")] = Field(LEFT_OUT)
    definition: Annotated[Json | str, BeforeValidator(_definition), To("fields/definition")] = Field(LEFT_OUT)

    def data(self) -> Json:
        """Return the command's data."""
        return {"fields": {}, **super().data()}


class ProjectGiven(Request):
    type: Literal["workflow/projects"]
    id: ResourceId = None
    attributes: ProjectAttributesGiven


class NewProject(Document):
    """A project."""

    attributes = ProjectAttributesGiven
    resource: ProjectGiven = Field(alias="data")

    example: ClassVar[Json] = {
        "data": {"type": "workflow/projects", "attributes": {"name": "North", "organizational_unit": "Sales"}}
    }


class ProjectChange(Document):
    """What is to be different; what is left out stays as it is."""

    attributes = ProjectAttributesGiven
    resource: ProjectGiven = Field(alias="data")

    example: ClassVar[Json] = {"data": {"type": "workflow/projects", "attributes": {"enabled": False}}}


_Included = Annotated[list[Member], Field(description="What `included` asks for, each once")]


class ProjectFound(View):
    """The project"""

    data: Annotated[Project, From("")]
    included: _Included = Field([])


class ProjectChanged(View):
    """As it is now"""

    data: Annotated[Project, From("")]


class ProjectPage(View):
    """A page"""

    data: list[Project]
    included: _Included = Field([])
    meta: Meta
    links: Links


async def _shown(call: Call, found: Sequence[Json], wanted: Wanted) -> tuple[list[Json], Json]:
    included: list[Json] = []
    if "members" in wanted.included:
        members = await beside.members(call, [entry["id"] for entry in found])
        found = [{**entry, "member_ids": [each["id"] for each in members[entry["id"]]]} for entry in found]
        included = [each for its in members.values() for each in its]
    shown = await call.worked(lambda: [Project.show(entry) for entry in found])
    return beside.narrowed(wanted, shown, included)


async def _listed(call: Call, rows: Rows, wanted: Wanted) -> tuple[list[Json], Json]:
    return await _shown(call, await call.worked(lambda: [directory.resource(row) for row in rows]), wanted)


def _page(tenant: str, where: Sequence[Where], order: Order, limit: int, offset: int) -> Query:
    return entries.page(tenant, "project", where, order.by, limit, offset)


_COLLECTION = Collection(
    models=PROJECT.models, filters=_FILTERS, sorts={name: name for name in entries.SORTS}, where=entries.where,
    page=_page, count=lambda tenant, where: entries.count(tenant, "project", where), shown=_listed,
    related=_RELATED,
)  # fmt: skip


async def _get(call: Call) -> Response:
    parameters = call.parameters()
    query, wanted = MinPosition.take(parameters), Wanted.take(parameters, _RELATED)
    nothing_else(parameters, lists.OF_ONE)
    await settled(call, query, *PROJECT.models)
    (found,), included = await _shown(call, [await PROJECT.read(call)], wanted)
    return as_json({"data": found, **included}, media=JSON_API)


def _kind(call: Call) -> Json:
    return {"kind": "project"}


_operation = partial(Operation, WORKFLOW)
OPERATIONS = (
    _operation(
        "GET", PROJECTS, "read", "workflow_list_projects", "List projects",
        parameters=of_list("workflow/projects", _FILTERS, entries.SORTS, _RELATED), query=MinPosition,
        handler=_COLLECTION.answer, view=ProjectPage, refusals=(400, 422),
        links={"first": Link("workflow_get_project", "/data/0/id")},
    ),
    _operation(
        "GET", f"{PROJECTS}/{{id}}", "read", "workflow_get_project", "Read a project",
        parameters=of_one("workflow/projects", _RELATED), query=MinPosition, handler=_get, view=ProjectFound,
        refusals=(400, 404, 422),
    ),
    _operation(
        "POST", PROJECTS, "write", "workflow_create_project", "Create a project", request=NewProject,
        command="directory.register", entity=PROJECT, extra_data=_kind, view=ProjectChanged, status=201,
    ),
    _operation(
        "PATCH", f"{PROJECTS}/{{id}}", "write", "workflow_change_project", "Change a project", request=ProjectChange,
        command="directory.change", entity=PROJECT, extra_data=_kind, view=ProjectChanged,
    ),
)  # fmt: skip
