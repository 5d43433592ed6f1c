"""The commands that run roles."""

from __future__ import annotations

import typer

from services.cli.common import settings


def run_roles(*names: str) -> None:
    """Run roles until SIGTERM or SIGINT."""
    from services import logs, roles

    chosen = settings()
    logs.configure(chosen.log_level, chosen.log_format)
    try:
        roles.serve(chosen, names)
    except OSError as error:
        raise typer.Exit(_told(error)) from None
    except roles.RoleEnded:
        # The log says why.
        raise typer.Exit(1) from None


def _told(error: OSError) -> int:
    typer.echo(f"cannot start: {error}", err=True)
    return 1


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command("all")
    def run_all() -> None:
        """Run every role in one process."""
        run_roles("http", "commands", "projections", "relay", "policies")

    @app.command()
    def http() -> None:
        """Run the HTTP API."""
        run_roles("http")

    @app.command()
    def commands() -> None:
        """Run the command worker; a second one is a hot standby."""
        run_roles("commands")

    @app.command()
    def relay() -> None:
        """Publish every event to the events exchange."""
        run_roles("relay")

    @app.command()
    def policies() -> None:
        """Record status changes, and cancel siblings where a workflow fails fast."""
        run_roles("policies")

    projections = typer.Typer(help="Keep the read models; or see how they stand, or build one anew.")
    app.add_typer(projections, name="projections")

    @projections.callback(invoke_without_command=True)
    def follow(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            run_roles("projections")

    from services.cli import read_models

    read_models.register(projections)

    @app.command()
    def health() -> None:
        """Exit 0 when this container's role is ready; for health checks."""
        import httpx

        chosen = settings()
        port = chosen.probe_port if chosen.probe_port is not None else chosen.http_port
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=4)
        except httpx.HTTPError as error:
            typer.echo(f"not reachable: {error}", err=True)
            raise typer.Exit(1) from None
        typer.echo(answer.text)
        raise typer.Exit(0 if answer.status_code == 200 else 1)
