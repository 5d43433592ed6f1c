"""What the OpenAPI document says of the field dialect; the create example is the page's own, word for word."""

from __future__ import annotations

from services.http.examples import ID, KEY, MIN_POSITION, parameter
from services.http.examples_bulks import BULK_ID, RECEIPT
from services.http.field import schemas
from services.http.field.documented import Json, answer, body, failures, link, page_of_one, undecided
from services.http.field.lists import DEFAULT_LIMIT, MOST_LIMIT
from services.http.field.shapes import CHILD, MASTER, PLAIN, STATUSES

_DAY = {"startTime": "2025-10-31T08:55:00.000+07:00", "endTime": "2025-11-01T08:55:00.000+07:00"}
REQUEST: Json = {
    "workflowId": "68f2198aef526585c30e16d2",
    "hubId": "68ff42815ed967adac0f7192",
    "tasks": [
        {
            "customerName": "John Doe",
            "customerAddress": "Jl. Sudirman No. 1, Jakarta",
            "pickupCoordinate": "-6.2088,106.8456",
            "assignee": ["driver@example.com"],
            **_DAY,
            "hubId": "68ff42815ed967adac0f7192",
            "createdFrom": "WEB",
        },
        {
            "recipientName": "Jane Smith",
            "recipientAddress": "Jl. Pajajaran No. 10, Bogor",
            "deliveryCoordinate": "-6.5950,106.8167",
            "assignee": [],
            **_DAY,
            "hubId": "68ff42815ed967adac0f7192",
            "createdFrom": "WEB",
        },
    ],
}
_OF_BOTH: Json = {
    **_DAY,
    "hubId": "68ff42815ed967adac0f7192",
    "organizationId": "634e98098ce07d29474a7e20",
    "createdBy": "admin@example.com",
    "createdTime": "2025-10-31T08:50:00.000+07:00",
}
_MASTER: Json = {
    "_id": "634e98098ce07d29474a7e22",
    "taskType": MASTER,
    "title": "Pickup to Delivery",
    "workflowId": "68f2198aef526585c30e16d2",
    "subId": ["634e98098ce07d29474a7e23", "634e98098ce07d29474a7e24"],
    "status": "ONGOING",
    "assignee": ["driver@example.com"],
    **_OF_BOTH,
}
RESPONSE: Json = {"status": True, "code": 201, "message": "Activity created successfully", "data": _MASTER}
_COUNTS = {"total": 2, "open": 1, "active": 0, "paused": 0, "completed": 1, "failed": 0, "canceled": 0, "percent": 50}
_MOVED = {
    **_MASTER,
    "subStatus": "Picked up",
    "currentStep": 1,
    "progress": _COUNTS,
    "overdue": False,
    "updatedTime": "2025-10-31T02:10:00.000Z",
}
_TASK: Json = {
    "_id": "634e98098ce07d29474a7e23",
    "taskType": CHILD,
    "title": "Pickup",
    "flow": "Pickup",
    "flowId": "68f2198aef526585c30e16d0",
    "parentId": "634e98098ce07d29474a7e22",
    "status": "ONGOING",
    "assignee": ["driver@example.com"],
    **_OF_BOTH,
    "overdue": False,
    "late": False,
    "updatedTime": "2025-10-31T01:50:00.000Z",
    "customerName": "John Doe",
}
_NEW_TASK = {"flow": "Visit", "assignee": ["driver@example.com"], **_DAY, "customerName": "John Doe"}
CREATE_ACTIVITY: Json = {
    "operationId": "field_create_activity",
    "tags": ["field"],
    "status": 201,
    "summary": "Create an activity with a task for each step of its workflow",
    "description": "The master and its children are created together or not at all. A task without `assignee` gets the"
    " step's default people, one with an empty list gets nobody.",
    "parameters": [KEY],
    "requestBody": body(schemas.NEW_ACTIVITY, REQUEST),
    "responses": {
        "201": answer(
            "Created",
            schemas.answer_with("data", schemas.CREATED_MASTER, coded=True),
            RESPONSE,
            master=link("field_get_task", "id", "/data/_id"),
            change=link("field_update_task", "id", "/data/_id"),
            firstTask=link("field_update_task", "id", "/data/subId/0"),
            children=link("field_list_tasks", "parentId", "/data/_id"),
            delete=link("field_delete_task", "id", "/data/_id"),
        ),
        **undecided("Activity"),
        **failures("task", 400, 404, 409, 413, 415, 422),
    },
}
_CREATED_TASK = {**_TASK, "taskType": PLAIN, "title": "Visit", "flow": "Visit", "parentId": None}
CREATE_TASK: Json = {
    "operationId": "field_create_task",
    "tags": ["field"],
    "status": 201,
    "summary": "Create a task that stands alone",
    "parameters": [KEY],
    "requestBody": body(schemas.NEW_TASK, _NEW_TASK),
    "responses": {
        "201": answer(
            "Created",
            schemas.answer_with("task", schemas.TASK, coded=True),
            {"status": True, "code": 201, "message": "Task created successfully", "task": _CREATED_TASK},
            task=link("field_get_task", "id", "/task/_id"),
            change=link("field_update_task", "id", "/task/_id"),
            delete=link("field_delete_task", "id", "/task/_id"),
        ),
        **undecided("Task"),
        **failures("task", 400, 404, 409, 413, 415, 422),
    },
}
_ONE = schemas.answer_with("task", schemas.ANY_TASK)
GET_TASK: Json = {
    "operationId": "field_get_task",
    "tags": ["field"],
    "summary": "Read one task, a master or a child",
    "parameters": [ID, MIN_POSITION],
    "responses": {
        "200": answer("The task", _ONE, {"status": True, "message": "Task found", "task": _MOVED}),
        **failures("task", 400, 404),
    },
}
UPDATE_TASK: Json = {
    "operationId": "field_update_task",
    "tags": ["field"],
    "summary": "Change a task or an activity, or complete a task",
    "description": "On a task one command does all that the body asks for, or nothing of it is done. On an activity:"
    " title, hub and own fields; what follows from its tasks is refused.",
    "parameters": [ID, KEY],
    "requestBody": body(schemas.CHANGED_TASK, {"status": "DONE", "receivedBy": "Jane Smith"}),
    "responses": {
        "200": answer(
            "Changed",
            _ONE,
            {
                "status": True,
                "message": "Task updated successfully",
                "task": {**_TASK, "status": "DONE", "receivedBy": "Jane Smith"},
            },
        ),
        **undecided("Task"),
        **failures("task", 400, 404, 409, 413, 415, 422),
    },
}
DELETE_TASK: Json = {
    "operationId": "field_delete_task",
    "tags": ["field"],
    "summary": "Cancel an activity with its open tasks, or a task that stands alone",
    "description": "A task of an activity is not deleted alone: `task-006`.",
    "parameters": [ID, KEY],
    "responses": {
        "200": answer(
            "Cancelled",
            _ONE,
            {
                "status": True,
                "message": "Task deleted successfully",
                "task": {**_CREATED_TASK, "status": "CANCELED", "assignee": []},
            },
        ),
        **undecided("Task"),
        **failures("task", 400, 404, 409),
    },
}
_BULK_ANSWER = {
    "success": 1,
    "failed": 1,
    "tasks": [
        {
            "status": True,
            "message": "Task created successfully",
            "_id": "019a3d5e-3c1f-7a64-8d2b-5d2d4c1a9e70",
            "refId": "order-1",
        },
        {
            "status": False,
            "message": "a task cannot end before it starts (/endTime)",
            "_id": None,
            "refId": "order-2",
            "failedCode": "activity-004",
        },
    ],
}
BULK_TASKS: Json = {
    "operationId": "field_bulk_tasks",
    "tags": ["field"],
    "summary": "Create many tasks that stand alone, each by itself",
    "description": "The tasks of the answer stand in the request's order. One that fails does not stop the others."
    " With an `Idempotency-Key` each task takes effect once under its `refId`.",
    "parameters": [KEY],
    "requestBody": body(
        schemas.BULK,
        {
            "tasks": [
                {"refId": "order-1", **_NEW_TASK},
                {"refId": "order-2", **_NEW_TASK, "endTime": "2025-10-30T00:00:00Z"},
            ]
        },
    ),
    "responses": {
        "200": answer("All outcomes are known", schemas.BULK_ANSWER, _BULK_ANSWER),
        "202": answer(
            "Some outcomes are not known yet; these tasks have a receipt, and in the background so has the bulk",
            schemas.BULK_ANSWER,
            {
                "success": 1,
                "failed": 0,
                "receipt": f"/v1/bulks/{BULK_ID}",
                "tasks": [
                    {
                        "status": True,
                        "message": "Task accepted, its outcome is not known yet",
                        "_id": "019a3d5e-3c1f-7a64-8d2b-5d2d4c1a9e70",
                        "refId": "order-1",
                        "receipt": RECEIPT,
                    }
                ],
            },
        ),
        **failures("bulk", 400, 413, 415, 422),
    },
}
_NAMES = r"^$|^\s*[A-Za-z0-9_.-]{1,100}\s*(,\s*[A-Za-z0-9_.-]{1,100}\s*)*$"
LIST_TASKS: Json = {
    "operationId": "field_list_tasks",
    "tags": ["field"],
    "summary": "List masters and tasks",
    "parameters": [
        parameter("limit", "Rows of a page", "integer", minimum=1, maximum=MOST_LIMIT, default=DEFAULT_LIMIT),
        parameter(
            "page", "From 1; without a taskType the pages end at row 1000", "integer", minimum=1, maximum=1_000_000
        ),
        parameter("hubId", "Of this hub"),
        parameter("status", "In this status", enum=list(STATUSES)),
        parameter("flowId", "Of this flow"),
        parameter("taskType", "Of this type", enum=[MASTER, CHILD, PLAIN]),
        parameter("parentId", "Children of this master"),
        parameter("sortBy", "Order", enum=["createdTime", "updatedTime", "startTime", "endTime", "title"]),
        parameter("sortOrder", "Direction", enum=["asc", "desc"], default="desc"),
        MIN_POSITION,
        parameter("fields", "Just these keys, with commas between", pattern=_NAMES),
    ],
    "responses": {
        "200": answer(
            "A page",
            schemas.answer_with("tasks", schemas.page_of(schemas.LISTED_TASK)),
            {"status": True, "message": "Tasks found", "tasks": page_of_one("/api/v3/tasks", _TASK)},
        ),
        **failures("task", 400),
    },
}
