"""A role under --supervise: what is killed is replaced, and everything else ends as it does without."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import psutil
import psycopg
import pytest

from services import supervisor
from tests.eventually import PATIENCE, eventually
from tests.services.processes import Process, free_port, has_ended, nursery


@pytest.fixture
def env(migrated_url: str, amqp_url: str) -> dict[str, str]:
    return {"database_url": migrated_url, "amqp_url": amqp_url, "http_port": str(free_port())}


def child_of(process: Process) -> psutil.Process:
    """Return the child that works, when there is one."""

    def found() -> psutil.Process | None:
        return next((each for each in psutil.Process(process.pid).children() if not has_ended(each)), None)

    child = eventually(lambda: found())
    assert child is not None
    return child


def asked(port: str, path: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", int(port)), PATIENCE)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    return connection


def listens(port: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(port))) == 0


def answer(connection: socket.socket) -> str:
    with connection, connection.makefile("rb") as file:
        return file.read().decode()


def test_who_connects_while_a_child_is_killed_is_answered_by_the_next(env: dict[str, str]) -> None:
    port = env["http_port"]
    with nursery().start("http", "--supervise", env=env) as process:
        eventually(lambda: listens(port))
        first, parent = child_of(process), psutil.Process(process.pid)
        # A copy of a thread or of a connection would be of no use to a child, or of harm to its sibling.
        assert parent.num_threads() == 1
        assert [each.status for each in parent.net_connections()] == [psutil.CONN_LISTEN]
        first.suspend()
        waiting = asked(port, "/metrics")
        first.kill()
        assert "foldwork_restarts_total 1.0" in answer(waiting)
        second = child_of(process)
        assert second.pid != first.pid
        assert f'"pid": {first.pid}, "signal": "SIGKILL"' in process.output
        assert f'"started_pid": {second.pid}' in process.output
        process.signal(signal.SIGTERM)
        assert process.wait() == 0, process.output
    assert has_ended(second)
    assert process.output.count('"stopped"') == 1
    assert not listens(port)


def test_a_child_stops_when_its_parent_is_killed(env: dict[str, str]) -> None:
    with nursery().start("relay", "--supervise", env=env) as process:
        eventually(lambda: process.said('"started"'))
        child = child_of(process)
        process.signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        eventually(lambda: has_ended(child))
    assert [
        text for text in ("the supervisor has ended", '"stopping"', '"stopped"') if text not in process.output
    ] == []


def test_a_refusal_is_the_same_as_without(env: dict[str, str], tmp_path: Path) -> None:
    with psycopg.connect(env["database_url"]) as conn:
        conn.execute("INSERT INTO migrations (number, name) VALUES (9999, 'of tomorrow')")
    alone = nursery().run(tmp_path, "relay", env=env)
    supervised = nursery().run(tmp_path, "relay", "--supervise", env=env)
    assert "newer than this version" in supervised.stderr
    assert (supervised.returncode, supervised.stderr) == (alone.returncode, alone.stderr) == (1, alone.stderr)


# A function sees what it imports itself only.
DIES = """
from services import roles, supervisor
supervisor.FIRST_WAIT = 0.01
def die(_):
    import os, random, signal, uuid, uuid_utils
    print("random:", random.random(), uuid.uuid4(), uuid_utils.uuid4(), uuid_utils.uuid7().int & 0xffffffff, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
roles.until_migrated = die
"""
HANGS = """
from services import roles, supervisor
supervisor.LATE = 0.1
def hang(_):
    import signal, threading
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("hangs", flush=True)
    threading.Event().wait()
roles.until_migrated = hang
"""


def test_children_that_are_killed_at_once_again_and_again_are_given_up(env: dict[str, str]) -> None:
    with nursery().start("relay", "--supervise", before=DIES, env=env) as process:
        assert process.wait() == 128 + signal.SIGKILL
    assert process.output.count("another one started") == supervisor.GIVES_UP - 1
    assert process.output.splitlines()[-1].count("giving up") == 1
    # What children inherit must not be what they draw random numbers from.
    drawn = [line.split()[1:] for line in process.output.splitlines() if line.startswith("random:")]
    assert [len(set(numbers)) for numbers in zip(*drawn, strict=True)] == [supervisor.GIVES_UP] * 4


def test_a_child_that_does_not_stop_is_killed_after_the_grace(env: dict[str, str]) -> None:
    with nursery().start("relay", "--supervise", before=HANGS, env={**env, "shutdown_grace": "0.1"}) as process:
        eventually(lambda: process.said("hangs"))
        child = child_of(process)
        process.signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGKILL
    assert has_ended(child)
    assert "did not stop within the grace period" in process.output
