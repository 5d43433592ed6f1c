"""The field dialect's workflows: requests made of the domain's own definitions, and views made of the requests."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.alias_generators import to_snake

from domain import steps, workflow
from domain.limits import Id
from services.http.core.deriving import change_of, request_of, view_of
from services.http.core.errors import ApiError
from services.http.core.models import From, names
from services.http.core.shown import CamelRequest, CamelView
from services.http.field.models import (
    DRIVER,
    OF_PEOPLE,
    WORKFLOW_ID,
    CreatedBy,
    CreatedTime,
    OrganizationId,
    UpdatedTime,
    emails,
)
from services.http.field.requests import PEOPLE, REFERENCES


class _Definition(CamelRequest):
    """A part of a workflow's definition."""

    @classmethod
    def unknown(cls, key: str, pointer: str) -> ApiError:
        """Return the refusal of a key, at the place of what does not have it."""
        if not pointer and key == "projectId":
            return ApiError("fixed", "a workflow keeps its project", "/projectId")
        if not pointer and key in _GIVEN:
            return ApiError("derived", f"{key} is given by the service", f"/{key}")
        what = to_snake(cls.__name__.removeprefix("New").removesuffix("Change")).replace("_", " ")
        return ApiError("unknown-field", f"a {what} has {', '.join(names(cls))}, and no {key[:100]}", pointer)


_FILLS = "A field of an earlier step that fills a field of this one, if that is blank by then."
NewFieldMapping = request_of(
    steps.FieldMapping,
    "NewFieldMapping",
    _Definition,
    _FILLS,
    {"step": {"description": "An earlier step, counted from 0"}},
)
NewFieldMapping.example = {"step": 0, "fromField": "parcel", "toField": "parcel"}
NewStep = request_of(
    steps.Step,
    "NewStep",
    _Definition,
    "A step of a workflow, as it is defined.",
    {
        "flow_id": {"description": "In one step of the workflow only"},
        "assignees": {"alias": "assignee", "description": f"Who has the step's task by default. {PEOPLE}"},
        "status_mapping": {"description": "Under `DONE` the sub-status of the master once the step is done"},
        "roles": {"description": "Who has none of these roles may not have the step's task"},
        "whitelist": {"description": f"{REFERENCES}; nobody else may have the step's task"},
        "blacklist": {"description": f"{REFERENCES}; they may not have the step's task"},
        "field_mapping": {
            "description": "Fields of earlier steps that fill fields of this one, if they are blank by then"
        },
    },
    {steps.FieldMapping: NewFieldMapping},
)
NewStep.example = {
    "name": "Pickup",
    "flow": "Pickup",
    "flowId": "68f2198aef526585c30e16d0",
    "assignee": [DRIVER],
    "statusMapping": {"DONE": "Picked up"},
}
NewWorkflow = request_of(
    workflow.DefineWorkflow,
    "NewWorkflow",
    _Definition,
    "A workflow.",
    {"steps": {"description": "Those of a change replace all, as many as before"}, "project": {"alias": "projectId"}},
    {steps.Step: NewStep},
)
NewWorkflow.example = {
    "name": "Pickup to Delivery",
    "steps": [
        NewStep.example,
        {"name": "Delivery", "flow": "Delivery", "fieldMapping": [NewFieldMapping.example]},
    ],
    "gating": "sequential",
}
WorkflowChange = change_of(NewWorkflow, "project", said="What is left out stays as it is.")
WorkflowChange.example = {"name": "Door to Door", "gating": "none"}
FieldMapping = view_of(NewFieldMapping, CamelView, _FILLS, {})
Step = view_of(
    NewStep,
    CamelView,
    "A step of a workflow; one that was recorded before steps had one of these is shown without.",
    {
        **{name: Annotated[list[str], From(name, emails, default=())] for name in OF_PEOPLE},
        "field_mapping": Annotated[list[FieldMapping], From("field_mapping", default=())],  # type: ignore[valid-type]
    },
)


class Workflow(CamelView):
    """A workflow as it is defined now."""

    id: Id = Field(alias="_id", examples=[WORKFLOW_ID])
    name: Annotated[str, From("fields/name")] = Field(examples=["Pickup to Delivery"])
    steps: Annotated[list[Step], From("fields/steps")]  # type: ignore[valid-type]
    gating: Annotated[workflow.Gating, From("fields/gating")]
    failure: Annotated[workflow.Failure, From("fields/failure")]
    project_id: Annotated[str | None, From("fields/project")]
    version: Annotated[int, From("fields/version"), Field(ge=1, description="Counts the definitions", examples=[1])]
    organization_id: OrganizationId
    created_by: CreatedBy
    created_time: CreatedTime
    updated_time: UpdatedTime


_GIVEN = frozenset(names(Workflow))
