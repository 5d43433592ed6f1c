"""The whole system on one machine: PostgreSQL from a wheel, the development broker, and every role in this process."""

from __future__ import annotations

import asyncio
import base64
import errno
import json
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services import keys, private_files
from services.dev import seed
from services.dev.broker import DevelopmentBroker
from services.dev.postgres import EmbeddedPostgres
from services.errors import OperatorError
from services.roles import ROLES, Roles
from services.settings import load
from services.store.connect import connect
from services.store.migrate import upgrade

AMQP_PORT = 5672
_PORT_ATTEMPTS = 50
# A key of a member names no other actor.
_PERMISSIONS = tuple(permission for permission in keys.PERMISSIONS if permission != "impersonate")
Tell = Callable[[str], None]


class PortTaken(OperatorError):
    """A port is in use."""


@dataclass(frozen=True, slots=True)
class DevSystem:
    """A running system and its addresses."""

    http_url: str
    amqp_url: str
    database_url: str
    token: str
    roles: Roles

    def console_url(self) -> str:
        """Return the address of the console with a log-in that works once, for some minutes."""
        # A third of all that there is to import; the HTTP role has it by now.
        from services.http.console.session import Sessions

        ticket = Sessions.of(self.roles.settings.secret_key).ticket(self.token)
        return f"{self.http_url}/console/login?ticket={ticket}"

    def described(self) -> dict[str, Any]:
        """Return what other commands need to connect."""
        return {
            "pid": os.getpid(),
            "http_url": self.http_url,
            "amqp_url": self.amqp_url,
            "database_url": self.database_url,
            "tenant": seed.TENANT,
            "token": self.token,
        }


def free_port(wanted: int | None, default: int, what: str, tell: Tell) -> int:
    """Return the requested port, otherwise the first free one from the default on."""
    if wanted is not None:
        if wanted and not _is_free(wanted):
            raise PortTaken(f"port {wanted} for {what} is taken")
        return wanted
    for port in range(default, default + _PORT_ATTEMPTS):
        if _is_free(port):
            if port != default:
                tell(f"port {default} for {what} is taken, so {what} is on port {port}")
            return port
    raise PortTaken(f"ports {default} to {default + _PORT_ATTEMPTS - 1} for {what} are taken")


def _is_free(port: int) -> bool:
    # A server that listens on all addresses also occupies the port.
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0")):  # noqa: S104
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                if error.errno in (errno.EADDRINUSE, errno.EACCES):
                    return False
                raise
    return True


@asynccontextmanager
async def running(
    data: Path, http_port: int, amqp_port: int, tell: Tell, token: str | None = None, keep: bool = True
) -> AsyncIterator[DevSystem]:
    """Run the whole system on the folder `data`; with `keep` the database and the messages are kept."""
    async with AsyncExitStack() as stack:
        private_files.own_folder(data)
        tell("starting PostgreSQL (the first time, this takes a few seconds)")
        postgres = EmbeddedPostgres(data / "postgres")
        database_url = await asyncio.to_thread(postgres.start)
        stack.push_async_callback(asyncio.to_thread, postgres.stop if keep else postgres.remove)
        await asyncio.to_thread(upgrade, database_url)

        broker = DevelopmentBroker("127.0.0.1", amqp_port, messages=data / "messages" if keep else None)
        await broker.start()
        stack.push_async_callback(broker.close)

        tell("starting Foldwork")
        given = {"database_url": database_url, "amqp_url": broker.url, "http_port": http_port, "http_host": "127.0.0.1"}
        given |= {"dispatch_console": True}
        settings = load(**given)
        given |= {"http_hosts": settings.http_hosts or ("localhost",)}
        settings = load(**given, secret_key=settings.secret_key or _secret_key(data))
        roles = Roles(settings, ROLES)
        work = asyncio.create_task(roles.run())
        stack.push_async_callback(_ended, roles, work)
        ready = asyncio.create_task(roles.until_ready())
        await asyncio.wait([work, ready], return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            work.result()
            raise RuntimeError("a role ended before the system was ready")
        await seed.seed(broker.url)
        http: Any = roles.roles["http"]
        yield DevSystem(
            f"http://127.0.0.1:{http.port}",
            broker.url,
            database_url,
            await asyncio.to_thread(_token, database_url, data, token),
            roles,
        )


async def _ended(roles: Roles, work: asyncio.Task[None]) -> None:
    roles.stop()
    with suppress(asyncio.CancelledError):
        await work


def _token(database_url: str, data: Path, wanted: str | None) -> str:
    """Return the development token, which stays the same across restarts."""
    kept = data / "token"
    with connect(database_url, "dev") as conn:
        token = wanted
        if token is None:
            with suppress(FileNotFoundError):
                token = private_files.read(kept).strip()
        if token is None:
            token = keys.new_token()
        keys.adopt(conn, token, seed.TENANT, seed.ADMIN, _PERMISSIONS, "foldwork dev")
    private_files.write(kept, token)
    return token


def _secret_key(data: Path) -> str:
    """Return the key that credentials are encrypted with, which stays the same across restarts."""
    kept = data / "secret-key"
    with suppress(FileNotFoundError):
        return private_files.read(kept).strip()
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    private_files.write(kept, key)
    return key


def write_description(path: Path, system: DevSystem) -> None:
    """Write what other commands need to connect."""
    private_files.write(path, json.dumps(system.described(), indent=2) + "\n")
