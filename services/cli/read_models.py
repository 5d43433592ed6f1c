"""The commands `projections status`, `retry` and `rebuild`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

import typer

from services.cli import FAILED
from services.cli.common import JSON, operator, say, show, table
from services.cli.where import database_url

if TYPE_CHECKING:
    from rich.progress import TaskID


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
    def rebuild(
        name: str,
        diff: bool = typer.Option(False, "--diff", help="Compare the new tables with the serving ones first."),
        diff_file: Path | None = typer.Option(
            None, help="A new file for all differences, one JSON document per line; implies --diff."
        ),
        examples: int = typer.Option(5, min=0, help="How many differences to print."),
        switch: bool = typer.Option(False, "--switch", help="Switch although there are differences."),
        as_json: bool = JSON,
    ) -> None:
        """Rebuild a read model beside the one that serves, and switch when it has caught up.

        With --diff it switches only if no row differs; else it exits with 1, and the serving tables stay.
        """
        from services import logs
        from services.processors.rebuild import rebuild as run_rebuild
        from services.store import standing
        from services.store.operations import Operation, acting_for_long

        logs.configure("error", "console")
        diff = diff or diff_file is not None
        if switch and not diff:
            raise typer.BadParameter("--switch goes with --diff.")
        url = database_url()
        operation = Operation(None, operator(), "read-model.rebuild", f"read-model/{name}")
        with acting_for_long(url, operation) as act:
            with Bar(name, as_json) as bar:
                if diff:
                    from services.cli.comparing import compare

                    found = compare(url, name, bar, diff_file, examples, switch)
                    switched = found.comparison.switched
                else:
                    switched = run_rebuild(url, name, bar.filled)
            held = sum(len(row.held) for row in standing.status(url) if row.name == name and row.serving)
            act.details |= {"switched": switched, "held_back": held}
        if as_json:
            show({"name": name, "switched": switched, "held_back": held, **(found.as_json() if diff else {})})
        else:
            if diff:
                found.tell()
            say(f"{name} now serves from its new tables." if switched else f"{name} serves from its tables as before.")
            if held:
                say(f"{held} entities are held back: see `foldwork projections status`.")
        if not switched:
            raise typer.Exit(FAILED)


class Bar:
    """Shows how far a rebuild is."""

    def __init__(self, name: str, disable: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[reached]}"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), disable=disable)
        self._name = name
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._tasks:
            self._progress.stop()

    def filled(self, position: int, head: int, rate: float, _: float) -> None:
        """Show how far the new tables are."""
        self._show(self._name, position, head, f"position {position:,} of {head:,}, {rate:,.0f} events/s")

    def compared(self, table: str, done: int, rows: int) -> None:
        """Show how many rows of a table were compared."""
        self._show(f"comparing {table}", done, rows, f"row {done:,} of {rows:,}")

    def _show(self, what: str, done: int, total: int, reached: str) -> None:
        if not self._tasks:
            self._progress.start()
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, reached="")
        self._progress.update(self._tasks[what], completed=done, total=total, reached=reached)


def _minute(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
