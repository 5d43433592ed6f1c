"""Those who watch an episode from outside: subscribers, a reader of the log and the followers, and a probe."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiormq
import httpx
import psycopg
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from services.broker import names
from tests.faults.evidence import Letter, Ready, Received, Saved

_CONNECTING = 5.0
_PERIOD = 0.02
_PROBING = 0.25


class Subscriber:
    """A durable queue bound to the events of one tenant, each message acknowledged once it is on disk."""

    def __init__(self, url: str, tenant: str, path: Path) -> None:
        self.received: list[Received] = []
        self.commands: set[str] = set()
        self.queue = f"audit.{tenant}"
        self._url = f"{url}?heartbeat=7"
        self._tenant = tenant
        self._file = path.open("w", encoding="utf-8")
        self._task: asyncio.Task[None] | None = None
        self._bound = asyncio.Event()

    async def start(self) -> None:
        """Begin to connect, and return when the queue is bound."""
        self._task = asyncio.create_task(self._stay_connected(), name=self.queue)
        await self._bound.wait()

    async def close(self) -> None:
        """Disconnect."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._file.close()

    async def _stay_connected(self) -> None:
        while True:
            connection = None
            try:
                async with asyncio.timeout(_CONNECTING):
                    connection = await aiormq.connect(self._url)
                    channel = await connection.channel()
                    await channel.basic_qos(prefetch_count=200)
                    await channel.exchange_declare(names.EVENT_EXCHANGE, exchange_type="topic", durable=True)
                    await channel.queue_declare(self.queue, durable=True, arguments={"x-queue-type": "quorum"})
                    await channel.queue_bind(self.queue, names.EVENT_EXCHANGE, f"{self._tenant}.#")
                    await channel.basic_consume(self.queue, self._taken)
                self._bound.set()
                await asyncio.wait([connection.closing, channel.closing], return_when=asyncio.FIRST_COMPLETED)
            except (OSError, aiormq.AMQPError, TimeoutError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.1)
            finally:
                if connection is not None:
                    with suppress(Exception):
                        async with asyncio.timeout(1):
                            await connection.close()

    async def _taken(self, message: DeliveredMessage) -> None:
        event = json.loads(message.body)
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()
        found = (event["subject"], event["streamversion"], event["position"], event["commandid"])
        self.received.append(Received(time.time(), event["id"], event["tenant"], *found))
        self.commands.add(event["commandid"])
        with suppress(Exception):
            await message.channel.basic_ack(message.delivery_tag or 0)


class Probe:
    """A task that asks for readiness all the time."""

    def __init__(self, port: int) -> None:
        self.found: list[Ready] = []
        self._url = f"http://127.0.0.1:{port}/readyz"
        self._task = asyncio.create_task(self._run(), name="probe")

    async def close(self) -> None:
        """End the task."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
            while True:
                try:
                    answer = (await client.get(self._url)).json()
                    # What is no answer about readiness is a problem, with a status of its own.
                    named = [*answer.get("not_ready", [str(answer)]), *answer.get("degraded", ())]
                    parts = {**answer, **answer.get("followers", {})}
                    causes = [f"{name} ({parts[name]['cause']})" if name in parts else name for name in named]
                    self.found.append(Ready(time.time(), str(answer["status"]), tuple(causes)))
                except (httpx.HTTPError, LookupError, ValueError):
                    self.found.append(Ready(time.time(), None))
                await asyncio.sleep(_PROBING)


class Tailer:
    """A thread that reads the log by position while it grows, and the positions of the followers."""

    def __init__(self, database_url: Callable[[], str]) -> None:
        self.tail: list[tuple[int, str, int]] = []
        self.saved: list[Saved] = []
        self._url = database_url
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="tailer", daemon=True)
        self._thread.start()

    @property
    def last(self) -> int:
        """Return the last position that was read."""
        return self.tail[-1][0] if self.tail else 0

    def rewind(self, head: int) -> None:
        """Forget what is beyond the end of a log that was restored, and where the followers were."""
        with self._lock:
            self.tail = [row for row in self.tail if row[0] <= head]
            self.saved.clear()

    def close(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            with suppress(psycopg.Error), psycopg.connect(self._url(), autocommit=True, connect_timeout=2) as conn:
                self._follow(conn)
            self._stopped.wait(0.1)

    def _follow(self, conn: psycopg.Connection[Any]) -> None:
        conn.execute("SET statement_timeout = '5s'")
        turns = 0
        while not self._stopped.wait(_PERIOD):
            turns += 1
            with self._lock:
                self.tail += conn.execute(
                    "SELECT notification_id, originator_id, originator_version FROM stored_events"
                    " WHERE notification_id > %s ORDER BY notification_id LIMIT 5000",
                    (self.last,),
                ).fetchall()
                if turns % 5 == 0:
                    found = conn.execute(
                        "SELECT name, position, (SELECT coalesce(max(notification_id), 0) FROM stored_events)"
                        " FROM followers"
                    ).fetchall()
                    self.saved += [Saved(time.time(), *row) for row in found]


async def count(url: str, queue: str) -> int:
    """Return how many messages wait in a queue."""
    connection = await aiormq.connect(url)
    try:
        declared = await (await connection.channel()).queue_declare(queue, passive=True)
        return int(declared.message_count or 0)
    finally:
        await connection.close()


async def delete_queues(url: str, *queues: str) -> None:
    """Delete queues, whatever is in them."""
    connection = await aiormq.connect(url)
    try:
        channel = await connection.channel()
        for queue in queues:
            await channel.queue_delete(queue)
    finally:
        await connection.close()


async def letters_of(url: str) -> list[Letter]:
    """Take the dead letters that are still in the broker's queue."""
    connection = await aiormq.connect(url)
    try:
        channel = await connection.channel()
        found: list[Letter] = []
        while True:
            message = await channel.basic_get(names.DEAD_QUEUE, no_ack=True)
            if isinstance(message.delivery, Basic.GetEmpty):
                return found
            properties = message.header.properties
            headers: dict[str, Any] = dict(properties.headers or {})
            found.append(Letter(headers.get("tenant"), properties.message_id, headers.get("x-foldwork-code")))
    finally:
        await connection.close()
