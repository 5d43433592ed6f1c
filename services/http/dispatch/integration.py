"""What the systems of a tenant use: the tasks that they carry out, the results that they report, and their outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field
from starlette.responses import Response

from domain.limits import Label, Number
from domain.plan import WORK, TaskType
from projections import directory
from projections.support.conditions import Where, by_word
from projections.support.query import BadQuery
from projections.task import table as tasks
from services.http.core.call import Call, as_json
from services.http.core.list_view import ListView
from services.http.core.lookups import Needs
from services.http.core.models import From, Json, To
from services.http.core.operation import Operation
from services.http.core.parameters import MinPosition, nothing_else
from services.http.core.shown import CamelView, MaybeTime, Time
from services.http.dispatch import lists, upserts
from services.http.dispatch.dialect import RESULTS, SPOKEN, VIEW, shown_with
from services.http.dispatch.errors import Demanded
from services.http.dispatch.models import (
    CANCELED,
    COMPLETED,
    EXAMPLE_ACTIVITY,
    FAILED,
    READY,
    ShownWith,
    TaskResult,
    planned,
    status_of,
)
from services.http.dispatch.results import NewResult, ResultRecorded, record_result

Progress = Literal["PENDING", "IN_PROGRESS", "COMPLETED", "CANCELLED", "FAILED"]
_WAITS, _GOES, _DONE, _CALLED_OFF, _FAILED = get_args(Progress)
Effect = Literal["EFFECTIVE", "NOT_EFFECTIVE", "PENDING"]
EFFECTIVE, NOT_EFFECTIVE, PENDING = get_args(Effect)
# Under which results, as tasks have them, each effect is found; a transfer and a cancellation are neither.
_RESULTS: Mapping[str, list[str] | None] = {
    EFFECTIVE: [EFFECTIVE, "COMPLETED"],
    NOT_EFFECTIVE: [NOT_EFFECTIVE, "NOT_EXECUTED"],
    PENDING: None,
}


def progress_of(task: Mapping[str, Any], _: Any = None) -> str:
    """Return how far a task is: a function of its facts."""
    ended = {COMPLETED: _DONE, CANCELED: _CALLED_OFF, FAILED: _FAILED}.get(status_of(task))
    if ended is not None:
        return str(ended)
    return str(_WAITS if task["status"] == "open" and task["dispatch"] != "DISPATCHED" else _GOES)


_CONDITIONS = by_word(tasks.FACTS, progress_of, get_args(Progress))


# What is asked for.


class ListTasks(lists.ListEntries):
    """A page of tasks, as the systems that carry them out ask for it."""

    rows: ClassVar[int] = 20
    per_page: Annotated[int, Number(1, 100)] = Field(20, description="Rows of a page")
    status: Progress | None = Field(None, description="This far")
    result_status: Effect | None = Field(None, description="With such a result; PENDING: without one")
    channel: str | None = Field(None, max_length=1000, description="Over this channel")
    commerce: str | None = Field(
        None, alias="external_commerce_id", max_length=1000, description="For the commerce of this id or `external_id`"
    )
    operator: str | None = Field(
        None, alias="external_operator_id", max_length=1000, description="For the operator of this id or `external_id`"
    )
    scheduled_at__gte: MaybeTime = Field(
        None, alias="scheduled_from", description="Scheduled at this time or later, RFC 3339"
    )
    scheduled_at__lte: MaybeTime = Field(
        None, alias="scheduled_to", description="Scheduled at this time or earlier, RFC 3339"
    )

    def filters(self) -> dict[str, Any]:
        """Return the filters of tasks that are asked for."""
        names = ("channel", "scheduled_at__gte", "scheduled_at__lte")
        found: dict[str, Any] = {name: getattr(self, name) for name in names if name in self.model_fields_set}
        if self.result_status is not None:
            found["result"] = _RESULTS[self.result_status]
        return {"type": WORK, **found}

    def where(self, tenant: str) -> list[Where]:
        """Return the conditions that are no filters; raises `BadQuery`."""
        found = [] if self.status is None else [_CONDITIONS[self.status]]
        for kind in ("commerce", "operator"):
            if kind in self.model_fields_set:
                try:
                    found.append(directory.refers_to(kind, tenant, kind, getattr(self, kind)))
                except BadQuery as error:
                    raise BadQuery(error.code, error.detail, kind) from None
        return found


# What is shown.


def _effect(result: str | None, _: Any) -> str | None:
    if result is None:
        return str(PENDING)
    return next((effect for effect, results in _RESULTS.items() if result in (results or ())), None)


def _stage(task: Mapping[str, Any], _: Any = None) -> str:
    status = status_of(task)
    return "SCHEDULED" if status == READY else status


def _detail(task: Mapping[str, Any], _: Any) -> str | None:
    """Return why a task is as it is, if anybody said so."""
    found = {FAILED: task["comment"], CANCELED: task["reason"]}.get(status_of(task))
    return None if found is None else str(found)


def _may_be_sent_again(task: Mapping[str, Any], _: Any) -> bool:
    waits = task["attempt"] > 0 and task["dispatch"] == "REQUESTED" and not task["in_flight"]
    return bool(waits and status_of(task) == READY and task["status"] == "open")


def _outside(kind: Literal["commerce", "operator"]) -> Any:
    def outside(task: Mapping[str, Any], context: ShownWith) -> str | None:
        own: str | None = task[kind]
        entries = context.commerces if kind == "commerce" else context.operators
        found = entries.get(own, {}).get("external_id") if own is not None else None
        return found if isinstance(found, str) else own

    return Annotated[str | None, From("", outside), Needs(f"{kind}s")]


def _commerce_name(task: Mapping[str, Any], context: ShownWith) -> str | None:
    name = context.commerces.get(task["commerce"], {}).get("name")
    return name if isinstance(name, str) else None


class IntegrationTask(CamelView):
    """A task, as the system that carries it out sees it."""

    id: str = Field(..., examples=[EXAMPLE_ACTIVITY])
    activity_origin: Literal["ACTIVITY"]
    type: TaskType
    status: Annotated[Progress, From("", progress_of)]
    channel: Annotated[str | None, planned("channel")] = Field(..., examples=["SALESMAN"])
    scheduled_at: Annotated[MaybeTime, planned("scheduled_at")]
    occurred_at: Annotated[MaybeTime, From("report", lambda report, _: (report or {}).get("occurred_at"))]
    created_at: Time
    lifecycle_status: Annotated[str, From("", _stage)] = Field(
        ..., examples=["SCHEDULED"], description="SCHEDULED, UNRESOLVED, DISPATCHED, COMPLETED, FAILED or CANCELED"
    )
    lifecycle_status_label: Annotated[str, From("", lambda task, _: _stage(task).capitalize())] = Field(
        ..., examples=["Scheduled"]
    )
    lifecycle_status_detail: Annotated[str | None, From("", _detail)]
    can_force_retry_dispatch: Annotated[bool, From("", _may_be_sent_again)] = Field(
        ..., description="Whether an attempt has failed, and the next one can be made now"
    )
    commerce_external_id: _outside("commerce") = Field(..., examples=["COM-001"])  # type: ignore[valid-type]
    commerce_name: Annotated[str | None, From("", _commerce_name), Needs("commerces")] = Field(
        ..., examples=["Main Street Store"]
    )
    operator_external_id: _outside("operator") = Field(..., examples=["OP-001"])  # type: ignore[valid-type]
    provider_activity_id: Annotated[str | None, From("reference")]
    result_status: Annotated[Effect | None, From("result", _effect)]
    task_result: Annotated[TaskResult | None, From("report", lambda report, _: TaskResult.of(report))]


class TaskResultType(CamelView):
    """An outcome that a result may report."""

    code: Annotated[str, From("id")] = Field(..., examples=["RESCHEDULE"])
    label: Annotated[str, From("fields/label")] = Field(..., examples=["Visit again"])
    requires_future_scheduled_at: Annotated[
        bool, From("fields", lambda fields, _: bool(fields.get("requires_follow_up")))
    ]


class TaskResultTypes(ListView):
    """The outcomes, in order of their codes"""

    root: list[TaskResultType]


# What is reported.


class NewEffect(NewResult):
    """What came of a task, as the system that carried it out reports it."""

    commerce_external_id: Annotated[Label, Demanded, To("commerce")] = Field(
        ..., description="The activity's commerce: its id, or the `external_id` that it is registered with"
    )
    status: Annotated[Effect, Demanded, To("result")] = Field(
        ..., description="Both complete the activity, and PENDING changes nothing"
    )

    example: ClassVar[Json] = {
        "activity_id": EXAMPLE_ACTIVITY,
        "commerce_external_id": "COM-001",
        "occurred_at": "2026-04-11T10:30:00.000Z",
        "status": "EFFECTIVE",
        "task_result": {"result": "SALE_COMPLETED", "contact_type": "OUTBOUND"},
    }


_PAGE = lists.page_of(IntegrationTask)


async def _page(call: Call) -> Response:
    query = ListTasks.read(call)
    page = await lists.page_of_tasks(call, query, query.filters(), query.where, "-created_at")
    context = await shown_with(call, page.rows, (), _PAGE)
    return await call.worked(lambda: as_json(_PAGE.show(page, context)))


async def _outcomes(call: Call) -> Response:
    return as_json(TaskResultTypes.show(await upserts.all_of(call, "outcome")))


async def _submit(call: Call) -> Response:
    nothing_else(call.parameters())
    return await record_result(call, NewEffect.read(await call.json()))


_BASE = "/api/integration"
OPERATIONS = (
    Operation(
        SPOKEN, "GET", f"{_BASE}/activities/tasks", VIEW, "dispatch_list_integration_tasks",
        "List the tasks that are to be carried out", query=ListTasks, handler=_page, view=_PAGE,
    ),
    Operation(
        SPOKEN, "POST", f"{_BASE}/activity-results/tasks", RESULTS, "dispatch_submit_effect",
        "Say what came of a task",
        description="`EFFECTIVE` and `NOT_EFFECTIVE` say that the task was carried out, with or without the effect that"
        " it was for; both complete it. `PENDING` changes nothing. A result is final once; only `hard_override`"
        " replaces it.",
        request=NewEffect, gives=("task.submit-result",), handler=_submit, view=ResultRecorded, status=201,
    ),
    Operation(
        SPOKEN, "GET", f"{_BASE}/task-result-type-configs", VIEW, "dispatch_list_outcomes",
        "List the outcomes that a result may report",
        description="They are entries of the kind `outcome` of the directory. Without any, every text is accepted.",
        query=MinPosition, handler=_outcomes, view=TaskResultTypes,
    ),
)  # fmt: skip
