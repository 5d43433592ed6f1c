"""How long the pages of the console, and the requests to the API behind them, take: `python -m bench.console`.

A tenant has a million tasks and an activity of ten thousand events. Each page is read by one person, again and again.
The times are the server's own, as its metric `foldwork_http_request_seconds` has them: each read is between two reads
of the metrics. The processor time is that of the HTTP process and of its database sessions, without their parallel
workers; on a busy machine it says more. It prints a table, and exits with 1 if a median is over `--most` milliseconds.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import psycopg

from bench import console_system as system
from bench.drain import tell
from bench.overload import development_broker
from bench.processes import Failed, free_port, listening, processes, until
from services import keys
from services.dev.postgres import EmbeddedPostgres
from services.http.console.app import SCREENS

TASKS, READS, MOST = 1_000_000, 20, 200.0
_SUM = "foldwork_http_request_seconds_sum"
_LISTS = (
    ("by status", "?status=failed"),
    ("open, those due first", "?status=open&sort=end"),
    ("newest first", "?sort=-created_at"),
    ("one person's", f"?assignee={system.BUSY}"),
    ("search for a word that many have", "?search={many}"),
    ("search for one that few have", "?search={few}"),
    ("search for one that none has", "?search=nothing-has-this"),
)
_WORDS = {"tasks": {"many": "visit", "few": "b00777-s77"}, "activities": {"many": "delivery", "few": "b00777-a77"}}


@dataclass(frozen=True, slots=True)
class Read:
    """A page, or a request to the API."""

    what: str
    path: str


@dataclass(frozen=True, slots=True)
class Took:
    """How long the reads took, in milliseconds."""

    read: Read
    first: float
    median: float
    worst: float
    processor: float


class Person:
    """Somebody who is logged in to the console, and has a key for the API."""

    def __init__(self, port: int, token: str, pid: int, conn: psycopg.Connection) -> None:
        self._pid, self._conn = pid, conn
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        self._client.headers["Authorization"] = f"Bearer {token}"
        if self._client.post("/console/login", data={"key": token, "next": "/console"}).status_code != 303:
            raise Failed("the log-in is refused")

    def get(self, path: str) -> httpx.Response:
        """Return an answer; raises `Failed` unless it is one."""
        answer = self._client.get(path)
        if answer.status_code != 200:
            raise Failed(f"{path} is answered {answer.status_code}: {answer.text[:300]}")
        return answer

    def took(self, path: str) -> float:
        """Read something, and return how long the server needed for it, in milliseconds."""
        before = self._spent()
        status = self._client.get(path).status_code
        # What is given up after a time-out has no duration that says anything.
        return (self._spent() - before) * 1000 if status < 400 else math.inf

    def processor(self) -> float:
        """Return the processor time that the process and its sessions have taken, in milliseconds."""
        sessions = self._conn.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
        times = [psutil.Process(pid).cpu_times() for pid in (self._pid, *(pid for (pid,) in sessions))]
        return 1000.0 * sum(float(each.user + each.system) for each in times)

    def _spent(self) -> float:
        """Return the seconds that all requests have taken but those for the metrics."""
        lines = [line for line in self.get("/metrics").text.splitlines() if line.startswith(_SUM)]
        return sum(float(line.rpartition(" ")[2]) for line in lines if 'route="/metrics"' not in line)


def reads(person: Person) -> Iterator[Read]:
    """Give all that is read."""
    for screen in SCREENS:
        if screen.menu is not None:
            yield Read(screen.menu.label.lower(), screen.path)
    for what in ("tasks", "activities"):
        for label, query in _LISTS:
            yield Read(f"{what}: {label}", f"/console/{what}{query.format(**_WORDS[what])}")
        follow = person.get(f"/v1/{what}?sort=title").json()["next"]
        yield Read(f"{what}: next page by title", f"/console/{what}?{follow.partition('?')[2]}")
    yield Read("workflow with 100,000 activities", f"/console/workflows/{system.WORKFLOW}")
    yield Read("directory: members", "/console/directory/member")
    yield Read("board: somebody with very much", f"/console/board/{system.BUSY}")
    yield Read("search by how a title begins", "/console/search?q=Visit%20b00500-s7")
    yield Read("search by a part of it", "/console/search?q=b00500-s7")
    yield Read("search by a part that many have", "/console/search?q=isit")
    long = f"/console/activities/{system.LONG}"
    events = person.get(f"/v1/activities/{system.LONG}/history?limit=2").json()["data"]
    last = person.get(f"/v1/activities/{system.LONG}").json()["position"]
    middle = (events[0]["position"] + last) // 2
    yield Read("activity of 10,000 events", long)
    yield Read("… as of its begin", f"{long}?as_of={events[1]['position']}")
    yield Read("… as of its middle", f"{long}?as_of={middle}")
    yield Read("… as of its end", f"{long}?as_of={last}")
    yield Read("… earlier events", f"{long}?cursor={middle}")
    yield Read("task of 1,000 events", f"/console/tasks/{system.LONG}-t0")
    follow = person.get(f"/v1/tasks/{system.LONG}-t0/history?limit=2&sort=-position").json()["next"]
    yield Read("… earlier events", f"/console/tasks/{system.LONG}-t0?cursor={follow.rpartition('=')[2]}")
    yield Read("what came of a command", f"/console/commands/{events[0]['command_id']}")
    own = f"/v1/activities/{system.LONG}"
    yield Read("API: overview", "/v1/overview")
    yield Read("API: stuck", "/v1/stuck")
    yield Read("API: activity", own)
    yield Read("API: history, first 500", f"{own}/history?limit=500")
    yield Read("API: history, last 500", f"{own}/history?limit=500&sort=-position")
    yield Read("API: activity as of the end", f"{own}?as_of={last}")
    yield Read("API: explain as of the end", f"{own}/explain?as_of={last}")
    yield Read("API: its tasks as of the end", f"/v1/tasks?activity_id={system.LONG}&as_of={last}")
    yield Read("API: task as of the end", f"/v1/tasks/{system.LONG}-t0?as_of={last}")


def measured(person: Person, read: Read, count: int) -> Took:
    """Read one page again and again."""
    first, before = person.took(read.path), person.processor()
    others = [person.took(read.path) for _ in range(count)]
    processor = (person.processor() - before) / count
    return Took(read, first, statistics.median(others), max(others), processor)


@contextmanager
def filled(url: str | None, tasks: int) -> Iterator[str]:
    """Give a database with so many tasks: one that was filled before, or one of its own."""
    if url is not None:
        with psycopg.connect(url) as conn:
            row = conn.execute("SELECT to_regclass('stored_events')").fetchone()
        if row is not None and row[0] is None:
            system.fill(url, tasks)
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="foldwork-bench-") as folder:
        Path(folder).chmod(0o755)
        postgres = EmbeddedPostgres(Path(folder), fast=True)
        try:
            own = postgres.start()
            system.fill(own, tasks)
            yield own
        finally:
            postgres.remove()


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.console", description=__doc__)
    parser.add_argument("--database", metavar="URL", help="an empty one, which is filled, or one of an earlier run")
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--reads", type=int, default=READS)
    parser.add_argument("--most", type=float, default=MOST, help="milliseconds that the median of a page may have")
    parser.add_argument("--only", default="", help="what has this in its name")
    arguments = parser.parse_args()
    with filled(arguments.database, arguments.tasks) as url, development_broker() as amqp, processes() as running:
        conn = psycopg.connect(url, autocommit=True)
        _, token = keys.create(conn, system.TENANT, "system", keys.PERMISSIONS)
        port = free_port()
        environment = {
            "FOLDWORK_DATABASE_URL": url,
            "FOLDWORK_AMQP_URL": amqp,
            "FOLDWORK_HTTP_PORT": str(port),
            "FOLDWORK_FOLLOWER_POLL": "1",
        }
        running.start({"http": ["-m", "services.cli", "http"]}, environment)
        until(lambda: listening(port), "the HTTP process", timeout=300, running=running)
        person = Person(port, token, running.pid("http"), conn)
        tell(f"load: {os.getloadavg()[0]:.1f}")
        print(
            f"| Read | first, ms | median of {arguments.reads}, ms | worst, ms | processor, ms |\n|---|---|---|---|---|"
        )
        over = 0
        for read in reads(person):
            if arguments.only in read.what:
                took = measured(person, read, arguments.reads)
                over += took.median > arguments.most
                print(
                    f"| {read.what} | {took.first:.0f} | {took.median:.0f} | {took.worst:.0f} | {took.processor:.0f} |",
                    flush=True,
                )
        tell(f"load: {os.getloadavg()[0]:.1f}; over {arguments.most:.0f} ms: {over}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
