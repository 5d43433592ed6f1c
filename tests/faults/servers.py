"""The servers of a run, each in a process group of its own, with a proxy before each; nobody else's are touched."""

from __future__ import annotations

import inspect
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from services.dev import broker as development
from tests.eventually import PATIENCE, eventually
from tests.faults.postgres import Postgres
from tests.faults.processes import Group, Unavailable
from tests.services.processes import environment, free_port
from tests.services.proxy import Proxy

_RABBITMQ = Path("/usr/lib/rabbitmq/bin")


class Broker(Protocol):
    """A broker of the run's own. What `durable` ones have confirmed outlives a kill."""

    name: str
    durable: bool
    port: int

    def start(self) -> None:
        """Start it, and return when it takes connections."""

    def process(self) -> Group:
        """Return the running process."""

    def alarm(self, on: bool) -> None:
        """Set or end an alarm, under which nobody may publish; raises `Unavailable`."""

    def close(self) -> None:
        """End everything."""


class _Restartable:
    _running: Group | None = None

    def process(self) -> Group:
        if self._running is None:
            raise RuntimeError("the broker does not run")
        return self._running

    def close(self) -> None:
        if self._running is not None:
            self._running.end()
            self._running = None


class DevelopmentBroker(_Restartable):
    """The development broker, in a process of its own."""

    name = "development"
    durable = "messages" in inspect.signature(development.DevelopmentBroker).parameters
    _MAIN = """
import asyncio, sys
from pathlib import Path
from services.dev.broker import DevelopmentBroker

async def main():
    kept = {"messages": Path(sys.argv[2])} if len(sys.argv) > 2 else {}
    await DevelopmentBroker("127.0.0.1", int(sys.argv[1]), **kept).start()
    await asyncio.Event().wait()

asyncio.run(main())
"""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()

    def start(self) -> None:
        kept = [str(self._folder / "messages")] if self.durable else []
        command = [sys.executable, "-c", self._MAIN, str(self.port), *kept]
        self._running = Group(command, self._folder / "broker.log", environment())
        _await_port(self.port, self._running)

    def alarm(self, on: bool) -> None:
        raise Unavailable("the development broker has no alarms")


class RabbitMQ(_Restartable):
    """A node of RabbitMQ with ports, a data folder, a cookie and a port mapper (epmd) of its own."""

    name = "rabbitmq"
    durable = True

    def __init__(self, folder: Path) -> None:
        if not (_RABBITMQ / "rabbitmq-server").exists() or shutil.which("epmd") is None:
            raise Unavailable("RabbitMQ is not installed")
        self._folder = folder / "rabbitmq"
        self.port, mapper, distribution = (free_port() for _ in range(3))
        for name in ("home", "log", "data"):
            (self._folder / name).mkdir(parents=True)
        (self._folder / "plugins").write_text("[].")
        (self._folder / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\n")
        self._node = f"foldwork-faults-{self.port}@localhost"
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder / "home"),
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(self._folder / "none"),
            "RABBITMQ_PID_FILE": str(self._folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        mapping = ["epmd", "-port", str(mapper), "-address", "127.0.0.1"]
        self._mapper = Group(mapping, self._folder / "epmd.log", self._env)

    def start(self) -> None:
        command = [str(_RABBITMQ / "rabbitmq-server")]
        self._running = Group(command, self._folder / "log" / "output", self._env)
        _await_port(self.port, self._running)

    def alarm(self, on: bool) -> None:
        level = "0.00001" if on else "0.4"
        command = [str(_RABBITMQ / "rabbitmqctl"), "-q", "-n", self._node, "set_vm_memory_high_watermark", level]
        called = Group(command, self._folder / "rabbitmqctl.log", self._env)
        if called.wait(PATIENCE) != 0:
            called.kill()
            raise Unavailable("rabbitmqctl failed")

    def close(self) -> None:
        super().close()
        self._mapper.kill()


def _await_port(port: int, process: Group) -> None:
    def listening() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"ended with {process.poll()}: {process.log.read_text('utf-8', 'replace')[-2000:]}")
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", port)) == 0

    eventually(listening)


class Servers:
    """The servers, and the proxies that the roles reach them through."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.folder = folder
        self.postgres = Postgres(folder)
        self.broker: Broker = RabbitMQ(folder) if broker == RabbitMQ.name else DevelopmentBroker(folder)
        self.amqp_url = f"amqp://guest:guest@127.0.0.1:{self.broker.port}/%2F"

    def start(self) -> None:
        """Start both servers and both proxies."""
        self.broker.start()
        self.postgres.start()
        self.database_proxy = Proxy(self.postgres.socket())
        self.broker_proxy = Proxy(("127.0.0.1", self.broker.port))

    def start_postgres(self) -> None:
        """Start PostgreSQL again, behind the same proxy."""
        self.postgres.start()
        self.lead_to_postgres()

    def revive_postgres(self) -> None:
        """Start PostgreSQL again if it has ended by itself."""
        self.postgres.revive()
        self.lead_to_postgres()

    @contextmanager
    def small_disk(self) -> Iterator[Path]:
        """Have the database on a small disk of its own while the block runs, and give its folder."""
        try:
            with self.postgres.small_disk() as disk:
                self.lead_to_postgres()
                yield disk
        finally:
            self.lead_to_postgres()

    def lead_to_postgres(self) -> None:
        """Let the proxy lead to where PostgreSQL is now."""
        self.database_proxy.target = self.postgres.socket()

    def database_through(self, name: str) -> str:
        """Return the URL of a database for the roles."""
        user = urlsplit(self.postgres.url).username
        return f"postgresql://{user}@127.0.0.1:{self.database_proxy.port}/{name}?sslmode=disable&gssencmode=disable"

    @property
    def amqp_through(self) -> str:
        """Return the URL of the broker for the roles."""
        return f"amqp://guest:guest@127.0.0.1:{self.broker_proxy.port}/%2F"

    def close(self) -> None:
        """End everything that was started."""
        for proxy in (getattr(self, name, None) for name in ("database_proxy", "broker_proxy")):
            if proxy is not None:
                proxy.close()
        self.broker.close()
        self.postgres.close()


@contextmanager
def servers(broker: str) -> Iterator[Servers]:
    """Give started servers, in a folder that is removed with them."""
    folder = Path(tempfile.mkdtemp(prefix="foldwork-faults-"))
    # Open to enter, else the server that root starts as another user would keep its data elsewhere.
    folder.chmod(0o755)
    made = Servers(folder, broker)
    try:
        made.start()
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


def installed() -> str:
    """Return the broker that runs are on: RabbitMQ where it is installed."""
    return RabbitMQ.name if (_RABBITMQ / "rabbitmq-server").exists() and shutil.which("epmd") else "development"


def described(made: Servers) -> dict[str, str]:
    """Return what a report says of the servers and the machine."""
    with made.postgres.session() as conn:
        row = conn.execute("SHOW server_version").fetchone()
    return {
        "PostgreSQL": str(row[0]) if row else "",
        "broker": made.broker.name,
        "cores": str(os.cpu_count()),
        "Python": sys.version.split()[0],
    }
