"""What operators do: the event in which an act on the system is recorded with its outcome.

No command records it and nothing is decided by it. It is about the operation of the system and not about activities, so
it is neither published nor shown among a tenant's events.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

# A stream of this category is a tenant's record of acts; all of them have one id.
CATEGORY, STREAM_ID = "operations", "log"
# Stands for a tenant in the stream of the acts that concern no single tenant. No tenant can have this name.
NO_TENANT = "_system"

# What takes time is recorded when it has `started`, and again with its outcome.
Outcome = Literal["started", "succeeded", "failed"]
OUTCOMES: tuple[Outcome, ...] = ("started", "succeeded", "failed")


@dataclass(frozen=True, slots=True)
class OperationRecorded:
    """An act on a target, and how it ended; its actor is that of the event.

    `act` is `<kind>.<verb>`, such as `key.create`; `target` is `<kind>/<id>`. `reason` says why it failed, `key_id` is
    the API key that it was done with.
    """

    act: str
    target: str
    outcome: Outcome
    reason: str | None = None
    key_id: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


EVENTS: dict[str, type] = {"operation.recorded": OperationRecorded}
