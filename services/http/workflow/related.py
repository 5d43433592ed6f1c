"""The views of what stands beside an activity: its project, its work unit, its node."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from services.http.core.models import From, View
from services.http.core.shown import MaybeTime, Time
from services.http.workflow.models import Attributes, CompletedAt, IdOf, Seconds, StatusOf


class ProjectAttributes(Attributes):
    id: IdOf
    name: Annotated[str | None, From("fields/name", default=None)]
    own: Annotated[
        dict[str, Any],
        From("fields", lambda fields, _: {name: value for name, value in fields.items() if name != "name"}),
    ] = Field(alias="fields")


class Project(View):
    """A project of the directory."""

    type: Literal["workflow/projects"]
    id: IdOf
    attributes: Annotated[ProjectAttributes, From("")]


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
    data: Annotated[dict[str, Any], From("fields")]
    created_at: Time


class WorkUnit(View):
    """A run of a workflow."""

    type: Literal["workflow/work_units"]
    id: IdOf
    attributes: Annotated[WorkUnitAttributes, From("")]


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
