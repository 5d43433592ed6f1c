"""What one caller can do to an HTTP process: `python -m bench.overload`. It needs no servers: it starts its own.

Three attacks, each with the memory of the HTTP process and the latency of `/livez` meanwhile: pages of the largest
tasks, bodies of 15 MiB at the same time, and more requests than can be served. A line for each.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import multiprocessing
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

import httpx
import psutil
import psycopg

from bench.processes import Processes, free_port, listening, processes, until
from services import keys
from services.dev.broker import DevelopmentBroker
from services.dev.postgres import EmbeddedPostgres
from services.store.migrate import upgrade

_BODY = 15 << 20
# A map of the most bytes and values that one may have.
_FIELDS = {"texts": "x" * 200_000, "values": [{} for _ in range(4_900)]}
_JSON = {"Content-Type": "application/json"}


@contextmanager
def development_broker() -> Iterator[str]:
    """Run a broker, without which no process is ready, and give its URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    broker = DevelopmentBroker("127.0.0.1", 0)
    asyncio.run_coroutine_threadsafe(broker.start(), loop).result(10)
    try:
        yield broker.url
    finally:
        asyncio.run_coroutine_threadsafe(broker.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def _watch(port: int, pid: int, over: Event, pipe: Connection) -> None:
    """Ask for `/livez` again and again; in a process of its own, which the attack does not slow down."""
    latencies, most, process = list[float](), 0, psutil.Process(pid)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    pipe.send("ready")
    while not over.is_set() or not latencies:
        began = time.perf_counter()
        connection.request("GET", "/livez")
        connection.getresponse().read()
        latencies.append(time.perf_counter() - began)
        most = max(most, process.memory_info().rss)
        time.sleep(0.02)
    pipe.send((most, latencies))


class Watch:
    """The most memory of a process, and how long `/livez` took, while something goes on."""

    def __init__(self, port: int, pid: int) -> None:
        self._port, self._pid = port, pid
        self.told = ""

    @contextmanager
    def watching(self) -> Iterator[None]:
        context = multiprocessing.get_context("spawn")
        over, (pipe, other) = context.Event(), context.Pipe()
        watcher = context.Process(target=_watch, args=(self._port, self._pid, over, other), daemon=True)
        watcher.start()
        pipe.recv()
        try:
            yield
        finally:
            over.set()
            most, latencies = pipe.recv()
            watcher.join()
            ordered = sorted(latencies)
            middle, worst = ordered[len(ordered) // 2] * 1000, ordered[-1] * 1000
            self.told = f"memory {most / 1e6:.0f} MB at most, /livez {middle:.0f} ms median, {worst:.0f} ms worst"


async def _answered(requests: list[asyncio.Task[httpx.Response]]) -> str:
    """Return how many answers had each status; one that says to come again says when."""
    found = await asyncio.gather(*requests, return_exceptions=True)
    counts = Counter(
        type(each).__name__ if isinstance(each, BaseException) else f"{each.status_code}" for each in found
    )
    silent = sum(
        isinstance(each, httpx.Response) and each.status_code in (429, 503) and "retry-after" not in each.headers
        for each in found
    )
    return f"{dict(counts)}" + (f", {silent} WITHOUT Retry-After" if silent else "")


async def _pages(client: httpx.AsyncClient, watch: Watch, tasks: int) -> None:
    body = json.dumps({"id": "x", "fields": _FIELDS})
    for number in range(tasks):
        data = {**json.loads(body), "id": f"large-{number}", "title": f"{number}"}
        given = await client.post("/v1/commands", json={"type": "task.create", "data": data})
        given.raise_for_status()
        saved = {"type": "task.save", "data": {"id": f"large-{number}", "data": _FIELDS}}
        (await client.post("/v1/commands", json=saved)).raise_for_status()
    async with asyncio.timeout(120):
        while (await client.get(f"/v1/tasks/large-{tasks - 1}")).status_code != 200:
            await asyncio.sleep(0.1)
    for path in (
        "/v1/tasks?limit=500",
        "/api/v3/tasks?limit=500&taskType=task",
        "/api/v3/tasks?format=csv&taskType=task&fields=texts",
        "/api/v3/workflow/activities",
        "/v1/events?limit=500",
    ):
        began = time.perf_counter()
        with watch.watching():
            told = await _answered([asyncio.create_task(client.get(path)) for _ in range(4)])
        print(f"4 x GET {path}: {told} in {time.perf_counter() - began:.1f} s; {watch.told}", flush=True)


async def _bodies(client: httpx.AsyncClient, watch: Watch, count: int) -> None:
    body = b'{"type":"task.create","data":{"fields":{"a":"' + b"x" * _BODY + b'"}}}'
    with watch.watching():
        sent = [asyncio.create_task(client.post("/v1/commands", content=body, headers=_JSON)) for _ in range(count)]
        told = await _answered(sent)
    print(f"{count} bodies of 15 MiB: {told}; {watch.told}", flush=True)


async def _overload(client: httpx.AsyncClient, watch: Watch, seconds: float, connections: int) -> None:
    """Send creations over so many connections, each the next as soon as the last one is answered."""

    async def rate(senders: int, seconds: float) -> tuple[float, Counter[int], int]:
        until_then, counts, silent = time.monotonic() + seconds, Counter[int](), 0

        async def one() -> None:
            nonlocal silent
            while time.monotonic() < until_then:
                found = await client.post("/v1/commands", json={"type": "task.create", "data": {}})
                counts[found.status_code] += 1
                silent += found.status_code in (429, 503) and "retry-after" not in found.headers

        await asyncio.gather(*(one() for _ in range(senders)))
        return counts[200] / seconds, counts, silent

    normal, _, _ = await rate(16, 5)
    with watch.watching():
        served, counts, silent = await rate(connections, seconds)
    told = f"{served:.0f}/s served (16 connections: {normal:.0f}/s), {dict(counts)}, {silent} without Retry-After"
    print(f"{connections} connections for {seconds:.0f} s: {told}; {watch.told}", flush=True)


async def _measure(port: int, token: str, running: Processes, arguments: argparse.Namespace) -> None:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    headers, watch = {"Authorization": f"Bearer {token}"}, Watch(port, running.pid("http"))
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=300, limits=limits
    ) as client:
        with watch.watching():
            await asyncio.sleep(1)
        print(f"idle: {watch.told}", flush=True)
        if "bodies" in arguments.only:
            await _bodies(client, watch, 40)
        if "overload" in arguments.only:
            await _overload(client, watch, arguments.seconds, arguments.connections)
        if "pages" in arguments.only:
            await _pages(client, watch, arguments.tasks)


def main() -> int:
    """Measure, and print a line for each attack."""
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=["bodies", "overload", "pages"])
    parser.add_argument("--tasks", type=int, default=200, help="large tasks of the pages")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long too many requests are sent")
    parser.add_argument("--connections", type=int, default=400, help="how many connections send them")
    arguments = parser.parse_args()
    arguments.only = arguments.only or ["bodies", "overload", "pages"]
    with tempfile.TemporaryDirectory(prefix="foldwork-bench-") as folder:
        postgres = EmbeddedPostgres(Path(folder), fast=True)
        try:
            database = postgres.start()
            upgrade(database)
            with psycopg.connect(database) as conn:
                _, token = keys.create(conn, "acme", "system", ("read", "write"))
            with development_broker() as broker, processes() as running:
                port = free_port()
                environment = {
                    "FOLDWORK_DATABASE_URL": database,
                    "FOLDWORK_AMQP_URL": broker,
                    "FOLDWORK_HTTP_PORT": f"{port}",
                    "FOLDWORK_HTTP_BODY_LIMIT": f"{_BODY + 4096}",
                    "FOLDWORK_REPLY_TIMEOUT": "60",
                }
                running.start(
                    {role: ["-m", "services.cli", role] for role in ("http", "commands", "projections")}, environment
                )
                until(lambda: listening(port), "the HTTP process", running=running)
                asyncio.run(_measure(port, token, running, arguments))
        finally:
            postgres.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main())
