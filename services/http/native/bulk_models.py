"""The requests and views of bulks that are previewed."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, RootModel

from domain.limits import Number
from services.http.core import bulk_acts
from services.http.core.bulk_states import ITEM_STATES
from services.http.core.models import From, Json, Request, View, refuse
from services.http.core.pace import ALL, MAX_RATE, RAMP, is_rate
from services.http.core.parameters import Position, Query
from services.http.core.sending import receipt_path
from services.http.native.models import BULK_ID, Count, Refusal

BulkState = Annotated[str, Field(json_schema_extra={"enum": list(bulk_acts.STATES)})]
ItemState = Annotated[str, Field(json_schema_extra={"enum": list(ITEM_STATES)})]


def _rate(value: Any) -> Any:
    text = str(value) if type(value) is int else value
    if text is not None and not (isinstance(text, str) and is_rate(text) and text.isdigit() is (type(value) is int)):
        refuse("wrong-shape", f"a rate is {ALL!r}, {RAMP!r} or a whole number per second from 1 to {MAX_RATE}")
    return text


_RATES: Json = {
    "anyOf": [{"enum": [ALL, RAMP]}, {"type": "integer", "minimum": 1, "maximum": MAX_RATE}, {"type": "null"}]
}


class RunBulk(Request):
    """How fast a bulk is run."""

    rate: Annotated[str | None, BeforeValidator(_rate)] = Field(
        None,
        description=f"`{ALL}`, so many per second, or `{RAMP}`: 1, 2, 5, 10, 20 and so on, until the first failure that"
        " the preview did not announce. Without it as before, at first a ramp.",
        json_schema_extra=_RATES,
    )

    example: ClassVar[Json] = {"rate": RAMP}


class BulkCounts(View):
    """The number of items in each state."""

    pending: Count = Field(description="not previewed yet")
    ready: Count = Field(description="will be executed, when the bulk is run")
    accepted: Count
    refused: Count
    skipped: Count = Field(description="will not be executed, or was not")
    unknown: Count = Field(description="sent, and the outcome is not known")


class BulkAction(View):
    """The bulk"""

    id: str = Field(examples=[BULK_ID])
    command: str = Field(examples=["task.cancel"])
    data: dict[str, Any] = Field(examples=[{}])
    on_change: Literal["skip", "run"]
    actor: str = Field(description="who previewed it, and whose the commands are")
    state: BulkState
    reason: str | None = Field(
        None,
        description="why it is paused, or aborted",
        json_schema_extra={"enum": ["asked", "new-failure", "expired", None]},
    )
    rate: str | None = Field(None, examples=[RAMP])
    total: Count
    counts: BulkCounts
    skipped: dict[str, int] = Field(description="the reasons of those skipped", examples=[{"changed": 1}])
    created_at: datetime
    previewed_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


class BulkPage(View):
    """A page of bulks"""

    data: list[BulkAction]
    next: str | None = Field(description="the next page's address")


class BulkActionItem(View):
    """An item of a bulk: what it would do, and what became of it."""

    number: int = Field(ge=1, examples=[1])
    id: str = Field(examples=["t1"])
    version: Count | None = Field(
        None, description="the one that was previewed; of a dead letter how often it came, and was sent again"
    )
    state: ItemState
    reason: str | None = Field(None, description="why it is skipped, or not known", examples=["changed"])
    would_record: list[str] | None = Field(
        None, description="types of the events, each once", examples=[["task.canceled"]]
    )
    error: Refusal | None = Field(None, description="why it is refused or skipped")
    command_id: str | None = Field(None, description="there when it was sent and decided")
    receipt: Annotated[str | None, From("command_id", lambda sent, _: sent and receipt_path(sent))] = None
    first_position: Count | None = Field(None, description="of the events that were recorded")
    last_position: Count | None = None
    decided_at: datetime | None = None


class BulkItems(View):
    """A page of items"""

    data: list[BulkActionItem]
    next: str | None = Field(description="the next page's address")


class BulkProgress(RootModel[str]):
    """The bulk, as `GET /v1/bulk/{id}` shows it, whenever it changes"""

    example: ClassVar[str] = 'data: {"id":"b1","state":"running","counts":{"ready":3,"accepted":7}}\n\n'


class ListBulks(Query):
    """The page of bulks."""

    cursor: str | None = Field(None, description="What `next` of the page before says")
    limit: Annotated[int, Number(1, 100)] = Field(20, description="Bulks of a page")
    states: list[BulkState] | None = Field(None, alias="state", description="A state; may be repeated")


class ListItems(Query):
    """The page of items."""

    cursor: Position = Field(0, description="The last number seen")
    limit: Annotated[int, Number(1, 500)] = Field(50, description="Items of a page")
    states: list[ItemState] | None = Field(None, alias="state", description="A state; may be repeated")
