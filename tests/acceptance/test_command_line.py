"""Every command in the form that a person types it, on a terminal and piped; a command that is not here fails."""

from __future__ import annotations

import asyncio
import base64
import json
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import aio_pika
import pytest

from services import keys
from services.cli import main
from services.dev.postgres import EmbeddedPostgres
from services.roles import ROLES
from services.store import operations
from services.store.connect import connect
from tests.acceptance.running import ROOT, environment
from tests.acceptance.terminal import commands, typed
from tests.eventually import PATIENCE
from tests.services.harness import declare

STARTED = '"started"'
SECRET_KEY = base64.b64encode(b"s" * 32).decode()


@dataclass(frozen=True)
class Typed:
    """What is typed, something that it says, and the exit status; `until` is said before Ctrl-C is pressed."""

    line: str
    says: str = ""
    status: int = 0
    until: str | None = None


TYPED = {
    "all": Typed("all", until="consuming commands"),
    **{name: Typed(name, until=STARTED) for name in ROLES},
    "dev": Typed("dev --http-port 0 --amqp-port 0", "Foldwork runs, as process", until="Ctrl-C stops it"),
    "demo": Typed("demo", "DONE"),
    "health": Typed("health", '"status":"ready"'),
    "send": Typed("""send task.create --tenant acme --data '{"id": "a"}'""", "sent "),
    "tail": Typed("tail --pattern 'acme.#'", "subscribed to acme.#", 130, until="subscribed"),
    "projections status": Typed("projections status", "directory"),
    "projections rebuild": Typed("projections rebuild tasks", "tasks now serves from its new tables."),
    "projections retry": Typed("projections retry tasks", "Nothing is held back."),
    "db upgrade": Typed("db upgrade", "The database is up to date."),
    "db status": Typed("db status", "The database is up to date."),
    "db adopt": Typed("db adopt", "The log and the positions fit together."),
    "audit": Typed("audit --tenant acme", "key.create"),
    "stuck": Typed("stuck --tenant acme", "command-parked"),
    "effects": Typed("effects d1 --tenant acme", "poison"),
    "tenants": Typed("tenants --minutes 1", "acme"),
    "verify": Typed("verify", "Consistent."),
    "dead-letters list": Typed("dead-letters list --tenant acme", "poison"),
    "dead-letters groups": Typed("dead-letters groups --tenant acme", "poison"),
    "dead-letters show": Typed("dead-letters show l1", "task.create"),
    "dead-letters retry": Typed("dead-letters retry l1", "l1"),
    "dead-letters discard": Typed("dead-letters discard l1 --reason tried", "l1"),
    # Without a process of HTTP the preview is not known in time.
    "bulk preview": Typed("bulk preview task.cancel --id t1 --tenant acme --timeout 0", "previewing", 3),
    "bulk list": Typed("bulk list --tenant acme --state finished", "refused 1"),
    "bulk run": Typed("bulk run previewed --tenant acme", "running"),
    "bulk watch": Typed("bulk watch finished --tenant acme", "refused 1", 1),
    "bulk pause": Typed("bulk pause running --tenant acme", "paused"),
    "bulk resume": Typed("bulk resume paused --tenant acme", "running"),
    "bulk abort": Typed("bulk abort running --tenant acme", "aborting"),
    "bulk items": Typed("bulk items finished --tenant acme", "terminal"),
    "webhooks list": Typed("webhooks list --tenant acme", "example.com"),
    "webhooks create": Typed("webhooks create https://example.com/in --tenant acme", "whsec_"),
    "webhooks deliveries": Typed("webhooks deliveries h1 --tenant acme", "delivered"),
    "webhooks replay": Typed("webhooks replay h1 --delivery 1 --tenant acme", "h1"),
    "webhooks ping": Typed("webhooks ping h1 --tenant acme", "cannot be decrypted", 1),
    "webhooks rotate-secret": Typed("webhooks rotate-secret h1 --overlap 60 --tenant acme", "signs until"),
    "webhooks pause": Typed("webhooks pause h1 --tenant acme", "h1"),
    "webhooks resume": Typed("webhooks resume h1 --tenant acme", "h1"),
    "webhooks delete": Typed("webhooks delete h1 --tenant acme", "h1"),
    "keys create": Typed("keys create --tenant acme --name 'a [b] c' --days 3", "The token is not shown again."),
    "keys list": Typed("keys list", "[/b] of acme"),
    "keys revoke": Typed("keys revoke {key}", "is revoked"),
}


# What commands work on.
STORED = (
    (
        "INSERT INTO dead_letters (id, tenant, arrived, key, message_id, type, actor, broker_user, headers, body,"
        " bytes, sha256, code, detail, pointer, fingerprint)"
        " VALUES ('l1', 'acme', '1', 'k', 'd1', 'task.create', 'system', 'guest', '{}',"
        " '{\"id\": \"t1\"}', 12, '', 'poison', 'it failed', '', 'f1')"
    ),
    (
        "INSERT INTO bulk_actions (tenant, id, command, data, asked, on_change, actor, state, rate, total)"
        " SELECT 'acme', state, 'task.cancel', '{}', '{}', 'skip', 'system', state, 'all', 1"
        " FROM unnest(ARRAY['previewed', 'running', 'paused', 'finished']) AS s (state)"
    ),
    ("INSERT INTO ledger (tenant, command_id, fingerprint, code, detail) VALUES ('acme', 'c1', '', 'not-found', 'no')"),
    (
        "INSERT INTO bulk_items (tenant, bulk_id, number, entity_id, routing_key, version, state, code, detail)"
        " SELECT 'acme', id, 1, 't1', 't1', 1, 'refused', 'terminal', 'it has ended' FROM bulk_actions"
    ),
    (
        "INSERT INTO webhooks (tenant, id, url, secret, created_by)"
        " VALUES ('acme', 'h1', 'https://example.com/', '', 'm')"
    ),
    (
        "INSERT INTO webhook_deliveries (tenant, webhook, position, entity, event_id, state, next_at, answer)"
        " VALUES ('acme', 'h1', 1, 'acme/activity-a1', 'e1', 'delivered', now(), 'taken')"
    ),
)


def test_every_command_is_typed_here() -> None:
    assert set(TYPED) == set(commands())


@contextmanager
def ready() -> Iterator[int]:
    """Give the port of somebody who is ready."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"status":"ready"}'
            self.send_response(200 if self.path == "/readyz" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def surroundings(name: str, database_url: str, amqp_url: str, folder: Path) -> Iterator[dict[str, str]]:
    """Give the environment of a command; `dev` and `demo` bring their own servers."""
    if name in ("dev", "demo"):
        try:
            yield {}
        finally:
            EmbeddedPostgres(folder / ".foldwork" / "postgres").remove()
        return
    found = {"FOLDWORK_DATABASE_URL": database_url, "FOLDWORK_AMQP_URL": amqp_url, "FOLDWORK_SECRET_KEY": SECRET_KEY}
    with ready() as port:
        yield found | {"FOLDWORK_HTTP_PORT": str(port) if name == "health" else "0"}


def line_of(name: str, database_url: str, amqp_url: str) -> list[str]:
    """Prepare what a command works on, and return what is typed."""
    key = ""
    if name.startswith("keys"):
        with connect(database_url, "test") as conn:
            key = keys.create(conn, "acme", name="[/b] of acme")[0].id
    if name.partition(" ")[0] in ("dead-letters", "bulk", "webhooks", "stuck", "effects", "tenants"):
        with connect(database_url, "test") as conn:
            for statement in STORED:
                conn.execute(statement)
    if name == "audit":
        with connect(database_url, "test") as conn:
            operations.record(conn, operations.Operation("acme", "cli:root", "key.create", "key/1"))
    if name == "send":
        asyncio.run(declare(amqp_url))
    return shlex.split(TYPED[name].line.format(key=key) if "{key}" in TYPED[name].line else TYPED[name].line)


# On a terminal and not; a start with all that it imports is long, so of the roles only `all` has a terminal.
# What `dev` and `demo` write into a pipe is read by tests of their own.
SHOWN = [
    *((name, False) for name in TYPED if name not in ("dev", "demo")),
    *((name, True) for name in TYPED if name not in ROLES),
]


@pytest.mark.parametrize(
    ("name", "on_terminal"), SHOWN, ids=[f"{name}-{'terminal' if shown else 'piped'}" for name, shown in SHOWN]
)
def test_a_command_does_what_is_typed(
    migrated_url: str, development_url: str, tmp_path: Path, name: str, on_terminal: bool
) -> None:
    wanted = TYPED[name]
    line = line_of(name, migrated_url, development_url)
    with (
        surroundings(name, migrated_url, development_url, tmp_path) as env,
        typed(*line, folder=tmp_path, on_terminal=on_terminal, env=env) as run,
    ):
        if wanted.until is not None:
            run.until(wanted.until)
            run.interrupt()
        assert run.end() == wanted.status, run.said
    assert wanted.says in run.said
    assert "Traceback" not in run.said
    assert on_terminal or "\x1b" not in run.said


@pytest.mark.parametrize("name", [name for name, options in commands().items() if "--json" in options])
def test_json_is_a_document_a_line(migrated_url: str, development_url: str, tmp_path: Path, name: str) -> None:
    line = [*line_of(name, migrated_url, development_url), "--json"]
    if name == "tail":
        line += ["--count", "1"]
    with (
        surroundings(name, migrated_url, development_url, tmp_path) as env,
        typed(*line, folder=tmp_path, on_terminal=False, env=env) as run,
    ):
        if name == "tail":
            run.until("subscribed")
            asyncio.run(published(development_url))
        assert run.end() == (0 if name == "tail" else TYPED[name].status), run.said
    assert [json.loads(document) for document in run.out.splitlines()]
    assert name == "tail" or run.err == ""


async def published(amqp_url: str) -> None:
    """Publish something like an event."""
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        exchange = await (await connection.channel()).get_exchange("foldwork.events", ensure=False)
        await exchange.publish(aio_pika.Message(b'{"data": {}}'), "acme.task.created")


@pytest.mark.parametrize("name", commands())
def test_an_unknown_option_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["foldwork", *name.split(), "--nonsense"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "No such option: --nonsense" in capsys.readouterr().err


_MODULES = """
import sys
before = set(sys.modules)
sys.argv = ["foldwork", *{arguments}]
from services.cli import main
try:
    main()
except SystemExit:
    pass
print(*sorted({{name.partition(".")[0] for name in set(sys.modules) - before}}), file=sys.stderr)
"""


def imported(folder: Path, *arguments: str, **env: str) -> set[str]:
    """Return the top-level modules outside of the standard library that a command imports."""
    done = subprocess.run(
        [sys.executable, "-c", _MODULES.format(arguments=list(arguments))],
        cwd=folder,
        env={**environment(), **env},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return set(done.stderr.splitlines()[-1].split()) - set(sys.stdlib_module_names) - {"services", "domain"}


def test_a_health_check_imports_the_standard_library_alone(tmp_path: Path) -> None:
    with ready() as port:
        assert imported(tmp_path, "health", FOLDWORK_PROBE_PORT=str(port)) == set()
    assert imported(tmp_path, "--version") == set()


HEAVY = {"aio_pika", "aiormq", "eventsourcing", "faststream", "httpx", "psycopg", "starlette", "uvicorn"}


@pytest.mark.parametrize(
    ("line", "needed"),
    [
        ("--help", set()),
        ("send --help", set()),
        ("db status", {"psycopg"}),
        ("keys list", {"psycopg"}),
        ("send task.create --tenant acme", {"aio_pika", "aiormq"}),
    ],
)
def test_a_command_loads_what_it_needs(tmp_path: Path, migrated_url: str, line: str, needed: set[str]) -> None:
    env = {"FOLDWORK_DATABASE_URL": migrated_url, "FOLDWORK_AMQP_URL": "amqp://127.0.0.1:1/"}
    found = imported(tmp_path, *line.split(), **env)
    assert found & HEAVY <= needed


def test_a_role_that_serves_no_http_starts_without_what_does(tmp_path: Path, database_url: str) -> None:
    # It ends at once, since the database has no tables.
    found = imported(tmp_path, "relay", FOLDWORK_DATABASE_URL=database_url, FOLDWORK_AMQP_URL="amqp://127.0.0.1:1/")
    assert "aiormq" in found
    assert not found & {"fastapi", "httpx"}


def test_the_version_is_told(tmp_path: Path) -> None:
    for arguments in (["--version"], ["--version", "--help"]):
        with typed(*arguments, folder=tmp_path, on_terminal=False) as run:
            assert run.end() == 0
    with typed("--version", folder=tmp_path, on_terminal=False) as run:
        run.end()
    assert run.out.split()[0] == "foldwork"
    assert f'"{run.out.split()[1]}"' in (ROOT / "services" / "__init__.py").read_text("utf-8")
