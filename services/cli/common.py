"""Output of the commands: all of it goes through here."""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import typer

from services.cli import BROKEN_PIPE
from services.cli.lines import safe

JSON = typer.Option(False, "--json", help="Print JSON, one document per line.")
# Rows are not wrapped when the output is not a terminal.
_PIPE_WIDTH = 10_000


def operator() -> str:
    """Return the actor of what is done by this command, `cli:<user>`: the user of the operating system."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        # As in a container that runs under a user id without an account.
        name = str(os.getuid())
    return f"cli:{name}"


def say(*lines: str, err: bool = False) -> None:
    """Print lines, each without what a terminal would act on."""
    _print("\n".join(map(safe, lines)), err=err)


def say_again(line: str) -> None:
    """Print a line in the place of the last one, on a terminal."""
    _print(f"\r\x1b[K{safe(line)}", nl=False)


def _print(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print a text; on a broken pipe, as with `| head`, the command ends."""
    try:
        typer.echo(text, err=err, nl=nl)
    except BrokenPipeError:
        # Discard what is still buffered, or flushing it at exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(BROKEN_PIPE) from None


def plain(value: Any) -> Any:
    """Return a value in types that JSON has."""
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
    say(json.dumps(plain(value), ensure_ascii=False))


def show_all(
    found: Sequence[Any], as_json: bool, headings: Sequence[str], line: Callable[[Any], Sequence[Any]]
) -> None:
    """Print a document for each, or a table with a line for each."""
    if as_json:
        for each in found:
            show(each)
    else:
        table(headings, map(line, found))


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(*headings, box=box.SIMPLE_HEAD)
    for row in rows:
        # As Text, so that brackets are not read as markup.
        shown.add_row(*(Text("" if cell is None else safe(str(cell))) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    with console.capture() as captured:
        console.print(shown)
    _print("\n".join(line.rstrip() for line in captured.get().splitlines() if line.strip()))
