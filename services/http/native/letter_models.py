"""The requests and views of dead letters."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from domain.limits import Number
from services.dead_letters import MAX_REASON
from services.http.core.models import Json, Request, View
from services.http.core.parameters import MOMENT, Query
from services.http.native.models import Count, Refusal

State = Literal["parked", "retrying", "retried", "discarded"]
MAX_GROUPS = 500
_FINGERPRINT = "5a1c2f0e9b7d4836"


class Which(Query):
    """Which letters are asked for."""

    reason: str | None = Field(None, description="The code of the reason, such as `wrong-shape`")
    fingerprint: str | None = Field(None, description="The fingerprint of a group")
    type: str | None = Field(None, description="The type of the command")
    key: str | None = Field(None, description="The routing key: the activity's id, or that of a task of its own")
    state: State | None = Field(None, description="What became of it")
    since: str | None = Field(
        None,
        description="It came, or came again, at this time or later",
        json_schema_extra=MOMENT,
    )


class ListLetters(Which):
    """The page of letters."""

    limit: Annotated[int, Number(1, 500)] = Field(50, description="Most letters of a page")
    cursor: str | None = Field(None, description="What `next` of the page before says")


class RetryLetter(Request):
    """How a letter is sent again; its id, tenant, actor and type stay as they are."""

    whole: Json | None = Field(None, alias="data", description="other data for the command, as a whole")
    merge: Json | None = Field(None, description="a JSON merge patch (RFC 7396) of the command's data")
    out_of_order: bool = Field(False, description="although an older letter of the same key is not decided")

    example: ClassVar[Json] = {"merge": {"title": "Water the plants"}}


class DiscardLetter(Request):
    """Why a letter is discarded."""

    reason: str = Field(min_length=1, max_length=MAX_REASON)

    example: ClassVar[Json] = {"reason": "sent by a test"}


class DeadLetter(View):
    """A dead letter, without what it holds"""

    id: str
    state: State
    message_id: str | None = Field(description="the id of the command")
    type: str | None
    key: str = Field(examples=["a1"])
    actor: str | None
    broker_user: str | None = Field(description="who sent it, as the broker says")
    reason: Refusal
    fingerprint: str = Field(examples=[_FINGERPRINT], description="letters with the same one have the same cause")
    bytes: Count
    count: Count = Field(description="how often it came")
    first_at: datetime
    last_at: datetime
    retries: Count
    acted_by: str | None = Field(description="who had it sent again, or discarded it, last")
    acted_at: datetime | None
    note: str | None = Field(description="why it was discarded, or the bulk that had it sent again")
    outcome: Literal["accepted", "rejected"] | None = Field(description="of the command that was sent again")
    decided_at: datetime | None
    error: Refusal | None = Field(None, description="why the command was rejected")


class DeadLetterContent(DeadLetter):
    """A dead letter"""

    headers: Json
    data: Json | None = Field(None, description="the body, where it is an object of JSON")
    body_base64: str = Field("", description="the body, where it is not; of one that is too large the beginning")
    edited: Json | None = Field(None, description="what was sent in its place the last time")


class DeadLetters(View):
    """A page of letters, the oldest first"""

    data: list[DeadLetter]
    next: str | None = Field(description="the next page's address")


class DeadLetterGroup(View):
    """Letters with the same cause."""

    fingerprint: str = Field(examples=[_FINGERPRINT])
    reason: Refusal = Field(description="of one of them")
    type: str | None
    letters: Count
    messages: Count = Field(description="how often they came, together")
    first_at: datetime
    last_at: datetime


class DeadLetterGroups(View):
    """Groups of letters, the one with the latest letter first"""

    data: list[DeadLetterGroup]


class Waiting(View):
    """No answer yet, or parked behind a dead letter; look at the receipt"""

    command_id: str
    outcome: Literal["undecided", "parked"] = Field(description="as far as it is known")
    receipt: str = Field(description="where the outcome will be")
    error: Refusal | None = Field(None, description="why it is parked")
