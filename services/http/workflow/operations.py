"""The workflow dialect's operations: activities that a person works on, each write by one command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from domain.recorded import Recorded
from projections.support.query import MAX_ROWS
from projections.task.pages import MAX_PAGES
from services.http.core.call import Call
from services.http.core.entities import ACTIVITY, TASK
from services.http.core.openapi import PERSON, PERSONS, deep_object, parameter
from services.http.core.operation import Dialect, Link, Operation
from services.http.core.parameters import MinPosition, nothing_else
from services.http.core.submit import submit
from services.http.workflow import answers, requests
from services.http.workflow.errors import JSON_API, failed, failure
from services.http.workflow.lists import FILTERS, OBJECTS, OF_PEOPLE, RELATED, SORTS, get_activity, list_activities
from services.http.workflow.views import ATTRIBUTES, People, people_of

Json = dict[str, Any]
_BASE = "/api/v3/workflow"
_ACTIVITIES, _TRACKER, _UNITS = f"{_BASE}/activities", f"{_BASE}/tracker", f"{_BASE}/work_units"
# Where the dialect speaks, beside the field dialect's own `/api/v3/workflow/{id}`.
PATHS = (_ACTIVITIES, f"{_TRACKER}/", f"{_UNITS}/")


async def _people(call: Call, resources: Sequence[Mapping[str, Any]], events: Sequence[Recorded]) -> People:
    # A work unit shows nobody.
    people = [member for task in resources if "children" not in task for member in people_of(task)]
    return await call.service.members.by_id(call.caller.tenant, people, events)


WORKFLOW = Dialect(
    "workflow", failed, failure, answers.Errors, answers.Accepted, _people, media=JSON_API, failure_media=JSON_API,
    paths=PATHS,
)  # fmt: skip


async def _assign(call: Call) -> Response:
    nothing_else(call.parameters())
    body = await call.json()
    claims = isinstance(body, dict) and body.get("self_assigning") is True
    request = (requests.Claim if claims else requests.Assign).read(body, call.parts)
    result = await submit(call, "task.claim" if claims else "task.assign", request, TASK, entity_id=call.id)
    return await WORKFLOW.answer(call, result, answers.Changed, TASK.noun)


# Parameters.

_SEVERAL = "several with commas between"
# A text that the database can be asked for.
_TEXT: Json = {"pattern": r"^[^\x00]*$", "maxLength": 1000}
_ONE_OF: Json = {"type": "string", **_TEXT, "description": f"Has one of these, {_SEVERAL}"}
_TIME: Json = {"type": "string", "format": "date-time"}
_VALUES: dict[str, Json] = {
    **dict.fromkeys(("id", "name", "project_id", "work_unit_id", "actor_roles"), _TEXT),
    **{name: {"pattern": f"{PERSON['pattern']}|^$"} for name in OF_PEOPLE},
    **{name: {"contentMediaType": "application/json"} for name in OBJECTS},
    **{name: {"pattern": r"^(-?[0-9]{1,15}(\.[0-9]{1,9})?)?$"} for name in FILTERS if name.endswith("_seconds")},
    **{name: {"anyOf": [{"maxLength": 0}, {"format": "date-time"}]} for name in FILTERS if name.endswith("_at")},
}


def _filter(name: str) -> Json:
    kind = ", as JSON" if name in OBJECTS else f" (an account number, or {PERSONS})" if name in OF_PEOPLE else ""
    return {"type": "string", **_VALUES.get(name, {}), "description": f"`{name}` is this{kind}; empty: there is none"}


def _listed(name: str, description: str, words: Sequence[str]) -> Json:
    made = parameter(name, description, "array", items={"type": "string", "enum": list(words)})
    return {**made, "style": "form", "explode": False}


def _attributes_of(kind: str) -> Json:
    word = f"({'|'.join(ATTRIBUTES[kind])})"
    said = f"Just these of {kind}, {_SEVERAL}; an empty text asks for none at all"
    return {"type": "string", "pattern": f"^({word}(,{word})*)?$", "description": said}


def _whole(most: int, default: int, description: str) -> Json:
    return {"type": "integer", "minimum": 1, "maximum": most, "default": default, "description": description}


_FILTER = deep_object(
    "filter",
    "Every filter may have an operator behind its name, `filter[name__op]`: neq, lt, lte, gt, gte, in, match, prefix, "
    "suffix, contains and exists, as far as the attribute's type has a meaning for it; the others are a 422. Several "
    "values are given with commas between, or as `filter[status__in][]=a&filter[status__in][]=b`; none of them means "
    "that nothing is found. Objects are given as JSON, and times with their offset.",
    {
        **{name: _filter(name) for name in FILTERS},
        **dict.fromkeys(("name__in", "actor_roles__contains", "id__in", "status__in"), _ONE_OF),
        "assigned_account_id__in": {**_ONE_OF, **PERSON},
        "completed_at__gte": {**_TIME, "description": "Completed then or later"},
        "completed_at__lte": {**_TIME, "description": "Completed then or earlier"},
    },
    # There are more operators than a client could have a field for.
    others=True,
)
_SHOWN = (
    _listed("included", "What to bring along", sorted(RELATED)),
    deep_object("fields", "Attributes of each type of resource", {kind: _attributes_of(kind) for kind in ATTRIBUTES}),
)
_OF_LIST = (
    deep_object(
        "page",
        "Which page",
        {"number": _whole(MAX_PAGES, 1, "From 1"), "size": _whole(MAX_ROWS, MAX_ROWS, "Activities of a page")},
    ),
    _listed("sort", "Order; - means descending", [way + name for name in SORTS for way in ("", "-")]),
    parameter("count", "Whether `meta.count` says how many there are", "boolean"),
    _FILTER,
    *_SHOWN,
)

_ONE = f"{_ACTIVITIES}/{{id}}"
OPERATIONS = (
    Operation(
        WORKFLOW, "GET", _ACTIVITIES, "read", "workflow_list_activities", "List activities",
        parameters=_OF_LIST, query=MinPosition, handler=list_activities, view=answers.Page, refusals=(400, 422),
        links={"first": Link("workflow_get_activity", "/data/0/id")},
    ),
    Operation(
        WORKFLOW, "GET", _ONE, "read", "workflow_get_activity", "Read one activity",
        parameters=_SHOWN, query=MinPosition, handler=get_activity, view=answers.Found, refusals=(400, 404, 422),
        links={
            name: Link(f"workflow_{name}_activity", "/data/id")
            for name in ("save", "assign", "reassign", "unassign", "process", "complete", "error", "cancel")
        },
    ),
    Operation(
        WORKFLOW, "PATCH", _ONE, "write", "workflow_save_activity", "Save a draft, without completing",
        request=requests.Save, command="task.save", entity=TASK, view=answers.Changed,
    ),
    Operation(
        WORKFLOW, "PATCH", f"{_ONE}/assign", "write", "workflow_assign_activity",
        "Assign to one member of the project, or to oneself",
        description="Somebody else's activity is a 409 `already-assigned`; of several who claim one, exactly one gets"
        " it.",
        request=requests.Assign, handler=_assign, view=answers.Changed,
    ),
    Operation(
        WORKFLOW, "PATCH", f"{_ONE}/reassign", "write", "workflow_reassign_activity", "Assign to another member",
        request=requests.Reassign, command="task.reassign", entity=TASK, view=answers.Changed,
    ),
    Operation(
        WORKFLOW, "PATCH", f"{_ONE}/unassign", "write", "workflow_unassign_activity", "Take it from whoever has it",
        request=requests.Nothing, body_optional=True, command="task.unassign", entity=TASK, view=answers.Changed,
    ),
    Operation(
        WORKFLOW, "PATCH", f"{_ONE}/process", "write", "workflow_process_activity", "Start or resume",
        description="`already-processing` is a 422, a caller who has not the activity a 403.",
        request=requests.Nothing, body_optional=True, command="task.process", entity=TASK, view=answers.Changed,
    ),
    Operation(
        WORKFLOW, "PATCH", f"{_ONE}/complete", "write", "workflow_complete_activity", "Complete",
        description="The data, together with the draft, becomes `output`.",
        request=requests.Complete, command="task.complete", entity=TASK, view=answers.Changed,
    ),
    Operation(
        WORKFLOW, "POST", f"{_ONE}/error", "write", "workflow_error_activity", "Mark as errored",
        request=requests.MarkErrored, body_optional=True, command="task.error", entity=TASK, view=answers.Changed,
    ),
    Operation(
        WORKFLOW, "POST", f"{_ONE}/cancel", "write", "workflow_cancel_activity", "Cancel",
        request=requests.Nothing, body_optional=True, command="task.cancel", entity=TASK, view=answers.Changed,
    ),
    Operation(
        WORKFLOW, "POST", f"{_TRACKER}/pause", "write", "workflow_pause_tracker", "Pause what one is working on",
        request=requests.Track, body_optional=True, command="tracker.pause", entity=TASK, id_from=("task.paused",),
        view=answers.Changed,
    ),
    Operation(
        WORKFLOW, "POST", f"{_TRACKER}/resume", "write", "workflow_resume_tracker", "Go on with what was paused last",
        request=requests.Track, body_optional=True, command="tracker.resume", entity=TASK,
        id_from=("task.resumed", "task.started"), view=answers.Changed,
    ),
    Operation(
        WORKFLOW, "POST", f"{_UNITS}/{{id}}/cancel", "write", "workflow_cancel_work_unit",
        "Cancel a work unit with all its open activities",
        request=requests.Nothing, body_optional=True, command="activity.cancel", entity=ACTIVITY,
        view=answers.UnitChanged,
    ),
)  # fmt: skip
