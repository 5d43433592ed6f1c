"""The field dialect's operations: activities, tasks, bulks of tasks and workflows, each write by one command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from starlette.responses import Response

from services.http.core.call import Call, as_json
from services.http.core.entities import ACTIVITY, TASK
from services.http.core.errors import ApiError
from services.http.core.models import From, Request
from services.http.core.openapi import deep_object
from services.http.core.operation import Link, Operation
from services.http.core.parameters import AsOf, nothing_else, settled
from services.http.core.submit import Entity, submit
from services.http.field import lists, models, requests
from services.http.field.activities import OPERATIONS as ACTIVITIES
from services.http.field.bulk import OPERATIONS as BULK
from services.http.field.bulk_changes import OPERATIONS as BULK_CHANGES
from services.http.field.dialect import FIELD, answer, links
from services.http.field.directory import OPERATIONS as DIRECTORY
from services.http.field.directory_changes import OPERATIONS as DIRECTORY_CHANGES
from services.http.field.documents import change_of, find, stale
from services.http.field.export import CSV, AskTasks, export
from services.http.field.flows import OPERATIONS as FLOWS
from services.http.field.workflow_operations import OPERATIONS as WORKFLOWS
from services.http.field.workflow_queries import OPERATIONS as WORKFLOW_QUERIES

_ANY: Any = Annotated[models.Task | models.Master, From("", models.task_or_master)]
_TASK_FOUND = answer("TaskFound", "The task, or the activity", "Success", task=_ANY)
_TASK_UPDATED = answer("TaskUpdated", "Changed", "Success", task=_ANY)
_TASK_DELETED = answer("TaskDeleted", "Cancelled", "Success", task=_ANY)
_TASKS_FOUND = answer("TasksFound", "A page", "Success.", tasks=lists.TaskPage)


async def _list_tasks(call: Call) -> Response:
    query = AskTasks.read(call)
    if query.format == CSV:
        return await export(call, query)
    page = await lists.page_of_tasks(call, query)
    return await call.worked(lambda: as_json(_TASKS_FOUND.show(page)))


async def _get_task(call: Call) -> Response:
    await settled(call, AsOf.read(call), *TASK.models)
    resource = await TASK.find(call, call.id) or await ACTIVITY.find(call, call.id)
    if resource is None:
        raise TASK.unknown()
    return await FIELD.show(call, _TASK_FOUND, resource)


async def _change(
    call: Call, entity: Entity, request: Request, version: int | None = None, extra: Mapping[str, Any] | None = None
) -> Response:
    try:
        result = await submit(
            call, f"{entity.noun}.change", request, entity, entity_id=call.id, extra_data=extra, version=version
        )
    except ApiError as refused:
        raise stale(refused) from None
    return await FIELD.answer(call, result, _TASK_UPDATED, entity.noun)


async def _update_task(call: Call) -> Response:
    """Change what a document says otherwise than it is; with a `flow` it is the whole of a task."""
    nothing_else(call.parameters())
    body = await call.json()
    found = await find(call)
    changes = await change_of(call, found, body, replaces=call.scope["method"] == "PUT")
    return await _change(call, found.entity, changes.request, changes.version, changes.extra)


async def _move_task(call: Call) -> Response:
    nothing_else(call.parameters())
    request = requests.Move.read(await call.json())
    return await _change(call, (await find(call)).entity, request)


async def _delete_task(call: Call) -> Response:
    nothing_else(call.parameters())
    found = await find(call)
    found.demand_no_child()
    entity = found.entity
    result = await submit(call, f"{entity.noun}.cancel", {}, entity, entity_id=call.id)
    return await FIELD.answer(call, result, _TASK_DELETED, entity.noun)


_OF_FIELDS = deep_object(
    "field",
    "A field of the flow has this value; repeated, one of several. A text that is a number or a truth value is both",
    {},
    others=True,
)
_ONE = "/api/v3/task/{id}"
_CHANGES = ("task.change", "activity.change")

OPERATIONS = (
    Operation(
        FIELD, "POST", "/api/v3/activity", "write", "field_create_activity",
        "Create an activity with a task for each step of its workflow",
        description="The master and its children are created together or not at all. A task without `assignee` gets the"
        " step's default people, one with an empty list gets nobody.",
        request=requests.NewActivity, command="activity.create", entity=ACTIVITY, status=201,
        view=answer("ActivityCreated", "Created", "Activity created successfully", 201, data=models.NewMaster),
        topic="task",
        links={
            **links("task", "master", "/data/_id"),
            "firstTask": Link("field_update_task", "/data/subId/0"),
            "children": Link("field_list_tasks", "/data/_id", "parentId"),
        },
    ),
    Operation(
        FIELD, "POST", "/api/v3/task", "write", "field_create_task", "Create a task that stands alone",
        request=requests.NewTask, command="task.create", entity=TASK, status=201, topic="task",
        view=answer("TaskCreated", "Created", "Task has been created", task=models.Task),
        links=links("task", "task", "/task/_id"),
    ),
    Operation(
        FIELD, "GET", "/api/v3/tasks", "read", "field_list_tasks", "List masters and tasks",
        description="With `format=csv` all rows are streamed as `text/csv`, with a header, in the order of the list.",
        query=AskTasks, parameters=(_OF_FIELDS,), handler=_list_tasks, view=_TASKS_FOUND, topic="task",
    ),
    Operation(
        FIELD, "GET", _ONE, "read", "field_get_task", "Read one task, a master or a child",
        query=AsOf, handler=_get_task, view=_TASK_FOUND, topic="task", tagged=True,
    ),
    Operation(
        FIELD, "PUT", _ONE, "write", "field_update_task", "Change a task or an activity, or complete a task",
        description="Takes back the document that GET gave: what is the service's own is accepted as it is shown, and"
        " else refused by its name. A body with `flow` is the whole task: fields that it leaves out go. All is done by"
        " one command, or nothing. On an activity: title, hub and own fields.",
        request=requests.TaskChange, gives=_CHANGES, handler=_update_task, view=_TASK_UPDATED, topic="task",
    ),
    Operation(
        FIELD, "PATCH", _ONE, "write", "field_patch_task", "Change some of a task or an activity",
        description="As PUT, and whatever is left out stays as it is.",
        request=requests.TaskChange, gives=_CHANGES, handler=_update_task, view=_TASK_UPDATED, topic="task",
    ),
    Operation(
        FIELD, "PUT", f"{_ONE}/assign", "write", "field_assign_task", "Give a task to other people",
        request=requests.Assignment, command="task.change", entity=TASK, view=_TASK_UPDATED, topic="task",
    ),
    Operation(
        FIELD, "PUT", f"{_ONE}/move", "write", "field_move_task", "Move a task or an activity to another hub",
        request=requests.Move, gives=_CHANGES, handler=_move_task, view=_TASK_UPDATED, topic="task",
    ),
    Operation(
        FIELD, "DELETE", _ONE, "write", "field_delete_task",
        "Cancel an activity with its open tasks, or a task that stands alone",
        description="A task of an activity is not deleted alone: `task-006`.",
        gives=("activity.cancel", "task.cancel"), handler=_delete_task, view=_TASK_DELETED, topic="task",
    ),
    *ACTIVITIES,
    *BULK,
    *BULK_CHANGES,
    *WORKFLOWS,
    *WORKFLOW_QUERIES,
    *FLOWS,
    *DIRECTORY,
    *DIRECTORY_CHANGES,
)  # fmt: skip
