"""Every role in a process of its own, on the servers that the tests were given; the same job, also without a worker."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiormq
import httpx
import psycopg
import pytest

from services import keys
from services.dev import seed
from tests.acceptance.running import ROOT
from tests.acceptance.test_documentation import blocks
from tests.brokers import Broker
from tests.eventually import PATIENCE, eventually
from tests.services.harness import Client
from tests.services.processes import nursery

PAGE = json.loads((Path(__file__).parent / "create_activity.json").read_text("utf-8"))


class Place:
    """A database and a broker, and processes that run on them."""

    def __init__(self, database_url: str, amqp_url: str, folder: Path) -> None:
        self._folder = folder
        self._settings = {
            "database_url": database_url,
            "amqp_url": amqp_url,
            "http_port": "0",
            "reply_timeout": str(PATIENCE),
            "shutdown_grace": "8",
        }

    def set(self, name: str, value: str) -> None:
        """Give the processes to come one more setting."""
        self._settings[name] = value

    @contextmanager
    def role(self, name: str, **more: str) -> Iterator[None]:
        """Run a role, and see it end well on SIGTERM."""
        with nursery().start(name, env={**self._settings, **more}) as process:
            eventually(lambda: process.said("consuming commands" if name in ("commands", "all") else '"started"'))
            yield
            process.signal(signal.SIGTERM)
            assert process.wait() == 0, process.output

    def script(self, text: str, amqp_url: str) -> str:
        """Run a Python script to its end, and return what it prints."""
        done = subprocess.run(
            [sys.executable, "-c", text],
            env={**os.environ, "FOLDWORK_AMQP_URL": amqp_url},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @contextmanager
    def script_at_work(self, text: str, amqp_url: str) -> Iterator[subprocess.Popen[str]]:
        """Run a Python script that goes on until SIGTERM, and see it end well."""
        process = subprocess.Popen(
            [sys.executable, "-c", text],
            env={**os.environ, "FOLDWORK_AMQP_URL": amqp_url},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            process.communicate()

    def run(self, *arguments: str) -> str:
        """Run a command to its end."""
        done = nursery().run(self._folder, *arguments, env=self._settings)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def place(migrated_url: str, amqp_url: str, tmp_path: Path) -> Place:
    return Place(migrated_url, amqp_url, tmp_path)


def _port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return str(free.getsockname()[1])


def test_one_key_makes_one_activity_also_with_the_worker_away(place: Place, migrated_url: str, amqp_url: str) -> None:
    port = _port()
    with psycopg.connect(migrated_url) as conn:
        _, token = keys.create(conn, seed.TENANT, seed.ADMIN)
    # Where users are mapped to tenants, Foldwork's own may still speak for all of them.
    place.set("amqp_senders", '{"somebody": ["demo"]}')
    with ExitStack() as stack:
        stack.enter_context(place.role("projections"))
        stack.enter_context(place.role("http", http_port=port, reply_timeout="2"))
        http = stack.enter_context(
            httpx.Client(
                base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE
            )
        )
        with place.role("commands"):
            asyncio.run(seed.seed(amqp_url))
        eventually(lambda: not _consumed(http) or None)

        key = {"Idempotency-Key": "order-1"}
        late = [http.post("/api/v3/activity", json=PAGE, headers=key) for _ in range(2)]
        assert [answer.status_code for answer in late] == [202, 202]
        receipts = [answer.headers["Location"] for answer in late]
        with place.role("commands"):
            found = [eventually(lambda at=at: _found(http, at)) for at in receipts]
            assert [receipt["outcome"] for receipt in found] == ["accepted", "accepted"]
            assert found[0]["events"] == found[1]["events"]
            again = eventually(lambda: _made(http.post("/api/v3/activity", json=PAGE, headers=key)))
            other = http.post("/api/v3/activity", json={**PAGE, "tasks": PAGE["tasks"][::-1]}, headers=key)
            assert other.status_code == 409
            listed = http.get("/v1/activities", params={"min_position": found[1]["position"]})
            assert [activity["id"] for activity in listed.json()["data"]] == [again.json()["data"]["_id"]]


def _ready(http: httpx.Client) -> bool:
    try:
        return http.get("/readyz").status_code == 200
    except httpx.ConnectError:
        return False


def _consumed(http: httpx.Client) -> bool:
    return bool(http.get("/readyz").json()["consumers"].get("count"))


def _made(answer: httpx.Response) -> httpx.Response | None:
    assert answer.status_code in (201, 202), answer.text
    return answer if answer.status_code == 201 else None


def _found(http: httpx.Client, address: str) -> dict[str, Any] | None:
    answer = http.get(address)
    return answer.json() if answer.status_code == 200 else None


def test_all_roles_in_one_process_do_the_job(place: Place, migrated_url: str, amqp_url: str) -> None:
    port = _port()
    with psycopg.connect(migrated_url) as conn:
        _, token = keys.create(conn, seed.TENANT, seed.ADMIN)
    headers = {"Authorization": f"Bearer {token}"}
    with (
        place.role("all", http_port=port),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=PATIENCE) as http,
    ):
        eventually(lambda: _ready(http) or None)
        asyncio.run(seed.seed(amqp_url))
        made = http.post("/api/v3/activity", json=PAGE)
        assert made.status_code == 201, made.text
        data = made.json()["data"]
        assert data["assignee"] == ["driver@example.com"]
        assert data["createdBy"] == "admin@example.com"
        assert data["status"] == "ONGOING"
        first, second = data["subId"]
        send = ["send", "--wait", "--tenant", seed.TENANT, "--activity", data["_id"]]
        place.run(*send, "task.complete", "--data", json.dumps({"id": first}))
        place.run(*send, "task.assign", "--data", json.dumps({"id": second, "assignees": ["new@example.com"]}))
        told = place.run(*send, "--json", "task.complete", "--data", json.dumps({"id": second}))
        position = json.loads(told)["position"]
        answer = http.get(f"/api/v3/task/{data['_id']}", params={"min_position": position})
        assert answer.status_code == 200, answer.text
        shown = answer.json()["task"]
        assert shown["status"] == "DONE"
        why = http.get(f"/v1/activities/{data['_id']}/explain").json()
        assert why["rule"] == "U2"


@pytest.fixture
def as_documented(broker: Broker, amqp_url: str) -> Callable[..., str]:
    """A function that makes a broker user with the permissions of some rows of the documentation, and gives its URL."""
    page = (ROOT / "docs/contracts.md").read_text("utf-8")
    rows = re.findall(r"^\| ([^|]*) \|([^|]*)\|([^|]*)\|([^|]*)\|$", page, re.MULTILINE)
    permissions = {to: [re.findall("`([^`]*)`", cell) for cell in cells] for to, *cells in rows}

    def made(user: str, *wanted: str) -> str:
        columns = zip(*(permissions[to] for to in wanted), strict=True)
        return broker.user(amqp_url, user, *("|".join(chain(*column)) or "^$" for column in columns))

    return made


def test_a_user_of_its_own_sends_as_documented(place: Place, amqp_url: str, as_documented: Callable[..., str]) -> None:
    (script,) = blocks("docs/contracts.md", "python")
    url = as_documented("upstream", "send commands, with direct replies", "take answers from a queue of its own")
    user = urlsplit(url).username
    place.set("amqp_senders", json.dumps({user: ["demo"]}))

    async def asked(**properties: Any) -> str:
        async with Client(url) as client:
            reply = await client.ask("task.create", {}, tenant="demo", properties=properties)
            return reply.outcome if reply.error is None else reply.error.code

    with place.role("commands"):
        asyncio.run(seed.seed(amqp_url))
        assert place.script(script, url) == "accepted"
        assert asyncio.run(asked(user_id=user)) == "accepted"
        assert asyncio.run(asked()) == "forbidden"


@pytest.mark.parametrize(("block", "printed"), [(0, ["assigned alone", "completed alone"]), (1, ["demo alone"])])
def test_a_subscriber_takes_events_as_documented(
    place: Place, amqp_url: str, as_documented: Callable[..., str], block: int, printed: list[str]
) -> None:
    script = blocks("docs/consumers.md", "python")[block]
    url = as_documented("billing", "subscribe to all events with a queue `billing`")
    with place.role("all", http_port="0"):
        asyncio.run(seed.seed(amqp_url))
        with place.script_at_work(script, url) as subscriber:
            eventually(lambda: asyncio.run(_consumers(amqp_url, "billing")) or None)
            send = ["send", "--wait", "--tenant", seed.TENANT]
            place.run(*send, "task.create", "--data", '{"id": "alone", "assignees": ["driver@example.com"]}')
            place.run(*send, "task.complete", "--data", '{"id": "alone"}')
            lines: list[str] = []
            assert subscriber.stdout is not None
            for line in subscriber.stdout:
                # FastStream logs to the same place.
                lines += [line.strip()] if any(line.strip().endswith(each) for each in printed) else []
                if len(lines) == len(printed):
                    break
            assert all(line.endswith(each) for line, each in zip(lines, printed, strict=True))


async def _consumers(amqp_url: str, queue: str) -> int:
    connection = await aiormq.connect(amqp_url)
    try:
        declared = await (await connection.channel()).queue_declare(queue, passive=True)
        return int(declared.consumer_count or 0)
    except aiormq.exceptions.ChannelNotFoundEntity:
        return 0
    finally:
        await connection.close()
