"""An event with all that the store knows of it; readers of the log meet nothing else."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple


class Recorded(NamedTuple):
    """A stored event. `position` is its place in the log, from 1 without gaps; `version` its place in its stream.

    `name` is the stored name (`task.completed`), `data` the event itself. `occurred_at` is the deciding worker's clock,
    `recorded_at` the database's clock in the transaction that stored it.
    """

    position: int
    event_id: str
    tenant: str
    category: str
    entity_id: str
    version: int
    name: str
    data: Any
    command_id: str
    correlation_id: str
    causation_id: str
    actor: str
    occurred_at: datetime
    recorded_at: datetime
    traceparent: str | None = None
