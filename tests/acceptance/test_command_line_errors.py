"""What the command line says when something fails: what is wrong, in one line, without a stack."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from projections import deadlines
from projections.task import table as tasks
from services.roles import ROLES
from services.store import migrate
from tests.acceptance.running import FOLDWORK, environment
from tests.acceptance.terminal import typed
from tests.eventually import PATIENCE, eventually
from tests.services.harness import declare, rows, waiting
from tests.services.processes import nursery
from tests.services.proxy import broker_proxy
from tests.services.test_connections import with_options

NOWHERE = "postgresql://127.0.0.1:1/db"


def run(folder: Path, *arguments: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    return nursery().run(folder, *arguments, stdin=stdin, env=env)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that was said."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def elsewhere(url: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path="/no_such_database"))


@pytest.mark.parametrize(
    ("arguments", "at", "said"),
    [
        ("projections rebuild nope", str, "unknown read model nope; the read models are activities, tasks"),
        ("projections status", lambda _: NOWHERE, "the database cannot be reached: "),
        ("db status", elsewhere, 'the database server refused the connection: database "no_such_database" does not'),
        ("keys list", lambda url: with_options(url, "-c role=pg_monitor"), "lacks a privilege: permission denied"),
        (
            "keys create --tenant a",
            lambda url: with_options(url, "-c default_transaction_read_only=on"),
            "is read-only",
        ),
        ("keys list", lambda url: with_options(url, "-c search_path=pg_catalog"), "run `foldwork db upgrade`"),
        ("db upgrade", lambda url: with_options(url, "-c search_path=nowhere"), "no schema of the search_path exists"),
        ("db status", lambda url: with_options(url, "-c no_such_setting=1"), "the database server refused the conn"),
    ],
)
def test_what_is_wrong_with_the_database_is_named(
    migrated_url: str, tmp_path: Path, arguments: str, at: Callable[[str], str], said: str
) -> None:
    line = refused(run(tmp_path, *arguments.split(), database_url=at(migrated_url)))
    assert said in line
    assert "cannot be reached" not in line or at(migrated_url) == NOWHERE


def test_a_statement_that_the_database_cancels_is_told_as_that(migrated_url: str, tmp_path: Path) -> None:
    with psycopg.connect(migrated_url) as conn:
        conn.execute("LOCK TABLE api_keys")
        url = with_options(migrated_url, "-c statement_timeout=50")
        line = refused(run(tmp_path, "keys", "list", database_url=url))
    assert "the database cancelled a statement" in line
    with psycopg.connect(migrated_url) as conn:
        # A statement that is refused for itself, by a server that is up.
        conn.execute("ALTER TABLE api_keys ADD CHECK (tenant <> 'acme')")
    line = refused(run(tmp_path, "keys", "create", "--tenant", "acme", database_url=migrated_url))
    assert line.startswith("the database refused a statement: ")
    assert "(SQLSTATE 23514)" in line


def test_what_is_wrong_with_the_broker_is_named(amqp_url: str, tmp_path: Path) -> None:
    asyncio.run(declare(amqp_url))
    parts = urlsplit(amqp_url)
    at = parts.netloc.rpartition("@")[2]
    wrong = urlunsplit(parts._replace(netloc=f"nobody:wrong@{at}"))
    send = ("send", "task.create", "--tenant", "acme")
    for arguments in (("tail",), send):
        assert "the broker cannot be reached" in refused(run(tmp_path, *arguments, amqp_url="amqp://127.0.0.1:1/"))
    if "127.0.0.1:5672" not in amqp_url:
        return
    assert "the broker refused the login" in refused(run(tmp_path, *send, amqp_url=wrong))


MALFORMED = {
    "wrong-shape": ["task.complete", "--data", '{"id": 4}'],
    "unknown-field": ["task.complete", "--data", '{"id": "a", "color": 1}'],
    "duplicate-key": ["task.complete", "--data", '{"id": "a", "id": "b"}'],
    "not-json": ["task.complete", "--data", "{"],
    "too-large": ["task.save", "--data", "-"],
    "invalid": ["task.complete", "--data", '{"id": "no id"}'],
    "unknown-type": ["task.invent"],
    "bad-message-id": ["task.create", "--id", "with space"],
    "bad-tenant": ["task.create", "--tenant", "ACME!"],
    "bad-header": ["task.create", "--key", "a\tb"],
    "bad-header ": ["task.create", "--actor", "no body"],
    "bad-header  ": ["task.create", "--expected-version=-1"],
    "bad-header   ": ["task.create", "--activity", "a" * 300],
}


# Whoever waits sends over another connection, after the same checks: one of the data and one of the headers.
WAITING = [(code, ["--wait"]) for code in ("wrong-shape", "bad-header")]


@pytest.mark.parametrize(("code", "more"), [*((code, []) for code in MALFORMED), *WAITING])
def test_what_could_only_be_thrown_away_is_not_sent(amqp_url: str, tmp_path: Path, code: str, more: list[str]) -> None:
    asyncio.run(declare(amqp_url))
    arguments = ["send", "--tenant", "acme", *MALFORMED[code], *more]
    large = json.dumps({"id": "a", "data": {"x": "y" * 2048}})
    done = run(tmp_path, *arguments, amqp_url=amqp_url, stdin=large, command_limit="1024")
    line = refused(done)
    assert line.startswith(code.strip() + ": ")
    if code in ("wrong-shape", "invalid"):
        assert line.rstrip().endswith("/id")
    assert asyncio.run(waiting(amqp_url)) == 0


def test_a_refusal_before_sending_has_the_form_of_the_services(amqp_url: str, tmp_path: Path) -> None:
    done = run(tmp_path, "send", "task.complete", "--tenant", "a", "--data", '{"id": 4}', "--json", amqp_url=amqp_url)
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert (said["outcome"], said["error"]["code"], said["error"]["pointer"]) == ("rejected", "wrong-shape", "/id")


def test_nobody_who_answers_is_told_apart(amqp_url: str, tmp_path: Path) -> None:
    asyncio.run(declare(amqp_url))
    done = run(tmp_path, "send", "task.create", "--tenant", "a", "--wait", "--timeout", "0.3", amqp_url=amqp_url)
    assert (done.returncode, done.stderr) == (3, "")
    assert "no answer yet" in done.stdout
    assert asyncio.run(waiting(amqp_url)) == 1


@pytest.mark.parametrize("given", ["@missing.json", "@."])
def test_a_file_that_cannot_be_read_is_named(amqp_url: str, tmp_path: Path, given: str) -> None:
    arguments = ("send", "task.create", "--tenant", "acme", "--data", given)
    assert refused(run(tmp_path, *arguments, amqp_url=amqp_url)).startswith(f"cannot read {given[1:]}: ")


def test_an_argument_that_is_no_text_is_refused(tmp_path: Path) -> None:
    arguments = ["keys", "create", "--tenant", "acme", "--name", os.fsdecode(b"\xff")]
    assert "not UTF-8" in refused(run(tmp_path, *arguments, database_url=NOWHERE))


def test_a_port_that_is_taken_is_said(migrated_url: str, amqp_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for line, name in (
            ("http", "http_port"), ("relay", "probe_port"),
            ("http --supervise", "http_port"), ("relay --supervise", "probe_port"),
        ):  # fmt: skip
            env = {"database_url": migrated_url, "amqp_url": amqp_url, name: str(port)}
            with nursery().start(*line.split(), env=env) as process:
                assert process.wait(PATIENCE) == 1
            assert process.output == f"cannot start: Address already in use: 127.0.0.1:{port}\n"


def test_a_reader_that_leaves_ends_the_command_quietly(migrated_url: str, tmp_path: Path) -> None:
    env = {**environment(), "FOLDWORK_DATABASE_URL": migrated_url}
    for arguments in (
        ["projections", "status"],
        ["projections", "status", "--json"],
        ["db", "status"],
        ["keys", "list"],
    ):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [*FOLDWORK, *arguments], cwd=tmp_path, env=env, stdout=writer, stderr=subprocess.PIPE, timeout=PATIENCE
        )
        os.close(writer)
        assert (done.returncode, done.stderr) == (141, b"")


def test_a_tail_says_that_the_broker_has_gone(amqp_url: str, tmp_path: Path) -> None:
    with broker_proxy(amqp_url) as (proxy, url):
        env = {"FOLDWORK_AMQP_URL": url}
        with typed("tail", folder=tmp_path, on_terminal=False, env=env) as tail:
            tail.until("subscribed")
            proxy.down()
            assert tail.end() == 1, tail.said
        (line,) = tail.err.splitlines()[1:]
        assert line.startswith("the connection to the broker was lost")


@pytest.mark.parametrize(
    ("on_terminal", "env", "coloured"),
    [(False, {}, False), (True, {}, True), (True, {"NO_COLOR": "1"}, False)],
    ids=["piped", "terminal", "no color"],
)
def test_only_a_terminal_gets_colours(
    migrated_url: str, amqp_url: str, tmp_path: Path, on_terminal: bool, env: Mapping[str, str], coloured: bool
) -> None:
    given = {"FOLDWORK_DATABASE_URL": migrated_url, "FOLDWORK_AMQP_URL": amqp_url, "FOLDWORK_LOG_FORMAT": "console"}
    with typed("relay", folder=tmp_path, on_terminal=on_terminal, env={**given, **env}) as role:
        role.until("started")
        role.interrupt()
        assert role.end() == 0
    assert ("\x1b[" in role.said) is coloured


def outdate(url: str) -> None:
    """Leave a database as a version of another read model has made it."""
    with psycopg.connect(url) as conn:
        conn.execute("UPDATE read_models SET serving = 'v999' WHERE name = 'tasks'")


def test_an_outdated_read_model_is_told_by_the_status(migrated_url: str, tmp_path: Path) -> None:
    assert run(tmp_path, "db", "status", database_url=migrated_url).returncode == 0
    outdate(migrated_url)
    done = run(tmp_path, "db", "status", database_url=migrated_url)
    assert (done.returncode, done.stderr) == (1, "")
    line = f"tasks is of version 999, not {tasks.VERSION}"
    assert done.stdout == f"read model {line}\nRun `foldwork db upgrade`.\n"
    shown = run(tmp_path, "db", "status", "--json", database_url=migrated_url)
    assert (shown.returncode, json.loads(shown.stdout)) == (1, {"pending": [], "read_models": [line]})


def test_what_is_being_built_is_not_outdated(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "VERSION", tasks.VERSION + 1)
    with psycopg.connect(migrated_url) as conn:
        conn.execute("DELETE FROM read_models WHERE name = 'deadlines'")
    lines = [f"tasks is of version {tasks.VERSION - 1}, not {tasks.VERSION}", "deadlines has no tables"]
    assert migrate.standing(migrated_url) == migrate.Standing([], lines)
    rows(migrated_url, "INSERT INTO read_models VALUES ('deadlines', %s) RETURNING 1", f"v{deadlines.VERSION}")
    assert migrate.upgrade(migrated_url)
    assert migrate.standing(migrated_url) == migrate.Standing([], [])


@pytest.mark.parametrize("role", [*ROLES, "all"])
def test_an_outdated_read_model_is_told_by_every_role(migrated_url: str, amqp_url: str, role: str) -> None:
    outdate(migrated_url)
    env = {"database_url": migrated_url, "amqp_url": amqp_url, "http_port": "0"}
    with nursery().start(role, env=env) as process:
        eventually(lambda: process.said('"started"'))
    told = [json.loads(line) for line in process.output.splitlines() if "db upgrade" in line]
    assert [line["level"] for line in told] == ["warning"]
    assert told[0]["read_models"][0].startswith("tasks is of version 999")


def test_health_asks_where_a_role_serves_its_probes(tmp_path: Path) -> None:
    assert "Set FOLDWORK_PROBE_PORT" in refused(run(tmp_path, "health"))
    assert "FOLDWORK_PROBE_PORT: must be a number" in refused(run(tmp_path, "health", probe_port="many"))
    line = refused(run(tmp_path, "health", probe_port="1", http_port="2"))
    assert line.startswith("127.0.0.1:1 cannot be reached: ")
    line = refused(run(tmp_path, "health", http_host="127.0.0.2", http_port="2"))
    assert line.startswith("127.0.0.2:2 cannot be reached: ")
    line = refused(run(tmp_path, "health", probe_host="0.0.0.0", probe_port="1", database_url="postgresql://h/db"))
    assert line.startswith("127.0.0.1:1 cannot be reached: ")
