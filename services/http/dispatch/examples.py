"""What the OpenAPI document says of the dispatch dialect's activities; the create example is the page's own."""

from __future__ import annotations

from typing import Any

from services.http.dispatch import schemas
from services.http.dispatch.documented import answer, body, failures, link, operation, write
from services.http.dispatch.lists import DEFAULT_LIMIT, MOST_LIMIT, MOST_PAGE, SORTS
from services.http.dispatch.shapes import STATUSES, TYPE
from services.http.native.examples import ID, MIN_POSITION, Json, parameter

REQUEST: Json = {
    "reason": "Monthly visit",
    "channel": "SALESMAN",
    "commerce_id": "880e8400-e29b-41d4-a716-446655440000",
    "idempotency_key": "task-2025-01-15-001",
    "assigned_route_id": "dd0e8400-e29b-41d4-a716-446655440000",
    "assigned_operator_id": "cc0e8400-e29b-41d4-a716-446655440000",
    "scheduled_at": "2025-01-16T09:00:00.000Z",
    "attribute_keys": ["commerce_info", "promotions"],
}
RESPONSE: Json = {
    "id": "ee0e8400-e29b-41d4-a716-446655440000",
    "type": "TASK",
    "channel": "SALESMAN",
    "status": "READY",
    "taskDetails": {
        "assignedRouteId": "dd0e8400-e29b-41d4-a716-446655440000",
        "assignedOperatorId": "cc0e8400-e29b-41d4-a716-446655440000",
    },
}
ACTIVITY: Json = {
    **RESPONSE,
    "reason": "Monthly visit",
    "commerceId": "880e8400-e29b-41d4-a716-446655440000",
    "scheduledAt": "2025-01-16T09:00:00.000Z",
    "suggestedExecutionTime": None,
    "userStatus": None,
    "score": None,
    "assignmentReason": None,
    "targetCriteria": None,
    "attributeKeys": ["commerce_info", "promotions"],
    "dispatchAttempts": 0,
    "result": None,
    "createdAt": "2025-01-15T08:00:00.000Z",
    "updatedAt": "2025-01-15T08:00:00.000Z",
}
_LINKS = {
    name: link(f"dispatch_{operation}", "/id")
    for name, operation in {
        "activity": "get_activity",
        "attributes": "get_attributes",
        "targetUsers": "get_target_users",
        "statusEvents": "get_status_events",
        "dispatch": "dispatch_activity",
        "cancel": "cancel_activity",
    }.items()
}


def _now(status: str, **rest: Any) -> Json:
    return answer("The activity as it is now", schemas.ACTIVITY, {**ACTIVITY, "status": status, **rest})


CREATE = write(
    "create_task",
    "Create a TASK-type activity with route and operator assignment",
    "`idempotency_key` is the key of the request, unique in the tenant: used again it answers 409 with the id of what"
    " it made, whatever the payload. The header `Idempotency-Key` may repeat it. The answer shows what the request"
    " itself did: when no target fits, `UNRESOLVED`. A `scheduled_at` that has passed is due now.",
    status=201,
    requestBody=body(schemas.NEW_ACTIVITY, REQUEST),
    responses={
        "201": answer("Created", schemas.CREATED, RESPONSE, **_LINKS),
        **failures(400, 404, 409, 413, 415, used=True),
    },
)
LIST = operation(
    "list_activities",
    "List activities, page by page",
    "Every task of the tenant is an activity here, those made through other dialects too; they have no channel.",
    parameters=[
        parameter("status", "In this status", enum=list(STATUSES)),
        parameter("type", "Of this type", enum=[TYPE]),
        parameter("channel", "Over this channel", maxLength=1000),
        parameter("commerce_id", "For this commerce", maxLength=1000),
        parameter("scheduled_from", "Scheduled at this time or later, RFC 3339", format="date-time"),
        parameter("scheduled_to", "Scheduled at this time or earlier, RFC 3339", format="date-time"),
        parameter("search", "Part of the reason, in any case of letters", maxLength=1000),
        parameter("sort_by", "Order", enum=list(SORTS), default="created_at"),
        parameter("sort_order", "Direction", enum=["asc", "desc"], default="desc"),
        parameter("page", "From 1", "integer", minimum=1, maximum=MOST_PAGE, default=1),
        parameter("per_page", "Rows of a page", "integer", minimum=1, maximum=MOST_LIMIT, default=DEFAULT_LIMIT),
        parameter("limit", "Another name of per_page", "integer", minimum=1, maximum=MOST_LIMIT),
        MIN_POSITION,
    ],
    responses={
        "200": answer(
            "A page",
            schemas.page_of(schemas.ACTIVITY),
            {"data": [ACTIVITY], "meta": {"page": 1, "limit": DEFAULT_LIMIT, "total": 1, "totalPages": 1}},
            first=link("dispatch_get_activity", "/data/0/id"),
        ),
        **failures(400),
    },
)
_READ: Json = {"parameters": [ID, MIN_POSITION]}
GET = operation(
    "get_activity",
    "Read one activity",
    **_READ,
    responses={"200": answer("The activity", schemas.ACTIVITY, ACTIVITY), **failures(400, 404)},
)
ATTRIBUTES = operation(
    "get_attributes",
    "Read the attributes that an activity carries",
    "What has a value; a key without one anywhere is absent.",
    **_READ,
    responses={
        "200": answer("The attributes", schemas.ATTRIBUTES, [{"key": "promotions", "value": ["2 for 1"]}]),
        **failures(400, 404),
    },
)
_TARGET = {"id": "t1", "criterion": "ROLE_MATCH", "status": "RESOLVED", "userId": "u-7", "reason": None}
TARGETS = operation(
    "get_target_users",
    "Read the users that an activity is meant for",
    "A target that was not found is `FAILED`, one that must not be contacted `LOCKED`; `reason` says why.",
    **_READ,
    responses={"200": answer("The targets", schemas.TARGETS, [_TARGET]), **failures(400, 404)},
)
_EVENT = {
    "id": "0199a1f0-0000-7000-8000-000000000001",
    "eventType": "DISPATCH_FAILED",
    "fromStatus": "READY",
    "toStatus": "READY",
    "errorCode": "http-503",
    "errorMessage": "the provider answered 503",
    "occurredAt": "2025-01-16T09:00:01.000Z",
}
STATUS_EVENTS = operation(
    "get_status_events",
    "Read what happened to an activity, oldest first",
    "Straight from the log, so never late: every change of status, and every attempt at resolution and dispatch.",
    **_READ,
    responses={"200": answer("The events", schemas.STATUS_EVENTS, [_EVENT]), **failures(400, 404)},
)
CANCEL = write(
    "cancel_activity",
    "Cancel an activity that has not ended",
    parameters=[ID],
    requestBody=body(schemas.CANCEL, {"reason": "The shop is closed"}, required=False),
    responses={"200": _now("CANCELED"), **failures(400, 404, 409, 413, 415)},
)
RETRY_RESOLUTION = write(
    "retry_resolution",
    "Look for the targets of an UNRESOLVED activity again",
    parameters=[ID],
    responses={"200": _now("READY"), **failures(400, 404, 409)},
)
RESOLVE = write(
    "resolve_target",
    "Say which user one target is",
    "Of an activity that is UNRESOLVED; a target or a user that is locked is refused.",
    parameters=[ID, parameter("target_id", "The target's id, as its activity shows it", place="path")],
    requestBody=body(schemas.RESOLVE, {"user_id": "u-7"}),
    responses={"200": _now("READY"), **failures(400, 404, 409, 413, 415)},
)
DISPATCH = write(
    "dispatch_activity",
    "Send a READY activity out over its channel now",
    "An attempt is made at once, and two more when it fails; what came of them is among the status events.",
    status=204,
    parameters=[ID],
    responses={"204": {"description": "An attempt is under way"}, **failures(400, 404, 409)},
)
RESULT = write(
    "submit_result",
    "Say how an activity ended",
    "`COMPLETED` and `TRANSFERRED` complete it, `NOT_EXECUTED` fails it, `CANCELED` cancels it, `PENDING` changes"
    " nothing. A result is final once; only `hard_override` replaces it.",
    status=201,
    requestBody=body(schemas.NEW_RESULT, {"activity_id": RESPONSE["id"], "result": "COMPLETED", "data": {"sold": 3}}),
    responses={
        "201": answer(
            "The result, and the status that the activity has now",
            schemas.RESULT,
            {
                "activityId": RESPONSE["id"],
                "result": "COMPLETED",
                "hardOverride": False,
                "data": {"sold": 3},
                "comment": None,
                "status": "COMPLETED",
            },
        ),
        **failures(400, 404, 409, 413, 415),
    },
)
