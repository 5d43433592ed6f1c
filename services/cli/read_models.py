"""The commands on read models."""

from __future__ import annotations

import typer

from services.cli.common import JSON, UserError, database_url, show, table


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command("status")
    def status(as_json: bool = JSON) -> None:
        """Show how far each read model is."""
        from services.outlets import projections

        rows = projections.status(database_url())
        if as_json:
            for row in rows:
                show(row)
            return
        table(
            ("read model", "tables", "serving", "position", "head", "lag", "halted at", "error"),
            [
                (row.name, row.suffix, "yes" if row.serving else "no", row.position, row.head, row.lag)
                + (row.halted_at, row.error)
                for row in rows
            ],
        )

    @app.command("rebuild")
    def rebuild(name: str, as_json: bool = JSON) -> None:
        """Build a read model anew beside the one that serves, and switch when it has caught up."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        from services.outlets import projections

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("position {task.completed:,.0f} of {task.total:,.0f}, {task.fields[rate]:,.0f} events/s"),
            TimeRemainingColumn(),
        )
        try:
            with Progress(*columns, disable=as_json) as bar:
                task = bar.add_task(name, total=None, rate=0.0)

                def progress(position: int, head: int, rate: float, _: float) -> None:
                    bar.update(task, completed=position, total=head, rate=rate)

                switched = projections.rebuild(database_url(), name, progress)
        except (projections.UnknownReadModel, projections.RebuildHalted) as error:
            raise UserError(str(error)) from None
        if as_json:
            show({"name": name, "switched": switched})
        else:
            typer.echo(f"{name} now serves from its new tables.")
