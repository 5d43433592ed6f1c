"""The command line; every command that prints data takes --json, and every error is one clear line and a code."""

from __future__ import annotations

import sys

import typer

from services.cli import admin, data, roles, system

app = typer.Typer(
    name="foldwork",
    help="Activities split into tasks: commands in on RabbitMQ, events in PostgreSQL, rolled-up status out over HTTP.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
system.register(app)
roles.register(app)
admin.register(app)
data.register(app)


def main() -> None:
    """Run the command line."""
    import psycopg

    from services.cli.common import UserError
    from services.settings import ConfigurationError
    from services.store.migrate import SchemaMismatch

    try:
        app()
    except (UserError, ConfigurationError, SchemaMismatch) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except psycopg.errors.UndefinedTable:
        print("the database has not been prepared: run `foldwork db upgrade`", file=sys.stderr)
        sys.exit(1)
    except psycopg.OperationalError as error:
        print(f"the database cannot be reached: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
