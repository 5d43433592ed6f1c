"""What a newcomer types does what it says, from the first line to the clean end."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import stat
import subprocess
from pathlib import Path

import aiormq
import httpx
import psycopg
from pamqp.commands import Basic

import projections
from services.broker.names import COMMAND_EXCHANGE
from services.dev import seed
from tests.acceptance.running import FOLDWORK, Dev, dev, environment, foldwork
from tests.eventually import PATIENCE, eventually
from tests.services.harness import created


def test_the_demonstration_ends_done(tmp_path: Path) -> None:
    shown = foldwork(tmp_path, "demo")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[-2] == "DONE"
    assert "foldwork dev" in lines[-1]
    assert "console" in lines[-1]
    assert [line.split()[1] for line in lines if line.startswith("→")] == [
        "workflow.define",
        "activity.create",
        "task.process",
        "task.complete",
        "task.assign",
        "task.process",
        "task.complete",
        "POST",
        "PATCH",
        "PATCH",
        "PUT",
    ]
    published = [line.split()[2] for line in lines if line.startswith("  event")]
    assert published.count("task.completed") == 3
    assert published.count("task.dispatch-succeeded") == 1
    assert {"workflow.defined", "activity.created", "task.created", "task.assigned", "task.started"} <= set(published)
    statuses = [line for line in lines if line.startswith("  master")]
    assert len(statuses) == 6
    assert "ONGOING" in statuses[0]
    assert "rule U8" in statuses[0]
    assert "DONE" in statuses[-1]
    assert "rule U2" in statuses[-1]
    said = [tuple(line.split()[1::2]) for line in lines if line.startswith("  field")]
    # It goes out by itself, so at the first look it may have gone.
    assert said[0] in [("ONGOING", "READY", "pending"), ("ONGOING", "DISPATCHED", "pending")]
    assert said[1:] == [
        ("ONGOING", "DISPATCHED", "pending"),
        ("ONGOING", "DISPATCHED", "in-progress"),
        ("DONE", "COMPLETED", "completed"),
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_system_for_development(tmp_path: Path) -> None:
    with dev(tmp_path) as system:
        where = system.where
        for name in ("dev.json", "token", "secret-key"):
            assert stat.S_IMODE((tmp_path / ".foldwork" / name).stat().st_mode) == 0o600
        assert where["token"] in system.said
        assert "The broker is for development" in system.said
        for host, status in (("127.0.0.1", 200), ("localhost", 200), ("rebound.example", 400)):
            assert httpx.get(f"{where['http_url']}/docs", headers={"Host": host}).status_code == status

        tail = subprocess.Popen(
            [*FOLDWORK, "tail", "--json", "--count", "1", "--pattern", "demo.activity.created"],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert tail.stderr is not None
        assert "subscribed" in tail.stderr.readline()
        data = {"id": "first", "workflow_id": seed.WORKFLOW, "tasks": [{"assignees": ["new@example.com"]}, {}]}
        sent = foldwork(tmp_path, "send", "activity.create", "--wait", "--json", "--data", json.dumps(data))
        assert sent.returncode == 0, sent.stdout + sent.stderr
        reply = json.loads(sent.stdout)
        assert reply["outcome"] == "accepted"
        told, _ = tail.communicate(timeout=PATIENCE)
        assert json.loads(told)["data"]["id"] == "first"

        alone = foldwork(tmp_path, "send", "task.create", "--data", '{"id": "alone"}')
        assert (alone.returncode, alone.stdout.split()[0]) == (0, "sent"), alone.stderr
        twice = foldwork(tmp_path, "send", "task.create", "--wait", "--data", '{"id": "alone"}')
        assert "taken" in twice.stdout

        refused = foldwork(tmp_path, "send", "task.complete", "--wait", "--data", '{"id": "nobody"}')
        assert refused.returncode == 1
        assert "not-found" in refused.stdout
        wrong = foldwork(tmp_path, "send", "task.complete", "--data", '{"id": 4}')
        assert wrong.returncode == 1
        assert "wrong-shape" in wrong.stderr
        assert len(wrong.stderr.splitlines()) == 1

        asked = foldwork(tmp_path, "health")
        assert (asked.returncode, json.loads(asked.stdout)["status"]) == (0, "ready"), asked.stderr

        second = foldwork(tmp_path, "dev")
        assert second.returncode == 1
        assert where["http_url"] in second.stderr

        listed = foldwork(tmp_path, "projections", "status", "--json")
        assert {json.loads(line)["name"] for line in listed.stdout.splitlines()} == {
            *(model.NAME for model in projections.READ_MODELS),
            "relay",
            "webhooks",
        }
        rebuilt = foldwork(tmp_path, "projections", "rebuild", "activities", "--json")
        assert json.loads(rebuilt.stdout) == {"name": "activities", "switched": True, "held_back": 0}, rebuilt.stderr
        made = json.loads(foldwork(tmp_path, "keys", "create", "--tenant", "demo", "--json").stdout)
        headers = {"Authorization": f"Bearer {made['token']}"}
        found = httpx.get(
            f"{where['http_url']}/v1/activities/first", headers=headers, params={"min_position": reply["position"]}
        )
        assert found.json()["status"] == "active"

        assert system.end(signal.SIGTERM) == 0, system.said
        assert not (tmp_path / ".foldwork" / "dev.json").exists()


async def _confirmed_before_a_kill(system: Dev, tasks: list[str]) -> list[str]:
    """Send a command for each task, kill the system meanwhile, and return what the broker had confirmed."""
    connection = await aiormq.connect(system.where["amqp_url"])
    channel = await connection.channel(publisher_confirms=True)
    confirmed: list[str] = []

    async def send(task: str) -> None:
        properties = Basic.Properties(
            message_id=task, message_type="task.create", delivery_mode=2, headers={"tenant": seed.TENANT}
        )
        body = json.dumps({"id": task}).encode()
        await channel.basic_publish(body, exchange=COMMAND_EXCHANGE, routing_key=task, properties=properties)
        confirmed.append(task)
        if len(confirmed) == len(tasks) // 2:
            system.process.signal(signal.SIGKILL)

    await asyncio.gather(*map(send, tasks), return_exceptions=True)
    return confirmed


def test_state_survives_a_kill(tmp_path: Path) -> None:
    first = Dev(tmp_path).until_ready()
    try:
        token = first.where["token"]
        key = (tmp_path / ".foldwork" / "secret-key").read_text()
        data = {"id": "kept", "workflow_id": seed.WORKFLOW, "tasks": [{}, {}]}
        sent = foldwork(tmp_path, "send", "activity.create", "--wait", "--data", json.dumps(data))
        assert sent.returncode == 0, sent.stdout + sent.stderr
        confirmed = asyncio.run(_confirmed_before_a_kill(first, [f"task-{number}" for number in range(1000)]))
        assert len(confirmed) >= 500
    finally:
        first.end(signal.SIGKILL)
    with dev(tmp_path) as again:
        assert again.where["token"] == token
        assert (tmp_path / ".foldwork" / "secret-key").read_text() == key
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=again.where["http_url"], headers=headers) as http:
            assert eventually(lambda: http.get("/v1/activities/kept").status_code == 200 or None)
        made = eventually(lambda: _all_made(again.where["database_url"], confirmed))
        assert len(set(made)) == len(made)
        assert again.end(signal.SIGINT) == 0, again.said


def _all_made(database_url: str, tasks: list[str]) -> list[str]:
    """Return every task that was created, in order, once all of these were."""
    made = created(database_url)
    assert set(tasks) <= set(made)
    return made


def test_taken_ports_are_said_aloud(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = foldwork(tmp_path, "dev", "--http-port", str(port))
        assert refused.returncode == 1
        assert refused.stderr.strip() == f"port {port} for HTTP is taken"


def test_default_ports_give_way(tmp_path: Path) -> None:
    def held(port: int) -> socket.socket | None:
        try:
            return socket.create_server(("127.0.0.1", port))
        except OSError:
            return None  # somebody else holds it, which is as good

    sockets = [held(8000), held(5672)]
    try:
        with dev(tmp_path, "--token", "a token that I chose") as system:
            assert "port 8000 for HTTP is taken" in system.said
            assert "port 5672 for AMQP is taken" in system.said
            answer = httpx.get(
                f"{system.where['http_url']}/v1/activities", headers={"Authorization": "Bearer a token that I chose"}
            )
            assert answer.status_code == 200
    finally:
        for each in sockets:
            if each is not None:
                each.close()


def test_no_system_is_one_clear_line(tmp_path: Path) -> None:
    send = ["send", "task.pause", "--tenant", "demo", "--data", '{"id": "t"}']
    for arguments in (["tail"], send, ["db", "status"], ["keys", "list"], ["commands"]):
        refused = foldwork(tmp_path, *arguments)
        assert refused.returncode == 1
        assert refused.stderr.count("\n") == 1
        assert "foldwork dev" in refused.stderr


def test_the_database_of_a_running_system_is_reached_by_its_url(tmp_path: Path) -> None:
    with dev(tmp_path) as system, psycopg.connect(system.where["database_url"]) as conn:
        row = conn.execute("SELECT count(*) FROM stored_events").fetchone()
        assert row is not None
        assert row[0] == len(seed.COMMANDS)
