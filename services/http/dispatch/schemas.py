"""The dispatch dialect's JSON Schemas: bodies in snake_case, answers in camelCase with every key always there."""

from __future__ import annotations

from typing import get_args

from domain.directory.fields import ENTRY_FIELDS, MAX_CRITERIA
from domain.directory.settings import CRITERIA, MOST_SECONDS, MOST_TIMEOUT, SOURCES
from domain.limits import MAX_KEYS, Comment, Fields, Id, Instant, Whole, hints_of
from domain.plan import Attribute, Criterion, DispatchPlan
from domain.task.results import Result
from services.bounds import schema_of
from services.http.dispatch.shapes import MOST_KEY, REQUIRED, STATUSES, TYPE
from services.http.dispatch.status_events import TYPES
from services.http.native.components import Json, shape

RESULTS: tuple[str, ...] = get_args(Result)
TEXT: Json = {"type": "string"}
TEXT_OR_NULL: Json = {"type": ["string", "null"]}
ID: Json = schema_of(Id)
# A time as the service shows its own, and as a caller may write one.
TIME: Json = {"type": "string", "format": "date-time"}
GIVEN_TIME: Json = schema_of(Instant)
TIME_OR_NULL: Json = {"type": ["string", "null"], "format": "date-time"}
STATUS: Json = {"type": "string", "enum": list(STATUSES)}
WHOLE: Json = schema_of(Whole)
COUNT: Json = {"type": "integer", "minimum": 0}
ANYTHING: Json = {}
_PLAN, _CRITERION, _OF_ATTRIBUTE = hints_of(DispatchPlan), hints_of(Criterion), hints_of(Attribute)
# The dialect demands what the command leaves open.
_REASON: Json = {**schema_of(_PLAN["reason"]), "minLength": 1}


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
        "role": {
            **schema_of(_CRITERION["role"]),
            "type": ["string", "null"],
            "description": "Required by ROLE_MATCH",
        },
    },
}
SHOWN_CRITERION: Json = shape(type=CRITERION["properties"]["type"], priority={"type": "integer"}, role=TEXT_OR_NULL)
_ATTRIBUTE: Json = {
    "type": "object",
    "required": ["key"],
    "additionalProperties": False,
    "properties": {name: schema_of(_OF_ATTRIBUTE[name]) for name in ("key", "value", "fallback")},
}

NEW_ACTIVITY: Json = body_of(
    REQUIRED,
    reason={**_REASON, "description": "Reason for creating the task; its title in the other dialects"},
    channel={
        **schema_of(_PLAN["channel"]),
        "description": "SALESMAN, CALLCENTER, WHATSAPP, EMAIL, SMS, PUSH, or one of the tenant's own",
    },
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
    scheduled_at={**GIVEN_TIME, "description": "Scheduled execution time, with an offset"},
    suggested_execution_time={**GIVEN_TIME, "description": "Suggested time for execution"},
    user_status={**schema_of(_PLAN["user_status"]), "description": "User status context"},
    score={**WHOLE, "description": "Priority score"},
    assignment_reason={**schema_of(_PLAN["assignment_reason"]), "description": "Reason for the assignment"},
    target_criteria={**listed(CRITERION, MAX_KEYS), "description": "Instead of the tenant's own; none: no targets"},
    attribute_keys={**listed(ID, MAX_KEYS), "description": "Attributes to resolve via policies"},
    attributes={**listed(_ATTRIBUTE, MAX_KEYS), "description": "Values that the caller provides"},
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
    activity_id={**TEXT, "minLength": 1, "description": "The activity that the result is of"},
    result={"type": "string", "enum": list(RESULTS)},
    hard_override={"type": "boolean", "default": False, "description": "Replace a result that is final"},
    data={**schema_of(Fields), "description": "What came of it; becomes part of the task's output"},
    comment=schema_of(Comment),
)
RESULT: Json = shape(
    activityId=TEXT,
    result=NEW_RESULT["properties"]["result"],
    hardOverride={"type": "boolean"},
    data={"type": "object"},
    comment=TEXT_OR_NULL,
    status=STATUS,
)
CANCEL: Json = body_of((), reason=schema_of(Comment))
RESOLVE: Json = body_of(("user_id",), user_id={**ID, "description": "The user of the commerce that the target is"})
ACCEPTED: Json = shape(statusCode={"type": "integer", "const": 202}, message=TEXT, commandId=TEXT, receipt=TEXT)

_SOURCE: Json = {
    **schema_of(ENTRY_FIELDS["attribute"]["source"]),
    "pattern": f"^({'|'.join(SOURCES)})(\\..*)?$",
    "description": "Where the value comes from, such as commerce.name; CALLER_PROVIDED does without",
}
_SECONDS: Json = {"type": "number", "exclusiveMinimum": 0}
ATTRIBUTE_POLICY: dict[str, Json] = {
    "strategy": schema_of(ENTRY_FIELDS["attribute"]["strategy"]),
    "source": _SOURCE,
    "fallback": {"description": "The value when there is no other"},
}
TARGET_RESOLUTION: dict[str, Json] = {
    "criteria": {**listed(CRITERION, MAX_CRITERIA), "minItems": 1},
    "fallbacks": {**listed(CRITERION, MAX_CRITERIA), "description": "Tried when no criterion fits anybody"},
}
DISPATCH_CONFIGURATION: dict[str, Json] = {
    "provider": schema_of(ENTRY_FIELDS["dispatch"]["provider"]),
    "url": {
        **schema_of(ENTRY_FIELDS["dispatch"]["url"]),
        "description": "Required by http; no user, query or fragment",
    },
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
