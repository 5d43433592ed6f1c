"""What is asked of workflows beside their pages: a search, and the fields that a step may be filled from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import Response

from domain.limits import MAX_STEPS, Number
from projections import directory, entries
from services.http.core.call import Call, as_json
from services.http.core.entities import WORKFLOW
from services.http.core.errors import ApiError
from services.http.core.models import From, View
from services.http.core.openapi import parameter
from services.http.core.operation import Operation
from services.http.core.pages import PageQuery, page_by
from services.http.core.parameters import MinPosition, Position, settled
from services.http.core.shown import CAMEL, CamelView, Count
from services.http.field.dialect import FIELD, answer, beside
from services.http.field.errors import Good
from services.http.field.flows import Component, fields_of
from services.http.field.lists import LIMIT, WAITED_FOR
from services.http.field.requests import REFERENCES
from services.http.field.workflows import Workflow

_Steps = Annotated[int, Number(1, MAX_STEPS)]


class SearchWorkflows(PageQuery):
    """Which workflows are searched for."""

    model_config = CAMEL

    limit: Annotated[int, Number(1, 100)] = Field(10, description=LIMIT.description)
    min_position: Position = WAITED_FOR
    q: str = Field("", description="With this in the name, without regard to case")
    created_by: str | None = Field(None, description=f"Defined by this person. {REFERENCES}")
    steps_count_min: _Steps | None = Field(None, description="With at least so many steps")
    steps_count_max: _Steps | None = Field(None, description="With at most so many steps")


class Pagination(View):
    """Which page it is."""

    current_page: Annotated[Count, From("", lambda page, _: page.number)] = Field(examples=[1])
    per_page: Annotated[Count, From("", lambda page, _: page.limit)] = Field(examples=[10])
    total: Annotated[Count, From("", lambda page, _: page.total)] = Field(examples=[1])
    last_page: Annotated[Count, From("", lambda page, _: page.last)] = Field(examples=[1])


class Searched(View):
    """What was searched for."""

    query: str = Field(examples=["pickup"])
    filters: dict[str, str | int] = Field(examples=[{"stepsCountMin": 2}])


class WorkflowsSearched(Good):
    """The workflows in the order of their names"""

    code: Literal[200]
    message: Literal["Search results retrieved successfully"]
    data: list[Workflow]
    pagination: Pagination
    search: Searched


async def _search(call: Call) -> Response:
    query, tenant = SearchWorkflows.read(call), call.caller.tenant
    await settled(call, query, directory.NAME)
    given = {
        "createdBy": query.created_by,
        "stepsCountMin": query.steps_count_min,
        "stepsCountMax": query.steps_count_max,
    }
    filters = {name: value for name, value in given.items() if value is not None}
    where = entries.named_like(query.q)
    if query.created_by is not None:
        found = await call.service.members.named(tenant, [query.created_by], "createdBy")
        where.append(entries.made_by([member for members in found.values() for member in members]))
    if query.steps_count_min is not None or query.steps_count_max is not None:
        where.append(entries.of_steps(query.steps_count_min or 1, query.steps_count_max or MAX_STEPS))
    page = await page_by(
        call,
        query,
        entries.count(tenant, directory.WORKFLOW, where),
        lambda page: entries.by_name(tenant, directory.WORKFLOW, where, limit=page.limit, offset=page.offset),
        directory.resource,
    )
    shown: dict[str, Any] = {"data": page.rows, "pagination": page, "search": {"query": query.q, "filters": filters}}
    shown_with = await beside(call, page.rows)
    return await call.worked(lambda: as_json(WorkflowsSearched.show(shown, shown_with)))


class MappedStep(CamelView):
    """A step with the fields of its flow."""

    step_order: Count
    flow_id: str | None = Field(examples=["f1"])
    flow_name: str | None = Field(examples=["Pickup"])
    fields: list[Component]


class ExistingMapping(CamelView):
    """A field of an earlier step that fills one of this."""

    source_field: Annotated[str, From("from_field")] = Field(examples=["parcel"])
    source_step: Annotated[Count, From("step")]
    target_field: Annotated[str, From("to_field")] = Field(examples=["parcel"])
    source_type: Literal["step"]


class MappingData(CamelView):
    """A step, those before it, and what is mapped from them."""

    current_step: MappedStep
    previous_steps: list[MappedStep]
    existing_mappings: list[ExistingMapping]


_MAPPING_DATA = answer(
    "FieldMappingData", "What a step's fields are filled from", "Field mapping data retrieved successfully", 200,
    data=MappingData,
)  # fmt: skip


def _mapped(steps: list[Mapping[str, Any]], index: int) -> dict[str, Any]:
    step, names = steps[index], dict.fromkeys(fields_of(steps, index))
    return {
        "step_order": index,
        "flow_id": step.get("flow_id"),
        "flow_name": step.get("flow"),
        "fields": [{"id": name} for name in names],
    }


async def _mapping_data(call: Call) -> Response:
    await settled(call, MinPosition.read(call), directory.NAME)
    found = await WORKFLOW.find(call, call.id)
    if found is None or found["retired"]:
        raise ApiError("no-workflow", "Workflow not found")
    steps, order = found["fields"]["steps"], call.parts["order"]
    if order not in map(str, range(len(steps))):
        raise ApiError("no-workflow", "Step not found")
    index = int(order)
    shown = {
        "current_step": _mapped(steps, index),
        "previous_steps": [_mapped(steps, before) for before in range(index)],
        "existing_mappings": steps[index].get("field_mapping", ()),
    }
    return as_json(_MAPPING_DATA.show(shown))


_ORDER = {
    **parameter("order", "The step, counted from 0", place="path"),
    "schema": {"type": "integer", "minimum": 0, "maximum": MAX_STEPS - 1},
}
OPERATIONS = (
    Operation(
        FIELD, "GET", "/api/v3/internal/workflows/search", "read", "field_search_workflows",
        "Search workflows by name, who defined them, and how many steps they have",
        query=SearchWorkflows, handler=_search, view=WorkflowsSearched, topic="workflow",
    ),
    Operation(
        FIELD, "GET", "/api/v3/workflow/{id}/steps/{order}/field-mapping-data", "read", "field_get_mapping_data",
        "Read which fields of earlier steps may fill those of a step",
        query=MinPosition, handler=_mapping_data, parameters=(_ORDER,), view=_MAPPING_DATA, topic="workflow",
    ),
)  # fmt: skip
