"""What came of a command, in the native API: its events, deliveries, dispatches, and the commands that they caused."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from starlette.responses import Response

from domain.limits import Number
from projections import deadlines
from services.http.core.call import Call, as_json
from services.http.core.errors import ApiError
from services.http.core.models import View
from services.http.core.operation import Operation
from services.http.core.parameters import Position, Query, settled
from services.http.native.dialect import NATIVE
from services.http.native.lists import next_page
from services.http.native.models import Count, EventSummary, Refusal
from services.store import effects


class ListEffects(Query):
    """The page of events."""

    limit: Annotated[int, Number(1, effects.MAX_EVENTS)] = Field(50, description="Events of a page")
    cursor: Position = Field(0, description="The last position seen")


class Cause(View):
    """The event that the command answers, as far as it is known"""

    position: int
    type: str
    stream: str
    command_id: str = Field(description="the command that recorded it")


class CausedCommand(View):
    """A command that says to answer the event"""

    command_id: str
    outcome: Literal["accepted", "rejected"]
    code: str | None = Field(description="why it was rejected")
    recorded_at: datetime
    events: list[EventSummary] = Field(description="the first ones", max_length=effects.MAX_SUMMARIES)


class DispatchAttempt(View):
    """The attempt at a dispatch that the event asks for"""

    attempt: Count
    channel: str
    state: Literal["pending", "succeeded", "failed", "unknown"] = Field(
        description="pending until the outcome is reported; unknown: there is no outcome, and none is waited for"
    )
    next_at: datetime | None = Field(description="when it is tried, or its outcome reported, next")
    reference: str | None = Field(description="the provider's word for what it took")
    code: str | None
    message: str | None
    final: bool = Field(description="no attempt follows")


class EffectDelivery(View):
    """The delivery of the event to a webhook"""

    webhook: str
    state: Literal["pending", "delivered", "parked"]
    attempts: Count
    tried_at: datetime | None
    next_at: datetime | None
    status: int | None = Field(description="the status of the last answer")


class Effect(View):
    """An event, and what came of it"""

    position: int
    event_id: str
    type: str
    stream: str
    version: int
    deliveries: list[EffectDelivery] | None = Field(description="null without the permission `webhooks`")
    dispatch: DispatchAttempt | None
    commands: list[CausedCommand] = Field(
        description="those of the receipts that are kept, the oldest first", max_length=effects.MAX_COMMANDS
    )


class Effects(View):
    """What came of the command"""

    command_id: str
    outcome: Literal["accepted", "rejected", "parked", "discarded"]
    recorded_at: datetime
    error: Refusal | None
    actor: str | None = Field(description="null without events")
    occurred_at: datetime | None
    repeats: str | None = Field(description="the command whose idempotency key it had, and whose events these are")
    caused_by: Cause | None
    events: list[Effect]
    next: str | None = Field(description="the next page's address")

    example: ClassVar[dict[str, Any]] = {
        "command_id": "c1",
        "outcome": "accepted",
        "recorded_at": "2025-10-31T01:50:00Z",
        "error": None,
        "actor": "ann",
        "occurred_at": "2025-10-31T01:50:00Z",
        "repeats": None,
        "caused_by": None,
        "events": [
            {
                "position": 42,
                "event_id": "0199a1f0-0000-7000-8000-00000000e001",
                "type": "task.dispatch-requested",
                "stream": "task-t1",
                "version": 3,
                "deliveries": [
                    {
                        "webhook": "h1",
                        "state": "delivered",
                        "attempts": 1,
                        "tried_at": "2025-10-31T01:50:01Z",
                        "next_at": None,
                        "status": 200,
                    }
                ],
                "dispatch": {
                    "attempt": 1,
                    "channel": "SALESMAN",
                    "state": "succeeded",
                    "next_at": None,
                    "reference": "m-1",
                    "code": None,
                    "message": None,
                    "final": False,
                },
                "commands": [
                    {
                        "command_id": "5b8f2c1e-8f1b-5d0c-9a57-4f3f6f1f2c9e",
                        "outcome": "accepted",
                        "code": None,
                        "recorded_at": "2025-10-31T01:50:02Z",
                        "events": [
                            {"position": 43, "type": "task.dispatch-succeeded", "stream": "task-t1", "version": 4}
                        ],
                    }
                ],
            }
        ],
        "next": None,
    }


async def get_effects(call: Call) -> Response:
    """Answer with what came of a command."""
    query = ListEffects.read(call)
    await settled(call, None, deadlines.NAME)
    caller = call.caller
    call.answer_held.take(effects.BYTES)
    steps = effects.of(caller.tenant, call.id, query.cursor, query.limit, deliveries="webhooks" in caller.permissions)
    try:
        asked = next(steps)
        while True:
            asked = steps.send(await call.service.lists.fetch(caller.tenant, *asked))
    except StopIteration as done:
        found: effects.Effects | None = done.value
    if found is None:
        detail = "no command of this id was decided here, or not yet, or its receipt is not kept any more"
        raise ApiError("unknown-or-undecided", detail)
    shown = {name: getattr(found, name) for name in Effects.model_fields if name != "next"}
    return as_json({**shown, "next": None if found.follow is None else next_page(call, str(found.follow))})


OPERATION = Operation(
    NATIVE, "GET", "/v1/effects/{id:path}", "read", "get_effects", "Read what came of a command",
    description="Its events, and of each the deliveries to webhooks, the attempt at a dispatch that it asks for,"
    " and the commands that it has caused: those of deadlines, reports of dispatches, and any other that says so in"
    " `caused_by`. What came of these is asked by their ids. Kept as long as the receipts are.",
    query=ListEffects, handler=get_effects, view=Effects,
)  # fmt: skip
