"""The workflow dialect as such: its envelope, its media type, where it speaks, and the form of its writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from domain.recorded import Recorded
from services.http.core.call import Call
from services.http.core.entities import TASK
from services.http.core.models import Request, View
from services.http.core.operation import Dialect, Operation
from services.http.core.submit import Entity
from services.http.workflow import models
from services.http.workflow.errors import JSON_API, Accepted, Errors, failed, failure
from services.http.workflow.models import People, people_of

BASE = "/api/v3/workflow"
ACTIVITIES, TRACKER, UNITS = f"{BASE}/activities", f"{BASE}/tracker", f"{BASE}/work_units"
PROJECTS, MEMBERS, PERIODS = f"{BASE}/projects", f"{BASE}/members", f"{BASE}/work_periods"


async def _people(
    call: Call, resources: Sequence[Mapping[str, Any]], events: Sequence[Recorded], view: type[View]
) -> People:
    # A work unit shows who created it, a project nobody.
    people = [member for found in resources if "whitelist" in found for member in people_of(found)]
    people += [found["created_by"] for found in resources if "children" in found]
    return await call.service.members.by_id(call.caller.tenant, people, events)


WORKFLOW = Dialect(
    "workflow", failed, failure, Errors, Accepted, _people, media=JSON_API, failure_media=JSON_API,
    # Beside the field dialect's own `/api/v3/workflow/{id}`.
    paths=(ACTIVITIES, f"{TRACKER}/", UNITS, PROJECTS, MEMBERS, PERIODS),
)  # fmt: skip


def write(
    method: str,
    path: str,
    name: str,
    summary: str,
    command: str,
    request: type[Request] = models.Nothing,
    entity: Entity = TASK,
    view: type[View] = models.Changed,
    **rest: Any,
) -> Operation:
    """Return an operation that gives a command; it needs a body where its request has a field that it needs."""
    optional = not any(field.is_required() for field in request.model_fields.values())
    return Operation(
        WORKFLOW, method, path, "write", f"workflow_{name}", summary, command=command, request=request,
        body_optional=optional, entity=entity, view=view, **rest,
    )  # fmt: skip
