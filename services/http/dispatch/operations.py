"""The dispatch dialect's operations: activities that go out over a channel, and what a tenant configures of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from starlette.responses import Response

from domain.recorded import Recorded
from projections.task import table as tasks
from services.http.core.call import Call, as_json
from services.http.core.components import example_of
from services.http.core.deriving import change_of, view_of
from services.http.core.entities import TASK, entry
from services.http.core.errors import ApiError
from services.http.core.members import Member
from services.http.core.models import From, Request
from services.http.core.openapi import parameter
from services.http.core.operation import Dialect, Link, Operation
from services.http.core.pages import page_of_entries
from services.http.core.parameters import MinPosition, nothing_else, settled
from services.http.core.shown import CamelView, Time
from services.http.core.submit import idempotency_key, submit
from services.http.dispatch import lists, models
from services.http.dispatch.errors import KEYED, Accepted, Failure, failed, failure, key_used

VIEW, CREATE, CANCEL, DISPATCH = "VIEW_ACTIVITIES", "CREATE_ACTIVITY", "CANCEL_ACTIVITY", "DISPATCH_ACTIVITY"
MANAGE = "MANAGE_ACTIVITY_CONFIG"


def _of_tenant(call: Call) -> None:
    """Refuse a request for another tenant than the token's own; a request need not say which one it is for."""
    for name, value in call.scope["headers"]:
        if name == b"x-tenant-id" and value.decode("latin-1").strip() != call.caller.tenant:
            raise ApiError("forbidden", "the token is of another tenant", parameter="x-tenant-id")


async def _operators(
    call: Call, resources: Sequence[Mapping[str, Any]], events: Sequence[Recorded] = ()
) -> Mapping[str, Member]:
    """Return the members whose operators tasks show, if anybody has the tasks."""
    people = [member for resource in resources for member in resource.get("assignees", ())[:1]]
    return await call.service.members.by_id(call.caller.tenant, people, events)


_TENANT = parameter(
    "x-tenant-id",
    "The token's tenant; another one is refused, and the header may be left out",
    place="header",
    pattern="^[a-z0-9-]{1,63}$",
)
SPOKEN = Dialect(
    "dispatch", failed, failure, Failure, Accepted, _operators,
    failures=(401, 403, 500, 503), admit=_of_tenant, parameters=(_TENANT,), paths=("/api/",),
)  # fmt: skip

# Activities.

# What is read is a task and nothing beside it.
_ACTIVITY = replace(TASK, noun="activity", models=(tasks.NAME,))
_AS_CREATED = replace(TASK, from_command=True)
_PAGE = lists.page_of(models.Activity)


async def _create(call: Call) -> Response:
    """Create an activity: one key makes one, and whoever comes second is told which one it is."""
    nothing_else(call.parameters())
    request = models.NewTask.read(await call.json())
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
    return as_json(_PAGE.show(page, await _operators(call, page.rows)))


async def _task(call: Call) -> dict[str, Any]:
    await settled(call, MinPosition.read(call), tasks.NAME)
    return await _ACTIVITY.read(call)


async def _attributes(call: Call) -> Response:
    task = await _task(call)
    return as_json(lists.Attributes.show({"key": key, "value": value} for key, value in task["attributes"].items()))


async def _targets(call: Call) -> Response:
    return as_json(lists.TargetUsers.show((await _task(call))["targets"]))


async def _status_events(call: Call) -> Response:
    return as_json(lists.StatusEvents.show(await lists.status_events(call)))


async def _submit_result(call: Call) -> Response:
    nothing_else(call.parameters())
    request = models.NewResult.read(await call.json())
    result = await submit(call, "task.submit-result", request, TASK, entity_id=request.activity_id)
    if result.resource is None:
        return await SPOKEN.answer(call, result, models.Activity, _ACTIVITY.noun)
    return as_json(models.ResultRecorded.show({"task": result.resource, "given": request.data()}), 201)


# What a tenant configures.


def _criteria(name: str) -> Any:
    shown = From(f"fields/{name}", lambda found, _: [models.Criterion.show(each) for each in found or ()], default=None)
    return Annotated[list[models.Criterion], shown]


# What is shown of an entry otherwise than it is given.
_SHOWN = {name: _criteria(name) for name in ("criteria", "fallbacks")}


def _configured(kind: str, path: str, name: str, new: type[Request]) -> tuple[Operation, ...]:
    """Return the operations on entries of a kind."""
    view = view_of(new, CamelView, (new.__doc__ or "").rstrip("."), _SHOWN, created_at=Time, updated_at=Time)
    what, pages, key = name.replace("_", " "), lists.page_of(view), next(iter(view.model_fields))
    article = "an" if what[0] in "aeiou" else "a"
    entries = entry(kind)
    one, every = f"{path}/{{id}}", path.rpartition("/")[2].replace("-", "_")

    async def page(call: Call) -> Response:
        return as_json(pages.show(await page_of_entries(call, lists.ListEntries.read(call), kind)))

    def write(method: str, path: str, verb: str, command: str, **rest: Any) -> Operation:
        return Operation(
            SPOKEN, method, path, MANAGE, f"dispatch_{verb}_{name}", f"{verb.capitalize()} {article} {what}",
            command=command, entity=entries, extra_data=lambda _: {"kind": kind}, **rest,
        )  # fmt: skip

    return (
        write(
            "POST", path, "create", "directory.register", request=new, view=view, status=201,
            description="The same again is accepted and changes nothing.",
            links={verb: Link(f"dispatch_{verb}_{name}", f"/{key}") for verb in ("get", "change", "delete")},
        ),
        Operation(
            SPOKEN, "GET", path, MANAGE, f"dispatch_list_{every}", f"List every {what}, in order of {key}",
            query=lists.ListEntries, handler=page, view=pages,
        ),
        Operation(
            SPOKEN, "GET", one, MANAGE, f"dispatch_get_{name}", f"Read one {what}",
            query=MinPosition, entity=entries, view=view,
        ),
        write(
            "PATCH", one, "change", "directory.change", request=change_of(new, key), view=view,
            description="What is left out stays as it is; a null takes a field away.",
        ),
        write(
            "DELETE", one, "delete", "directory.retire", status=204,
            description="What was created before keeps what it took from it.",
        ),
    )  # fmt: skip


_ACTIVITIES = "/api/activities"
_ONE = f"{_ACTIVITIES}/{{id}}"
OPERATIONS = (
    Operation(
        SPOKEN, "POST", f"{_ACTIVITIES}/tasks", CREATE, "dispatch_create_task",
        "Create a TASK-type activity with route and operator assignment",
        description="`idempotency_key` is the key of the request, unique in the tenant: used again it answers 409 with"
        " the id of what it made, whatever the payload. The header `Idempotency-Key` may repeat it. The answer shows"
        " what the request itself did: when no target fits, `UNRESOLVED`. A `scheduled_at` that has passed is due now.",
        request=models.NewTask, handler=_create, view=models.NewActivity, status=201, topic=KEYED,
        links={
            "activity": Link("dispatch_get_activity", "/id"),
            "attributes": Link("dispatch_get_attributes", "/id"),
            "targetUsers": Link("dispatch_get_target_users", "/id"),
            "statusEvents": Link("dispatch_get_status_events", "/id"),
            "dispatch": Link("dispatch_dispatch_activity", "/id"),
            "cancel": Link("dispatch_cancel_activity", "/id"),
        },
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
        query=MinPosition, entity=_ACTIVITY, view=models.Activity,
    ),
    Operation(
        SPOKEN, "GET", f"{_ONE}/attributes", VIEW, "dispatch_get_attributes",
        "Read the attributes that an activity carries",
        description="What has a value; a key without one anywhere is absent.",
        query=MinPosition, handler=_attributes, view=lists.Attributes,
    ),
    Operation(
        SPOKEN, "GET", f"{_ONE}/target-users", VIEW, "dispatch_get_target_users",
        "Read the users that an activity is meant for",
        description="A target that was not found is `FAILED`, one that must not be contacted `LOCKED`; `reason` says"
        " why.",
        query=MinPosition, handler=_targets, view=lists.TargetUsers,
    ),
    Operation(
        SPOKEN, "GET", f"{_ONE}/status-events", VIEW, "dispatch_get_status_events",
        "Read what happened to an activity, oldest first",
        description="Straight from the log, so never late: every change of status, and every attempt at resolution and"
        " dispatch.",
        query=MinPosition, handler=_status_events, view=lists.StatusEvents,
    ),
    Operation(
        SPOKEN, "PATCH", f"{_ONE}/cancel", CANCEL, "dispatch_cancel_activity",
        "Cancel an activity that has not ended",
        request=models.Cancellation, body_optional=True, command="task.cancel", entity=TASK, view=models.Activity,
        example={**example_of(models.Activity), "status": models.CANCELED},
    ),
    Operation(
        SPOKEN, "PATCH", f"{_ONE}/retry-resolution", DISPATCH, "dispatch_retry_resolution",
        "Look for the targets of an UNRESOLVED activity again",
        command="task.retry-resolution", entity=TASK, view=models.Activity,
    ),
    Operation(
        SPOKEN, "PATCH", f"{_ONE}/target-users/{{target_id}}/resolve", DISPATCH, "dispatch_resolve_target",
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
        " events.",
        command="task.dispatch", entity=TASK, status=204,
    ),
    # Who submits results is who creates, an agent at work.
    Operation(
        SPOKEN, "POST", "/api/activity-results/tasks", CREATE, "dispatch_submit_result", "Say how an activity ended",
        description="`COMPLETED` and `TRANSFERRED` complete it, `NOT_EXECUTED` fails it, `CANCELED` cancels it,"
        " `PENDING` changes nothing. A result is final once; only `hard_override` replaces it.",
        request=models.NewResult, handler=_submit_result, view=models.ResultRecorded, status=201,
    ),
    *_configured("attribute", "/api/attribute-policies", "attribute_policy", models.NewAttributePolicy),
    *_configured(
        "targeting", "/api/target-resolution-policies", "target_resolution_policy", models.NewTargetResolutionPolicy
    ),
    *_configured(
        "dispatch", "/api/dispatch-configurations", "dispatch_configuration", models.NewDispatchConfiguration
    ),
)  # fmt: skip
