"""What the command `bulk` reads and prints: data and filters, and how far a bulk is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from services.cli.common import say
from services.cli.data import read_data
from services.cli.where import database_url
from services.errors import OperatorError

if TYPE_CHECKING:
    import psycopg

# Characters of the bar.
_BAR = 30


@contextmanager
def connected() -> Iterator[psycopg.Connection[Any]]:
    """Give a connection to the database, in autocommit mode."""
    from services.store.connect import connect

    with connect(database_url(), "bulk", autocommit=True) as conn:
        yield conn


@contextmanager
def refused() -> Iterator[None]:
    """Let a refusal end the command, in one line."""
    from domain.errors import RefusalError
    from services.store.unavailable import StoreUnavailable

    try:
        yield
    except RefusalError as error:
        place = f" ({error.pointer})" if error.pointer else ""
        raise OperatorError(f"{error.code}: {error.detail}{place}") from None
    except StoreUnavailable as error:
        raise OperatorError(str(error)) from None


def json_of(body: bytes) -> Any:
    """Return JSON that is safe to store."""
    from services.commands.wire import load_json

    with refused():
        return load_json(body)


def filter_of(texts: list[str]) -> dict[str, Any]:
    """Return filters of the command line; one that is repeated has several values."""
    found: dict[str, list[str]] = {}
    for text in texts:
        name, given, value = text.partition("=")
        if not given:
            raise typer.BadParameter("--filter is NAME=VALUE, or NAME= for what has none.")
        found.setdefault(name, []).append(value)
    return {name: values if len(values) > 1 else values[0] or None for name, values in found.items()}


def lines_of(file: str) -> list[str]:
    """Return the lines of a file, or of standard input, without empty ones."""
    text = read_data("-" if file == "-" else f"@{file}")
    return [line.strip() for line in text.decode("utf-8", "replace").splitlines() if line.strip()]


def tell(bulk: Mapping[str, Any]) -> None:
    """Print what a preview found."""
    say(f"bulk {bulk['id']}: {bulk['command']} for {bulk['total']}, {bulk['state']}")
    for state, count in bulk["counts"].items():
        if count:
            reasons = ", ".join(f"{name} {number}" for name, number in sorted(bulk["skipped"].items()))
            say(f"  {state} {count}" + (f": {reasons}" if state == "skipped" else ""))
    if bulk["state"] == "previewing":
        say("no answer yet: an HTTP process previews it")


def line_of(bulk: Mapping[str, Any]) -> str:
    """Return how far a bulk is, as a bar with its counts."""
    counts = bulk["counts"]
    left = counts["pending"] if bulk["state"] == "previewing" else counts["pending"] + counts["ready"]
    done = bulk["total"] - left
    filled = _BAR if not bulk["total"] else done * _BAR // bulk["total"]
    reason = f" ({bulk['reason']})" if bulk["reason"] else ""
    bar = f"[{'#' * filled}{'-' * (_BAR - filled)}]"
    return f"{bar} {done}/{bulk['total']} {bulk['state']}{reason} {counts_of(bulk)}".rstrip()


def counts_of(bulk: Mapping[str, Any]) -> str:
    """Return how many items are in which state."""
    return " ".join(f"{state} {count}" for state, count in bulk["counts"].items() if count)


def error_of(error: Any) -> str | None:
    """Return a refusal in one line."""
    return None if error is None else f"{error.code}: {error.detail}"
