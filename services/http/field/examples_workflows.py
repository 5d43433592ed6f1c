"""What the OpenAPI document says of the field dialect's workflows."""

from __future__ import annotations

from services.http.examples import ID, KEY, MIN_POSITION, parameter
from services.http.field import schemas
from services.http.field.documented import Json, answer, body, failures, link, page_of_one, undecided
from services.http.field.lists import DEFAULT_LIMIT, MOST_LIMIT

_STEPS: list[Json] = [
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
]
_REQUEST: Json = {"name": "Pickup to Delivery", "steps": _STEPS, "gating": "sequential"}
_EMPTY: Json = {
    "flow": None,
    "flowId": None,
    "assignee": [],
    "statusMapping": {},
    "fieldMapping": [],
    "roles": [],
    "whitelist": [],
    "blacklist": [],
}
_WORKFLOW: Json = {
    "_id": "68f2198aef526585c30e16d2",
    **_REQUEST,
    "steps": [{**_EMPTY, **step} for step in _STEPS],
    "failure": "wait_all",
    "projectId": None,
    "version": 1,
    "organizationId": "634e98098ce07d29474a7e20",
    "createdBy": "admin@example.com",
    "createdTime": "2025-10-31T01:50:00.000Z",
    "updatedTime": "2025-10-31T01:50:00.000Z",
}
_ONE = schemas.answer_with("workflow", schemas.WORKFLOW)
_TAGS = ["field"]

LIST_WORKFLOWS: Json = {
    "operationId": "field_list_workflows",
    "tags": _TAGS,
    "summary": "List the organization's workflows in the order of their ids",
    "parameters": [
        parameter("limit", "Rows of a page", "integer", minimum=1, maximum=MOST_LIMIT, default=DEFAULT_LIMIT),
        parameter("page", "From 1", "integer", minimum=1, maximum=1_000_000),
        MIN_POSITION,
    ],
    "responses": {
        "200": answer(
            "A page",
            schemas.answer_with("workflows", schemas.page_of(schemas.WORKFLOW)),
            {
                "status": True,
                "message": "Workflows found",
                "workflows": page_of_one("/api/v3/internal/workflows", _WORKFLOW),
            },
        ),
        **failures("workflow", 400),
    },
}
CREATE_WORKFLOW: Json = {
    "operationId": "field_create_workflow",
    "tags": _TAGS,
    "status": 201,
    "summary": "Define a workflow",
    "description": "From 1 to 10 steps, no `flowId` twice. The number of steps is fixed for good.",
    "parameters": [KEY],
    "requestBody": body(schemas.NEW_WORKFLOW, _REQUEST),
    "responses": {
        "201": answer(
            "Created",
            schemas.answer_with("workflow", schemas.WORKFLOW, coded=True),
            {"status": True, "code": 201, "message": "Workflow created successfully", "workflow": _WORKFLOW},
            workflow=link("field_get_workflow", "id", "/workflow/_id"),
            change=link("field_update_workflow", "id", "/workflow/_id"),
            delete=link("field_delete_workflow", "id", "/workflow/_id"),
        ),
        **undecided("Workflow"),
        **failures("workflow", 400, 404, 409, 413, 415, 422),
    },
}
GET_WORKFLOW: Json = {
    "operationId": "field_get_workflow",
    "tags": _TAGS,
    "summary": "Read one workflow",
    "parameters": [ID, MIN_POSITION],
    "responses": {
        "200": answer("The workflow", _ONE, {"status": True, "message": "Workflow found", "workflow": _WORKFLOW}),
        **failures("workflow", 400, 404),
    },
}
UPDATE_WORKFLOW: Json = {
    "operationId": "field_update_workflow",
    "tags": _TAGS,
    "summary": "Change a workflow",
    "description": "Activities that were made from it before keep its steps as they were then.",
    "parameters": [ID, KEY],
    "requestBody": body(schemas.CHANGED_WORKFLOW, {"name": "Door to Door", "gating": "none"}),
    "responses": {
        "200": answer(
            "Changed",
            _ONE,
            {
                "status": True,
                "message": "Workflow updated successfully",
                "workflow": {**_WORKFLOW, "name": "Door to Door", "gating": "none", "version": 2},
            },
        ),
        **undecided("Workflow"),
        **failures("workflow", 400, 404, 409, 413, 415, 422),
    },
}
DELETE_WORKFLOW: Json = {
    "operationId": "field_delete_workflow",
    "tags": _TAGS,
    "summary": "Delete a workflow that no activity was made from",
    "parameters": [ID, KEY],
    "responses": {
        "200": answer(
            "Deleted, as it was",
            _ONE,
            {"status": True, "message": "Workflow deleted successfully", "workflow": _WORKFLOW},
        ),
        **undecided("Workflow"),
        **failures("workflow", 400, 404, 409),
    },
}
