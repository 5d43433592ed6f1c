"""What the OpenAPI document says of the field dialect; the create example is the page's own, word for word."""

from __future__ import annotations

from typing import Any

from services.http.examples import ID, KEY, MIN_POSITION, Json, answer, parameter
from services.http.field_errors import FAILURES
from services.http.field_lists import DEFAULT_LIMIT, MOST_LIMIT
from services.http.field_shapes import CHILD, MASTER, PLAIN, STATUSES

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
RESPONSE: Json = {
    "status": True,
    "code": 201,
    "message": "Activity created successfully",
    "data": {
        "_id": "634e98098ce07d29474a7e22",
        "taskType": "activityMaster",
        "title": "Pickup to Delivery",
        "workflowId": "68f2198aef526585c30e16d2",
        "subId": ["634e98098ce07d29474a7e23", "634e98098ce07d29474a7e24"],
        "status": "ONGOING",
        "assignee": ["driver@example.com"],
        **_DAY,
        "hubId": "68ff42815ed967adac0f7192",
        "organizationId": "634e98098ce07d29474a7e20",
        "createdBy": "admin@example.com",
        "createdTime": "2025-10-31T08:50:00.000+07:00",
    },
}


def _failures(*statuses: int) -> Json:
    found: Json = {}
    for status in (*statuses, 401, 403, 429, 500, 503):
        codes = [code for code, failure in FAILURES.items() if failure.status == status]
        meanings = "; ".join(f"`{code}`: {FAILURES[code].meaning}" for code in codes)
        example = {"status": False, "message": FAILURES[codes[0]].meaning, "failedCode": codes[0]}
        found[str(status)] = answer(meanings, example)
    return found


_TASK_BODY: Json = {
    "type": "object",
    "description": "Any other key is a field of the task's flow",
    "properties": {
        "assignee": {"type": "array", "items": {"type": "string"}, "description": "E-mails or member ids"},
        "startTime": {"type": "string", "format": "date-time"},
        "endTime": {"type": "string", "format": "date-time"},
        "hubId": {"type": "string"},
        "title": {"type": "string"},
        "createdFrom": {"type": "string"},
    },
    "additionalProperties": True,
}
_RECEIPT: Any = {"commandId": "0199…", "receipt": "/v1/commands/0199…"}
CREATE_ACTIVITY: Json = {
    "operationId": "field_create_activity",
    "tags": ["field"],
    "status": 201,
    "summary": "Create an activity with a task for each step of its workflow",
    "parameters": [KEY],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["workflowId", "tasks"],
                    "properties": {
                        "workflowId": {"type": "string"},
                        "hubId": {"type": "string", "description": "Inherited by tasks without one"},
                        "title": {"type": "string", "description": "The workflow's name by default"},
                        "tasks": {"type": "array", "items": _TASK_BODY, "description": "One a step, in their order"},
                    },
                },
                "example": REQUEST,
            }
        },
    },
    "responses": {
        "201": answer("Created", RESPONSE),
        "202": answer(
            "No answer yet; look at the receipt",
            {"status": True, "code": 202, "message": "Activity accepted", "data": _RECEIPT},
        ),
        **_failures(400, 404, 409, 413, 415, 422),
    },
}
_TASK: Json = {
    "_id": "634e98098ce07d29474a7e23",
    "taskType": CHILD,
    "title": "Pickup",
    "parentId": "634e98098ce07d29474a7e22",
    "status": "ONGOING",
    "assignee": ["driver@example.com"],
    **_DAY,
    "customerName": "John Doe",
}
GET_TASK: Json = {
    "operationId": "field_get_task",
    "tags": ["field"],
    "summary": "Read one task, a master or a child",
    "parameters": [ID, MIN_POSITION],
    "responses": {
        "200": answer("The task", {"status": True, "message": "Task found", "task": _TASK}),
        **_failures(400, 404),
    },
}
_PAGE = {"current_page": 1, "data": [_TASK], "from": 1, "last_page": 1, "per_page": 15, "to": 1, "total": 1}
LIST_TASKS: Json = {
    "operationId": "field_list_tasks",
    "tags": ["field"],
    "summary": "List masters and tasks",
    "parameters": [
        parameter("limit", "Rows of a page", "integer", minimum=1, maximum=MOST_LIMIT, default=DEFAULT_LIMIT),
        parameter("page", "From 1; without a taskType the pages end at row 1000", "integer", minimum=1),
        parameter("hubId", "Of this hub"),
        parameter("status", "In this status", enum=list(STATUSES)),
        parameter("flowId", "Of this flow"),
        parameter("taskType", "Of this type", enum=[MASTER, CHILD, PLAIN]),
        parameter("parentId", "Children of this master"),
        parameter("sortBy", "Order", enum=["createdTime", "updatedTime", "startTime", "endTime", "title"]),
        parameter("sortOrder", "Direction", enum=["asc", "desc"], default="desc"),
        MIN_POSITION,
        parameter("fields", "Just these keys, with commas between"),
    ],
    "responses": {
        "200": answer("A page", {"status": True, "message": "Tasks found", "tasks": _PAGE}),
        **_failures(400),
    },
}
