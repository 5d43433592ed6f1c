"""The command `tenants`."""

from __future__ import annotations

import typer

from services.cli.common import JSON, say, show_all
from services.cli.where import database_url


def register(app: typer.Typer) -> None:

    @app.command()
    def tenants(
        minutes: int = typer.Option(5, min=1, max=15, help="Minutes for which events and commands are counted."),
        as_json: bool = JSON,
    ) -> None:
        """Show which tenant loads the system: what was done for each lately, and what waits."""
        from services.store import figures
        from services.store import tenants as loads
        from services.store.connect import connect

        seconds = 60 * minutes
        with connect(database_url(), "tenants", autocommit=True) as conn:
            events, commands, waits = (
                conn.execute(*asked).fetchall()
                for asked in (figures.by_tenant(seconds), loads.decided(seconds), loads.waiting())
            )
        found = loads.ranked(events, commands, waits)
        show_all(
            found.tenants,
            as_json,
            (
                "tenant",
                "share",
                "events",
                "a second",
                "bytes",
                "commands",
                "refused",
                "dead letters",
                "bulks",
                "deliveries",
            ),
            lambda load: (
                *(load.tenant, f"{load.share} %", load.events, round(load.events / seconds, 2), load.bytes),
                *(load.decided, load.refused, load.letters, load.bulks, load.deliveries),
            ),
        )
        if found.others and not as_json:
            say(f"{found.others} more tenants have a smaller load.")
        if not found.exact and not as_json:
            say("Events are estimated from a sample.")
