"""What the commands share: how data is printed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import typer

from services.cli import NOBODY_READS

JSON = typer.Option(False, "--json", help="Print JSON, a document a line.")
# Rows of a table that nobody looks at are never folded: a program reads them.
_WIDTH_OF_A_PIPE = 10_000


def say(text: str) -> None:
    """Print a line; when nobody reads on, as behind `| head`, the command ends."""
    try:
        typer.echo(text)
    except BrokenPipeError:
        # Whatever is still buffered goes where it troubles nobody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(NOBODY_READS) from None


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
    say(json.dumps(plain(value), ensure_ascii=False))


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows under headings."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(*headings, box=box.SIMPLE_HEAD)
    for row in rows:
        # As it stands: brackets in a name are no markup.
        shown.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_PIPE)
    with console.capture() as captured:
        console.print(shown)
    say("\n".join(line.rstrip() for line in captured.get().splitlines() if line.strip()))
