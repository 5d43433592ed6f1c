"""The command `stuck`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from services.cli.common import JSON, say, show, table
from services.cli.where import database_url, tenant_of
from services.command_line import command_line
from services.errors import OperatorError

if TYPE_CHECKING:
    from services.store.causes import Remedy


def register(app: typer.Typer) -> None:

    @app.command()
    def stuck(
        tenant: str | None = typer.Option(None, help="The tenant; `demo` beside `foldwork dev`."),
        cause: list[str] = typer.Option([], help="A cause; may be repeated."),
        project: str | None = typer.Option(None, help="A project's id."),
        member: list[str] = typer.Option([], help="The id of a member who has it; may be repeated."),
        activity: str | None = typer.Option(None, help="An activity's id."),
        limit: int = typer.Option(50, min=1, max=1000, help="Most to show of each cause."),
        as_json: bool = JSON,
    ) -> None:
        """Show what does not move though it should, why, since when and what to do."""
        from msgspec import to_builtins

        from services.store import stuck
        from services.store.connect import connect

        chosen = tenant_of(tenant)
        unknown = [name for name in cause if name not in stuck.BY_CAUSE]
        if unknown:
            raise OperatorError(f"unknown cause {unknown[0]}; the causes are {', '.join(stuck.BY_CAUSE)}")
        wanted = stuck.Wanted(tuple(cause) or None, project, tuple(member) or None, activity)
        with connect(database_url(), "stuck", autocommit=True) as conn:
            counted = {name: count for name, count in conn.execute(*stuck.counts(chosen, wanted)).fetchall() if count}
            found = [
                stuck.shown(source, row)
                for source in stuck.wanted_sources(wanted)
                if source.cause in counted
                for row in conn.execute(*stuck.page(source, chosen, wanted, "", limit)).fetchall()
            ]
        if as_json:
            for each in found:
                show(to_builtins(each))
            return
        if not found:
            say("Nothing is stuck.")
            return
        table(
            ("cause", "what", "since", "activity", "members", "what to do"),
            [
                (each.cause, f"{each.resource.kind} {each.resource.id}", each.since, each.activity_id)
                + (" ".join(each.members), _remedy(each.remedy, chosen))
                for each in found
            ],
        )
        say(", ".join(f"{name}: {_number(count, stuck.MOST)}" for name, count in counted.items()))


def _number(count: int, most: int) -> str:
    return f"more than {most}" if count > most else str(count)


def _remedy(remedy: Remedy, tenant: str) -> str:
    line = remedy.cli
    if remedy.command is not None:
        command = remedy.command
        line = command_line("send", command["type"], tenant=tenant, data=json.dumps(command["data"]))
    return remedy.text if line is None else f"{remedy.text}: {line}"
