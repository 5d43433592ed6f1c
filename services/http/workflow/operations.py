"""The workflow dialect's operations: activities that a person works on, each write by one command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from starlette.responses import Response

from projections.support.query import MAX_ROWS
from projections.task import pages as task_pages
from projections.task import table as tasks
from projections.task.pages import MAX_PAGES, Order
from services.http.core.call import Call, as_json
from services.http.core.entities import ACTIVITY, TASK
from services.http.core.openapi import PERSON, PERSONS, deep_object, parameter
from services.http.core.operation import Link, Operation
from services.http.core.parameters import MinPosition, flag, nothing_else, number, settled
from services.http.core.submit import submit
from services.http.workflow import filters, iam, lists, models, related, tracker
from services.http.workflow.dialect import ACTIVITIES, UNITS, WORKFLOW, write
from services.http.workflow.errors import JSON_API
from services.http.workflow.filters import FILTERS, OBJECTS, OF_PEOPLE, SORTS
from services.http.workflow.lists import ATTRIBUTES, RELATED

Json = dict[str, Any]
# What the dialect calls a task; what stands beside it is shown as well.
_ACTIVITY = replace(TASK, noun="activity")


async def _get(call: Call) -> Response:
    """Answer with one activity."""
    parameters = call.parameters()
    query, wanted = MinPosition.take(parameters), lists.Wanted.take(parameters)
    nothing_else(parameters, lists.OF_ONE)
    await settled(call, query, *_ACTIVITY.models)
    (shown,), beside = await lists.shown(call, [await _ACTIVITY.read(call)], wanted)
    return as_json({"data": shown, **beside}, media=JSON_API)


async def _list(call: Call) -> Response:
    """Answer with a page of activities."""
    parameters = call.parameters(lists.MAX_PARAMETERS)
    service, tenant = call.service, call.caller.tenant
    query, asked_for = MinPosition.take(parameters), filters.taken_filters(parameters, tenant)
    size = number(parameters, "page[size]", MAX_ROWS, 1, MAX_ROWS)
    page = number(parameters, "page[number]", 1, 1, MAX_PAGES)
    counted = "count" in parameters and flag(parameters, "count")
    order = filters.order_of(parameters)
    wanted = lists.Wanted.take(parameters)
    nothing_else(parameters, lists.OF_LIST)
    await settled(call, query, *_ACTIVITY.models)
    members: dict[str, tuple[str, ...]] = {}
    for place, texts in filters.references_of(asked_for).items():
        members |= await service.members.named(tenant, texts, place)
    now = service.clock()
    conditions = filters.conditions_of(asked_for, members, now)
    # One row more than is shown tells whether another page follows.
    asked = task_pages.page(tenant, conditions, Order(order, filters.STATUS_ORDER, now), size + 1, (page - 1) * size)
    rows = await service.pool.fetch(*asked)
    data, beside = await lists.shown(call, [tasks.resource(row, now) for row in rows[:size]], wanted)
    meta: Json = {"page": {"number": page, "size": size}}
    if counted:
        ((meta["count"],),) = await service.pool.fetch(*task_pages.count(tenant, conditions))
    links = {
        "prev": lists.address(call, page - 1) if page > 1 else None,
        "next": lists.address(call, page + 1) if len(rows) > size else None,
    }
    return as_json({"data": data, **beside, "meta": meta, "links": links}, media=JSON_API)


async def _assign(call: Call) -> Response:
    nothing_else(call.parameters())
    body = await call.json()
    claims = isinstance(body, dict) and body.get("self_assigning") is True
    request = (models.Claim if claims else models.Assign).read(body, call.parts)
    result = await submit(call, "task.claim" if claims else "task.assign", request, TASK, entity_id=call.id)
    return await WORKFLOW.answer(call, result, models.Changed, TASK.noun)


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

_ONE = f"{ACTIVITIES}/{{id}}"
OPERATIONS = (
    Operation(
        WORKFLOW, "GET", ACTIVITIES, "read", "workflow_list_activities", "List activities",
        parameters=_OF_LIST, query=MinPosition, handler=_list, view=lists.Page, refusals=(400, 422),
        links={"first": Link("workflow_get_activity", "/data/0/id")},
    ),
    Operation(
        WORKFLOW, "GET", _ONE, "read", "workflow_get_activity", "Read one activity",
        parameters=_SHOWN, query=MinPosition, handler=_get, view=lists.Found, refusals=(400, 404, 422),
        links={
            name: Link(f"workflow_{name}_activity", "/data/id")
            for name in ("save", "assign", "reassign", "unassign", "process", "complete", "error", "cancel")
        },
    ),
    write("PATCH", _ONE, "save_activity", "Save a draft, without completing", "task.save", models.Save),
    write(
        "PATCH", f"{_ONE}/assign", "assign_activity", "Assign to one member of the project, or to oneself", "",
        models.Assign, handler=_assign,
        description="Somebody else's activity is a 409 `already-assigned`; of several who claim one, exactly one gets"
        " it.",
    ),
    write(
        "PATCH", f"{_ONE}/reassign", "reassign_activity", "Assign to another member", "task.reassign", models.Reassign
    ),
    write("PATCH", f"{_ONE}/unassign", "unassign_activity", "Take it from whoever has it", "task.unassign"),
    write(
        "PATCH", f"{_ONE}/process", "process_activity", "Start or resume", "task.process",
        description="`already-processing` is a 422, a caller who has not the activity a 403.",
    ),
    write(
        "PATCH", f"{_ONE}/complete", "complete_activity", "Complete", "task.complete", models.Complete,
        description="The data, together with the draft, becomes `output`.",
    ),
    write("POST", f"{_ONE}/error", "error_activity", "Mark as errored", "task.error", models.MarkErrored),
    write("POST", f"{_ONE}/cancel", "cancel_activity", "Cancel", "task.cancel"),
    write(
        "POST", f"{UNITS}/{{id}}/cancel", "cancel_work_unit", "Cancel a work unit with all its open activities",
        "activity.cancel", entity=ACTIVITY, view=related.UnitChanged,
    ),
    *tracker.OPERATIONS,
    *iam.OPERATIONS,
)  # fmt: skip
