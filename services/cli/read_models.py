"""The commands `projections status`, `retry` and `rebuild`."""

from __future__ import annotations

from datetime import UTC, datetime

import typer

from services.cli.common import JSON, operator, say, show, table
from services.cli.where import database_url


def register(app: typer.Typer) -> None:

    @app.command("status")
    def status(as_json: bool = JSON) -> None:
        """Show the position of each read model and of the other followers, and the entities that they hold back."""
        from services.store import standing

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
        """Retry held-back entities now."""
        from services.store import standing

        count = standing.retry(database_url(), name, operator())
        if as_json:
            show({"name": name, "entities": count})
        else:
            say(f"{count} held-back entities are tried again now." if count else "Nothing is held back.")

    @app.command("rebuild")
    def rebuild(name: str, as_json: bool = JSON) -> None:
        """Rebuild a read model beside the one that serves, and switch when it has caught up."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

        from services import logs
        from services.processors.rebuild import rebuild as run_rebuild
        from services.store import standing
        from services.store.operations import Operation, acting_for_long

        logs.configure("error", "console")
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[reached]}"),
            TimeRemainingColumn(),
        )
        bar = Progress(*columns, console=Console(stderr=True), disable=as_json)
        tasks: list[TaskID] = []

        def progress(position: int, head: int, rate: float, _: float) -> None:
            if not tasks:
                bar.start()
                tasks.append(bar.add_task(name, reached=""))
            reached = f"position {position:,} of {head:,}, {rate:,.0f} events/s"
            bar.update(tasks[0], completed=position, total=head, reached=reached)

        url = database_url()
        operation = Operation(None, operator(), "read-model.rebuild", f"read-model/{name}")
        with acting_for_long(url, operation) as act:
            try:
                switched = run_rebuild(url, name, progress)
            finally:
                if tasks:
                    bar.stop()
            held = sum(len(row.held) for row in standing.status(url) if row.name == name and row.serving)
            act.details |= {"switched": switched, "held_back": held}
        if as_json:
            show({"name": name, "switched": switched, "held_back": held})
        else:
            say(f"{name} now serves from its new tables.")
            if held:
                say(f"{held} entities are held back: see `foldwork projections status`.")


def _minute(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
