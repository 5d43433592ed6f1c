"""Results: how an activity ended where it was sent to, as the original's body or as a short one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import ConfigDict, Field, RootModel, model_validator
from starlette.responses import Response

from domain.limits import Comment, Fields, Instant, Label
from domain.plan import Contact
from domain.task.results import Result, parts
from projections.task import table as tasks
from services.http.core.call import Call, as_json
from services.http.core.entities import TASK
from services.http.core.errors import ApiError
from services.http.core.models import From, Json, To, refuse
from services.http.core.parameters import nothing_else
from services.http.core.shown import CamelView, MaybeTime
from services.http.core.submit import submit
from services.http.dispatch.dialect import SPOKEN
from services.http.dispatch.errors import Demanded, DispatchRequest
from services.http.dispatch.models import (
    COMPLETED,
    EXAMPLE_ACTIVITY,
    Activity,
    Status,
    TaskResult,
    status_of,
)
from services.keys import PART_PERMISSIONS


class NewTaskResult(DispatchRequest):
    """What came of it."""

    result: Annotated[Label, Demanded, To("outcome")] = Field(
        ..., min_length=1, description="Its code, one of the tenant's own"
    )
    comment: Comment | None = None
    operator_external_id: Annotated[Label | None, To("operator")] = Field(None, description="Who was there")
    future_scheduled_at: Annotated[Instant | None, To("follow_up_at")] = Field(
        None, description="When it is to be tried again"
    )
    payload: Annotated[Fields | None, To("data")] = Field(None, description="Becomes part of the task's output")
    contact_type: Annotated[Contact | None, To("contact")] = Field(None, description="Who got in touch with whom")


class NewResult(DispatchRequest):
    """How an activity ended, as whoever carried it out reports it."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["activity_id"]}, {"required": ["provider_activity_id"]}]}
    )

    task_result: Annotated[NewTaskResult, To("report")]
    activity_id: Annotated[str | None, To(None)] = Field(
        None, min_length=1, description="The activity; it decides when both ids are given"
    )
    provider_activity_id: Annotated[Label | None, To(None)] = Field(
        None, min_length=1, description="The id that the provider answered its dispatch with"
    )
    commerce_external_id: Annotated[Label | None, To("commerce")] = Field(
        None, description="The activity's commerce: its id, or the `external_id` that it is registered with"
    )
    occurred_at: Annotated[Instant, Demanded, To("report/occurred_at")] = Field(..., description="When it ended")
    status: Annotated[Result, Demanded, To("result")]
    external_status: Annotated[Label | None, To("report/external_status")] = Field(
        None, description="The reporter's own word for it"
    )
    hard_override: bool | None = Field(False, description="Replace a result that is final")
    raw_payload: Annotated[Fields | None, To("report/raw")] = Field(None, description="Kept as it is")

    # The page's own, word for word.
    example: ClassVar[Json] = {
        "provider_activity_id": "ext-123",
        "commerce_external_id": "store-001",
        "status": "COMPLETED",
        "occurred_at": "2025-01-16T14:30:00.000Z",
        "task_result": {"result": "success", "comment": "Order placed successfully", "contact_type": "OUTBOUND"},
    }
    # What a command has beside its report, and the body inside of it.
    _INSIDE: ClassVar[Mapping[str, str]] = {"data": "payload", "comment": "comment"}

    @model_validator(mode="after")
    def _demand_activity(self) -> Self:
        if not self.activity_id and not self.provider_activity_id:
            refuse("wrong-shape", "activity_id or provider_activity_id is required")
        return self

    def data(self) -> Json:
        """Return the command's data, where the comment and the payload stand beside the report."""
        found = super().data()
        report = found["report"]
        return {**found, **{name: report.pop(name) for name in self._INSIDE if name in report}}

    @classmethod
    def pointer(cls, place: str) -> str:
        """Return a place in the request."""
        name, _, rest = place.removeprefix("/").partition("/")
        inside = cls._INSIDE.get(name)
        if inside is None:
            return super().pointer(place)
        return f"/task_result/{inside}{'/' if rest else ''}{rest}"


class ShortResult(DispatchRequest):
    """How an activity ended, in short."""

    activity_id: Annotated[str, Demanded, To(None)] = Field(
        ..., min_length=1, description="The activity that the result is of"
    )
    result: Annotated[Result, Demanded]
    hard_override: bool | None = Field(False, description="Replace a result that is final")
    data_: Annotated[Fields | None, To("data")] = Field(
        None, alias="data", description="What came of it; becomes part of the task's output"
    )
    comment: Comment | None = None

    example: ClassVar[Json] = {"activity_id": EXAMPLE_ACTIVITY, "result": "COMPLETED", "data": {"sold": 3}}


class AnyResult(RootModel[NewResult | ShortResult]):
    """A result in one of its two forms; `task_result` tells them apart."""


class ResultRecorded(CamelView):
    """The result, and the status that the activity has now"""

    activity_id: Annotated[str, From("task/id")] = Field(..., examples=[EXAMPLE_ACTIVITY])
    provider_activity_id: Annotated[str | None, From("task/reference")]
    result: Annotated[Result, From("given/result")] = Field(..., examples=["COMPLETED"])
    hard_override: Annotated[bool, From("given/hard_override", default=False)]
    data: Annotated[dict[str, Any], From("given/data", default={})] = Field(..., examples=[{"sold": 3}])
    comment: Annotated[str | None, From("given/comment", default=None)]
    status: Annotated[Status, From("task", status_of)] = Field(..., examples=[COMPLETED])
    occurred_at: Annotated[MaybeTime, From("report/occurred_at", default=None)]
    external_status: Annotated[str | None, From("report/external_status", default=None)]
    task_result: Annotated[TaskResult | None, From("report", lambda report, _: TaskResult.of(report))]


async def submit_result(call: Call) -> Response:
    """Record a result in one of its two forms."""
    nothing_else(call.parameters())
    body = await call.json()
    short = isinstance(body, dict) and "result" in body and "task_result" not in body
    return await record_result(call, (ShortResult if short else NewResult).read(body))


async def record_result(call: Call, request: NewResult | ShortResult) -> Response:
    """Record a result, of the activity that it names by either of its ids."""
    given = request.data()
    for part in parts(given["result"], given.get("hard_override") is True):
        if part in PART_PERMISSIONS:
            call.caller.demand(PART_PERMISSIONS[part])
    result = await submit(call, "task.submit-result", request, TASK, entity_id=await _named(call, request))
    if result.resource is None:
        return await SPOKEN.answer(call, result, Activity, "activity")
    shown = {"task": result.resource, "given": given, "report": given.get("report") or {}}
    return as_json(ResultRecorded.show(shown), 201)


async def _named(call: Call, request: NewResult | ShortResult) -> str:
    """Return the id of the activity that a result is of."""
    if request.activity_id or isinstance(request, ShortResult):
        return request.activity_id or ""
    asked = tasks.LISTING.page(call.caller.tenant, {"reference": request.provider_activity_id}, "-created_at", limit=2)
    rows = await call.service.pool.fetch(*asked)
    if not rows:
        raise ApiError("not-found", "no activity was sent to a provider that answered so", "/provider_activity_id")
    if len(rows) > 1:
        raise ApiError("invalid", "providers answered so for several activities", "/provider_activity_id")
    return str(tasks.resource(rows[0], call.service.clock())["id"])
