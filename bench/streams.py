"""What live events cost an HTTP process: `python -m bench.streams`. It needs no servers: it starts its own.

Readers hold streams of one tenant. A line for the memory of the process with them, and one for each kind of reader: the
time from before the commit of an event until a reader has it, when every reader wants every event, and when each event
is wanted by one reader.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import tempfile
import time
from pathlib import Path

import psycopg

from bench.overload import development_broker
from bench.processes import Processes, free_port, listening, processes, until
from services import keys
from services.dev.postgres import EmbeddedPostgres
from services.store.migrate import upgrade

_META = {
    "id": "e",
    "command": "c",
    "correlation": "c",
    "causation": "c",
    "actor": "system",
    "at": "2026-01-01T00:00:00Z",
}
_RECORD = (
    "INSERT INTO stored_events (originator_id, originator_version, topic, state, notification_id)"
    " SELECT %s, 1, 'task.created', %s, coalesce(max(notification_id), 0) + 1 FROM stored_events"
)


class _Reader(asyncio.Protocol):
    """One stream. It does as little as it can, since all of them share the machine with what is measured."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._text = b""
        self.begun = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        *blocks, self._text = (self._text + data).split(b"\n\n")
        for block in blocks:
            if b"data: " in block:
                position = int(block[block.index(b"id: ") + 4 : block.index(b"\n", block.index(b"id: "))])
                self._readers.arrived.setdefault(position, []).append(now)
                self._readers.changed.set()
            elif not self.begun.done() and b"retry: " in block:
                self.begun.set_result(None)


class Readers:
    """Streams over sockets; when each had an event is noted by the event's position."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._token = token
        self.arrived: dict[int, list[float]] = {}
        self.changed = asyncio.Event()
        self._transports: list[asyncio.Transport] = []

    async def open(self, queries: list[str]) -> None:
        """Open a stream for each query, a few at a time, and return when all have begun."""
        turns, loop = asyncio.Semaphore(20), asyncio.get_running_loop()

        async def one(query: str) -> None:
            async with turns:
                transport, reader = await loop.create_connection(lambda: _Reader(self), "127.0.0.1", self._port)
                head = f"GET /v1/events/stream?{query} HTTP/1.1\r\nHost: localhost\r\n"
                transport.write(f"{head}Authorization: Bearer {self._token}\r\n\r\n".encode())
                self._transports.append(transport)
                await asyncio.wait_for(reader.begun, 60)

        await asyncio.gather(*(one(query) for query in queries))

    async def has(self, position: int, count: int) -> list[float]:
        """Wait until so many readers have an event, and return when each had it."""
        async with asyncio.timeout(60):
            while len(self.arrived.get(position, ())) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.arrived.pop(position)

    def close(self) -> None:
        """End all streams."""
        for transport in self._transports:
            transport.abort()


async def _latencies(
    port: int, token: str, database: str, queries: list[str], events: int, wanted_by: int, running: Processes
) -> tuple[list[float], float]:
    """Return the latency of every reader that got one of the events, and how much the streams take in MB."""
    before = running.memory()["http"]
    readers, found = Readers(port, token), list[float]()
    await readers.open(queries)
    # An event as long as those of a load, of a task that has a reader.
    state = json.dumps({"meta": _META, "data": {"id": "x", "title": "x" * 300}}).encode()
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:
        for number in range(events + 1):
            task = f"acme/task-t{number % len(queries)}"
            async with conn.transaction():
                await conn.execute(_RECORD, (task, state))
                await conn.execute("SELECT pg_notify('foldwork_log', '')")
                row = await (await conn.execute("SELECT max(notification_id) FROM stored_events")).fetchone()
                assert row is not None
                began = time.monotonic()
            at = await readers.has(row[0], wanted_by)
            # The first one finds streams that have not joined yet.
            found += [each - began for each in at] if number else []
            await asyncio.sleep(0.02)
    taken = running.memory()["http"] - before
    readers.close()
    await asyncio.sleep(0.5)
    return sorted(found), taken


def _told(latencies: list[float]) -> str:
    middle, late = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]
    return f"{middle * 1000:.1f} ms median, {late * 1000:.1f} ms p99, {latencies[-1] * 1000:.1f} ms at most"


def main() -> int:
    """Measure, and print a line for each kind of readers."""
    parser = argparse.ArgumentParser(prog="python -m bench.streams", description=__doc__)
    parser.add_argument("--readers", type=int, default=1000)
    parser.add_argument("--events", type=int, default=100)
    arguments = parser.parse_args()
    readers, events = arguments.readers, min(arguments.events, arguments.readers - 1)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="foldwork-bench-") as folder:
        Path(folder).chmod(0o755)
        postgres = EmbeddedPostgres(Path(folder), fast=True)
        try:
            database = postgres.start()
            upgrade(database)
            with psycopg.connect(database) as conn:
                _, token = keys.create(conn, "acme", "system", ("read",))
            with development_broker() as amqp_url, processes() as running:
                port = free_port()
                # A tenant may have a quarter of the connections as streams.
                most = str(4 * readers + 100)
                environment = {
                    "FOLDWORK_DATABASE_URL": database,
                    "FOLDWORK_AMQP_URL": amqp_url,
                    "FOLDWORK_HTTP_PORT": str(port),
                    "FOLDWORK_HTTP_CONNECTIONS": most,
                    "FOLDWORK_HTTP_CONNECTIONS_PER_ADDRESS": most,
                }
                running.start({"http": ["-m", "services.cli", "http"]}, environment)
                until(lambda: listening(port), "the HTTP process", running=running)
                for what, queries, wanted_by in (
                    ("one wants each event", [f"task=t{number}" for number in range(readers)], 1),
                    ("all want every event", [""] * readers, readers),
                ):
                    found, taken = asyncio.run(_latencies(port, token, database, queries, events, wanted_by, running))
                    with psycopg.connect(database) as conn:
                        conn.execute("TRUNCATE stored_events")
                    print(f"{readers} readers, {what}: {taken:.0f} MB, {_told(found)}", flush=True)
        finally:
            postgres.remove()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
