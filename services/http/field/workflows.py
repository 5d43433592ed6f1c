"""The field dialect's workflows: requests made of the domain's own definitions, and views made of the requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator
from pydantic.alias_generators import to_snake

from domain import steps, workflow
from domain.limits import MAX_STEPS, Id, Items, Text
from services.http.core.deriving import change_of, request_of, view_of
from services.http.core.errors import ApiError
from services.http.core.models import From, Json, To, names, refuse
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
from services.http.field.requests import PEOPLE, REFERENCES, also_text, listed

# The sub-statuses that every workflow of the original has.
DEFAULTS = ("Unassigned", "Ongoing", "Done")
_DONE = "DONE"


def _label(mapping: Mapping[str, str] | None, _: Any) -> str | Mapping[str, str] | None:
    """Return the sub-status of a step as a text, as far as a text can say it."""
    return mapping[_DONE] if mapping and {*mapping} == {_DONE} else mapping or None


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


def _also_label(schema: Json) -> None:
    also_text(schema)
    schema["anyOf"][-1] |= {"maxLength": 200}
    schema["anyOf"].append({"type": "null"})


class _StepDefinition(_Definition):
    """A step, in which people and the sub-status may be texts."""

    @model_validator(mode="before")
    @classmethod
    def _read_texts(cls, step: Any) -> Any:
        if not isinstance(step, dict):
            return step
        read = dict(step)
        if "assignee" in step:
            read["assignee"] = listed(step["assignee"])
        label = step.get("statusMapping", ...)
        if label is None or isinstance(label, str):
            read["statusMapping"] = {_DONE: label} if label else {}
        return read


class CustomStatus(CamelRequest):
    """A sub-status of the workflow's activities."""

    name: Annotated[str, Text(1, 200)]
    is_default: bool | None = Field(None, description="One of those that every workflow has")

    example: ClassVar[Json] = {"name": "Picked up", "isDefault": False}


_Statuses = Annotated[list[CustomStatus] | None, Items(MAX_STEPS + len(DEFAULTS)), To(None)]


class _WorkflowDefinition(_Definition):
    """A workflow, whose sub-statuses are the labels of its steps."""

    custom_statuses: _Statuses = Field(
        None, description=f"{', '.join(DEFAULTS)} and the sub-statuses of the steps, which are sent with them"
    )

    @model_validator(mode="after")
    def _demand_statuses_of_steps(self) -> Self:
        steps = getattr(self, "steps", None)
        mapped = {step.status_mapping.get(_DONE) for step in steps or () if step.status_mapping}
        for index, status in enumerate(self.custom_statuses or ()):
            pointer = f"/customStatuses/{index}"
            if status.name not in DEFAULTS and status.name not in mapped:
                detail = "a sub-status is that of a step, which is sent with it" if steps else "send the steps with it"
                refuse("workflow-rule", detail, f"{pointer}/name")
            if status.is_default not in (None, status.name in DEFAULTS):
                refuse("workflow-rule", f"the defaults are {', '.join(DEFAULTS)}", f"{pointer}/isDefault")
        return self


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
    _StepDefinition,
    "A step of a workflow, as it is defined.",
    {
        "flow_id": {"description": "In one step of the workflow only"},
        "assignees": {
            "alias": "assignee",
            "description": f"Who has the step's task by default. {PEOPLE}",
            "json_schema_extra": also_text,
        },
        "status_mapping": {
            "description": "Under `DONE` the sub-status of the master once the step is done, or just that as a text",
            "json_schema_extra": _also_label,
        },
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
    "statusMapping": {_DONE: "Picked up"},
}
NewWorkflow = request_of(
    workflow.DefineWorkflow,
    "NewWorkflow",
    _WorkflowDefinition,
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
        "status_mapping": Annotated[str | dict[str, str] | None, From("status_mapping", _label, default=None)],
        "field_mapping": Annotated[list[FieldMapping], From("field_mapping", default=())],  # type: ignore[valid-type]
    },
)


class ShownStatus(CamelView):
    """A sub-status of the workflow's activities."""

    name: str = Field(examples=["Picked up"])
    is_default: bool


def _statuses(steps: Iterable[Mapping[str, Any]], _: Any) -> list[Json]:
    labels = [step.get("status_mapping", {}).get(_DONE) for step in steps]
    names = dict.fromkeys((*DEFAULTS, *(label for label in labels if label)))
    return [ShownStatus.show({"name": name, "is_default": name in DEFAULTS}) for name in names]


class Workflow(CamelView):
    """A workflow as it is defined now."""

    id: Id = Field(alias="_id", examples=[WORKFLOW_ID])
    name: Annotated[str, From("fields/name")] = Field(examples=["Pickup to Delivery"])
    steps: Annotated[list[Step], From("fields/steps")]  # type: ignore[valid-type]
    custom_statuses: Annotated[list[ShownStatus], From("fields/steps", _statuses)]
    gating: Annotated[workflow.Gating, From("fields/gating")]
    failure: Annotated[workflow.Failure, From("fields/failure")]
    project_id: Annotated[str | None, From("fields/project")]
    version: Annotated[int, From("fields/version"), Field(ge=1, description="Counts the definitions", examples=[1])]
    organization_id: OrganizationId
    created_by: CreatedBy
    created_time: CreatedTime
    updated_time: UpdatedTime


_GIVEN = frozenset(names(Workflow))
