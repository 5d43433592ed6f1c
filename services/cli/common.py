"""What the commands share: where Foldwork runs, and how data is printed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import typer

from services.settings import Settings, dev_file, load

JSON = typer.Option(False, "--json", help="Print JSON, a document a line.")


class UserError(Exception):
    """Something that the user can mend; its text is all that is shown."""


def development(left: Path | None = None) -> dict[str, Any]:
    """Return what a `foldwork dev` that runs has left in `.foldwork/dev.json`, or nothing."""
    try:
        found: dict[str, Any] = json.loads((left or dev_file()).read_text("utf-8"))
        os.kill(int(found["pid"]), 0)
    except PermissionError:
        return found
    except (OSError, ValueError, KeyError):
        return {}
    return found


def settings(**given: Any) -> Settings:
    """Return the settings from the environment; without one, those of the `foldwork dev` that runs here."""
    if "FOLDWORK_DATABASE_URL" not in os.environ and "FOLDWORK_AMQP_URL" not in os.environ:
        here = development()
        if not here:
            raise UserError("Set FOLDWORK_DATABASE_URL and FOLDWORK_AMQP_URL, or start `foldwork dev` in this folder.")
        given = {"database_url": here["database_url"], "amqp_url": here["amqp_url"], **given}
    return load(**given)


def amqp_url() -> str:
    """Return the broker's URL, for the commands that need no database."""
    url = os.environ.get("FOLDWORK_AMQP_URL") or development().get("amqp_url")
    if not url:
        raise UserError("Set FOLDWORK_AMQP_URL, or start `foldwork dev` in this folder.")
    return str(url)


def database_url() -> str:
    """Return the database's URL, for the commands that need no broker."""
    url = os.environ.get("FOLDWORK_DATABASE_URL") or development().get("database_url")
    if not url:
        raise UserError("Set FOLDWORK_DATABASE_URL, or start `foldwork dev` in this folder.")
    return str(url)


def plain(value: Any) -> Any:
    """Return a value as JSON can say it."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value


def show(value: Any) -> None:
    """Print one JSON document on one line."""
    typer.echo(json.dumps(plain(value), ensure_ascii=False))


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows under headings."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    shown = Table(*headings, box=box.SIMPLE_HEAD)
    for row in rows:
        shown.add_row(*("" if cell is None else str(cell) for cell in row))
    Console().print(shown)
