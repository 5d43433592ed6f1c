"""How fast events are delivered to webhooks: `python -m bench.webhooks`. It needs no servers: it starts its own.

A filled log is delivered by one process of the role `policies`, to one webhook and to several, each with a receiver of
its own that notes what it gets. Every event must come once, and those of an activity in order; else there is no figure.
The naive sender is measured in the same run: it reads the events one by one, sends each over a connection that stays
open, and commits that it was taken.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import secrets
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psycopg
from pydantic import SecretStr

from bench.overload import development_broker
from bench.processes import Failed, processes, until
from domain.streams import stream_of
from domain.task import TaskCreated
from services.cloud_events import cloud_event
from services.dev.postgres import EmbeddedPostgres
from services.encryption import Keyring
from services.store import append, codec, log, webhooks
from services.store.migrate import upgrade
from services.webhooks import new_secret, place_of, signed

TENANT = "acme"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_TABLES = "TRUNCATE stored_events, webhooks, webhook_deliveries CASCADE"


class _Connection(asyncio.Protocol):
    """One connection to a receiver. It does as little as it can, since it shares the machine with what is measured."""

    def __init__(self, receivers: Receivers) -> None:
        self._receivers = receivers
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            if len(self._data) < end + 4 + length:
                return
            path = head.split(b" ")[1].decode()
            self._receivers.got.append((path, self._data[end + 4 : end + 4 + length]))
            self._data = self._data[end + 4 + length :]
            self._transport.write(_ANSWER)


class Receivers:
    """A server in a thread that takes all that is sent to it; receivers are told apart by their paths."""

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> int:
        """Listen, and return the port."""
        self._thread.start()
        listening = self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=1000)
        server = asyncio.run_coroutine_threadsafe(listening, self._loop).result()
        return int(server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def demand_right(self, events: int, count: int) -> None:
        """Raise `Failed` unless each receiver has got every event once, and those of each activity in order."""
        last: dict[tuple[str, str], int] = {}
        of_receiver: Counter[str] = Counter()
        for path, body in self.got:
            event = json.loads(body)
            key = path, event["data"]["activity_id"]
            if event["position"] <= last.get(key, 0):
                raise Failed(f"an event of {key} came again, or after a later one")
            last[key] = event["position"]
            of_receiver[path] += 1
        if len(of_receiver) != count or set(of_receiver.values()) != {events}:
            raise Failed(f"{dict(of_receiver)} events came, not {events} to each of {count}")


def _record(conn: psycopg.Connection, events: int, activities: int) -> None:
    """Record events of several activities, those of each mixed with the others'."""
    made = []
    for number in range(events):
        event = TaskCreated(f"t{number}", title="x" * 300, activity_id=f"a{number % activities}")
        meta = codec.Metadata(f"e{number}", "c", "c", "c", "system", datetime.now(UTC))
        made.append(append.NewEvent(stream_of(TENANT, "task", event.id), 1, "task.created", event, meta))
    for first in range(0, events, 1000):
        append.append_in(conn, made[first : first + 1000])
        conn.commit()


def _ours(database: str, amqp_url: str, key: str, events: int, activities: int, count: int) -> float:
    """Return the deliveries a second to so many webhooks."""
    receivers = Receivers()
    port = receivers.start()
    try:
        with psycopg.connect(database) as conn:
            conn.execute(_TABLES)
            conn.execute("UPDATE followers SET position = 0")
            keys = Keyring([SecretStr(key)])
            for number in range(count):
                name, secret = f"h{number}", new_secret()
                stored = keys.encrypt(place_of(TENANT, name), secret)
                webhooks.create(conn, TENANT, name, f"http://127.0.0.1:{port}/{name}", {}, stored, "system", 0)
            conn.commit()
            _record(conn, events, activities)
        environment = {
            "FOLDWORK_DATABASE_URL": database,
            "FOLDWORK_AMQP_URL": amqp_url,
            "FOLDWORK_SECRET_KEY": key,
            "FOLDWORK_DISPATCH_HOSTS": "127.0.0.1",
        }
        with processes() as running:
            running.start({"policies": ["-m", "services.cli", "policies"]}, environment)
            # From the first ones on, so that the start of the process does not count.
            warm = events * count // 10
            until(lambda: len(receivers.got) >= warm, "the first deliveries", running=running, every=0.001)
            before, began = len(receivers.got), time.monotonic()
            until(lambda: len(receivers.got) >= events * count, "the deliveries", 300, running, every=0.001)
            speed = (len(receivers.got) - before) / (time.monotonic() - began)
        receivers.demand_right(events, count)
        return speed
    finally:
        receivers.close()


def _naive(database: str, events: int) -> float:
    """Return the deliveries a second of a loop that sends one event after the other, and commits each."""
    receivers = Receivers()
    port, secret = receivers.start(), new_secret()
    try:
        with psycopg.connect(database) as conn, httpx.Client(trust_env=False) as client:
            conn.execute("CREATE TABLE IF NOT EXISTS naive_position (position bigint)")
            conn.execute("TRUNCATE naive_position")
            conn.execute("INSERT INTO naive_position VALUES (0)")
            conn.commit()
            began = time.monotonic()
            position = 0
            while rows := log.read(conn, position, 1):
                body, event_id = cloud_event(rows[0]), f"e{position}"
                headers = signed(event_id, int(time.time()), body, [secret])
                client.post(f"http://127.0.0.1:{port}/h0", content=body, headers=headers).raise_for_status()
                position = rows[0].position
                conn.execute("UPDATE naive_position SET position = %s", (position,))
                conn.commit()
            speed = events / (time.monotonic() - began)
        receivers.demand_right(events, 1)
        return speed
    finally:
        receivers.close()


@contextlib.contextmanager
def _database() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="foldwork-bench-") as folder:
        Path(folder).chmod(0o755)
        postgres = EmbeddedPostgres(Path(folder))
        try:
            url = postgres.start()
            upgrade(url)
            yield url
        finally:
            postgres.remove()


def main() -> int:
    """Measure in turn, and print a line for each number of receivers."""
    parser = argparse.ArgumentParser(prog="python -m bench.webhooks", description=__doc__)
    parser.add_argument("--receivers", type=int, nargs="+", default=[1, 20])
    parser.add_argument("--events", type=int, default=2000, help="events, each for every receiver")
    parser.add_argument("--activities", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    found: dict[int, list[float]] = {count: [] for count in arguments.receivers}
    naive: list[float] = []
    with _database() as database, development_broker() as amqp_url:
        for _ in range(arguments.rounds):
            for count, speeds in found.items():
                # As many deliveries, however many receivers there are.
                events = max(200, arguments.events // count)
                speeds.append(_ours(database, amqp_url, key, events, arguments.activities, count))
            naive.append(_naive(database, events))
    alone = statistics.median(naive)
    print(f"naive: {alone:.0f} deliveries/s ({min(naive):.0f}-{max(naive):.0f})")
    for count, speeds in found.items():
        middle = statistics.median(speeds)
        told = f"{middle:.0f} deliveries/s ({min(speeds):.0f}-{max(speeds):.0f}), {middle / alone:.2f} of naive"
        print(f"{count} receivers: {told}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
