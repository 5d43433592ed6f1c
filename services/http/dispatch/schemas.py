"""The dispatch dialect's JSON Schemas: bodies in snake_case, answers in camelCase with every key always there."""

from __future__ import annotations

from typing import get_args

from domain.configuration import CRITERIA, MOST_SECONDS, MOST_TIMEOUT, PROVIDERS, SOURCES, STRATEGIES
from domain.task.commands import Result
from domain.task.sending import MOST_KEYS
from services.http.components import Json, shape
from services.http.dispatch.shapes import MOST_KEY, REQUIRED, STATUSES, TYPE
from services.http.dispatch.status_events import TYPES

RESULTS: tuple[str, ...] = get_args(Result)
TEXT: Json = {"type": "string"}
NAMED: Json = {"type": "string", "minLength": 1}
TEXT_OR_NULL: Json = {"type": ["string", "null"]}
ID: Json = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
TIME: Json = {"type": "string", "format": "date-time"}
TIME_OR_NULL: Json = {"type": ["string", "null"], "format": "date-time"}
STATUS: Json = {"type": "string", "enum": list(STATUSES)}
WHOLE: Json = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
COUNT: Json = {"type": "integer", "minimum": 0}
ANYTHING: Json = {}
_MOST_CRITERIA = 50


def listed(items: Json, most: int | None = None) -> Json:
    """Return the schema of a list."""
    return {"type": "array", "items": items, **({"maxItems": most} if most is not None else {})}


def body_of(required: tuple[str, ...], **fields: Json) -> Json:
    """Return the schema of a request's body; whatever is not required may also be null."""
    properties = {name: field if name in required else _or_null(field) for name, field in fields.items()}
    found: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**found, "required": list(required)} if required else found


def _or_null(field: Json) -> Json:
    if "type" not in field or isinstance(field["type"], list):
        return field
    nullable = {**field, "type": [field["type"], "null"]}
    return {**nullable, "enum": [*field["enum"], None]} if "enum" in field else nullable


def page_of(item: Json) -> Json:
    """Return the schema of a page."""
    return shape(data=listed(item), meta=shape(page=COUNT, limit=COUNT, total=COUNT, totalPages=COUNT))


CRITERION: Json = {
    "type": "object",
    "required": ["type"],
    "additionalProperties": False,
    "properties": {
        "type": {"type": "string", "enum": list(CRITERIA)},
        "priority": {**WHOLE, "default": 0, "description": "The lowest is tried first"},
        "role": {**TEXT_OR_NULL, "description": "Required by ROLE_MATCH"},
    },
}
SHOWN_CRITERION: Json = shape(type=CRITERION["properties"]["type"], priority={"type": "integer"}, role=TEXT_OR_NULL)
_ATTRIBUTE: Json = {
    "type": "object",
    "required": ["key"],
    "additionalProperties": False,
    "properties": {"key": TEXT, "value": ANYTHING, "fallback": ANYTHING},
}

NEW_ACTIVITY: Json = body_of(
    REQUIRED,
    reason={**NAMED, "description": "Reason for creating the task; its title in the other dialects"},
    channel={**NAMED, "description": "SALESMAN, CALLCENTER, WHATSAPP, EMAIL, SMS, PUSH, or one of the tenant's own"},
    commerce_id={**ID, "description": "Target commerce"},
    idempotency_key={
        "type": "string",
        "minLength": 1,
        "maxLength": MOST_KEY,
        "pattern": "^[^\\u0000-\\u001f\\u007f]+$",
        "description": "Unique per tenant",
    },
    assigned_route_id={**ID, "description": "Assigned route"},
    assigned_operator_id={**ID, "description": "Assigned operator"},
    scheduled_at={**TIME, "description": "Scheduled execution time, with an offset"},
    suggested_execution_time={**TIME, "description": "Suggested time for execution"},
    user_status={**TEXT, "description": "User status context"},
    score={**WHOLE, "description": "Priority score"},
    assignment_reason={**TEXT, "description": "Reason for the assignment"},
    target_criteria={**listed(CRITERION, MOST_KEYS), "description": "Instead of the tenant's own; none: no targets"},
    attribute_keys={**listed(ID, MOST_KEYS), "description": "Attributes to resolve via policies"},
    attributes={**listed(_ATTRIBUTE, MOST_KEYS), "description": "Values that the caller provides"},
)
_DETAILS = shape(assignedRouteId=TEXT_OR_NULL, assignedOperatorId=TEXT_OR_NULL)
_TYPE: Json = {"type": "string", "const": TYPE}
CREATED: Json = shape(id=TEXT, type=_TYPE, channel=TEXT, status=STATUS, taskDetails=_DETAILS)
ACTIVITY: Json = shape(
    id=TEXT,
    type=_TYPE,
    channel=TEXT_OR_NULL,
    status=STATUS,
    taskDetails=_DETAILS,
    reason=TEXT_OR_NULL,
    commerceId=TEXT_OR_NULL,
    scheduledAt=TIME_OR_NULL,
    suggestedExecutionTime=TIME_OR_NULL,
    userStatus=TEXT_OR_NULL,
    score={"type": ["integer", "null"]},
    assignmentReason=TEXT_OR_NULL,
    targetCriteria={"type": ["array", "null"], "items": SHOWN_CRITERION},
    attributeKeys=listed(TEXT),
    dispatchAttempts=COUNT,
    result={"type": ["string", "null"], "enum": [*RESULTS, None]},
    createdAt=TIME,
    updatedAt=TIME,
)
ATTRIBUTES: Json = listed(shape(key=TEXT, value=ANYTHING))
TARGETS: Json = listed(
    shape(
        id=TEXT,
        criterion={"type": "string", "enum": list(CRITERIA)},
        status={"type": "string", "enum": ["PENDING", "RESOLVED", "FAILED", "LOCKED"]},
        userId=TEXT_OR_NULL,
        reason=TEXT_OR_NULL,
    )
)
STATUS_EVENTS: Json = listed(
    shape(
        id=TEXT,
        eventType={"type": "string", "enum": list(TYPES)},
        fromStatus={"type": ["string", "null"], "enum": [*STATUSES, None]},
        toStatus=STATUS,
        errorCode=TEXT_OR_NULL,
        errorMessage=TEXT_OR_NULL,
        occurredAt=TIME,
    )
)
NEW_RESULT: Json = body_of(
    ("activity_id", "result"),
    activity_id={**NAMED, "description": "The activity that the result is of"},
    result={"type": "string", "enum": list(RESULTS)},
    hard_override={"type": "boolean", "default": False, "description": "Replace a result that is final"},
    data={"type": "object", "description": "What came of it; becomes part of the task's output"},
    comment=TEXT,
)
RESULT: Json = shape(
    activityId=TEXT,
    result=NEW_RESULT["properties"]["result"],
    hardOverride={"type": "boolean"},
    data={"type": "object"},
    comment=TEXT_OR_NULL,
    status=STATUS,
)
CANCEL: Json = body_of((), reason=TEXT)
RESOLVE: Json = body_of(("user_id",), user_id={**ID, "description": "The user of the commerce that the target is"})
ACCEPTED: Json = shape(statusCode={"type": "integer", "const": 202}, message=TEXT, commandId=TEXT, receipt=TEXT)

_SOURCE: Json = {
    "type": "string",
    "maxLength": 200,
    "pattern": f"^({'|'.join(SOURCES)})(\\..*)?$",
    "description": "Where the value comes from, such as commerce.name; CALLER_PROVIDED does without",
}
_SECONDS: Json = {"type": "number", "exclusiveMinimum": 0}
ATTRIBUTE_POLICY: dict[str, Json] = {
    "strategy": {"type": "string", "enum": list(STRATEGIES)},
    "source": _SOURCE,
    "fallback": {"description": "The value when there is no other"},
}
TARGET_RESOLUTION: dict[str, Json] = {
    "criteria": {**listed(CRITERION, _MOST_CRITERIA), "minItems": 1},
    "fallbacks": {**listed(CRITERION, _MOST_CRITERIA), "description": "Tried when no criterion fits anybody"},
}
DISPATCH_CONFIGURATION: dict[str, Json] = {
    "provider": {"type": "string", "enum": list(PROVIDERS)},
    "url": {"type": "string", "maxLength": 500, "description": "Required by http; no user, query or fragment"},
    "secret": {**ID, "description": "The name of a secret of the service, never a secret itself"},
    "timeout_seconds": {**_SECONDS, "maximum": MOST_TIMEOUT, "default": 5},
    "backoff_seconds": {**_SECONDS, "maximum": MOST_SECONDS, "default": 30},
}
_STAMPS = {"createdAt": TIME, "updatedAt": TIME}
_NUMBER_OR_NULL: Json = {"type": ["number", "null"]}
SHOWN_ATTRIBUTE_POLICY: Json = shape(
    key=TEXT, strategy=ATTRIBUTE_POLICY["strategy"], source=TEXT_OR_NULL, fallback=ANYTHING, **_STAMPS
)
SHOWN_TARGET_RESOLUTION: Json = shape(
    channel=TEXT, criteria=listed(SHOWN_CRITERION), fallbacks=listed(SHOWN_CRITERION), **_STAMPS
)
SHOWN_DISPATCH_CONFIGURATION: Json = shape(
    channel=TEXT,
    provider=DISPATCH_CONFIGURATION["provider"],
    url=TEXT_OR_NULL,
    secret=TEXT_OR_NULL,
    timeoutSeconds=_NUMBER_OR_NULL,
    backoffSeconds=_NUMBER_OR_NULL,
    **_STAMPS,
)
