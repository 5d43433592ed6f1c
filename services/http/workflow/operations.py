"""The workflow dialect's operations: activities that a person works on, each write by one command."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from starlette.responses import Response

from projections.task import pages as task_pages
from projections.task import table as tasks
from services.http.core import tags
from services.http.core.call import Call, as_json
from services.http.core.entities import TASK
from services.http.core.operation import Link, Operation
from services.http.core.parameters import AsOf, nothing_else, settled
from services.http.core.past import AS_OF
from services.http.core.submit import submit
from services.http.workflow import (
    beside,
    filters,
    iam,
    lists,
    member_writes,
    members,
    models,
    projects,
    tracker,
    work_periods,
    work_units,
)
from services.http.workflow.collection import Collection, Rows
from services.http.workflow.dialect import ACTIVITIES, WORKFLOW, write
from services.http.workflow.errors import JSON_API
from services.http.workflow.filters import FILTERS, SORTS
from services.http.workflow.lists import RELATED
from services.http.workflow.parameters import OF_ACTIVITIES, SHOWN

Json = dict[str, Any]
# What the dialect calls a task; what stands beside it is shown as well.
_ACTIVITY = replace(TASK, noun="activity")


async def _shown(call: Call, rows: Rows, wanted: lists.Wanted) -> tuple[list[Json], Json]:
    now = call.now
    return await beside.shown(call, await call.worked(lambda: [tasks.resource(row, now) for row in rows]), wanted)


_COLLECTION = Collection(
    models=_ACTIVITY.models, filters=FILTERS, sorts=SORTS, where=filters.where_of, page=task_pages.page,
    count=task_pages.count, shown=_shown, related=RELATED, of_activity=FILTERS["work_unit_id"],
)  # fmt: skip


async def _get(call: Call) -> Response:
    """Answer with one activity."""
    parameters = call.parameters()
    query, wanted = AsOf.take(parameters), lists.Wanted.take(parameters)
    nothing_else(parameters, (*lists.OF_ONE, AS_OF))
    await settled(call, query, *_ACTIVITY.models)
    task = await _ACTIVITY.read(call)
    (shown,), included = await beside.shown(call, [task], wanted)
    tag = tags.tag_of(task, (await WORKFLOW.context(call, [task], (), models.Activity), included))
    return tags.unchanged(tag) or as_json({"data": shown, **included}, headers=tags.headers(tag), media=JSON_API)


async def _assign(call: Call) -> Response:
    nothing_else(call.parameters())
    body = await call.json()
    claims = isinstance(body, dict) and body.get("self_assigning") is True
    request = (models.Claim if claims else models.Assign).read(body, call.parts)
    result = await submit(call, "task.claim" if claims else "task.assign", request, TASK, entity_id=call.id)
    return await WORKFLOW.answer(call, result, models.Changed, TASK.noun)


_ONE = f"{ACTIVITIES}/{{id}}"
OPERATIONS = (
    Operation(
        WORKFLOW, "GET", ACTIVITIES, "read", "workflow_list_activities", "List activities",
        parameters=OF_ACTIVITIES, query=AsOf, handler=_COLLECTION.answer, view=lists.Page, refusals=(400, 422),
        links={"first": Link("workflow_get_activity", "/data/0/id")},
    ),
    Operation(
        WORKFLOW, "GET", _ONE, "read", "workflow_get_activity", "Read one activity",
        parameters=SHOWN, query=AsOf, handler=_get, view=lists.Found, refusals=(400, 404, 422), tagged=True,
        links={
            name: Link(f"workflow_{name}_activity", "/data/id")
            for name in ("save", "assign", "reassign", "unassign", "process", "complete", "error", "cancel")
        },
    ),
    write("PATCH", _ONE, "save_activity", "Save a draft, without completing", "task.save", models.Save),
    write(
        "PATCH", f"{_ONE}/assign", "assign_activity", "Assign to one member of the project, or to oneself", "",
        models.Assign, gives=("task.assign", "task.claim"), handler=_assign,
        description="Somebody else's activity is a 409 `already-assigned`; of several who claim one, exactly one gets"
        " it.",
    ),
    write(
        "PATCH", f"{_ONE}/reassign", "reassign_activity", "Assign to another member", "task.reassign", models.Reassign
    ),
    write("PATCH", f"{_ONE}/unassign", "unassign_activity", "Take it from whoever has it", "task.unassign"),
    write(
        "PATCH", f"{_ONE}/process", "process_activity", "Start or resume", "task.process",
        description="`already-processing` is a 422, a caller who has not the activity a 403.",
    ),
    write(
        "PATCH", f"{_ONE}/complete", "complete_activity", "Complete", "task.complete", models.Complete,
        description="The data, together with the draft, becomes `output`.",
    ),
    write("POST", f"{_ONE}/error", "error_activity", "Mark as errored", "task.error", models.MarkErrored),
    write("POST", f"{_ONE}/cancel", "cancel_activity", "Cancel", "task.cancel"),
    *projects.OPERATIONS,
    *members.OPERATIONS,
    *member_writes.OPERATIONS,
    *work_units.OPERATIONS,
    *work_periods.OPERATIONS,
    *tracker.OPERATIONS,
    *iam.OPERATIONS,
)  # fmt: skip
