"""`python -m tests.faults.stuck`: how soon what is stuck is listed, and gone after its cure; a healthy load has none.

Each cause is brought about on a system of its own, whose roles are processes, and looked for over HTTP all the time.
Then a system works under load for some minutes, and whatever it lists as stuck, each second, is counted.
"""

from __future__ import annotations

import argparse
import itertools
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, Self, cast

import anyio
import httpx
import pika
import structlog
from psycopg import sql

from projections.stuck import ENOUGH
from services import keys
from services.broker.names import COMMAND_EXCHANGE, COMMAND_QUEUE, DEAD_QUEUE
from services.store.migrate import upgrade
from services.store.stuck import BY_CAUSE
from tests.eventually import eventually
from tests.faults.observers import delete_queues
from tests.faults.servers import Servers, described, installed, servers
from tests.faults.system import ROLES, System
from tests.services.harness import rows
from tests.services.http.api import WORKFLOW
from tests.services.http.test_stuck import SCENES, execute
from tests.services.processes import environment

TENANT = "acme"
GOAL = 2.0
# Longer than anything takes that works.
_PATIENCE = 30.0
_PERIOD = 0.02
# In these scenes the policies role would do itself what is not to be done, or deliver what the scene delivers.
_WITHOUT_POLICIES = (
    "webhook-disabled", "webhook-failing", "delivery-parked", "deadline-missed", "dispatch-in-flight",
    "dispatch-given-up", "dispatch-not-planned",
)  # fmt: skip


@dataclass
class Live:
    """A running system, in the form that scenes work on."""

    servers: Servers
    folder: Path
    name: str = field(default_factory=lambda: f"stuck_{int(time.time() * 1000) % 10**10}")
    sender: Any = field(default_factory=SimpleNamespace)

    def __post_init__(self) -> None:
        with self.servers.postgres.session() as conn:
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.name)))
        self.url = self.servers.postgres.database(self.name)
        upgrade(self.url)
        anyio.run(delete_queues, self.servers.amqp_url, COMMAND_QUEUE, DEAD_QUEUE)
        self.folder.mkdir()
        self.system = System(self.folder, self.url, self.servers.amqp_url)
        self.system.start(*ROLES)
        self._tokens: dict[str, str] = {}
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{self.system.http_port}", timeout=_PATIENCE)
        try:
            # So each role has its session.
            eventually(lambda: self.listed() == [] or None)
        except BaseException:
            print(self.listed(), file=sys.stderr)
            self.close()
            raise

    def close(self) -> None:
        """End the system."""
        self._http.close()
        self.system.stop()

    def by(self, *permissions: str, actor: str = "system") -> dict[str, str]:
        """Return the headers of a caller."""
        name = " ".join((actor, *permissions))
        if name not in self._tokens:
            with self.servers.postgres.session(self.name) as conn:
                self._tokens[name] = keys.create(conn, TENANT, actor, permissions or ("read", "write"))[1]
        return {"Authorization": f"Bearer {self._tokens[name]}"}

    def request(self, method: str, path: str, body: Any = None, by: dict[str, str] | None = None) -> Any:
        """Make a request that is to succeed, and return the answer's JSON."""
        answer = self._http.request(method, path, json=body, headers=by or self.by())
        if not answer.is_success:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()

    def command(self, name: str, data: dict[str, Any], _tenant: str = TENANT) -> Any:
        """Give a command, and return its answer."""
        return self.request("POST", "/v1/commands", {"type": name, "data": data})

    def listed(self, cause: str = "") -> list[tuple[str, str]]:
        """Return (cause, id) of what is stuck; a request that fails lists nothing that anybody could wait for."""
        try:
            data = self.request("GET", f"/v1/stuck{'?cause=' + cause if cause else ''}")["data"]
        except (httpx.HTTPError, RuntimeError) as error:
            return [("unavailable", str(error))]
        return [(each["cause"], each["resource"]["id"]) for each in data]

    def start(self, role: str) -> None:
        """Start a role, and return when it works."""
        self.system.start(role)
        eventually(lambda: '"started"' in self.system.said(role))


def _seconds(until: Callable[[], bool]) -> float | None:
    """Return after how many seconds something is so, None if it never is."""
    began = time.monotonic()
    while time.monotonic() - began < _PATIENCE:
        if until():
            return time.monotonic() - began
        time.sleep(_PERIOD)
    return None


def _table(live: Live, model: str) -> str:
    """Return the table that serves queries of a read model."""
    return f"{model}_{rows(live.url, 'SELECT serving FROM read_models WHERE name = %s', model)[0][0]}"


# Causes that are brought about otherwise where roles are processes.


def _halted(live: Any) -> None:
    live.system.remove("projections")
    live.command("task.create", {"id": "t1"})
    SCENES["follower-halted"].inject(live)


def _lagging(live: Any) -> None:
    live.system.remove("projections")
    live.command("task.create", {"id": "t1"})
    execute(live, "UPDATE stored_events SET recorded_at = now() - interval '6 seconds'")


def _held(live: Any) -> None:
    execute(live, f"ALTER TABLE {_table(live, 'history')} ADD CONSTRAINT broken CHECK (false) NOT VALID")
    live.command("task.create", {"id": "t1"})


def _released(live: Any) -> None:
    execute(live, f"ALTER TABLE {_table(live, 'history')} DROP CONSTRAINT broken")
    command = [sys.executable, "-m", "services.cli", "projections", "retry", "history"]
    env = {**environment(), "FOLDWORK_DATABASE_URL": live.url}
    subprocess.run(command, env=env, check=True, capture_output=True)


def _idle(live: Any) -> None:
    SCENES["activity-without-progress"].inject(live)
    last = f"a{ENOUGH}"
    eventually(lambda: rows(live.url, "SELECT FROM activities WHERE id = %s", last))
    execute(live, "UPDATE activities SET updated_at = now() - interval '6 minutes' WHERE id = %s", last)


def _message(live: Any, message_id: str, body: bytes, **headers: Any) -> None:
    """Publish what need not be a command."""
    connection = pika.BlockingConnection(pika.URLParameters(live.servers.amqp_url))
    given = {"tenant": TENANT, **headers}
    properties = pika.BasicProperties(type="task.create", message_id=message_id, delivery_mode=2, headers=given)
    channel = connection.channel()
    channel.confirm_delivery()
    channel.basic_publish(COMMAND_EXCHANGE, "k", body, properties)
    connection.close()


def _parked(live: Any) -> None:
    _message(live, "m", b'{"id": 7}')


def _waiting(live: Any) -> None:
    _parked(live)
    _message(live, "w", b'{"id": "w"}', ordered=True)


def _discard(live: Any) -> None:
    letter = live.request("GET", "/v1/dead-letters?state=parked&limit=1")["data"][0]["id"]
    live.request("POST", f"/v1/dead-letters/{letter}/discard", {"reason": "a test"}, live.by("operate"))


# How a cause is brought about, and its cure; None is that of the scene.
_OWN: dict[str, tuple[Callable[[Any], object] | None, Callable[[Any], object] | None]] = {
    "role-absent": (lambda live: live.system.remove("relay"), lambda live: live.start("relay")),
    "follower-halted": (_halted, lambda live: live.start("projections")),
    "follower-lagging": (_lagging, lambda live: live.start("projections")),
    "held-back": (_held, _released),
    "command-parked": (_parked, _discard),
    "command-waits": (_waiting, _discard),
    "deadline-missed": (None, lambda live: live.start("policies")),
    "activity-without-progress": (_idle, lambda live: live.command("task.process", {"id": f"t{ENOUGH}"})),
}


class Measured(NamedTuple):
    """Seconds from the moment at which a cause was there, or cured, until that was noticed; None is never."""

    cause: str
    listed: float | None
    gone: float | None


def measure(cause: str, live: Live) -> Measured:
    """Bring a cause about, cure it, and measure."""
    scene, (inject, cure) = SCENES.get(cause), _OWN.get(cause, (None, None))
    if cause in _WITHOUT_POLICIES:
        live.system.remove("policies")
    inject = inject or (scene.inject if scene is not None else None)
    assert inject is not None
    inject(cast("Any", live))
    listed = _seconds(lambda: cause in dict(live.listed(cause)))
    if listed is None:
        return Measured(cause, None, None)
    data = live.request("GET", f"/v1/stuck?cause={cause}")["data"][0]
    if cure is None and scene is not None and scene.cure is not None:
        cure = cast("Callable[[Any], object]", scene.cure)
    if cure is not None:
        cure(live)
    elif scene is not None and scene.body is not None:
        method, path = re.findall(r"(PATCH|POST) (/v1/[\w/-]+)", data["remedy"]["text"])[-1]
        live.request(method, path, scene.body, live.by("operate", "webhooks"))
    else:
        actor = "system" if scene is None else scene.actor
        live.request("POST", "/v1/commands", data["remedy"]["command"], live.by("read", "write", actor=actor))
    return Measured(cause, listed, _seconds(lambda: live.listed(cause) == []))


# A healthy load.


class Load:
    """Activities that are created, worked on and completed, over HTTP, by threads that do not hurry."""

    def __init__(self, live: Live, pace: float) -> None:
        self.done = 0
        self.failed: list[str] = []
        self._live, self._pace = live, pace
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(4)]

    def __enter__(self) -> Self:
        self._live.command("directory.register", {"kind": "member", "id": "ann"})
        self._live.command("workflow.define", WORKFLOW)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        for turn in itertools.count():
            own, end = f"{number}-{turn}", (datetime.now(UTC) + timedelta(hours=1)).isoformat()
            tasks = [{"id": f"t{own}-{part}", "assignees": ["ann"], "end": end} for part in "ab"]
            commands = [("activity.create", {"id": f"a{own}", "workflow_id": "w1", "tasks": tasks})]
            commands += [(f"task.{what}", {"id": task["id"]}) for task in tasks for what in ("process", "complete")]
            for command in commands:
                if self._stopped.wait(self._pace):
                    return
                try:
                    self._live.command(*command)
                    self.done += 1
                except (httpx.HTTPError, RuntimeError) as error:
                    self.failed.append(str(error))


def healthy(live: Live, minutes: float, pace: float) -> tuple[list[list[tuple[str, str]]], Load]:
    """Return what was listed as stuck in each second under load."""
    seen: list[list[tuple[str, str]]] = []
    with Load(live, pace) as load:
        began = time.monotonic()
        while time.monotonic() - began < 60 * minutes:
            time.sleep(max(0.0, began + len(seen) + 1 - time.monotonic()))
            seen.append(live.listed())
    return seen, load


def main() -> int:
    """Measure, and return 1 if something took too long, or the healthy load had anything that was stuck."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.stuck", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of the healthy load; 0 is none")
    parser.add_argument("--only", default="", help="causes, separated by commas; `-` is none")
    parser.add_argument("--broker", choices=("rabbitmq", "development"), default=installed())
    parser.add_argument("--pace", type=float, default=0.1, help="seconds between two commands of each of four clients")
    options = parser.parse_args()
    only = tuple(filter(None, options.only.split(",")))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="foldwork-stuck-"))
    bad = False
    with servers(options.broker) as made:
        print(f"{described(made)}\n\n| Cause | listed after, s | gone after, s |\n|---|---|---|", flush=True)
        for cause in BY_CAUSE:
            if only and cause not in only:
                continue
            with closing(Live(made, folder / cause)) as live:
                found = measure(cause, live)
            print(f"| `{cause}` | {_shown(found.listed)} | {_shown(found.gone)} |", flush=True)
            bad |= any(each is None or each > GOAL for each in found[1:])
        if options.minutes:
            with closing(Live(made, folder / "healthy")) as live:
                seen, load = healthy(live, options.minutes, options.pace)
            most, causes = max(map(len, seen)), Counter(cause for second in seen for cause, _ in second)
            print(f"\n{len(seen)} looks, {load.done} commands accepted, {len(load.failed)} failed: {load.failed[:3]};"
                  f" stuck at most {most}: {dict(causes)}")  # fmt: skip
            bad |= most > 0 or bool(load.failed)
    print(f"The logs are in {folder}.")
    return 1 if bad else 0


def _shown(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.2f}"


if __name__ == "__main__":
    sys.exit(main())
