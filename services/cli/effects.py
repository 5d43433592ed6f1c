"""The command `effects`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from services.cli.common import JSON, say, show, table
from services.cli.where import database_url, tenant_of
from services.errors import OperatorError

if TYPE_CHECKING:
    from services.store.effects import Effect, Effects


def register(app: typer.Typer) -> None:

    @app.command()
    def effects(
        command_id: str = typer.Argument(..., metavar="COMMAND", help="The command's id."),
        tenant: str | None = typer.Option(None, help="The tenant; `demo` beside `foldwork dev`."),
        after: int = typer.Option(0, min=0, help="The events behind this position."),
        limit: int = typer.Option(100, min=1, max=100, help="Most events to show."),
        as_json: bool = JSON,
    ) -> None:
        """Show what came of a command: its events, and the deliveries, dispatches and commands that these caused."""
        from services.store import effects as store
        from services.store.connect import connect

        with connect(database_url(), "effects", autocommit=True) as conn:
            found = store.read(conn, store.of(tenant_of(tenant), command_id, after, limit, deliveries=True))
        if found is None:
            raise OperatorError("No command of this id was decided, or not yet, or its receipt is not kept any more.")
        if as_json:
            show(found)
            return
        say(*_head(found))
        if found.events:
            table(("position", "event", "of", "what came of it"), (row for each in found.events for row in _rows(each)))
        if found.follow is not None:
            say(f"There are more events: --after {found.follow}")


def _head(found: Effects) -> Iterator[str]:
    by = "" if found.actor is None else f" by {found.actor}"
    yield f"{found.command_id}: {found.outcome}{by}, {found.recorded_at}"
    if found.error is not None:
        yield f"{found.error.code}: {found.error.detail}"
    if found.repeats is not None:
        yield f"repeats {found.repeats}"
    if (cause := found.caused_by) is not None:
        yield f"caused by {cause.position} {cause.type} of {cause.stream}, recorded by {cause.command_id}"


def _rows(event: Effect) -> Iterator[tuple[object, ...]]:
    """Give a line for the event, and one for each thing that came of it."""
    came = list(_came(event)) or [""]
    yield event.position, event.type, event.stream, came[0]
    for each in came[1:]:
        yield "", "", "", each


def _came(event: Effect) -> Iterator[str]:
    for each in event.deliveries or ():
        status = "" if each.status is None else f", status {each.status}"
        yield f"webhook {each.webhook}: {each.state}, attempts {each.attempts}{status}"
    if (sent := event.dispatch) is not None:
        why = ", ".join(each for each in (sent.reference, sent.code, sent.message) if each)
        yield f"dispatch over {sent.channel}, attempt {sent.attempt}: {sent.state}{f' ({why})' if why else ''}"
    for command in event.commands:
        names = ", ".join(each.type for each in command.events) or command.code or "recorded nothing"
        yield f"command {command.command_id}: {names}"
