"""The views of what stands beside an activity: its project, its work unit, its node."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from services.http.core.models import LEFT_OUT, From, Json, View
from services.http.core.shown import MaybeTime, Time
from services.http.workflow.models import (
    Attributes,
    CompletedAt,
    IdOf,
    Related,
    RelatedMany,
    Seconds,
    StatusOf,
    account_of,
    related_to,
    related_to_all,
)


def _own(fields: Json) -> Json:
    """Return the fields of a project that are no attributes."""
    return {name: value for name, value in fields.items() if name not in ProjectAttributes.model_fields}


class ProjectAttributes(Attributes):
    id: IdOf
    name: Annotated[str | None, From("fields/name", default=None)]
    enabled: Annotated[bool, From("fields", lambda fields, _: fields.get("enabled") is not False)]
    readonly: Annotated[bool, From("retired")]
    organization_id: Annotated[Any, From("fields/organization_id", default=None)] = Field(examples=["7"])
    organizational_unit: Annotated[Any, From("fields/organizational_unit", default=None)] = Field(examples=["Sales"])
    definition: Annotated[Any, From("fields/definition", default=None)] = Field(examples=[{"indicators": {}}])
    own: Annotated[dict[str, Any], From("fields", lambda fields, _: _own(fields))] = Field(alias="fields")
    created_at: Time
    updated_at: Time


class ProjectRelationships(View):
    members: Annotated[RelatedMany, From("", lambda ids, _: related_to_all("workflow/project/members", ids))]


class Project(View):
    """A project of the directory; its members are named when they are included."""

    type: Literal["workflow/projects"]
    id: IdOf
    attributes: Annotated[ProjectAttributes, From("")]
    relationships: Annotated[ProjectRelationships | None, From("member_ids", default=None)] = LEFT_OUT


class WorkUnitAttributes(Attributes):
    id: IdOf
    name: Annotated[str, From("title")] = Field(examples=["Pickup to Delivery"])
    status: StatusOf
    sub_status: str | None
    progress: dict[str, int]
    started_at: MaybeTime
    completed_at: CompletedAt
    working_seconds: Seconds
    live_seconds: Seconds
    pipeline_seconds: Seconds
    priority: Annotated[int | None, From("fields", lambda fields, _: _priority(fields))]
    created_by_id: Annotated[int | None, From("created_by", account_of)]
    data: Annotated[dict[str, Any], From("fields")]
    created_at: Time


def _priority(fields: Json) -> int | None:
    value = fields.get("priority")
    return value if type(value) is int else None


def nodes_of(unit: Json) -> list[str]:
    """Return the ids of the steps of a work unit."""
    return [f"{unit['workflow']['id']}:{step}" for step in range(len(unit["children"]))]


class UnitRelationships(View):
    project: Annotated[Related, From("project", lambda found, _: related_to("workflow/projects", found))]
    nodes: Annotated[RelatedMany, From("", lambda unit, _: related_to_all("workflow/nodes", nodes_of(unit)))]


class WorkUnit(View):
    """A run of a workflow."""

    type: Literal["workflow/work_units"]
    id: IdOf
    attributes: Annotated[WorkUnitAttributes, From("")]
    relationships: Annotated[UnitRelationships, From("")]


class NodeAttributes(Attributes):
    id: IdOf
    name: str | None
    step: int
    flow: str | None
    flow_id: str | None


class Node(View):
    """A step of a workflow; its name is the workflow's own word for it, as it is now."""

    type: Literal["workflow/nodes"]
    id: IdOf
    attributes: Annotated[NodeAttributes, From("")]


class UnitChanged(View):
    """As it is now"""

    data: Annotated[WorkUnit, From("")]


class PeriodAttributes(Attributes):
    id: str = Field(examples=["0199f1c2-7a10-7000-8000-000000000001:3"])
    account_id: Annotated[int | None, From("member", account_of)]
    started_at: Time
    ended_at: MaybeTime
    is_updated: Literal[False]
    read_only: Literal[True]


class PeriodRelationships(View):
    project: Annotated[Related, From("project", lambda found, _: related_to("workflow/projects", found))]
    activity: Annotated[Related, From("task_id", lambda found, _: related_to("workflow/activities", found))]


class WorkPeriod(View):
    """A period of work: of one person, on one activity."""

    type: Literal["workflow/work_periods"]
    id: str = Field(examples=["0199f1c2-7a10-7000-8000-000000000001:3"])
    attributes: Annotated[PeriodAttributes, From("")]
    relationships: Annotated[PeriodRelationships, From("")]


class MemberAttributes(Attributes):
    id: str = Field(examples=["north:ann"])
    person_id: Annotated[str, From("member")] = Field(examples=["ann"])
    account_id: Annotated[int | None, From("fields/account_id", default=None)] = Field(examples=[42])
    actor_roles: Annotated[list[Any], From("roles")]
    name: Annotated[Any, From("fields/name", default=None)] = Field(examples=["Ann"])
    email: Annotated[Any, From("fields/email", default=None)] = Field(examples=["ann@example.com"])
    first_name: Annotated[Any, From("fields/first_name", default=None)] = Field(examples=["Ann"])
    middle_name: Annotated[Any, From("fields/middle_name", default=None)] = Field(examples=[None])
    last_name: Annotated[Any, From("fields/last_name", default=None)] = Field(examples=["Lee"])
    picture_url: Annotated[Any, From("fields/picture_url", default=None)] = Field(examples=[None])
    is_supervisor: Annotated[bool, From("manages")]
    created_at: Time
    updated_at: Time


class MemberRelationships(View):
    project: Annotated[Related, From("project", lambda found, _: related_to("workflow/projects", found))]


class Member(View):
    """A person in a project."""

    type: Literal["workflow/project/members"]
    id: str = Field(examples=["north:ann"])
    attributes: Annotated[MemberAttributes, From("")]
    relationships: Annotated[MemberRelationships, From("")]
