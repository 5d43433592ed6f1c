"""The roles as processes: each alone and all in one start, say when they are ready, and end clean at SIGTERM."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psycopg
import pytest

from services import roles
from services.follower_role import FollowerRole
from services.roles import ROLES, Roles, make_role
from services.store.follower import Follower
from services.store.migrate import SchemaMismatch
from tests.eventually import PATIENCE, eventually, eventually_async
from tests.services.harness import Client, rows, settings
from tests.services.processes import free_port, nursery


def answers(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


@pytest.mark.parametrize("name", [*ROLES, "all"])
def test_a_role_starts_answers_probes_and_ends_at_sigterm(migrated_url: str, amqp_url: str, name: str) -> None:
    port = free_port()
    env = {"database_url": migrated_url, "amqp_url": amqp_url, "http_port": str(port)}
    if name not in ("http", "all"):
        env |= {"probe_port": str(port)}
    # Without the commands role there is no queue of commands, and whoever needs it is not ready.
    with nursery().start("commands", env={"database_url": migrated_url, "amqp_url": amqp_url}) as commands:
        eventually(lambda: commands.said("consuming commands"))
        with nursery().start(name, env=env) as process:
            eventually(lambda: process.said('"started"') and answers(port, "/livez")[0] == 200)
            eventually(lambda: answers(port, "/readyz")[0] == 200)
            process.signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0, process.output
    lines = [json.loads(line) for line in process.output.splitlines() if line.startswith("{")]
    assert [line["event"] for line in lines if line["event"] in ("stopping", "stopped")] == ["stopping", "stopped"]
    assert "Traceback" not in process.output


async def test_the_command_line_itself_takes_a_command_and_ends_within_the_grace(
    migrated_url: str, amqp_url: str
) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("FOLDWORK_")}
    env |= {"FOLDWORK_DATABASE_URL": migrated_url, "FOLDWORK_AMQP_URL": amqp_url, "FOLDWORK_HTTP_PORT": "0"}
    process = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", "from services.cli import main; main()", "all"],
        env=env,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        async with Client(amqp_url) as client:
            await eventually_async(lambda: _has_queue(amqp_url))
            reply = await client.ask("task.create", {"id": "a"})
            assert reply.accepted
            await eventually_async(lambda: rows(migrated_url, "SELECT 1 FROM tasks") == [(1,)])
        process.send_signal(signal.SIGTERM)
        await eventually_async(lambda: process.poll() is not None)
        assert process.returncode == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


async def _has_queue(amqp_url: str) -> bool:
    import aiormq

    connection = await aiormq.connect(amqp_url)
    try:
        channel = await connection.channel()
        declared: Any = await channel.queue_declare("foldwork.commands", passive=True)
        return bool(declared.consumer_count)
    except aiormq.exceptions.ChannelNotFoundEntity:
        return False
    finally:
        await connection.close()


def test_a_database_of_another_shape_is_refused_in_one_line(migrated_url: str, amqp_url: str) -> None:
    with psycopg.connect(migrated_url) as conn:
        conn.execute("INSERT INTO migrations (number, name) VALUES (9999, 'of tomorrow')")
    with nursery().start("commands", env={"database_url": migrated_url, "amqp_url": amqp_url}) as process:
        assert process.wait() == 1
    assert "newer than this version" in process.output
    assert "Traceback" not in process.output
    with pytest.raises(SchemaMismatch):
        roles.until_migrated(settings(migrated_url, amqp_url))


async def test_a_role_that_fails_ends_the_others_and_the_process(migrated_url: str, amqp_url: str) -> None:
    both = Roles(settings(migrated_url, amqp_url), ["commands", "relay"])
    running = asyncio.create_task(both.run())
    await asyncio.wait_for(both.until_ready(), PATIENCE)
    assert both.own_state() == {"commands": [], "relay": []}

    async def fail() -> None:
        raise ZeroDivisionError

    both.roles["commands"].buffer.take = fail  # type: ignore[attr-defined]
    async with Client(amqp_url) as client:
        await client.send("task.create", {"id": "a"})
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(running, PATIENCE)


async def test_followers_that_are_stopped_while_they_are_made_stop(migrated_url: str, amqp_url: str) -> None:
    making, go_on = threading.Event(), threading.Event()

    def make() -> list[Follower]:
        making.set()
        go_on.wait(PATIENCE)
        return [Follower("f", lambda *_: None)]

    role = FollowerRole(settings(migrated_url, amqp_url), make)
    running = asyncio.create_task(role.run())
    await eventually_async(making.is_set)
    await role.stop()
    go_on.set()
    await asyncio.wait_for(running, PATIENCE)


async def test_a_role_that_does_not_stop_is_left_behind_after_the_grace(migrated_url: str, amqp_url: str) -> None:
    stubborn = Roles(settings(migrated_url, amqp_url, shutdown_grace=0.2), ["relay"])

    async def nothing() -> None:
        return None

    stubborn.roles["relay"].stop = nothing  # type: ignore[method-assign]
    running = asyncio.create_task(stubborn.run())
    await asyncio.wait_for(stubborn.until_ready(), PATIENCE)
    stubborn.stop()
    await asyncio.wait_for(running, PATIENCE)
    for follower in stubborn.roles["relay"].followers:  # type: ignore[attr-defined]
        follower.stop()


def test_there_is_no_other_role(migrated_url: str, amqp_url: str) -> None:
    with pytest.raises(ValueError, match="projections"):
        make_role("anything", settings(migrated_url, amqp_url))
