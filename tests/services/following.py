"""What the tests of followers share: a log to follow, handlers that note what they saw, threads that end."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg

from domain.streams import stream_of
from domain.task import TaskCreated
from services.store import codec
from services.store.append import NewEvent, append_in
from services.store.held import Handle
from services.store.log import LogRow
from services.store.reader import Reader
from tests.eventually import PATIENCE
from tests.services.harness import TENANT, rows

NAME = "seen"
SEEN = "CREATE TABLE seen (position bigint, by text, tx xid8 DEFAULT pg_current_xact_id())"


def add(url: str, count: int) -> None:
    """Append so many events."""
    with psycopg.connect(url) as conn:
        append_in(conn, [an_event() for _ in range(count)])


def an_event() -> NewEvent:
    """Return the first event of a new task."""
    task_id = uuid.uuid4().hex
    metadata = codec.Metadata(uuid.uuid4().hex, uuid.uuid4().hex, "c", "c", "system", datetime.now(UTC))
    return NewEvent(stream_of(TENANT, "task", task_id), 1, "task.created", TaskCreated(task_id), metadata)


def noting(by: str = "one") -> Handle:
    """Return a handler that notes each position under its name."""

    def handle(conn: psycopg.Connection[Any], batch: Sequence[LogRow]) -> None:
        for row in batch:
            conn.execute("INSERT INTO seen VALUES (%s, %s)", (row.position, by))

    return handle


def seen(url: str, by: str = "%") -> list[int]:
    """Return the positions that were noted."""
    return [row[0] for row in rows(url, "SELECT position FROM seen WHERE by LIKE %s ORDER BY position, by", by)]


def state(url: str, name: str = NAME) -> tuple[Any, ...] | None:
    """Return a follower's position, where it is halted, and its epoch."""
    found = rows(url, "SELECT position, halted_at, epoch FROM followers WHERE name = %s", name)
    return found[0] if found else None


@contextmanager
def following(url: str, *readers: Reader, statement_timeout: float = 30.0) -> Iterator[None]:
    """Run readers in threads, which end with the block."""
    threads = [threading.Thread(target=reader.run, args=(url, statement_timeout), daemon=True) for reader in readers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for reader in readers:
            reader.stop()
        for thread in threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in threads)


def connections(url: str, reader: str = NAME) -> list[tuple[Any, ...]]:
    """Return the process ids behind a reader's connections."""
    # Another test process has readers of the same names in other databases of the server.
    asked = "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()"
    return rows(url, asked, f"foldwork-follower-{reader}")
