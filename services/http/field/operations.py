"""The field dialect's operations: activities, tasks, bulks of tasks and workflows, each write by one command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import create_model
from starlette.responses import Response

from domain.streams import ID, stream_of
from domain.task import TaskCreated
from services.http.core.bulks import Item, prepared
from services.http.core.call import Call, as_json
from services.http.core.entities import ACTIVITY, TASK, WORKFLOW
from services.http.core.errors import ApiError
from services.http.core.models import From, View
from services.http.core.operation import Dialect, Link, Operation
from services.http.core.parameters import MinPosition, nothing_else, settled
from services.http.core.submit import Entity, submit
from services.http.field import lists, models, workflows
from services.http.field.errors import (
    Accepted,
    Failure,
    Good,
    failed,
    failed_code,
    failure,
    is_of_person,
)
from services.store import log
from services.store.log import LogRow

# Another dialect lives at these places, so a workflow that was given one of these ids elsewhere has no place here.
RESERVED = frozenset({"activities", "tracker", "work_units", "projects", "members"})
_WORKFLOW = replace(WORKFLOW, excluded=RESERVED)
FIELD = Dialect("field", failed, failure, Failure, Accepted, lists.beside, paths=("/api/v3/",))


def _answer(name: str, what: str, message: Any, status: int | None = None, **held: Any) -> type[View]:
    """Return an answer to what was done, which holds what is shown under a key."""
    fields: Any = {} if status is None else {"code": Literal[status]}
    fields["message"] = Literal[message] if isinstance(message, str) else message
    fields |= {key: Annotated[view, From("")] if isinstance(view, type) else view for key, view in held.items()}
    return create_model(name, __base__=Good, __module__=__name__, __doc__=what, **fields)


# Tasks and activities.


def _done(word: str) -> Any:
    """Return the message of what is done to a task or an activity."""

    def message(resource: Mapping[str, Any], _: Any) -> str:
        return f"{'Activity' if 'children' in resource else 'Task'} {word} successfully"

    return Annotated[Literal[f"Task {word} successfully", f"Activity {word} successfully"], From("", message)]


_ANY: Any = Annotated[models.Task | models.Master, From("", models.task_or_master)]
_TASK_FOUND = _answer("TaskFound", "The task, or the activity", "Task found", task=_ANY)
_TASK_UPDATED = _answer("TaskUpdated", "Changed", _done("updated"), task=_ANY)
_TASK_DELETED = _answer("TaskDeleted", "Cancelled", _done("deleted"), task=_ANY)
_TASKS_FOUND = _answer("TasksFound", "A page", "Tasks found", tasks=lists.TaskPage)


async def _found(call: Call) -> tuple[Entity, str | None]:
    """Return what the id in the path names, a task before an activity, and the activity that a task is a part of."""
    if ID.match(call.id):
        streams = {stream_of(call.caller.tenant, entity.noun, call.id): entity for entity in (TASK, ACTIVITY)}
        # From the log, so that what was created a moment ago is found however late the views are.
        rows = [LogRow(*row) for row in await call.service.pool.fetch(*log.first_events(list(streams)))]
        made = {row.stream: row.recorded().data for row in rows}
        for stream, entity in streams.items():
            if stream in made:
                event = made[stream]
                return entity, event.activity_id if isinstance(event, TaskCreated) else None
    raise TASK.unknown()


async def _page_of_tasks(call: Call) -> Response:
    return as_json(_TASKS_FOUND.show(await lists.page_of_tasks(call, lists.ListTasks.read(call))))


async def _get_task(call: Call) -> Response:
    await settled(call, MinPosition.read(call), *TASK.models)
    resource = await TASK.find(call, call.id) or await ACTIVITY.find(call, call.id)
    if resource is None:
        raise TASK.unknown()
    return await FIELD.show(call, _TASK_FOUND, resource)


async def _update_task(call: Call) -> Response:
    nothing_else(call.parameters())
    body = await call.json()
    entity, _ = await _found(call)
    request = (models.TaskChange if entity is TASK else models.ActivityChange).read(body)
    result = await submit(call, f"{entity.noun}.change", request, entity, entity_id=call.id)
    return await FIELD.answer(call, result, _TASK_UPDATED, entity.noun)


async def _delete_task(call: Call) -> Response:
    nothing_else(call.parameters())
    entity, master = await _found(call)
    if master is not None:
        raise ApiError("child", f"the task is a part of activity {master}; delete that")
    result = await submit(call, f"{entity.noun}.cancel", {}, entity, entity_id=call.id)
    return await FIELD.answer(call, result, _TASK_DELETED, entity.noun)


# Many tasks by one request: each is a command of its own, so some may fail and others not.


async def _create_tasks(call: Call) -> Response:
    """Create the tasks of a bulk request, in the caller's time or in the background."""
    nothing_else(call.parameters())
    request = lists.NewTasks.read(await call.json())
    counted = Counter(ref for ref in map(_ref, request.tasks) if ref is not None)

    def read(_: int, task: Any) -> models.NewTask:
        ref = _ref(task)
        if not isinstance(task, dict):
            raise ApiError("wrong-shape", "a task is an object")
        if ref is None:
            raise ApiError("wrong-shape", f"refId is a text of 1 to {lists.MAX_REF} characters", "/refId")
        if counted[ref] > 1:
            # Nobody could tell from the answer which of them was created, nor repeat just one.
            raise ApiError("ref-twice", f"{counted[ref]} tasks have this refId", "/refId")
        return models.NewTask.read(task)

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
        return as_json(lists.BulkDone.show(found))
    return as_json(lists.BulkAccepted.show(found), 202, {"Location": bulk.receipt} if bulk.receipt else None)


def _ref(task: Any) -> str | None:
    ref = task.get("refId") if isinstance(task, dict) else None
    return ref if isinstance(ref, str) and 1 <= len(ref) <= lists.MAX_REF else None


def _of_bulk(item: Item) -> dict[str, Any]:
    """Return what became of a task."""
    own: dict[str, Any] = {"id": item.id, "ref_id": item.ref, "failed_code": "", "receipt": None}
    if item.refused is not None:
        lost = {"status": False, "message": item.refused.message, "failed_code": failed_code(item.refused)}
        return {**own, **lost, **({"receipt": item.receipt} if item.unsure else {"id": None})}
    if item.undecided:
        message = "Task accepted, its outcome is not known yet"
        return {**own, "status": True, "message": message, "receipt": item.receipt}
    return {**own, "status": True, "message": "Task created successfully"}


# Workflows.


def _of_workflow(refused: ApiError) -> ApiError:
    """Return a refusal in the dialect's words: what is retired is not there any more."""
    if refused.code in ("not-found", "retired") and refused.pointer in ("", "/id"):
        return ApiError("no-workflow", _WORKFLOW.unknown().detail)
    if refused.code == "invalid" and not is_of_person(refused.pointer):
        return ApiError("workflow-rule", refused.detail, refused.pointer)
    return refused


_WORKFLOWS_FOUND = _answer("WorkflowsFound", "A page", "Workflows found", workflows=lists.WorkflowPage)


async def _page_of_workflows(call: Call) -> Response:
    return as_json(_WORKFLOWS_FOUND.show(await lists.page_of_workflows(call, lists.ListWorkflows.read(call))))


def _workflow(word: str, what: str, status: int | None = None) -> type[View]:
    done = "found" if word == "found" else f"{word} successfully"
    return _answer(f"Workflow{word.capitalize()}", what, f"Workflow {done}", status, workflow=workflows.Workflow)


def _links(kind: str, name: str, place: str) -> dict[str, Link]:
    """Return what may follow the creation of a task, an activity or a workflow whose id is at the place."""
    return {
        word: Link(f"field_{verb}_{kind}", place)
        for word, verb in ((name, "get"), ("change", "update"), ("delete", "delete"))
    }


_ONE_WORKFLOW = "/api/v3/workflow/{id}"
_WORKFLOWS = "/api/v3/internal/workflows"
OPERATIONS = (
    Operation(
        FIELD, "POST", "/api/v3/activity", "write", "field_create_activity",
        "Create an activity with a task for each step of its workflow",
        description="The master and its children are created together or not at all. A task without `assignee` gets the"
        " step's default people, one with an empty list gets nobody.",
        request=models.NewActivity, command="activity.create", entity=ACTIVITY, status=201,
        view=_answer("ActivityCreated", "Created", "Activity created successfully", 201, data=models.NewMaster),
        topic="task",
        links={
            **_links("task", "master", "/data/_id"),
            "firstTask": Link("field_update_task", "/data/subId/0"),
            "children": Link("field_list_tasks", "/data/_id", "parentId"),
        },
    ),
    Operation(
        FIELD, "POST", "/api/v3/task", "write", "field_create_task", "Create a task that stands alone",
        request=models.NewTask, command="task.create", entity=TASK, status=201, topic="task",
        view=_answer("TaskCreated", "Created", "Task created successfully", 201, task=models.Task),
        links=_links("task", "task", "/task/_id"),
    ),
    Operation(
        FIELD, "POST", "/api/v3/tasks/bulk", "write", "field_bulk_tasks",
        "Create many tasks that stand alone, each by itself",
        description="The tasks of the answer stand in the request's order. One that fails does not stop the others."
        " With an `Idempotency-Key` each task takes effect once under its `refId`.",
        request=lists.NewTasks, handler=_create_tasks, view=lists.BulkDone, also={202: lists.BulkAccepted},
        refusals=(400, 413, 415, 422), topic="bulk",
    ),
    Operation(
        FIELD, "GET", "/api/v3/tasks", "read", "field_list_tasks", "List masters and tasks",
        query=lists.ListTasks, handler=_page_of_tasks, view=_TASKS_FOUND, topic="task",
    ),
    Operation(
        FIELD, "GET", "/api/v3/task/{id}", "read", "field_get_task", "Read one task, a master or a child",
        query=MinPosition, handler=_get_task, view=_TASK_FOUND, topic="task", tagged=True,
    ),
    Operation(
        FIELD, "PUT", "/api/v3/task/{id}", "write", "field_update_task",
        "Change a task or an activity, or complete a task",
        description="On a task one command does all that the body asks for, or nothing of it is done. On an activity:"
        " title, hub and own fields; what follows from its tasks is refused.",
        request=models.TaskChange, handler=_update_task, view=_TASK_UPDATED, topic="task",
    ),
    Operation(
        FIELD, "DELETE", "/api/v3/task/{id}", "write", "field_delete_task",
        "Cancel an activity with its open tasks, or a task that stands alone",
        description="A task of an activity is not deleted alone: `task-006`.",
        handler=_delete_task, view=_TASK_DELETED, topic="task",
    ),
    Operation(
        FIELD, "GET", _WORKFLOWS, "read", "field_list_workflows",
        "List the organization's workflows in the order of their ids",
        query=lists.ListWorkflows, handler=_page_of_workflows, view=_WORKFLOWS_FOUND, topic="workflow",
    ),
    Operation(
        FIELD, "POST", _WORKFLOWS, "write", "field_create_workflow", "Define a workflow",
        description="From 1 to 10 steps, no `flowId` twice. The number of steps is fixed for good.",
        request=workflows.NewWorkflow, command="workflow.define", entity=_WORKFLOW, status=201,
        view=_workflow("created", "Created", 201), topic="workflow", rephrase=_of_workflow,
        links=_links("workflow", "workflow", "/workflow/_id"),
    ),
    Operation(
        FIELD, "GET", _ONE_WORKFLOW, "read", "field_get_workflow", "Read one workflow",
        query=MinPosition, entity=_WORKFLOW, view=_workflow("found", "The workflow"), topic="workflow",
        rephrase=_of_workflow,
    ),
    Operation(
        FIELD, "PUT", _ONE_WORKFLOW, "write", "field_update_workflow", "Change a workflow",
        description="Activities that were made from it before keep its steps as they were then.",
        request=workflows.WorkflowChange, command="workflow.change", entity=_WORKFLOW,
        view=_workflow("updated", "Changed"), topic="workflow", rephrase=_of_workflow,
    ),
    Operation(
        FIELD, "DELETE", _ONE_WORKFLOW, "write", "field_delete_workflow",
        "Delete a workflow that no activity was made from",
        command="workflow.retire", entity=_WORKFLOW, view=_workflow("deleted", "Deleted, as it was"), topic="workflow",
        rephrase=_of_workflow,
    ),
)  # fmt: skip
