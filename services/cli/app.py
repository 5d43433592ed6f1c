"""All commands. Each imports its libraries when it is called, which keeps the others fast."""

from __future__ import annotations

import typer

from services.cli import admin, audit, bulk, data, effects, letters, roles, stuck, system, tenants, verify, webhooks

app = typer.Typer(
    name="foldwork",
    help="Activities split into tasks: commands in on RabbitMQ, events in PostgreSQL, rolled-up status out over HTTP.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        from services import __version__
        from services.cli.common import say

        say(f"foldwork {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", is_eager=True, callback=_version, help="Show the version."),
) -> None:
    pass


system.register(app)
roles.register(app)
admin.register(app)
data.register(app)
letters.register(app)
bulk.register(app)
verify.register(app)
audit.register(app)
stuck.register(app)
effects.register(app)
tenants.register(app)
webhooks.register(app)
