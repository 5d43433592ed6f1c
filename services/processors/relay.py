"""The relay: it publishes the events in order, and saves its position only after the broker has confirmed them.

The event table is the outbox. A crash between publishing and saving publishes again, under the same event id. An event
that the broker refuses for itself is no outage: it is held back with those behind it in its stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from services import cloud_events, metrics
from services.broker.frames.writer import Publication, event_header
from services.broker.names import EVENT_EXCHANGE
from services.broker.publisher import Publisher
from services.store.connect import stay
from services.store.held import Handle
from services.store.log import LogRow


def relay_handle(publisher: Publisher, on_published: Callable[[], None] = lambda: None) -> Handle:
    """Return the handler that publishes a batch of events; `on_published` runs before the position is saved."""

    def handle(conn: psycopg.Connection[Any], rows: Sequence[LogRow]) -> None:
        # The database ends a transaction in which nothing happens: that of a process that is frozen, not of one that
        # waits for the broker.
        publications = [publication(row) for row in rows if row.is_published]
        if publications:
            publisher.publish(publications, meanwhile=lambda: stay(conn))
        metrics.PUBLISHED.inc(len(publications))
        on_published()

    return handle


def publication(row: LogRow) -> Publication:
    body, event_id = cloud_events.published(row)
    header = event_header(row.stream.partition("/")[0], row.name, event_id, len(body))
    return EVENT_EXCHANGE, cloud_events.event_key(row), body, header
