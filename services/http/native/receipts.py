"""What became of commands, and of the parts of many at once, as the native API answers it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, RootModel

from domain import COMMANDS
from services.http.core.models import From, Json, View
from services.http.native.views import Count, Entry, External

_RECORDED = "2025-10-31T01:50:00.123456Z"
BULK_ID = "0199a1f0-0000-7000-8000-00000000b01c"
# Of a command of a bulk.
_RECEIPT = "/v1/commands/6e0c1a52-7d5b-4c1e-9f38-2b1f0d9a4c77"
Outcome = Literal["accepted", "rejected", "undecided"]
OUTCOMES: tuple[str, ...] = get_args(Outcome)
# What can become of an entry of a list.
Registered = Literal["registered", "unchanged", "refused", "undecided"]
REGISTERED: tuple[str, ...] = get_args(Registered)


class EventSummary(External):
    """An event that a command recorded."""

    example: ClassVar[Json] = {"position": 42, "type": "task.completed", "stream": "task-t1", "version": 3}


class Refusal(External):
    """Why something is refused, and where."""


class Reply(External):
    """Accepted"""

    example: ClassVar[Json] = {
        "command_id": "c-1",
        "outcome": "accepted",
        "duplicate": False,
        "position": 42,
        "events": [EventSummary.example],
        "error": None,
    }


class Undecided(View):
    """No answer yet, or the views are late; look at the receipt"""

    command_id: str = Field(examples=["c-1"])
    outcome: Annotated[
        Literal["undecided", "accepted"], From("known", lambda known, _: "accepted" if known else "undecided")
    ] = Field(description="as far as it is known")
    receipt: str = Field(description="where the outcome will be", examples=["/v1/commands/c-1"])


class Receipt(View):
    """Decided"""

    command_id: str = Field(examples=["c-1"])
    outcome: Literal["accepted", "rejected"]
    recorded_at: datetime = Field(examples=[_RECORDED])
    position: int | None = Field(examples=[42])
    events: Annotated[list[EventSummary], From("events", lambda found, _: found)]
    error: Annotated[Refusal | None, From("error", lambda found, _: found, None)] = Field(
        None, description="there when it was rejected"
    )


class BulkItem(View):
    """What became of a part."""

    ref: str | None = Field(description="the request's own name for the part, where it has one")
    id: str | None = Field(description="of what the part is about")
    outcome: Outcome
    receipt: str = Field("", description="of its command, once that is decided")
    position: int | None = Field(None, description="there when it was accepted")
    error: Refusal | None = Field(None, description="there when it was rejected")


class Bulk(View):
    """How far it is, and each part in the order of the request"""

    id: str
    command: str = Field(json_schema_extra={"enum": list(COMMANDS)})
    state: Literal["running", "done"]
    created_at: datetime
    total: Count = Field(description="the parts of the request")
    sent: Count = Field(description="the commands that the broker has taken")
    accepted: Count
    rejected: Count
    undecided: Count
    position: int | None = Field(description="the highest one, for `min_position`")
    items: Annotated[list[BulkItem], From("items", lambda found, _: found)]

    example: ClassVar[Json] = {
        "id": BULK_ID,
        "command": "task.create",
        "state": "running",
        "created_at": _RECORDED,
        "total": 3,
        "sent": 2,
        "accepted": 1,
        "rejected": 1,
        "undecided": 1,
        "position": 42,
        "items": [
            {"ref": "order-1", "id": "t1", "receipt": _RECEIPT, "outcome": "accepted", "position": 42},
            {"ref": "order-2", "id": "t2", "outcome": "undecided"},
            {
                "ref": "order-3",
                "id": None,
                "outcome": "rejected",
                "error": {"code": "wrong-shape", "detail": "flow is required", "pointer": "/flow"},
            },
        ],
    }


class RegisteredEntry(View):
    """What became of an entry of a list."""

    status: Registered
    id: str | None = None
    position: int | None = Field(None, description="for `min_position`")
    error: Refusal | None = None
    receipt: str = Field("", description="where an undecided entry's outcome will be")


class Registrations(View):
    """What became of each entry of a list"""

    registered: Count
    unchanged: Count
    refused: Count
    undecided: Count
    position: int | None = Field(description="the highest one, for `min_position`")
    receipt: Annotated[str, From("receipt", default="")] = Field(
        "", description="of a list that is registered in the background"
    )
    entries: Annotated[list[RegisteredEntry], From("entries", lambda found, _: found)] = Field(
        description="in the order of the request"
    )

    example: ClassVar[Json] = {
        "registered": 1,
        "unchanged": 0,
        "refused": 1,
        "undecided": 0,
        "position": 8,
        "entries": [
            {"status": "registered", "id": "h1", "position": 8},
            {
                "status": "refused",
                "error": {
                    "code": "taken",
                    "detail": "hub h2 is registered with other fields",
                    "pointer": "/entries/1/id",
                },
            },
        ],
    }


class EntryOrRegistrations(RootModel[Entry | Registrations]):
    """The entry, which was there already; or what became of each entry of a list"""


class UndecidedEntries(RootModel[Undecided | Registrations]):
    """The outcome of the entry, or of some entries of a list, is not known yet; look at the receipts"""
