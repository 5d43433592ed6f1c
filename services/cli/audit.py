"""The command `audit`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from services.cli.common import JSON, say, show, table
from services.cli.where import database_url, tenant_of
from services.errors import OperatorError

if TYPE_CHECKING:
    from services.store.audit import Entry, Wanted

_SECONDS = "%Y-%m-%d %H:%M:%S"


def register(app: typer.Typer) -> None:

    @app.command()
    def audit(
        tenant: str | None = typer.Option(None, help="The tenant; `demo` beside `foldwork dev`."),
        system: bool = typer.Option(False, "--system", help="The acts that concern no single tenant."),
        act: str | None = typer.Option(None, help="An act, such as key.create."),
        actor: str | None = typer.Option(None, help="Who did it, such as cli:root, or the actor of an API key."),
        target: str | None = typer.Option(None, help="How the target begins, such as key/."),
        outcome: str | None = typer.Option(None, help="started, succeeded or failed."),
        since: str | None = typer.Option(None, help="A time such as 2026-01-31T09:00:00Z."),
        until: str | None = typer.Option(None, help="A time that is not included."),
        limit: int = typer.Option(50, min=1, max=10_000, help="Most acts to show."),
        as_json: bool = JSON,
    ) -> None:
        """Show what operators did, the newest first."""
        from msgspec import to_builtins

        from domain.operations import OUTCOMES
        from services.store.audit import Wanted

        if system and tenant is not None:
            raise OperatorError("Name the tenant with --tenant, or ask for the acts of no tenant with --system.")
        chosen = None if system else tenant_of(tenant)
        if outcome is not None and outcome not in OUTCOMES:
            raise OperatorError(f"--outcome is one of {', '.join(OUTCOMES)}")
        wanted = Wanted(act, actor, target, outcome, _time(since, "--since"), _time(until, "--until"))
        found = _read(database_url(), chosen, wanted, limit)
        if as_json:
            for each in found:
                show(to_builtins(each))
        elif found:
            table(("at", "actor", "act", "target", "outcome", "reason or details"), map(_line, found))
        else:
            say("There are no such acts.")


def _read(url: str, tenant: str | None, wanted: Wanted, limit: int) -> list[Entry]:
    from services.store import audit
    from services.store.connect import connect

    found: list[Entry] = []
    with connect(url, "audit", autocommit=True) as conn:
        ((version,),) = conn.execute(*audit.version(tenant)).fetchall()
        before: int | None = version + 1
        while before is not None and len(found) < limit:
            most = min(limit - len(found), audit.MAX_PAGE)
            rows = conn.execute(*audit.page(tenant, wanted, before, most), binary=True).fetchall()
            found += map(audit.entry, rows)
            before = audit.following(rows, before, most)
    return found


def _line(entry: Entry) -> tuple[Any, ...]:
    at = datetime.fromisoformat(entry.recorded_at).astimezone(UTC).strftime(_SECONDS)
    more = entry.reason or ", ".join(f"{name} {value}" for name, value in entry.details.items())
    key = f" (key {entry.key_id})" if entry.key_id else ""
    return at, f"{entry.actor}{key}", entry.act, entry.target, entry.outcome, more


def _time(text: str | None, name: str) -> datetime | None:
    from domain.decider import instant
    from domain.errors import Rejected

    try:
        return None if text is None else instant(text, "")
    except (Rejected, OverflowError):
        raise OperatorError(f"{name} is a time such as 2026-01-31T09:00:00Z.") from None
