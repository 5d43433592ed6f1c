"""The field dialect's workflows: their definitions as the data of commands, and as they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from domain.limits import (
    MAX_ASSIGNEES,
    MAX_LABELS,
    MAX_LISTED,
    MAX_MAPPINGS,
    MAX_ROLES,
    MAX_STEPS,
    FieldName,
    Flow,
    Id,
    Items,
    Label,
    Number,
    Person,
    Role,
    StepName,
    WorkflowName,
)
from domain.workflow import Failure, Gating
from services.http.core.errors import ApiError
from services.http.core.models import From, Json, To, names
from services.http.field.requests import PEOPLE, REFERENCES, FieldRequest, derived_from
from services.http.field.views import Count, CreatedBy, CreatedTime, FieldView, OrganizationId, UpdatedTime, emails


class FieldMapping(FieldView):
    """A field of an earlier step that fills a field of this one, if that is blank by then."""

    step: Count
    from_field: str
    to_field: str


class Step(FieldView):
    """A step of a workflow; one that was recorded before steps had one of these is shown without."""

    name: str
    flow: Annotated[str | None, From("flow", default=None)]
    flow_id: Annotated[str | None, From("flow_id", default=None)]
    assignee: Annotated[list[str], From("assignees", emails, default=())]
    status_mapping: Annotated[dict[str, str], From("status_mapping", default={})]
    field_mapping: Annotated[list[FieldMapping], From("field_mapping", default=())]
    roles: Annotated[list[str], From("roles", default=())]
    whitelist: Annotated[list[str], From("whitelist", emails, default=())]
    blacklist: Annotated[list[str], From("blacklist", emails, default=())]


class Workflow(FieldView):
    """A workflow as it is defined now."""

    id: Id = Field(alias="_id")
    name: Annotated[str, From("fields/name")]
    steps: Annotated[list[Step], From("fields/steps")]
    gating: Annotated[Gating, From("fields/gating")]
    failure: Annotated[Failure, From("fields/failure")]
    project_id: Annotated[str | None, From("fields/project")]
    version: Annotated[int, From("fields/version"), Field(ge=1, description="Counts the definitions")]
    organization_id: OrganizationId
    created_by: CreatedBy
    created_time: CreatedTime
    updated_time: UpdatedTime

    example: ClassVar[Json] = {
        "_id": "68f2198aef526585c30e16d2",
        "name": "Pickup to Delivery",
        "steps": [
            {
                "name": "Pickup",
                "flow": "Pickup",
                "flowId": "68f2198aef526585c30e16d0",
                "assignee": ["driver@example.com"],
                "statusMapping": {"DONE": "Picked up"},
                "fieldMapping": [],
                "roles": [],
                "whitelist": [],
                "blacklist": [],
            }
        ],
        "gating": "sequential",
        "failure": "wait_all",
        "projectId": None,
        "version": 1,
        "organizationId": "634e98098ce07d29474a7e20",
        "createdBy": "admin@example.com",
        "createdTime": "2025-10-31T01:50:00.000Z",
        "updatedTime": "2025-10-31T01:50:00.000Z",
    }


def people_of_workflow(entry: Mapping[str, Any]) -> list[str]:
    """Return the members that a workflow shows."""
    names = ("assignees", "whitelist", "blacklist")
    members = [who for step in entry["fields"]["steps"] for name in names for who in step.get(name, ())]
    return [*members, entry["created_by"]]


# Requests.

Listed = Annotated[list[Person], Items(MAX_LISTED)]


class _Definition(FieldRequest):
    """A part of a workflow's definition."""

    what: ClassVar[str]

    @classmethod
    def unknown(cls, key: str, pointer: str) -> ApiError:
        """Return the refusal of a key, at the place of what does not have it."""
        return ApiError("unknown-field", f"{cls.what} has {', '.join(names(cls))}, and no {key[:100]}", pointer)


class NewFieldMapping(_Definition):
    """A field of an earlier step that fills a field of this one, if that is blank by then."""

    what = "a field mapping"

    step: Annotated[int, Number(0, MAX_STEPS - 2)] = Field(..., description="An earlier step, counted from 0")
    from_field: FieldName
    to_field: FieldName


class NewStep(_Definition):
    """A step of a workflow, as it is defined."""

    what = "a step"

    name: StepName
    flow: Flow | None = None
    flow_id: Flow | None = Field(None, description="In one step of the workflow only")
    assignee: Annotated[list[Person], Items(MAX_ASSIGNEES), To("assignees")] = Field(
        [], description=f"Who has the step's task by default. {PEOPLE}"
    )
    status_mapping: Annotated[dict[StepName, Label], Items(MAX_LABELS)] = Field(
        {}, description="Under `DONE` the sub-status of the master once the step is done"
    )
    field_mapping: Annotated[list[NewFieldMapping], Items(MAX_MAPPINGS)] = Field(
        [], description="Fields of earlier steps that fill fields of this one, if they are blank by then"
    )
    roles: Annotated[list[Role], Items(MAX_ROLES)] = Field(
        [], description="Who has none of these roles may not have the step's task"
    )
    whitelist: Listed = Field([], description=f"{REFERENCES}; nobody else may have the step's task")
    blacklist: Listed = Field([], description=f"{REFERENCES}; they may not have the step's task")


class _WorkflowDefinition(_Definition):
    what = "a workflow"
    derived = derived_from([Workflow], "is given by the service")

    @classmethod
    def unknown(cls, key: str, pointer: str) -> ApiError:
        """Return the refusal of a key."""
        if not pointer and key == "projectId":
            return ApiError("fixed", "a workflow keeps its project", "/projectId")
        if not pointer and key in cls.derived:
            return ApiError("derived", f"{key} {cls.derived[key]}", f"/{key}")
        return super().unknown(key, pointer)


class NewWorkflow(_WorkflowDefinition):
    """A workflow."""

    name: WorkflowName
    steps: Annotated[list[NewStep], Items(MAX_STEPS, 1)]
    gating: Gating = "none"
    failure: Failure = "wait_all"
    project_id: Annotated[Id | None, To("project")] = None

    example: ClassVar[Json] = {
        "name": "Pickup to Delivery",
        "steps": [
            {
                "name": "Pickup",
                "flow": "Pickup",
                "flowId": "68f2198aef526585c30e16d0",
                "assignee": ["driver@example.com"],
                "statusMapping": {"DONE": "Picked up"},
            },
            {
                "name": "Delivery",
                "flow": "Delivery",
                "flowId": "68f2198aef526585c30e16d1",
                "fieldMapping": [{"step": 0, "fromField": "parcel", "toField": "parcel"}],
            },
        ],
        "gating": "sequential",
    }


class WorkflowChange(_WorkflowDefinition):
    """What is left out stays as it is."""

    changes = True

    name: WorkflowName = ""
    steps: Annotated[list[NewStep], Items(MAX_STEPS, 1)] = Field(
        [], description="As many as before; they replace those"
    )
    gating: Gating = "none"
    failure: Failure = "wait_all"

    example: ClassVar[Json] = {"name": "Door to Door", "gating": "none"}
