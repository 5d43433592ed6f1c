"""HTTP: one process asked by id and for lists of 50, against the same query through psycopg alone."""

from __future__ import annotations

import json
import multiprocessing
import random
import select
import socket
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe

import psycopg

from bench import load
from bench.contenders import Ours
from bench.grow import System
from bench.processes import Failed, listening, processes, until
from bench.servers import Servers
from projections import activities
from projections.statement import Query
from services import keys

CONNECTIONS = 8
LIMIT = 50
_IDS = 500


@dataclass(frozen=True, slots=True)
class Web:
    """Requests a second of one process, queries a second of one connection, and memory at the end, in MB."""

    get: float
    page: float
    get_alone: float
    page_alone: float
    memory: float


def web(servers: Servers, system: System, seconds: float) -> Web:
    """Measure the HTTP role on a system; raises `Failed` when an answer is wrong."""
    ours = Ours()
    with psycopg.connect(system.url) as conn:
        _, token = keys.create(conn, load.TENANT)
    ids = _ids(system)
    with processes() as running:
        running.start({"http": ours.role("http")}, ours.environment(system.url, servers.amqp_url))
        until(lambda: listening(ours.http_port), "the HTTP role", running=running)
        _demand_right(ours.http_port, token, ids[0])
        gets = [_request(ours.http_port, f"/v1/activities/{one}", token) for one in ids]
        pages = [_request(ours.http_port, f"/v1/activities?limit={LIMIT}", token)]
        for warm_up in (gets, pages):
            asked(ours.http_port, warm_up, min(0.5, seconds))
        get, page = asked(ours.http_port, gets, seconds), asked(ours.http_port, pages, seconds)
        memory = running.memory()["http"]
    with psycopg.connect(system.url, autocommit=True) as conn:
        by_id = [activities.get(load.TENANT, one) for one in ids]
        # As many rows as the HTTP role asks for: one more than it shows.
        listed = [activities.page(load.TENANT, {}, limit=LIMIT + 1)]
        return Web(get, page, _queried(conn, by_id, seconds), _queried(conn, listed, seconds), memory)


def client_maximum(seconds: float) -> float:
    """Return the requests a second that the client itself reaches, against a server that does nothing."""
    port = Ours().http_port
    command = ("-m", "uvicorn", "bench.trivial:app", "--port", str(port), "--log-level", "error", "--no-access-log")
    with processes() as running:
        running.start({"trivial": command}, {})
        until(lambda: listening(port), "the trivial server", running=running)
        return asked(port, [_request(port, "/", "none")], seconds)


def _ids(system: System) -> list[str]:
    chosen = random.Random(7)
    return [load.activity_id(chosen.randrange(system.copies), chosen.randrange(system.size)) for _ in range(_IDS)]


def _request(port: int, path: str, token: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
        "Accept: application/json\r\n\r\n"
    ).encode()


def _demand_right(port: int, token: str, one: str) -> None:
    def read(path: str) -> object:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    resource, listed = read(f"/v1/activities/{one}"), read(f"/v1/activities?limit={LIMIT}")
    if not isinstance(resource, dict) or (resource.get("id"), resource.get("status")) != (one, "completed"):
        raise Failed(f"activity {one} is answered as {str(resource)[:200]}")
    if not isinstance(listed, dict) or len(listed.get("data", ())) != LIMIT:
        raise Failed(f"a list of {LIMIT} is answered as {str(listed)[:200]}")


def _queried(conn: psycopg.Connection, queries: Sequence[Query], seconds: float) -> float:
    count, end = 0, time.perf_counter() + seconds
    began = time.perf_counter()
    while time.perf_counter() < end:
        query = queries[count % len(queries)]
        conn.execute(query[0].encode(), query[1], prepare=True, binary=True).fetchall()
        count += 1
    return count / (time.perf_counter() - began)


def asked(port: int, requests: Sequence[bytes], seconds: float) -> float:
    """Ask from a process of its own over kept connections and return the answers a second."""
    context = multiprocessing.get_context("spawn")
    pipe, other = context.Pipe()
    client = context.Process(target=_ask, args=(port, list(requests), seconds, other), daemon=True)
    client.start()
    try:
        if not pipe.poll(seconds + 30):
            raise Failed("the HTTP client does not come to an end")
        found: float | str = pipe.recv()
    finally:
        client.terminate()
        client.join()
    if isinstance(found, str):
        raise Failed(found)
    return found


class _Asker:
    """One connection with one request under way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._left = 0

    def read(self) -> bool:
        """Take what is there and tell whether the answer is complete; raises `Failed` unless it is a 200."""
        data = self.socket.recv(1 << 18)
        if not self._left:
            head, _, rest = data.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise Failed(f"an HTTP request was answered {head[:80]!r}")
            lower = head.lower()
            at = lower.index(b"content-length:") + 15
            self._left = int(lower[at:].split(b"\r\n", 1)[0]) - len(rest)
        else:
            self._left -= len(data)
        return self._left == 0


def _ask(port: int, requests: list[bytes], seconds: float, pipe: Pipe) -> None:
    try:
        pipe.send(_loop(port, requests, seconds))
    except Exception as error:
        pipe.send(f"the HTTP client failed: {error}")


def _loop(port: int, requests: list[bytes], seconds: float) -> float:
    askers = {asker.socket.fileno(): asker for asker in (_Asker(port) for _ in range(CONNECTIONS))}
    with _registered(askers) as poll:
        asked = done = 0
        began = time.perf_counter()
        for asker in askers.values():
            asker.socket.sendall(requests[asked % len(requests)])
            asked += 1
        end = began + seconds
        while time.perf_counter() < end:
            for number, _ in poll.poll(1000):
                asker = askers[number]
                if asker.read():
                    done += 1
                    asker.socket.sendall(requests[asked % len(requests)])
                    asked += 1
        return done / (time.perf_counter() - began)


@contextmanager
def _registered(askers: dict[int, _Asker]) -> Iterator[select.poll]:
    poll = select.poll()
    for number in askers:
        poll.register(number, select.POLLIN)
    try:
        yield poll
    finally:
        for asker in askers.values():
            asker.socket.close()
