"""The commands on read models."""

from __future__ import annotations

from datetime import UTC, datetime

import typer

from services.cli.common import JSON, UserError, database_url, show, table


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command("status")
    def status(as_json: bool = JSON) -> None:
        """Show how far each read model is, and the other followers of the log; and what they hold back."""
        from services.outlets import standing

        rows = standing.status(database_url())
        if as_json:
            for row in rows:
                show(row)
            return
        table(
            ("follower", "tables", "serving", "position", "head", "lag", "held back", "halted at", "error"),
            [
                (row.name, row.suffix, "yes" if row.serving else "no", row.position, row.head, row.lag)
                + (len(row.held) or None, row.halted_at, row.error)
                for row in rows
            ],
        )
        held = [(row, each) for row in rows for each in row.held]
        if held:
            table(
                ("follower", "tables", "held back", "from position", "events", "since", "tried again", "error"),
                [
                    (row.name, row.suffix, each.entity, each.position, each.waiting)
                    + (_minute(each.since), _minute(each.retry_at), each.error)
                    for row, each in held
                ],
            )

    @app.command("retry")
    def retry(
        name: str | None = typer.Argument(None, help="A follower; all, if left out."), as_json: bool = JSON
    ) -> None:
        """Let what is held back be tried again now."""
        from services.outlets import standing

        try:
            count = standing.retry(database_url(), name)
        except standing.UnknownFollower as error:
            raise UserError(str(error)) from None
        if as_json:
            show({"name": name, "entities": count})
        else:
            typer.echo(f"{count} held-back entities are tried again now." if count else "Nothing is held back.")

    @app.command("rebuild")
    def rebuild(name: str, as_json: bool = JSON) -> None:
        """Build a read model anew beside the one that serves, and switch when it has caught up."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        from services import logs
        from services.outlets import projections, standing

        logs.configure("error", "console")
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
        held = sum(len(row.held) for row in standing.status(database_url()) if row.name == name and row.serving)
        if as_json:
            show({"name": name, "switched": switched, "held_back": held})
        else:
            typer.echo(f"{name} now serves from its new tables.")
            if held:
                typer.echo(f"{held} entities are held back: see `foldwork projections status`.")


def _minute(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
