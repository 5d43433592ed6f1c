"""All roles work as a database user that owns its database and has no other rights, as `compose.yaml` makes it."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
import pytest

from tests.eventually import PATIENCE, eventually
from tests.services.harness import TENANT
from tests.services.processes import free_port, nursery

SCRIPT = (Path(__file__).parents[2] / "compose/database.sh").read_text("utf-8")


@pytest.fixture
def plain_url(migrated_url: str) -> Iterator[str]:
    """The URL of a database that the script of `compose.yaml` has made, under a name of the test's own."""
    name, password = f"plain_{uuid.uuid4().hex[:12]}", uuid.uuid4().hex
    (text,) = re.findall(r"<<'SQL'\n(.*)SQL\n", SCRIPT, re.DOTALL)
    text = text.replace(":'password'", f"'{password}'").replace("foldwork", name)
    statements = [statement.strip() for statement in text.split(";") if statement.strip()]
    assert len(statements) == 3
    with psycopg.connect(migrated_url, autocommit=True) as conn:
        try:
            for statement in statements:
                conn.execute(statement.encode())
            parts = urlsplit(migrated_url)
            host = parts.netloc.rpartition("@")[2]
            yield urlunsplit(parts._replace(netloc=f"{name}:{password}@{host}", path=f"/{name}"))
        finally:
            conn.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
            conn.execute(f"DROP ROLE IF EXISTS {name}".encode())


def test_every_role_works_as_it(plain_url: str, amqp_url: str, tmp_path: Path) -> None:
    port = str(free_port())
    env = {"database_url": plain_url, "amqp_url": amqp_url, "http_port": port}

    def run(*arguments: str) -> str:
        done = nursery().run(tmp_path, *arguments, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("db", "upgrade")
    with psycopg.connect(plain_url) as conn:
        row = conn.execute("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user").fetchone()
        assert row == (False, False)
    token = json.loads(run("keys", "create", "--tenant", TENANT, "--json"))["token"]
    with nursery().start("all", env=env) as process:

        def ready() -> None:
            with suppress(httpx.TransportError):
                found = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=PATIENCE).json()
                assert found["status"] == "ready", found
                return
            raise AssertionError(process.output)

        eventually(ready)
        run("send", "task.create", "--tenant", TENANT, "--wait", "--data", '{"id": "t1", "title": "x"}')

        def shown() -> None:
            headers = {"Authorization": f"Bearer {token}"}
            answer = httpx.get(f"http://127.0.0.1:{port}/v1/tasks/t1", headers=headers, timeout=PATIENCE)
            assert answer.status_code == 200, answer.text

        eventually(shown)
        for command in (("projections", "status"), ("projections", "rebuild", "tasks"), ("verify",), ("db", "adopt")):
            run(*command)
    run("db", "status")
