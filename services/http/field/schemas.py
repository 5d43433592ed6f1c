"""The JSON schemas of the field dialect's requests and answers, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from domain.limits import MAX_ASSIGNEES, MAX_KEY, MAX_MAPPINGS, MAX_STEPS, Flow, Id, Instant, Person, Title, hints_of
from domain.steps import FieldMapping, Step
from domain.workflow import DefineWorkflow
from services.bounds import schema_of
from services.http.field.requests import DERIVED_OF_MASTER, DERIVED_OF_TASK, MOST_REF, MOST_TASKS
from services.http.field.shapes import CHILD, LEFT_OUT, MASTER, PLAIN, STATUSES

Json = dict[str, Any]

TEXT: Json = {"type": "string"}
WHOLE: Json = {"type": "integer", "minimum": 0}
FLAG: Json = {"type": "boolean"}
TEXT_OR_NULL: Json = {"type": ["string", "null"]}
TEXTS: Json = {"type": "array", "items": TEXT}
ID: Json = schema_of(Id)
TIME: Json = {"type": "string", "format": "date-time"}
_TRUE: Json = {"type": "boolean", "const": True}
REFERENCES = "E-mails, member ids, `account:<number>` or `operator:<id>`"
PEOPLE = f"{REFERENCES}; an e-mail not known yet becomes a member"


def or_null(schema: Json) -> Json:
    """Return the schema of what may also be null."""
    return {**schema, "type": [schema["type"], "null"]}


ID_OR_NULL = or_null(ID)
# What a caller gives; what is shown was given so, or is the service's own.
_TITLE, _FLOW_NAME, _TIME, _PERSON = (schema_of(hint) for hint in (Title, Flow, Instant, Person))


def made(required: Iterable[str] = (), /, **properties: Json) -> Json:
    """Return the schema of an object that has these keys at most."""
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


def whole(**properties: Json) -> Json:
    """Return the schema of an object that has all of these keys and no others."""
    return made(properties, **properties)


def _with_fields(schema: Json, derived: Iterable[str], what: str) -> Json:
    return {
        **schema,
        "additionalProperties": True,
        "propertyNames": {"maxLength": MAX_KEY, "not": {"enum": sorted(derived)}},
        "description": what,
    }


_PEOPLE: Json = {"type": "array", "items": _PERSON, "maxItems": MAX_ASSIGNEES, "description": PEOPLE}
_NEW: Json = {
    "assignee": or_null(_PEOPLE),
    "startTime": or_null(_TIME),
    "endTime": or_null(_TIME),
    "hubId": ID_OR_NULL,
    "title": or_null(_TITLE),
    "createdFrom": {},
}
_FLOW: Json = {
    "flow": {**_FLOW_NAME, "minLength": 1, "description": "The name of the flow, and the title by default"},
    "flowId": or_null(_FLOW_NAME),
}
NEW_CHILD = _with_fields(
    made(**_NEW), DERIVED_OF_TASK | {"flow", "flowId"}, "Any other key is a field of the step's flow"
)
NEW_ACTIVITY = _with_fields(
    made(
        ("workflowId", "tasks"),
        workflowId=TEXT,
        hubId={**ID_OR_NULL, "description": "Inherited by tasks without one"},
        title={**or_null(_TITLE), "description": "The workflow's name by default"},
        tasks={"type": "array", "items": NEW_CHILD, "description": "One a step, in their order"},
    ),
    DERIVED_OF_MASTER,
    "Any other key is a field of the activity's own",
)
NEW_TASK = _with_fields(made(("flow",), **_FLOW, **_NEW), DERIVED_OF_TASK, "Any other key is a field of the flow")
CHANGED_TASK: Json = {
    "type": "object",
    "description": "What is left out stays as it is. Any other key is a field, of a task's flow or of an activity's"
    " own. Null takes away what it stands for. An activity has no assignee, startTime, endTime and status of its own"
    " to change.",
    "properties": {
        "title": {**or_null(_TITLE), "description": "An activity always has one"},
        "hubId": ID_OR_NULL,
        "startTime": or_null(_TIME),
        "endTime": or_null(_TIME),
        "assignee": {
            **or_null(_PEOPLE),
            "description": f"{PEOPLE}. Null or an empty list takes the task from its people",
        },
        "status": {"type": "string", "enum": ["DONE"], "description": "Completes the task"},
    },
    "additionalProperties": True,
    "propertyNames": {
        "maxLength": MAX_KEY,
        "not": {"enum": sorted((DERIVED_OF_TASK | {"flow", "flowId"}) - {"status"})},
    },
}
BULK: Json = made(
    ("tasks",),
    background={**FLAG, "default": False, "description": "Answer at once, with a receipt that tells of the rest"},
    tasks={
        "type": "array",
        "minItems": 1,
        "maxItems": MOST_TASKS,
        # What is wrong with one task fails that task alone, so nothing is demanded of them here.
        "items": {
            "description": f"As for POST /api/v3/task, with a `refId` of 1 to {MOST_REF} characters that is the"
            " request's own name for it and stays a field of the task",
        },
    },
)

# Answers.


def _with_more(**properties: Json) -> Json:
    return {**whole(**properties), "additionalProperties": True, "description": "Any other key is a field"}


_STATUS: Json = {"type": "string", "enum": list(STATUSES)}
_OF_BOTH: Json = {
    "status": _STATUS,
    "assignee": {**TEXTS, "description": "E-mails; the ids of members without one"},
    "startTime": TEXT_OR_NULL,
    "endTime": TEXT_OR_NULL,
    "hubId": TEXT_OR_NULL,
    "organizationId": TEXT,
    "createdBy": TEXT,
    "createdTime": TIME,
}
CREATED_MASTER = _with_more(
    _id=ID,
    taskType={"type": "string", "const": MASTER},
    title=TEXT,
    workflowId=TEXT,
    subId={**TEXTS, "description": "The children, in the order of the steps"},
    **_OF_BOTH,
)
_LEFT_OUT: Json = {
    "type": "array",
    "items": whole(step=WHOLE, assignee=TEXT, reason=TEXT),
    "description": "Default people of a step who could not have its task any more; there only when there are some",
}
_COUNTS = ("total", "open", "active", "paused", "completed", "failed", "canceled", "percent")
MASTER_TASK = _with_more(
    **CREATED_MASTER["properties"],
    subStatus={**TEXT_OR_NULL, "description": "The label of the last step that is done"},
    currentStep={"type": ["integer", "null"], "description": "From 0"},
    progress=whole(**dict.fromkeys(_COUNTS, WHOLE)),
    overdue=FLAG,
    updatedTime=TIME,
)
TASK = _with_more(
    _id=ID,
    taskType={"type": "string", "enum": [CHILD, PLAIN]},
    title=TEXT_OR_NULL,
    flow=TEXT_OR_NULL,
    flowId=TEXT_OR_NULL,
    parentId={**TEXT_OR_NULL, "description": "The master of a child"},
    **_OF_BOTH,
    overdue={**FLAG, "description": "It is open, and its end has passed"},
    late={**FLAG, "description": "It was completed after its end"},
    updatedTime=TIME,
)
for _master in (CREATED_MASTER, MASTER_TASK):
    _master["properties"][LEFT_OUT] = _LEFT_OUT
ANY_TASK: Json = {"anyOf": [MASTER_TASK, TASK]}
LISTED_TASK: Json = {
    "type": "object",
    "required": ["_id"],
    "properties": {**MASTER_TASK["properties"], **TASK["properties"], "taskType": TEXT},
    "additionalProperties": True,
    "description": "A master or a task; with `fields` just what was asked for",
}
BULK_ANSWER: Json = whole(
    success=WHOLE,
    failed=WHOLE,
    tasks={
        "type": "array",
        "items": made(
            ("status", "message", "_id", "refId"),
            status=FLAG,
            message=TEXT,
            _id={**TEXT_OR_NULL, "description": "null of a task that failed"},
            refId=TEXT_OR_NULL,
            failedCode={**TEXT, "description": "Of a task that failed"},
            receipt={**TEXT, "description": "Of a task whose outcome is not known yet"},
        ),
    },
)
BULK_ANSWER["properties"]["receipt"] = {**TEXT, "description": "Of a bulk that is carried out in the background"}


def answer_with(name: str, schema: Json, coded: bool = False) -> Json:
    """Return the schema of an answer that holds something under a name."""
    code: Json = {"code": WHOLE} if coded else {}
    return whole(status=_TRUE, **code, message=TEXT, **{name: schema})


def page_of(schema: Json) -> Json:
    """Return the schema of a page."""
    number: Json = {"type": ["integer", "null"]}
    return whole(
        current_page=WHOLE,
        data={"type": "array", "items": schema},
        **{"from": number},
        last_page=WHOLE,
        next_page_url=TEXT_OR_NULL,
        path=TEXT,
        per_page=WHOLE,
        prev_page_url=TEXT_OR_NULL,
        to=number,
        total=WHOLE,
    )


RECEIPT = answer_with("data", whole(commandId=TEXT, receipt=TEXT), coded=True)

# Workflows.

_OF_STEP, _OF_MAPPING = hints_of(Step), hints_of(FieldMapping)
_NAME: Json = schema_of(hints_of(DefineWorkflow)["name"])
_MAPPING = whole(
    step={**schema_of(_OF_MAPPING["step"]), "description": "An earlier step, counted from 0"},
    fromField=schema_of(_OF_MAPPING["from_field"]),
    toField=schema_of(_OF_MAPPING["to_field"]),
)
_STEP: Json = {
    "name": schema_of(_OF_STEP["name"]),
    "flow": or_null(_FLOW_NAME),
    "flowId": {**or_null(_FLOW_NAME), "description": "In one step of the workflow only"},
    "assignee": {**_PEOPLE, "description": f"Who has the step's task by default. {PEOPLE}"},
    "statusMapping": {
        **schema_of(_OF_STEP["status_mapping"]),
        "description": "Under `DONE` the sub-status of the master once the step is done",
    },
    "fieldMapping": {
        "type": "array",
        "items": _MAPPING,
        "maxItems": MAX_MAPPINGS,
        "description": "Fields of earlier steps that fill fields of this one, if they are blank by then",
    },
    "roles": {
        **schema_of(_OF_STEP["roles"]),
        "description": "Who has none of these roles may not have the step's task",
    },
    "whitelist": {
        **schema_of(_OF_STEP["whitelist"]),
        "description": f"{REFERENCES}; nobody else may have the step's task",
    },
    "blacklist": {
        **schema_of(_OF_STEP["blacklist"]),
        "description": f"{REFERENCES}; they may not have the step's task",
    },
}
_STEPS: Json = {"type": "array", "minItems": 1, "maxItems": MAX_STEPS, "items": made(("name",), **_STEP)}
_RULES: Json = {
    "gating": {"type": "string", "enum": ["none", "sequential"]},
    "failure": {"type": "string", "enum": ["wait_all", "fail_fast"]},
}
NEW_WORKFLOW = made(("name", "steps"), name=_NAME, steps=_STEPS, **_RULES, projectId=ID_OR_NULL)
CHANGED_WORKFLOW: Json = {
    **made(name=_NAME, steps={**_STEPS, "description": "As many as before; they replace those"}, **_RULES),
    "description": "What is left out stays as it is",
}
WORKFLOW = whole(
    _id=ID,
    name=TEXT,
    steps={"type": "array", "items": whole(**_STEP)},
    **_RULES,
    projectId=TEXT_OR_NULL,
    version={"type": "integer", "minimum": 1, "description": "Counts the definitions"},
    organizationId=TEXT,
    createdBy=TEXT,
    createdTime=TIME,
    updatedTime=TIME,
)
