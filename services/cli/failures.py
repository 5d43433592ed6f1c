"""What the user is told of a failure that is nobody's mistake in the code: a server, a file, the network."""

from __future__ import annotations

import sys


def explain(error: Exception) -> str | None:
    """Return one line, or None for what nobody expected; it is only asked of what has been imported already."""
    if "psycopg" in sys.modules:
        import psycopg

        from services.store import diagnosis as database

        if isinstance(error, psycopg.Error):
            return database.explain(error)
    if "aiormq" in sys.modules:
        from services.broker import failures as broker

        if (told := broker.explain(error)) is not None:
            return told
    if isinstance(error, OSError):
        said = error.strerror or str(error) or type(error).__name__
        return f"{error.filename}: {said}" if error.filename is not None else said
    return None
