"""The handler of a read model's follower: it decodes the events that the model reads, and projects them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from domain import STORED_EVENTS
from domain.recorded import Recorded
from projections import ReadModel
from services.store.entities import of_activity, of_stream
from services.store.log import LogRow


class Projector:
    """Projects batches of events; the projection may cache documents only between consecutive batches."""

    def __init__(self, model: ReadModel, suffix: str, keep: int) -> None:
        self._event: Callable[[LogRow], Recorded] = (
            LogRow.passed_on if getattr(model, "AS_STORED", False) else LogRow.recorded
        )
        self._events = model.EVENTS
        self._entity_of = of_activity if getattr(model, "BY_ACTIVITY", False) else of_stream
        self._projection = model.projection(suffix, keep)
        self._next: int | None = None

    def __call__(self, conn: psycopg.Connection[Any], rows: Sequence[LogRow]) -> None:
        # A gap means that a transaction was rolled back, or that another process worked in between.
        if rows[0].position != self._next:
            self.forget()
        self._next = None
        batch = [self._event(row) for row in rows if self._reads(row)]
        self._projection.project(conn, batch)
        self._next = rows[-1].position + 1

    def forget(self) -> None:
        """Drop the cached documents."""
        self._projection.forget()
        self._next = None

    def entity_of(self, conn: psycopg.Connection[Any], row: LogRow) -> str | None:
        """Return the entity of an event, None for an event that the read model skips."""
        return self._entity_of(conn, row) if self._reads(row) else None

    def _reads(self, row: LogRow) -> bool:
        # An event of an unknown type is read too: decoding it fails, while skipping it would lose it.
        return row.name in self._events or row.name not in STORED_EVENTS
