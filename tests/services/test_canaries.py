"""No output of any role or command shows a secret: a canary of each kind is looked for in all of them."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql

from services import keys
from tests.acceptance.terminal import commands
from tests.acceptance.test_command_line import TYPED
from tests.brokers import BrokerInThread
from tests.eventually import PATIENCE, eventually
from tests.services.answering import Answering
from tests.services.harness import TENANT
from tests.services.processes import Process, free_port, nursery
from tests.services.proxy import Proxy, broker_proxy, database_proxy

ROLES = ("http", "commands", "projections", "relay", "policies")
# They print a token by design, or start servers of their own.
APART = {"keys create", "webhooks create", "dev", "demo", "tail", "all", *ROLES}
DATABASE, SIGNING, CREDENTIAL = "c4n4ry-database", "c4n4ry-signing", "c4n4ry-credential"
WEBHOOK = "whsec_" + base64.b64encode(b"c4n4ry-of-a-webhook-of-a-tenant").decode()
SECRET_KEY = base64.b64encode(b"c4n4ry-of-the-services-own-key-0").decode()
PAST = "2025-10-31T08:55:00+07:00"
ARGUMENTS = {
    "send": ["task.create", "--tenant", TENANT, "--data", '{"id": "from-the-command-line"}', "--wait"],
    "keys revoke": ["0123456789abcdef"],
    "audit": ["--system", "--json"],
}


@dataclass
class Scene:
    """All roles on servers behind proxies, and what they and their callers have said."""

    settings: dict[str, str]
    http: str
    token: str
    secrets: dict[str, str]
    processes: dict[str, Process]
    said: dict[str, str]
    database: Proxy
    broker: Proxy

    def ask(self, method: str, path: str, token: str | None = None, **given: Any) -> httpx.Response:
        """Send a request, and keep the answer with its headers."""
        headers = {"Authorization": f"Bearer {token or self.token}", **given.pop("headers", {})}
        answer = httpx.request(method, f"{self.http}{path}", headers=headers, timeout=PATIENCE, **given)
        self.said[f"{len(self.said)}: {method} {path}"] = f"{answer.headers} {answer.text}"
        return answer

    def probe(self) -> None:
        """Keep the probes of every role."""
        for name, process in self.processes.items():
            for path in ("/livez", "/readyz", "/metrics"):
                assert process.poll() is None, process.output
                with suppress(httpx.TransportError):
                    address = self.settings[f"address of {name}"]
                    self.said[f"{len(self.said)}: {name} {path}"] = httpx.get(f"{address}{path}", timeout=PATIENCE).text

    def run(self, folder: Path, *arguments: str, **env: str) -> None:
        """Run a command, and keep what it prints."""
        done = nursery().run(folder, *arguments, env={**self.settings, **env})
        self.said[f"{len(self.said)}: {' '.join(arguments)}"] = done.stdout + done.stderr

    def nothing_shows(self) -> None:
        """Expect no secret in anything that was said."""
        for name, process in self.processes.items():
            self.said[f"log of {name}"] = process.output
        for where, text in self.said.items():
            for what, secret in self.secrets.items():
                assert secret not in text, f"{what} in {where}"


@pytest.fixture
def whole_system(migrated_url: str, provider: Answering) -> Iterator[Scene]:
    with ExitStack() as stack:
        broker = BrokerInThread()
        stack.callback(broker.close)
        amqp_url = broker.user(broker.virtual_host(), "foldwork", ".*", ".*", ".*")
        password = amqp_url.partition("://")[2].partition("@")[0].partition(":")[2]
        database, database_url = stack.enter_context(database_proxy(migrated_url))
        between, amqp_url = stack.enter_context(broker_proxy(amqp_url))
        with psycopg.connect(migrated_url) as conn:
            _, token = keys.create(conn, TENANT, permissions=keys.PERMISSIONS)
        provider.answer = lambda got: (401, {}, json.dumps({"message": f"no {got.headers.get('x-api-key')}"}).encode())
        settings = {
            "database_url": f"{database_url}&password={DATABASE}",
            "amqp_url": amqp_url,
            "secret_key": SECRET_KEY,
            "dispatch_secrets": json.dumps({f"{TENANT}/hook": SIGNING}),
            "dispatch_hosts": "127.0.0.1",
            "log_level": "debug",
            "follower_poll": "0.2",
            "statement_timeout": "3",
        }
        made = Scene(settings, "", token, {}, {}, {}, database, between)
        made.secrets = {
            "the API key": token.split("_", 2)[2],
            "the password of the broker": password,
            "the password of the database": DATABASE,
            "the secret of signatures": SIGNING,
            "the credentials of a provider": CREDENTIAL,
            "the secret of a webhook": WEBHOOK.removeprefix("whsec_"),
            "the key of the service": SECRET_KEY,
            "the bytes of that key": base64.b64decode(SECRET_KEY).decode(),
        }
        for number, name in enumerate(ROLES):
            port = str(free_port())
            own = {"http_port": port} if name == "http" else {"probe_port": port}
            own["log_format"] = "console" if number % 2 else "json"
            made.processes[name] = stack.enter_context(nursery().start(name, env={**settings, **own}))
            settings[f"address of {name}"] = f"http://127.0.0.1:{port}"
        made.http = settings["address of http"]
        yield made


def test_no_output_shows_a_secret(whole_system: Scene, migrated_url: str, provider: Answering, tmp_path: Path) -> None:
    scene = whole_system
    ready(scene)
    work(scene, provider)
    misuse(scene)
    for name in sorted(set(commands()) - APART):
        scene.run(tmp_path, *(name.split() + ARGUMENTS[name] if name in ARGUMENTS else shlex.split(TYPED[name].line)))
        scene.run(tmp_path, *name.split(), "--help")
    operate(scene, tmp_path)
    scene.probe()
    outages(scene, tmp_path)
    ready(scene)
    with psycopg.connect(migrated_url, autocommit=True) as conn:
        conn.execute("DROP VIEW tasks")
    assert scene.ask("GET", "/v1/tasks/t1").status_code == 500
    scene.probe()
    stored(scene, migrated_url)
    scene.nothing_shows()


def operate(scene: Scene, folder: Path) -> None:
    """Create a key, give its token where an id belongs, and read what was recorded of it."""
    arguments = ("keys", "create", "--tenant", TENANT, "--permission", "audit", "--json")
    made = json.loads(nursery().run(folder, *arguments, env=scene.settings).stdout)
    scene.secrets["the API key of an auditor"] = made["token"].split("_", 2)[2]
    scene.run(folder, "keys", "revoke", made["token"])
    scene.run(folder, "audit", "--tenant", TENANT)
    listed = scene.ask("GET", "/v1/audit", made["token"])
    targets = [act["target"] for act in listed.json()["data"]]
    assert targets[0] == f"key/{made['id']}"
    # The webhook was created and changed before; what was tried with others was refused, and is recorded, too.
    assert targets.count("webhook/hook") == 2


def ready(scene: Scene) -> None:
    """Wait until every role is."""

    def found() -> None:
        for name, process in scene.processes.items():
            assert process.poll() is None, process.output
            with suppress(httpx.TransportError):
                answer = httpx.get(f"{scene.settings[f'address of {name}']}/readyz", timeout=PATIENCE)
                if answer.status_code == 200:
                    continue
            raise AssertionError(f"{name} is not ready")

    eventually(found)


def work(scene: Scene, provider: Answering) -> None:
    """Have a provider called with its credentials and a signature, which repeats them in an error."""
    config = {
        "kind": "dispatch",
        "id": "SMS",
        "fields": {
            "provider": "http",
            "url": provider.url,
            "secret": "hook",
            "backoff_seconds": 0.05,
            "credentials": {"apiKey": CREDENTIAL},
        },
    }
    # The answer to its creation is the only place that shows it.
    hook = {"id": "hook", "url": provider.url, "secret": WEBHOOK, "types": ["task.failed"]}
    created = httpx.post(
        f"{scene.http}/v1/webhooks", json=hook, headers={"Authorization": f"Bearer {scene.token}"}, timeout=PATIENCE
    )
    assert created.json()["secret"] == WEBHOOK
    assert scene.ask("PATCH", "/v1/webhooks/hook", json={"types": None}).status_code == 200
    assert scene.ask("POST", "/v1/commands", json={"type": "directory.register", "data": config}).status_code == 200
    task = {"id": "t1", "plan": {"channel": "SMS", "reason": "call", "scheduled_at": PAST}}
    assert scene.ask("POST", "/v1/commands", json={"type": "task.create", "data": task}).status_code == 200
    eventually(lambda: any(each.headers.get("x-api-key") == CREDENTIAL for each in provider.received))

    def failed() -> None:
        assert "task.failed" in scene.ask("GET", "/v1/events?after=0").text

    eventually(failed)
    eventually(lambda: any("webhook-id" in each.headers for each in provider.received))
    for path in (
        "/v1/tasks",
        "/v1/directory/dispatch/SMS",
        "/v1/webhooks",
        "/v1/webhooks/hook/deliveries",
        "/api/dispatch-configurations",
        "/openapi.json",
        "/docs",
    ):
        assert scene.ask("GET", path).status_code == 200, path


def misuse(scene: Scene) -> None:
    """Send what is refused, with secrets in the wrong places."""
    token = scene.token
    for secret in (f"{WEBHOOK}x", WEBHOOK.removeprefix("whsec_")):
        hook = {"url": "https://example.com", "secret": secret}
        assert scene.ask("POST", "/v1/webhooks", json=hook).status_code == 422
    # Whoever sends a credential where it does not belong is not shown it again in an error.
    wrong = {"kind": "dispatch", "id": "EMAIL", "fields": {"provider": "http", "credentials": CREDENTIAL}}
    assert scene.ask("POST", "/v1/commands", json={"type": "directory.register", "data": wrong}).status_code == 422
    for header in (f"Bearer {token}x", f"Basic {token}", token):
        assert scene.ask("GET", "/v1/tasks", headers={"Authorization": header}).status_code == 401
    two = scene.ask("GET", "/v1/tasks", headers={"X-API-Key": f"{token}x"})
    assert two.status_code == 400
    assert scene.ask("POST", "/v1/commands", json={"type": "nonsense", "data": {}}).status_code == 422
    assert scene.ask("POST", "/v1/commands", content=b"{", headers={"Content-Type": "application/json"}).is_error


def not_ready(scene: Scene) -> list[str]:
    """Return the parts of the HTTP role that are not ready."""
    answer = scene.ask("GET", "/readyz")
    assert answer.status_code in (200, 503), answer.text
    return list(answer.json()["not_ready"])


def outages(scene: Scene, folder: Path) -> None:
    """Take each server away for a while, and let commands fail at it."""
    for proxy, server in ((scene.database, "database"), (scene.broker, "broker")):
        proxy.down()
        eventually(lambda: server in not_ready(scene))  # noqa: B023
        scene.probe()
        scene.ask("GET", "/v1/tasks")
        scene.ask("POST", "/v1/commands", json={"type": "task.create", "data": {"id": "late"}})
        for name in ("send", "db status", "keys list", "projections status"):
            scene.run(folder, *name.split(), *ARGUMENTS.get(name, []))
        proxy.up()
        ready(scene)
    # A log-in that is refused.
    user, password = scene.settings["amqp_url"].partition("://")[2].partition("@")[0].split(":")
    wrong = scene.settings["amqp_url"].replace(f"{user}:{password}", f"nobody:{password}")
    scene.run(folder, "send", *ARGUMENTS["send"], amqp_url=wrong)
    nowhere = scene.settings["database_url"].replace("/foldwork_test", "/no_such")
    scene.run(folder, "db", "status", database_url=nowhere)


def stored(scene: Scene, migrated_url: str) -> None:
    """Keep what lies in the tables."""
    with psycopg.connect(migrated_url) as conn:
        conn.execute("SET bytea_output = 'escape'")
        tables = conn.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        assert len(tables) > 10
        for schema, table in tables:
            query = sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(schema, table))
            scene.said[f"table {table}"] = "\n".join(text for (text,) in conn.execute(query).fetchall())
