"""The requests and views of webhooks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from domain import EVENTS
from domain.limits import MAX_WHOLE, Id
from domain.streams import split_stream
from projections.support.query import MAX_FILTER_VALUES
from services.http.core.models import LEFT_OUT, From, Json, Request, View
from services.http.core.openapi import PERSONS
from services.http.native.models import Count
from services.interests import Dimension
from services.webhooks import MAX_OVERLAP, MAX_URL, OVERLAP

_IDS = Field(min_length=1, max_length=MAX_FILTER_VALUES)
_URL = Field(
    max_length=MAX_URL,
    description="Where the events are sent: an https:// URL, or http:// for a receiver on loopback",
    examples=["https://example.com/hooks"],
)
_TYPES = Field(
    None,
    min_length=1,
    max_length=MAX_FILTER_VALUES,
    description="The types of events; without it, all",
    json_schema_extra={"items": {"type": "string", "enum": list(EVENTS)}},
)
_SECRET = Field(None, description="whsec_ and 24 to 64 bytes in base64; made if it is left out")
# Where a request has what is wanted, by respect.
PLACES: dict[Dimension, str] = {
    "type": "/types", "activity": "/filter/activities", "task": "/filter/tasks", "member": "/filter/members"
}  # fmt: skip


class WebhookFilter(Request):
    """What events are about: of each list that is given, one of its values."""

    activities: Annotated[list[str] | None, _IDS] = Field(None, description="Activities, with their tasks")
    tasks: Annotated[list[str] | None, _IDS] = None
    members: Annotated[list[str] | None, _IDS] = Field(
        None, description=f"Members, whose events name them, each as {PERSONS}"
    )

    example: ClassVar[Json] = {"activities": ["a1"]}

    def wanted(self) -> dict[Dimension, Sequence[str] | None]:
        """Return the values by respect."""
        return {"activity": self.activities, "task": self.tasks, "member": self.members}


class NewWebhook(Request):
    """A webhook to create."""

    id: Id | None = Field(None, description="given out if it is left out")
    url: Annotated[str, _URL]
    types: list[str] | None = _TYPES
    filter: WebhookFilter | None = Field(None, description="without it, events about anything")
    secret: str | None = _SECRET
    from_position: int | None = Field(
        None, ge=0, le=MAX_WHOLE, description="events after it are sent; without it, those from now on"
    )

    example: ClassVar[Json] = {"url": "https://example.com/hooks", "types": ["task.completed"]}


class WebhookChange(Request):
    """A change of a webhook."""

    changes = True

    url: Annotated[str, _URL] = LEFT_OUT
    types: list[str] | None = _TYPES
    filter: WebhookFilter | None = Field(None, description="replaces the whole filter; null takes it away")
    state: Literal["active", "paused"] = Field(
        LEFT_OUT, description="a paused webhook sends nothing, and goes on from there when it is active again"
    )

    example: ClassVar[Json] = {"state": "paused"}


class SecretRotation(Request):
    """A new secret."""

    secret: str | None = _SECRET
    overlap_seconds: int = Field(
        OVERLAP, ge=0, le=MAX_OVERLAP, description="for how long deliveries are signed with the secret before, too"
    )

    example: ClassVar[Json] = {"overlap_seconds": 3600}


class Replay(Request):
    """Where to begin again."""

    from_position: int = Field(ge=0, le=MAX_WHOLE, description="events after it are sent again")

    example: ClassVar[Json] = {"from_position": 0}


class ShownFilter(View):
    """What the events are about; members by their ids."""

    activities: list[str] | None
    tasks: list[str] | None
    members: list[str] | None

    example: ClassVar[Json] = {"activities": ["a1"], "tasks": None, "members": None}


def _filter(resource: Any, _: Any) -> Json:
    return {name: resource[name] for name in ShownFilter.model_fields}


class Webhook(View):
    """The webhook"""

    id: str
    url: Annotated[str, _URL]
    types: list[str] | None = Field(description="null for all")
    filter: Annotated[ShownFilter, From("", _filter)]
    state: Literal["active", "paused", "disabled"] = Field(description="the service disables one that cannot be served")
    cause: str | None = Field(description="why it is disabled")
    created_by: str = Field(description="the actor of the key", examples=["system"])
    created_at: datetime
    old_secret_until: datetime | None = Field(
        description="until then deliveries are signed with the secret before, too"
    )
    position: int | None = Field(description="events after it are still to be queued; null if all are")
    pending: Count = Field(description="deliveries that are queued")
    parked: Count = Field(description="deliveries that were given up, and can be replayed")
    failing_since: datetime | None = Field(description="the first failure since a delivery succeeded")
    error: str | None = Field(description="the last one")


class CreatedWebhook(Webhook):
    """The webhook, and its secret, which is not shown again"""

    secret: str = Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])


class RotatedSecret(View):
    """The new secret, which is not shown again"""

    secret: str = Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
    old_secret_until: datetime | None


def _subject(stream: str | None, _: Any) -> str | None:
    return None if stream is None else "/".join(split_stream(stream)[1:])


class WebhookDelivery(View):
    """The delivery"""

    position: int = Field(description="the event's position, by which the delivery is known", examples=[42])
    event_id: str = Field(description="sent as webhook-id", examples=["0199a1f0-0000-7000-8000-00000000e001"])
    type: str | None = Field(description="null if the log has no such event any more")
    subject: Annotated[str | None, From("stream", _subject)]
    state: Literal["pending", "delivered", "parked"]
    attempts: Count
    tried_at: datetime | None
    next_at: datetime | None = Field(description="when it is tried next, unless an event before it is delivered first")
    status: int | None = Field(description="the status of the last answer")
    answer: str | None = Field(description="the start of the last answer, or why there was none")


class WebhookPing(View):
    """What came of the ping"""

    event_id: str = Field(description="sent as webhook-id", examples=["0199a1f0-0000-7000-8000-00000000e001"])
    delivered: bool = Field(description="whether the receiver answered 2xx", examples=[True])
    status: int | None = Field(description="the status of the answer; null if there was none", examples=[200])
    seconds: float = Field(ge=0, description="how long it took", examples=[0.042])
    answer: str = Field(description="the start of the answer, or why there was none", examples=["thanks"])
