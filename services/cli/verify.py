"""The command `verify`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from services.cli import FAILED
from services.cli.common import JSON, plain, say, show
from services.cli.where import database_url
from services.errors import OperatorError

if TYPE_CHECKING:
    from services.processors.verify import Verdict

UNCHECKED = 2


def register(app: typer.Typer) -> None:

    @app.command()
    def verify(as_json: bool = JSON) -> None:
        """Compare log, ledger, followers and read models; exits 1 on a contradiction, 2 if it cannot be checked."""
        import psycopg

        from services import logs
        from services.processors.verify import verify as run_verify
        from services.store.diagnosis import explain

        logs.configure("error", "console")
        try:
            found = run_verify(database_url(), _progress())
        except (psycopg.Error, OperatorError) as error:
            say(explain(error) if isinstance(error, psycopg.Error) else str(error), err=True)
            raise typer.Exit(UNCHECKED) from None
        if as_json:
            show({"verdict": _word(found), **plain(found)})
        else:
            _tell(found)
        raise typer.Exit({"consistent": 0, "contradictions": FAILED, "not checked": UNCHECKED}[_word(found)])


def _word(found: Verdict) -> str:
    return "contradictions" if found.violations else "not checked" if found.unchecked else "consistent"


def _progress() -> Callable[[str, int, int], None]:
    shown = [time.monotonic()]

    def progress(what: str, done: int, total: int) -> None:
        # A line every two seconds, which a log of a scheduled job can take too.
        if time.monotonic() - shown[0] > 2.0:
            shown[0] = time.monotonic()
            say(f"{what}: {done:,} of {total:,}", err=True)

    return progress


def _tell(found: Verdict) -> None:
    for violation in found.violations:
        say(f"{violation.check}: {violation.detail}")
    for line in found.unchecked:
        say(f"not checked: {line}")
    models = ", ".join(f"{name} up to {position}" for name, position in found.read_models.items())
    say(f"Log {found.log}, epoch {found.epoch}: {found.events} events; read models: {models or 'none'}.")
    say({"consistent": "Consistent."}.get(_word(found), f"{len(found.violations)} contradictions."))
