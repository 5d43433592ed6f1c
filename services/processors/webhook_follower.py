"""The follower that queues events for webhooks, in the transaction that saves its position.

A webhook that is behind (new, paused, with a full queue, or to be replayed) has a position of its own. Its events are
read from the log, a page at a time between the batches, until it has reached the follower's position: from there on it
gets what the follower reads. So nothing is left out, however long a receiver is away, and the queue stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg

from domain.activity import STATUS_CATEGORY
from domain.limits import MAX_WHOLE
from domain.streams import split_stream, stream_of
from projections.support.query import within
from services.interests import Subject
from services.store import codec, log, standing, webhook_queue
from services.store.entities import of_activity
from services.store.failures import passes
from services.store.follower import Follower
from services.store.log import LogRow
from services.store.reader import Step
from services.store.webhook_queue import Entry, Wanting

NAME = "webhooks"
# How far, and for how many events with how many bytes, a webhook that is behind reads at once.
_WINDOW, _ROWS, _BYTES = 20_000, 500, 4 << 20


def now() -> datetime:
    return datetime.now(UTC)


class WebhookFollower(Follower):
    """Queues events; `on_queued` runs after a transaction in which something may have been."""

    def __init__(
        self,
        *,
        batch: int = 500,
        batch_bytes: int = log.BATCH_BYTES,
        poll: float = 1.0,
        clock: Callable[[], datetime] = now,
        on_queued: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(NAME, self._queue, batch=batch, batch_bytes=batch_bytes, poll=poll, entity_of=entity_of)
        self._clock = clock
        self._on_queued = on_queued
        # The webhook that was caught up last.
        self._after = "", ""

    def step(self, conn: psycopg.Connection[Any]) -> Step:
        """Queue the next batch, then a page for a webhook that is behind."""
        step = super().step(conn)
        caught_up = step in (Step.WORKED, Step.IDLE) and self._catch_up(conn)
        if step is Step.WORKED or caught_up:
            self._on_queued()
        if caught_up:
            self._more = True
            return Step.WORKED
        return step

    def _queue(self, conn: psycopg.Connection[Any], rows: Sequence[LogRow]) -> None:
        pushed = [row for row in rows if row.is_published]
        if not pushed:
            return
        known = webhook_queue.of_tenants(conn, sorted({tenant_of(row) for row in pushed}))
        webhook_queue.stop(conn, [each for each in known if each.position is None and not each.active])
        by_tenant: dict[str, list[Wanting]] = {}
        for each in known:
            if each.active or each.position is not None:
                by_tenant.setdefault(each.tenant, []).append(each)
        entries = []
        followed = standing.position(conn, NAME)
        for row in pushed:
            # An event that was held back also goes to those that are behind, if they have passed it.
            passed = row.position if row.position <= followed else MAX_WHOLE
            wanting = [
                each for each in by_tenant.get(tenant_of(row), ()) if each.position is None or each.position >= passed
            ]
            entries += self._entries(conn, row, wanting)
        if entries:
            webhook_queue.queue(conn, entries, rows[-1].position, self._clock())

    def _entries(self, conn: psycopg.Connection[Any], row: LogRow, wanting: Sequence[Wanting]) -> list[Entry]:
        """Return an entry for each of the webhooks that wants an event."""
        if not wanting:
            return []
        subject = Subject(row)
        admitting = [each for each in wanting if each.interest.admits(subject)]
        if not admitting:
            return []
        entity = entity_of(conn, row)
        event_id = codec.raw(row.state, row.name).meta.id
        return [Entry(each.tenant, each.id, row.position, entity, event_id) for each in admitting]

    def _catch_up(self, conn: psycopg.Connection[Any]) -> bool:
        """Queue a page of the log for a webhook that is behind; tell whether there was one."""
        with conn.transaction():
            row = self._lock(conn)
            if row is None:
                return False
            end, _, _, generation = row
            self.held.refresh(conn, generation)
            webhook = webhook_queue.behind(conn, end, *self._after)
            if webhook is None:
                begun = self._after == ("", "")
                self._after = "", ""
                return not begun
            self._after = webhook.tenant, webhook.id
            self._read_on(conn, webhook, end)
        return True

    def _read_on(self, conn: psycopg.Connection[Any], webhook: Wanting, end: int) -> None:
        assert webhook.position is not None  # noqa: S101
        until = min(webhook.position + _WINDOW, end)
        page = log.events_of_tenant(webhook.tenant, webhook.position, until, webhook.interest.types, _ROWS)
        found = conn.execute(*within(page, _BYTES, "state"), binary=True).fetchall()
        rows = [LogRow(*row[:-2]) for row in found]
        if found and (found[-1][-1] > len(rows) or len(rows) == _ROWS):
            until = rows[-1].position
        entries: list[Entry] = []
        # What waits behind an event that could not be taken is queued with it.
        for row in self.held.set_aside(conn, rows):
            try:
                entries += self._entries(conn, row, [webhook]) if row.is_published else []
            except Exception as error:
                if passes(error):
                    raise
                self.held.hold(conn, row, error)
                until = row.position
                break
        webhook_queue.insert(conn, entries, until, self._clock())
        webhook_queue.move(conn, webhook, None if until >= end else until)


def entity_of(conn: psycopg.Connection[Any], row: LogRow) -> str:
    """Return what is delivered in order: an activity with its tasks and its status, or another stream."""
    tenant, category, activity_id = split_stream(row.stream)
    if category == STATUS_CATEGORY:
        return stream_of(tenant, "activity", activity_id)
    return of_activity(conn, row) or row.stream


def tenant_of(row: LogRow) -> str:
    return row.stream.partition("/")[0]
