"""What the machine can do at best: the database without a service around it, the broker without a library around it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import psycopg
from pamqp.commands import Basic

from bench import load
from bench.servers import Servers
from bench.wire import Wire, chunked, encoded
from services.store.migrate import upgrade

_COLUMNS = "originator_id, originator_version, topic, state, notification_id"
_UNNEST = (
    f"INSERT INTO stored_events ({_COLUMNS})"
    " SELECT * FROM unnest(%b::text[], %b::bigint[], %b::text[], %b::bytea[], %b::bigint[])"
)
_ONE = f"INSERT INTO stored_events ({_COLUMNS}) VALUES (%b, %b, %b, %b, %b)"
_COPY = f"COPY stored_events ({_COLUMNS}) FROM STDIN (FORMAT BINARY)"
# As long as the events of the load are on average.
STATE = b'{"meta":{"id":"019a0000-0000-7000-8000-000000000000"},"data":{}}'.ljust(480)
Rows = Sequence[tuple[str, int, str, bytes, int]]


def raw(servers: Servers, events: int, batch: int = 1000) -> float:
    """Return the events a second that one connection inserts by UNNEST, a commit for each batch."""

    def insert(conn: psycopg.Connection, rows: Rows) -> None:
        conn.execute(_UNNEST, [list(column) for column in zip(*rows, strict=True)], prepare=True)

    return _inserted(servers, events, batch, insert)


def copied(servers: Servers, events: int, batch: int = 1000) -> float:
    """Return the events a second that one connection copies."""

    def insert(conn: psycopg.Connection, rows: Rows) -> None:
        with conn.cursor() as cursor, cursor.copy(_COPY) as copy:
            copy.set_types(["text", "bigint", "text", "bytea", "bigint"])
            for row in rows:
                copy.write_row(row)

    return _inserted(servers, events, batch, insert)


def one_by_one(servers: Servers, events: int) -> float:
    """Return the events a second that one connection inserts with a commit for each."""
    return _inserted(servers, events, 1, lambda conn, rows: conn.execute(_ONE, rows[0], prepare=True))


def _inserted(servers: Servers, events: int, batch: int, insert: Callable[[psycopg.Connection, Rows], object]) -> float:
    database_url = servers.create_database()
    try:
        upgrade(database_url)
        with psycopg.connect(database_url) as conn:
            batches = [_rows(first, batch) for first in range(1, events + 1, batch)]
            began = time.perf_counter()
            for rows in batches:
                insert(conn, rows)
                conn.commit()
            return len(batches) * batch / (time.perf_counter() - began)
    finally:
        servers.drop_database(database_url)


def _rows(first: int, count: int) -> Rows:
    # Two events to a stream, as in the load, where a task has three and an activity one.
    return [
        (f"{load.TENANT}/task-{load.task_id(0, at // 2, 1)}", at % 2 + 1, "task.started", STATE, at)
        for at in range(first, first + count)
    ]


def broker(servers: Servers, messages: int) -> tuple[float, float]:
    """Return the messages a second that go into a quorum queue, confirmed, and out of it."""
    properties = Basic.Properties(content_type="application/json", delivery_mode=2, message_id="0", message_type="x")
    queue = "bench.limits"
    with Wire(servers.amqp_url) as wire:
        wire.declare_queue(queue)
        chunks = chunked([encoded("", queue, properties, STATE)] * messages)
        seconds_in = wire.publish(chunks)
    samples: list[tuple[float, int]] = []

    def go_on(now: float, count: int) -> bool:
        if count and (not samples or count != samples[-1][1]):
            samples.append((now, count))
        return count < messages

    with Wire(servers.amqp_url) as wire:
        began = time.monotonic()
        wire.consume(queue, go_on)
        seconds_out = time.monotonic() - began
        wire.delete_queue(queue)
    return messages / seconds_in, messages / seconds_out
