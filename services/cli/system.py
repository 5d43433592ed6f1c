"""The commands that start the whole system on this machine: `dev` leaves it running, `demo` plays the main job."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import typer

from services.cli.common import UserError, development
from services.settings import dev_file


def _tell(line: str) -> None:
    typer.echo(f"· {line}")


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command()
    def dev(
        data: Path = typer.Option(Path(".foldwork"), help="Where the state is kept."),
        http_port: int | None = typer.Option(None, min=0, max=65535, help="Port of the HTTP API; 8000 if it is free."),
        amqp_port: int | None = typer.Option(None, min=0, max=65535, help="Port of the broker; 5672 if it is free."),
        token: str | None = typer.Option(None, help="The API token; otherwise one is made and kept."),
        log_level: str = typer.Option("warning", help="debug, info, warning or error."),
    ) -> None:
        """Run the whole system on this machine until Ctrl-C: PostgreSQL, a development broker, every role."""
        from services import logs, roles
        from services.dev import system
        from services.dev.postgres import AlreadyOwned, EmbeddedPostgresError
        from services.intake.sender import NotSent

        logs.configure(log_level, "console")

        async def main() -> None:
            stopping = asyncio.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, stopping.set)
            http = system.free_port(http_port, system.HTTP_PORT, "HTTP", _tell)
            amqp = system.free_port(amqp_port, system.AMQP_PORT, "AMQP", _tell)
            async with system.running(data, http, amqp, _tell, token) as started:
                found = dev_file()
                system.write_description(found, started)
                system.write_description(data / "running.json", started)
                try:
                    _welcome(started)
                    await stopping.wait()
                    _tell("stopping")
                finally:
                    # Another one may have been started here since, on data of its own.
                    if development().get("pid") == os.getpid():
                        found.unlink(missing_ok=True)

        try:
            roles.run(main())
        except AlreadyOwned as error:
            here = development(data / "running.json")
            where = f": HTTP {here['http_url']}, AMQP {here['amqp_url']}" if here else ""
            raise UserError(f"{error}{where}") from None
        except (system.PortTaken, EmbeddedPostgresError, NotSent) as error:
            raise UserError(str(error)) from None

    @app.command()
    def demo() -> None:
        """Play the main job on a fresh system: commands in, events, a read model, published messages; then stop."""
        from services import logs, roles
        from services.dev import play, system
        from services.dev.postgres import EmbeddedPostgresError

        logs.configure("error", "console")

        async def main() -> bool:
            with tempfile.TemporaryDirectory(prefix="foldwork-demo-") as folder:
                async with system.running(Path(folder), 0, 0, _tell, keep=False) as started:
                    return await play.play(started.amqp_url, started.http_url, started.token)

        outcome: list[bool] = []

        async def kept() -> None:
            outcome.append(await main())

        try:
            roles.run(kept())
        except EmbeddedPostgresError as error:
            raise UserError(str(error)) from None
        raise typer.Exit(0 if outcome == [True] else 1)


def _welcome(started: Any) -> None:
    from services.dev import seed

    here = started.described()
    typer.echo(
        f"""
Foldwork runs, as process {os.getpid()}. The broker is in memory and for development; events are kept.

  HTTP   {here["http_url"]}        documentation {here["http_url"]}/docs
  AMQP   {here["amqp_url"]}
  token  {here["token"]}        tenant {here["tenant"]}

In a second terminal, in this folder:

  foldwork tail
  foldwork send activity.create --wait --data '{{"workflow_id": "{seed.WORKFLOW}", "tasks": [{{}}, {{}}]}}'
  curl -H 'Authorization: Bearer {here["token"]}' {here["http_url"]}/v1/activities

Ctrl-C stops it."""
    )
