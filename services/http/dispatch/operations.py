"""The dispatch dialect's operations: activities that go out over a channel, and what a tenant configures of that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from starlette.responses import Response

from domain.plan import MESSAGE, WORK
from projections.task import table as tasks
from services.http.core.call import Call, as_json
from services.http.core.components import example_of
from services.http.core.entities import TASK
from services.http.core.errors import ApiError
from services.http.core.openapi import parameter
from services.http.core.operation import Link, Operation
from services.http.core.parameters import AsOf, MinPosition, nothing_else, settled
from services.http.core.submit import idempotency_key, submit
from services.http.dispatch import catalogues, configuration, integration, lists, models, parts, results, upserts
from services.http.dispatch.dialect import CANCEL, CREATE, DISPATCH, SPOKEN, VIEW, shown_with
from services.http.dispatch.errors import KEYED, key_used

# Activities.

# What is read is a task and nothing beside it.
_ACTIVITY = replace(TASK, noun="activity", models=(tasks.NAME,))
_AS_CREATED = replace(TASK, from_command=True)
_PAGE = lists.page_of(models.Activity)


async def _create_task(call: Call) -> Response:
    return await _create(call, models.NewTask)


async def _create_of_type(call: Call) -> Response:
    return await _create(call, models.NewOfType)


async def _create(call: Call, model: type[models.NewTask | models.NewOfType]) -> Response:
    """Create an activity: one key makes one, and whoever comes second is told which one it is."""
    nothing_else(call.parameters())
    request = model.read(await call.json())
    key, header = request.idempotency_key, idempotency_key()
    if header is not None and header != key:
        detail = "the body's idempotency_key is the key of this request; the header may only repeat it"
        raise ApiError("bad-header", detail, parameter="Idempotency-Key")
    try:
        result = await submit(call, "task.create", request, _AS_CREATED, key=key)
    except ApiError as refused:
        if refused.code != "idempotency-conflict":
            raise
        raise key_used((await lists.holder(call, key))[1], same=False) from None
    if result.reply is not None and result.reply.duplicate:
        first, _ = await lists.holder(call, key)
        # A broker may deliver a command twice, and then it repeats itself alone.
        if first != result.command_id:
            raise key_used(lists.made_by((event.type, event.stream) for event in result.reply.events), same=True)
    return await SPOKEN.answer(call, result, models.NewActivity, _ACTIVITY.noun, 201)


async def _page(call: Call) -> Response:
    page = await lists.page_of_activities(call, lists.ListActivities.read(call))
    context = await shown_with(call, page.rows, (), _PAGE)
    return await call.worked(lambda: as_json(_PAGE.show(page, context)))


async def _task(call: Call) -> dict[str, Any]:
    await settled(call, AsOf.read(call), tasks.NAME)
    return await _ACTIVITY.read(call)


async def _attributes(call: Call) -> Response:
    return as_json(parts.Attributes.show(await parts.attributes_of(call, await _task(call))))


async def _targets(call: Call) -> Response:
    return as_json(parts.TargetUsers.show(await parts.targets_of(call, await _task(call))))


async def _status_events(call: Call) -> Response:
    return as_json(parts.StatusEvents.show(await parts.status_events(call)))


_ACTIVITIES = "/api/activities"
_ONE = f"{_ACTIVITIES}/{{id}}"
_FOLLOWS = {
    "activity": Link("dispatch_get_activity", "/id"),
    "attributes": Link("dispatch_get_attributes", "/id"),
    "targetUsers": Link("dispatch_get_target_users", "/id"),
    "statusEvents": Link("dispatch_get_status_events", "/id"),
    "cancel": Link("dispatch_cancel_activity", "/id"),
}
OPERATIONS = (
    Operation(
        SPOKEN, "POST", _ACTIVITIES, CREATE, "dispatch_create_activity", "Create an activity of either type",
        description="A `MESSAGE` goes out over its channel when it is scheduled, and nobody has it. A `TASK` that is"
        " created here has no route, and nobody has it yet. The key is that of the request, as with tasks.",
        request=models.NewOfType,
        gives=("task.create",), handler=_create_of_type, view=models.NewActivity, status=201, topic=KEYED,
        links=_FOLLOWS, example={**example_of(models.NewActivity), "type": MESSAGE, "taskDetails": None},
    ),
    Operation(
        SPOKEN, "POST", f"{_ACTIVITIES}/tasks", CREATE, "dispatch_create_task",
        "Create a TASK-type activity with route and operator assignment",
        description="`idempotency_key` is the key of the request, unique in the tenant: used again it answers 409 with"
        " the id of what it made, whatever the payload. The header `Idempotency-Key` may repeat it. The answer shows"
        " what the request itself did: when no target fits, `UNRESOLVED`. A `scheduled_at` that has passed is due now.",
        request=models.NewTask,
        gives=("task.create",), handler=_create_task, view=models.NewActivity, status=201, topic=KEYED,
        links={**_FOLLOWS, "dispatch": Link("dispatch_dispatch_activity", "/id")},
    ),
    Operation(
        SPOKEN, "GET", _ACTIVITIES, VIEW, "dispatch_list_activities", "List activities, page by page",
        description="Every task of the tenant is an activity here, those made through other dialects too; they have no"
        " channel.",
        query=lists.ListActivities, handler=_page, view=_PAGE,
        links={"first": Link("dispatch_get_activity", "/data/0/id")},
    ),
    Operation(
        SPOKEN, "GET", _ONE, VIEW, "dispatch_get_activity", "Read one activity",
        query=AsOf, entity=_ACTIVITY, view=models.Activity,
    ),
    Operation(
        SPOKEN, "GET", f"{_ONE}/attributes", VIEW, "dispatch_get_attributes",
        "Read the attributes that an activity carries",
        description="Every key that it was asked to carry, with its value or without one.",
        query=AsOf, handler=_attributes, view=parts.Attributes,
    ),
    Operation(
        SPOKEN, "GET", f"{_ONE}/target-users", VIEW, "dispatch_get_target_users",
        "Read the users that an activity is meant for",
        description="A target that was not found, or must not be contacted, is `FAILED`; `reason` says why. One"
        " that was dispatched to is `LOCKED`.",
        query=AsOf, handler=_targets, view=parts.TargetUsers,
    ),
    Operation(
        SPOKEN, "GET", f"{_ONE}/status-events", VIEW, "dispatch_get_status_events",
        "Read what happened to an activity, oldest first",
        description="Straight from the log, so never late: every change of status, and every attempt at resolution and"
        " dispatch.",
        query=MinPosition, handler=_status_events, view=parts.StatusEvents,
    ),
    Operation(
        SPOKEN, "PATCH", f"{_ONE}/cancel", CANCEL, "dispatch_cancel_activity",
        "Cancel an activity that has not ended",
        request=models.Cancellation, body_optional=True, command="task.cancel", entity=TASK, view=models.Activity,
        example={**example_of(models.Activity), "status": models.CANCELED},
    ),
    Operation(
        SPOKEN, "PATCH", f"{_ONE}/retry-resolution", CREATE, "dispatch_retry_resolution",
        "Look for the targets of an UNRESOLVED activity again",
        command="task.retry-resolution", entity=TASK, view=models.Activity,
    ),
    Operation(
        SPOKEN, "PATCH", f"{_ONE}/target-users/{{target_id}}/resolve", CREATE, "dispatch_resolve_target",
        "Say which user one target is",
        description="Of an activity that is UNRESOLVED; a target or a user that is locked is refused.",
        request=models.TargetChoice, command="task.resolve-target", entity=TASK, view=models.Activity,
        extra_data=lambda call: {"target": call.parts["target_id"]},
        parameters=(parameter("target_id", "The target's id, as its activity shows it", place="path"),),
    ),
    Operation(
        SPOKEN, "POST", f"{_ACTIVITIES}/tasks/{{id}}/dispatch", DISPATCH, "dispatch_dispatch_activity",
        "Send a READY activity out over its channel now",
        description="An attempt is made at once, and two more when it fails; what came of them is among the status"
        " events. A message goes out when it is scheduled, and is refused here.",
        command="task.dispatch", entity=TASK, status=204, extra_data=lambda _: {"type": WORK},
    ),
    # Who submits results is who creates, an agent at work.
    Operation(
        SPOKEN, "POST", "/api/activity-results/tasks", CREATE, "dispatch_submit_result", "Say how an activity ended",
        description="`COMPLETED` and `TRANSFERRED` complete it, `NOT_EXECUTED` fails it, `CANCELED` cancels it,"
        " `PENDING` changes nothing. A result is final once; only `hard_override` replaces it. The activity is named by"
        " its id, or by the id that the provider answered with; both forms of the body do the same.",
        request=results.AnyResult,
        gives=("task.submit-result",), handler=results.submit_result, view=results.ResultRecorded, status=201,
    ),
    *integration.OPERATIONS,
    *configuration.OPERATIONS,
    *upserts.OPERATIONS,
    *catalogues.OPERATIONS,
)  # fmt: skip
