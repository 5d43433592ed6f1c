"""Flows: the forms that tasks are filled in by, made from the steps of the organization's workflows.

A step names its flow, and the fields of it that are mapped to or from other steps; no more is known of a flow.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import Response

from domain.compare import text_key
from projections import directory
from services.http.core.call import Call, as_json
from services.http.core.errors import ApiError
from services.http.core.models import From
from services.http.core.operation import Operation
from services.http.core.pages import Page, all_entries
from services.http.core.parameters import MinPosition, settled
from services.http.core.shown import CAMEL, CamelView, Count
from services.http.field.dialect import FIELD, answer, beside
from services.http.field.lists import ListPage, keys_of, listed, only
from services.http.field.models import DAY, CreatedBy, CreatedTime, OrganizationId, UpdatedTime
from services.http.field.paged import at_address, page_view

# The original's own list, word for word.
RESERVED_KEYS = [
    "_id",
    "flow",
    "flowId",
    "organizationId",
    "hub",
    "hubId",
    "isDeleted",
    "title",
    "content",
    "label",
    "orderIndex",
    "status",
    "startTime",
    "endTime",
    "updatedTime",
    "assignee",
    "assignedTo",
    "assignedBy",
    "assignedTime",
    "createdBy",
    "createdFrom",
    "createdTime",
    "doneBy",
    "doneCoordinate",
    "doneTime",
    "openTaskTime",
    "waitingTime",
    "travelDuration",
    "duration",
    "distance",
    "eta",
    "etd",
    "assignedVehicleId",
    "assignedVehicle",
    "routePlannedOrder",
    "expectedCoordinate",
    "refId",
    "createdCoordinate",
    "organization",
    "isSample",
    "doneFrom",
    "expectedDoneTime",
    "geoLock",
    "geoLockTrigger",
    "idLocal",
    "idleDuration",
    "updatedBy",
    "useGeoLock",
    "syncedTime",
    "histories",
    "Handover",
    "routingResultId",
    "parentTaskId",
    "autoSplit",
    "splitNumber",
    "useVisitGroup",
    "visitGroup",
    "visitGroupPriority",
    "appVersion",
    "deviceInformation",
    "automationRefId",
    "automationRefType",
    "taskType",
    "parentId",
    "subId",
    "workflow",
]


class Component(CamelView):
    """A field of a flow, as a part of its form."""

    id: str = Field(examples=["receivedBy"])
    component: Literal["input"]
    input_type: Literal["string"]
    title: Annotated[str, From("id")] = Field(examples=["receivedBy"])
    is_required: Annotated[bool, From("", lambda _, __: False)]
    visible: Annotated[bool, From("", lambda _, __: True)]


class FlowPage(CamelView):
    """A page of a flow's form."""

    id: Literal["page0"]
    enabled: Annotated[bool, From("", lambda _, __: True)]
    components: list[Component]


class Flow(CamelView):
    """A flow."""

    id: str = Field(alias="_id", description="Its id, or its name where no step gives one", examples=["f1"])
    name: str = Field(examples=["Visit"])
    pages: Annotated[list[FlowPage], From("", lambda flow, _: [FlowPage.show(flow)])]
    order_index: Annotated[Count, From("created_at", lambda at, _: _order(at))] = Field(examples=[176187180000000])
    organization_id: OrganizationId
    created_by: CreatedBy
    created_time: CreatedTime
    updated_time: UpdatedTime


def _order(at: str) -> int:
    return int(datetime.fromisoformat(at).timestamp() * 100_000)


async def _flows(call: Call) -> list[dict[str, Any]]:
    """Return the flows of the steps of all workflows, the oldest first."""
    found = dict[str, dict[str, Any]]()
    rows = await all_entries(call, directory.WORKFLOW)
    for workflow in sorted(map(directory.resource, rows), key=lambda entry: (entry["created_at"], entry["id"])):
        steps = workflow["fields"]["steps"]
        for index, step in enumerate(steps):
            own = step.get("flow_id") or step.get("flow")
            if not own:
                continue
            flow = found.setdefault(
                text_key(own),
                {
                    "id": own,
                    "name": step.get("flow") or own,
                    "names": {},
                    **{key: workflow[key] for key in ("created_at", "created_by", "updated_at")},
                },
            )
            flow["updated_at"] = max(flow["updated_at"], workflow["updated_at"])
            flow["names"] |= dict.fromkeys(fields_of(steps, index))
    return [{**flow, "components": [{"id": name} for name in flow["names"]]} for flow in found.values()]


def fields_of(steps: list[Mapping[str, Any]], index: int) -> list[str]:
    """Return the fields of a step's flow that are mapped, those that others fill before those that fill others."""
    filled = [mapping["to_field"] for mapping in steps[index].get("field_mapping", ())]
    filling = [mapping for step in steps for mapping in step.get("field_mapping", ()) if mapping["step"] == index]
    return [*filled, *(mapping["from_field"] for mapping in filling)]


async def _flow(call: Call) -> dict[str, Any]:
    """Return the flow of the id in the path, or else the oldest of that name."""
    await settled(call, MinPosition.read(call), directory.NAME)
    flows, wanted = await _flows(call), text_key(call.id)
    for key in ("id", "name"):
        for flow in flows:
            if text_key(flow[key]) == wanted:
                return flow
    raise ApiError("no-flow", "Data not found")


class ListFlows(ListPage):
    """Which flows are asked for."""

    model_config = CAMEL

    sort_by: Literal["orderIndex", "name"] = Field("orderIndex", alias="sort_by", description="Order")
    sort_order: Literal["asc", "desc"] = Field("desc", alias="sort_order", description="Direction")
    keys: str = Field("", alias="fields", description="Just these keys, with commas between")


_FLOWS_FOUND = answer("FlowsFound", "A page", "Success", flows=page_view("FlowsPage", "Flows.", listed(Flow)))
_FLOW_FOUND = answer("FlowFound", "The flow", "Success", flow=Flow)
_FIELDS_FOUND = answer(
    "FlowFieldsFound",
    "The fields of the flow, and names that no field of a flow can have",
    "Success",
    flowFields=Annotated[list[Component], From("components")],
    reservedKey=Annotated[list[str], From("", lambda _, __: RESERVED_KEYS), Field(examples=[["_id"]])],
)


class TaskField(CamelView):
    """A key of a request that creates a task of the flow."""

    field: str = Field(examples=["customerName"])
    type: Literal["string", "array"]
    required: bool
    description: str = Field(examples=["A field of the flow"])
    sample: Any = Field(..., alias="example", examples=["Jack Ward"])
    format: Annotated[None, From("", lambda _, __: None)]


class TaskExample(CamelView):
    """How a task of a flow is created."""

    flow_name: Annotated[str, From("name")] = Field(examples=["Visit"])
    flow_fields: Annotated[list[TaskField], From("", lambda flow, _: _task_fields(flow))]
    body_request: Annotated[dict[str, Any], From("", lambda flow, _: _task_body(flow))] = Field(
        description="A body for POST /api/v3/task"
    )


def _task_fields(flow: Mapping[str, Any]) -> list[dict[str, Any]]:
    known = [
        ("flow", "string", True, "The name of the flow", flow["name"]),
        ("startTime", "string", False, "When the task begins", DAY["startTime"]),
        ("endTime", "string", False, "When the task ends", DAY["endTime"]),
        ("assignee", "array", False, "The people who have the task", []),
        *((name, "string", False, "A field of the flow", name) for name in flow["names"]),
    ]
    return [TaskField.show(dict(zip(TaskField.model_fields, each, strict=False))) for each in known]


def _task_body(flow: Mapping[str, Any]) -> dict[str, Any]:
    return {each["field"]: each["example"] for each in _task_fields(flow)}


_TASK_EXAMPLE = answer("FlowTaskExample", "How a task of the flow is created", "Success.", data=TaskExample)


async def _list(call: Call) -> Response:
    query = ListFlows.read(call)
    await settled(call, query, directory.NAME)
    flows = await _flows(call)
    key = "created_at" if query.sort_by == "orderIndex" else "name"
    flows.sort(key=lambda flow: (flow[key], flow["id"]), reverse=query.sort_order == "desc")
    page: Page = at_address(call, query.page_of(call, len(flows)))
    rows = flows[page.offset : page.offset + page.limit]
    shown_with = await beside(call, rows)
    shown = [only(keys_of(query.keys), Flow.show(row, shown_with)) for row in rows]
    return as_json(_FLOWS_FOUND.show(page.with_rows(shown)))


async def _get(call: Call) -> Response:
    return await FIELD.show(call, _FLOW_FOUND, await _flow(call))


async def _get_fields(call: Call) -> Response:
    return as_json(_FIELDS_FOUND.show(await _flow(call)))


async def _get_example(call: Call) -> Response:
    return as_json(_TASK_EXAMPLE.show(await _flow(call)))


OPERATIONS = (
    Operation(
        FIELD, "GET", "/api/v3/flows", "read", "field_list_flows", "List the flows of the workflows' steps",
        query=ListFlows, handler=_list, view=_FLOWS_FOUND, topic="flow",
    ),
    Operation(
        FIELD, "GET", "/api/v3/flow/{id}", "read", "field_get_flow", "Read one flow, by its id or its name",
        query=MinPosition, handler=_get, view=_FLOW_FOUND, topic="flow",
    ),
    Operation(
        FIELD, "GET", "/api/v3/flow/{id}/fields", "read", "field_get_flow_fields",
        "List the fields of a flow, and the names that are reserved",
        query=MinPosition, handler=_get_fields, view=_FIELDS_FOUND, topic="flow",
    ),
    Operation(
        FIELD, "GET", "/api/v3/flow/{id}/task", "read", "field_get_flow_task", "Read how a task of a flow is created",
        query=MinPosition, handler=_get_example, view=_TASK_EXAMPLE, topic="flow",
    ),
)  # fmt: skip
