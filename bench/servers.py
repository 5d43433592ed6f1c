"""The servers that are measured: found, checked for durable settings, and left as they were."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import count
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

from bench.wire import Refused, Wire
from services.broker.names import COMMAND_QUEUE

DATABASE_VARIABLE, AMQP_VARIABLE = "FOLDWORK_BENCH_DATABASE_URL", "FOLDWORK_BENCH_AMQP_URL"
STANDARD_DATABASE = "postgresql://postgres@127.0.0.1:5432"
STANDARD_AMQP = "amqp://guest:guest@127.0.0.1:5672/"
_DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
_LIBRARIES = (
    "eventsourcing",
    "faststream",
    "aio-pika",
    "psycopg",
    "uvicorn",
    "uvloop",
    "msgspec",
    "pydantic",
)


class Unusable(Exception):
    """There is no server to measure on; the message says what is lacking."""


@dataclass
class Servers:
    """The servers' addresses, a virtual host of our own, and the databases that were made."""

    database_url: str
    amqp_url: str
    _prefix: str = field(default_factory=lambda: f"foldwork_bench_{uuid.uuid4().hex[:8]}")
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))
    _made: list[str] = field(default_factory=list)

    def create_database(self, template: str | None = None) -> str:
        """Make a database, empty or as a copy of another, and return its URL."""
        name = f"{self._prefix}_{next(self._numbers)}"
        source = urlsplit(template).path.removeprefix("/") if template else "template1"
        with psycopg.connect(self.database_url, autocommit=True) as conn:
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            conn.execute(statement.format(sql.Identifier(name), sql.Identifier(source)))
        self._made.append(name)
        return urlunsplit(urlsplit(self.database_url)._replace(path=f"/{name}"))

    def drop_database(self, url: str) -> None:
        """Drop a database that was made here."""
        name = urlsplit(url).path.removeprefix("/")
        if name in self._made:
            with psycopg.connect(self.database_url, autocommit=True) as conn:
                conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            self._made.remove(name)

    def drop_databases(self) -> None:
        """Drop every database that was made here and is still there."""
        for name in list(self._made):
            self.drop_database(f"/{name}")


@contextmanager
def found() -> Iterator[Servers]:
    """Give the servers, with a virtual host that nobody else uses; what was made is dropped at the end."""
    database_url = os.environ.get(DATABASE_VARIABLE, STANDARD_DATABASE)
    amqp_url = os.environ.get(AMQP_VARIABLE, STANDARD_AMQP)
    _demand_postgres(database_url)
    _demand_rabbitmq(amqp_url)
    with _virtual_host(amqp_url) as own:
        servers = Servers(urlunsplit(urlsplit(database_url)._replace(path="/postgres")), own)
        try:
            yield servers
        finally:
            servers.drop_databases()


def _demand_postgres(url: str) -> None:
    try:
        with psycopg.connect(url, dbname="postgres", connect_timeout=5) as conn:
            for name, wanted in _DURABLE.items():
                row = conn.execute("SELECT current_setting(%s)", (name,)).fetchone()
                if row is None or row[0] != wanted:
                    raise Unusable(
                        f"PostgreSQL has {name} = {row and row[0]}; figures are taken with {name} = {wanted}"
                    )
            row = conn.execute("SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
            if row is None or not row[0]:
                raise Unusable(f"the user of {DATABASE_VARIABLE} may not create databases")
    except psycopg.OperationalError as error:
        raise Unusable(f"no PostgreSQL at {_shown(url)}; set {DATABASE_VARIABLE} ({str(error).strip()})") from None


def _demand_rabbitmq(url: str) -> None:
    try:
        with Wire(url, timeout=5) as wire:
            product = str(wire.server.get("product", ""))
    except (OSError, Refused) as error:
        raise Unusable(f"no RabbitMQ at {_shown(url)}; set {AMQP_VARIABLE} ({error})") from None
    if product != "RabbitMQ":
        raise Unusable(f"the broker at {_shown(url)} is {product or 'unknown'}; figures are taken on RabbitMQ alone")


@contextmanager
def _virtual_host(url: str) -> Iterator[str]:
    parts = urlsplit(url)
    if not _rabbitmqctl_works():
        with Wire(url) as wire:
            if parts.path in ("", "/", "/%2F", "/%2f") or wire.count(COMMAND_QUEUE) is not None:
                raise Unusable(
                    f"without rabbitmqctl the bench cannot make a virtual host: name an unused one in {AMQP_VARIABLE}"
                )
        yield url
        return
    name = f"foldwork-bench-{uuid.uuid4().hex[:8]}"
    user = unquote(parts.username or "guest")
    _rabbitmqctl("add_vhost", name)
    try:
        _rabbitmqctl("set_permissions", "-p", name, user, ".*", ".*", ".*")
        yield urlunsplit(parts._replace(path=f"/{quote(name)}"))
    finally:
        _rabbitmqctl("delete_vhost", name)


def _rabbitmqctl(*arguments: str) -> None:
    subprocess.run(["rabbitmqctl", "-q", *arguments], check=True, capture_output=True, timeout=60)


def _rabbitmqctl_works() -> bool:
    if shutil.which("rabbitmqctl") is None:
        return False
    try:
        _rabbitmqctl("list_vhosts")
    except (subprocess.SubprocessError, OSError):
        return False
    return True


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname or '127.0.0.1'}:{parts.port or ''}".rstrip(":")


def described(servers: Servers) -> dict[str, str]:
    """Return the versions and the machine."""
    with psycopg.connect(servers.database_url) as conn, Wire(servers.amqp_url) as wire:
        row = conn.execute("SHOW server_version").fetchone()
        postgres, rabbitmq = str(row[0]) if row else "", str(wire.server.get("version", ""))
    return {
        "PostgreSQL": postgres.split(" ")[0],
        "RabbitMQ": rabbitmq,
        "Python": platform.python_version(),
        "libraries": ", ".join(f"{name} {version(name)}" for name in _LIBRARIES),
        "machine": f"{os.cpu_count()} cores, {_cpu()}, {_memory()}, {platform.system()} {platform.release()}",
    }


def _cpu() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
