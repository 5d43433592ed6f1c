"""The field dialect's operations: activities, tasks, bulks of tasks and workflows, each write by one command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.responses import Response

from domain.recorded import Recorded
from domain.streams import ID, stream_of
from domain.task import TaskCreated
from projections import directory
from services.http.core.bulks import Item, prepared
from services.http.core.call import Call, as_json
from services.http.core.entities import ACTIVITY, TASK, WORKFLOW
from services.http.core.errors import ApiError
from services.http.core.operation import Dialect, Link, Operation
from services.http.core.parameters import MinPosition, nothing_else, settled
from services.http.core.submit import submit
from services.http.field import answers, views
from services.http.field.errors import failed, failure, is_of_person, message_and_code
from services.http.field.lists import ListTasks, ListWorkflows, list_tasks
from services.http.field.requests import MAX_REF, ActivityChange, NewActivity, NewTask, NewTasks, TaskChange
from services.http.field.workflows import NewWorkflow, Workflow, WorkflowChange, people_of_workflow
from services.store import log
from services.store.log import LogRow

# Another dialect lives at these places, so a workflow that was given one of these ids elsewhere has no place here.
RESERVED = frozenset({"activities", "tracker", "work_units"})
_WORKFLOW = replace(WORKFLOW, excluded=RESERVED)


async def _beside(call: Call, resources: Sequence[Mapping[str, Any]], events: Sequence[Recorded] = ()) -> views.Beside:
    tenant = call.caller.tenant
    people = [
        member
        for resource in resources
        for member in (people_of_workflow if "kind" in resource else views.people_of)(resource)
    ]
    known = await call.service.members.by_id(tenant, people, events)
    return views.Beside(tenant, {member: found.email for member, found in known.items() if found.email is not None})


FIELD = Dialect("field", failed, failure, answers.Failure, answers.Accepted, _beside, paths=("/api/v3/",))

# Tasks and activities.


@dataclass(frozen=True, slots=True)
class _Found:
    """What an id of this dialect names: an activity, a child or a task that stands alone."""

    noun: str
    activity_id: str | None = None


async def _found(call: Call) -> _Found:
    """Return what the id in the path names, a task before an activity; refuse one that names neither."""
    tenant = call.caller.tenant
    if ID.match(call.id):
        streams = [stream_of(tenant, category, call.id) for category in ("task", "activity")]
        # From the log, so that what was created a moment ago is found however late the views are.
        rows = [LogRow(*row) for row in await call.service.pool.fetch(*log.first_events(streams))]
        for stream in streams:
            for row in rows:
                if row.stream == stream:
                    event = row.recorded()
                    made = event.data
                    return _Found(event.category, made.activity_id if isinstance(made, TaskCreated) else None)
    raise TASK.unknown()


async def _page_of_tasks(call: Call) -> Response:
    query = ListTasks.read(call)
    await settled(call, query, *TASK.models)
    return as_json(await list_tasks(call, query))


async def _get_task(call: Call) -> Response:
    await settled(call, MinPosition.read(call), *TASK.models)
    resource = await TASK.find(call, call.id) or await ACTIVITY.find(call, call.id)
    if resource is None:
        raise TASK.unknown()
    return await FIELD.show(call, answers.TaskFound, resource)


async def _update_task(call: Call) -> Response:
    nothing_else(call.parameters())
    body = await call.json()
    found = await _found(call)
    if found.noun == "activity":
        result = await submit(call, "activity.change", ActivityChange.read(body), ACTIVITY, entity_id=call.id)
    else:
        result = await submit(call, "task.change", TaskChange.read(body), TASK, entity_id=call.id)
    return await FIELD.answer(call, result, answers.TaskUpdated, found.noun)


async def _delete_task(call: Call) -> Response:
    nothing_else(call.parameters())
    found = await _found(call)
    if found.activity_id is not None:
        raise ApiError("child", f"the task is a part of activity {found.activity_id}; delete that")
    entity = TASK if found.noun == "task" else ACTIVITY
    result = await submit(call, f"{found.noun}.cancel", {}, entity, entity_id=call.id)
    return await FIELD.answer(call, result, answers.TaskDeleted, found.noun)


# Many tasks by one request: each is a command of its own, so some may fail and others not.


async def _create_tasks(call: Call) -> Response:
    """Create the tasks of a bulk request, in the caller's time or in the background."""
    nothing_else(call.parameters())
    request = NewTasks.read(await call.json())
    counted = Counter(ref for ref in map(_ref, request.tasks) if ref is not None)

    def read(_: int, task: Any) -> NewTask:
        ref = _ref(task)
        if not isinstance(task, dict):
            raise ApiError("wrong-shape", "a task is an object")
        if ref is None:
            raise ApiError("wrong-shape", f"refId is a text of 1 to {MAX_REF} characters", "/refId")
        if counted[ref] > 1:
            # Nobody could tell from the answer which of them was created, nor repeat just one.
            raise ApiError("ref-twice", f"{counted[ref]} tasks have this refId", "/refId")
        return NewTask.read(task)

    bulk = await prepared(call, TASK.creates, request.tasks, read, _ref)
    await bulk.carry_out(TASK.models, request.background)
    failed_items = sum(item.refused is not None for item in bulk.items)
    found = {
        "success": len(bulk.items) - failed_items,
        "failed": failed_items,
        "receipt": bulk.receipt,
        "tasks": [_of_bulk(item) for item in bulk.items],
    }
    if not any(item.undecided for item in bulk.items):
        return as_json(answers.BulkDone.show(found))
    return as_json(answers.BulkAccepted.show(found), 202, {"Location": bulk.receipt} if bulk.receipt else None)


def _ref(task: Any) -> str | None:
    ref = task.get("refId") if isinstance(task, dict) else None
    return ref if isinstance(ref, str) and 1 <= len(ref) <= MAX_REF else None


def _of_bulk(item: Item) -> dict[str, Any]:
    """Return what became of a task."""
    own: dict[str, Any] = {"id": item.id, "refId": item.ref, "failedCode": "", "receipt": None}
    if item.refused is not None:
        message, code = message_and_code(item.refused)
        lost = {"status": False, "message": message, "failedCode": code}
        return {**own, **lost, **({"receipt": item.receipt} if item.unsure else {"id": None})}
    if item.undecided:
        message = "Task accepted, its outcome is not known yet"
        return {**own, "status": True, "message": message, "receipt": item.receipt}
    return {**own, "status": True, "message": "Task created successfully"}


# Workflows.


def _of_workflow(refused: ApiError) -> ApiError:
    """Return a refusal in the dialect's words: what is retired is not there any more."""
    if refused.code in ("not-found", "retired") and refused.pointer in ("", "/id"):
        return _no_workflow()
    if refused.code == "invalid" and not is_of_person(refused.pointer):
        return ApiError("workflow-rule", refused.detail, refused.pointer)
    return refused


def _no_workflow() -> ApiError:
    return ApiError("no-workflow", _WORKFLOW.unknown().detail)


async def _page_of_workflows(call: Call) -> Response:
    query = ListWorkflows.read(call)
    await settled(call, query, directory.NAME)
    pool, tenant, kind = call.service.pool, call.caller.tenant, directory.WORKFLOW
    total = int((await pool.fetch(*directory.count(tenant, kind)))[0][0])
    page = query.page_of(call, total)
    rows = []
    if page.offset < total:
        rows = await pool.fetch(*directory.page(tenant, kind, limit=page.limit, offset=page.offset))
    entries = [directory.resource(row) for row in rows]
    beside = await _beside(call, entries)
    shown = [Workflow.show(entry, beside) for entry in entries]
    return as_json(answers.WorkflowsFound.show(page.with_rows(shown)))


async def _get_workflow(call: Call) -> Response:
    await settled(call, MinPosition.read(call), directory.NAME)
    entry = await _WORKFLOW.find(call, call.id)
    if entry is None or entry["retired"]:
        raise _no_workflow()
    return await FIELD.show(call, answers.WorkflowFound, entry)


_ONE_WORKFLOW = "/api/v3/workflow/{id}"
_WORKFLOWS = "/api/v3/internal/workflows"
OPERATIONS = (
    Operation(
        FIELD, "POST", "/api/v3/activity", "write", "field_create_activity",
        "Create an activity with a task for each step of its workflow",
        description="The master and its children are created together or not at all. A task without `assignee` gets the"
        " step's default people, one with an empty list gets nobody.",
        request=NewActivity, command="activity.create", entity=ACTIVITY, view=answers.ActivityCreated, status=201,
        topic="task",
        links={
            "master": Link("field_get_task", "/data/_id"),
            "change": Link("field_update_task", "/data/_id"),
            "firstTask": Link("field_update_task", "/data/subId/0"),
            "children": Link("field_list_tasks", "/data/_id", "parentId"),
            "delete": Link("field_delete_task", "/data/_id"),
        },
    ),
    Operation(
        FIELD, "POST", "/api/v3/task", "write", "field_create_task", "Create a task that stands alone",
        request=NewTask, command="task.create", entity=TASK, view=answers.TaskCreated, status=201, topic="task",
        links={
            "task": Link("field_get_task", "/task/_id"),
            "change": Link("field_update_task", "/task/_id"),
            "delete": Link("field_delete_task", "/task/_id"),
        },
    ),
    Operation(
        FIELD, "POST", "/api/v3/tasks/bulk", "write", "field_bulk_tasks",
        "Create many tasks that stand alone, each by itself",
        description="The tasks of the answer stand in the request's order. One that fails does not stop the others."
        " With an `Idempotency-Key` each task takes effect once under its `refId`.",
        request=NewTasks, handler=_create_tasks, view=answers.BulkDone, also={202: answers.BulkAccepted},
        refusals=(400, 413, 415, 422), topic="bulk",
    ),
    Operation(
        FIELD, "GET", "/api/v3/tasks", "read", "field_list_tasks", "List masters and tasks",
        query=ListTasks, handler=_page_of_tasks, view=answers.TasksFound, topic="task",
    ),
    Operation(
        FIELD, "GET", "/api/v3/task/{id}", "read", "field_get_task", "Read one task, a master or a child",
        query=MinPosition, handler=_get_task, view=answers.TaskFound, topic="task",
    ),
    Operation(
        FIELD, "PUT", "/api/v3/task/{id}", "write", "field_update_task",
        "Change a task or an activity, or complete a task",
        description="On a task one command does all that the body asks for, or nothing of it is done. On an activity:"
        " title, hub and own fields; what follows from its tasks is refused.",
        request=TaskChange, handler=_update_task, view=answers.TaskUpdated, topic="task",
    ),
    Operation(
        FIELD, "DELETE", "/api/v3/task/{id}", "write", "field_delete_task",
        "Cancel an activity with its open tasks, or a task that stands alone",
        description="A task of an activity is not deleted alone: `task-006`.",
        handler=_delete_task, view=answers.TaskDeleted, topic="task",
    ),
    Operation(
        FIELD, "GET", _WORKFLOWS, "read", "field_list_workflows",
        "List the organization's workflows in the order of their ids",
        query=ListWorkflows, handler=_page_of_workflows, view=answers.WorkflowsFound, topic="workflow",
    ),
    Operation(
        FIELD, "POST", _WORKFLOWS, "write", "field_create_workflow", "Define a workflow",
        description="From 1 to 10 steps, no `flowId` twice. The number of steps is fixed for good.",
        request=NewWorkflow, command="workflow.define", entity=_WORKFLOW, view=answers.WorkflowCreated, status=201,
        topic="workflow", rephrase=_of_workflow,
        links={
            "workflow": Link("field_get_workflow", "/workflow/_id"),
            "change": Link("field_update_workflow", "/workflow/_id"),
            "delete": Link("field_delete_workflow", "/workflow/_id"),
        },
    ),
    Operation(
        FIELD, "GET", _ONE_WORKFLOW, "read", "field_get_workflow", "Read one workflow",
        query=MinPosition, handler=_get_workflow, view=answers.WorkflowFound, topic="workflow",
    ),
    Operation(
        FIELD, "PUT", _ONE_WORKFLOW, "write", "field_update_workflow", "Change a workflow",
        description="Activities that were made from it before keep its steps as they were then.",
        request=WorkflowChange, command="workflow.change", entity=_WORKFLOW, view=answers.WorkflowUpdated,
        topic="workflow", rephrase=_of_workflow,
    ),
    Operation(
        FIELD, "DELETE", _ONE_WORKFLOW, "write", "field_delete_workflow",
        "Delete a workflow that no activity was made from",
        command="workflow.retire", entity=_WORKFLOW, view=answers.WorkflowDeleted, topic="workflow",
        rephrase=_of_workflow,
    ),
)  # fmt: skip
