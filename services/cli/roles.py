"""The commands that run roles."""

from __future__ import annotations

import gc

import typer

from services.cli import FAILED
from services.cli.where import settings
from services.errors import OperatorError

SUPERVISE = typer.Option(
    False, "--supervise", help="Work in a child process, and start another one at once when it is killed."
)


def run_roles(*names: str, supervise: bool) -> None:
    # Nothing that is imported is garbage; `serve` enables it again.
    gc.disable()
    from services import logs, roles
    from services.follower_role import RoleEnded

    chosen = settings()
    logs.configure(chosen.log_level, chosen.log_format)
    try:
        if supervise:
            roles.supervise(chosen, names)
        else:
            roles.serve(chosen, names)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OperatorError(f"cannot start: {reason}" + (f": {error.filename}" if error.filename else "")) from None
    except RoleEnded:
        # The reason is logged.
        raise typer.Exit(FAILED) from None


def register(app: typer.Typer) -> None:

    @app.command("all")
    def run_all(supervise: bool = SUPERVISE) -> None:
        """Run every role in one process."""
        run_roles("http", "commands", "projections", "relay", "policies", supervise=supervise)

    @app.command()
    def http(supervise: bool = SUPERVISE) -> None:
        """Run the HTTP API."""
        run_roles("http", supervise=supervise)

    @app.command()
    def commands(supervise: bool = SUPERVISE) -> None:
        """Run the command worker; a second one is a hot standby."""
        run_roles("commands", supervise=supervise)

    @app.command()
    def relay(supervise: bool = SUPERVISE) -> None:
        """Publish every event to the events exchange."""
        run_roles("relay", supervise=supervise)

    @app.command()
    def policies(supervise: bool = SUPERVISE) -> None:
        """Act on deadlines, and make dispatches."""
        run_roles("policies", supervise=supervise)

    projections = typer.Typer(help="Maintain the read models, or show, retry or rebuild them.")
    app.add_typer(projections, name="projections")

    @projections.callback(invoke_without_command=True)
    def follow(context: typer.Context, supervise: bool = SUPERVISE) -> None:
        if context.invoked_subcommand is not None:
            if supervise:
                raise typer.BadParameter("--supervise is for the role, not for its commands.")
        else:
            run_roles("projections", supervise=supervise)

    from services.cli import read_models

    read_models.register(projections)

    @app.command()
    def health() -> None:
        """Exit 0 when the role is ready; for health checks of containers."""
        from services.cli import health as asking

        raise typer.Exit(asking.health())
