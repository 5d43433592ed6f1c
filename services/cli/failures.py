"""One-line explanations of failures outside the program: a server, a file, the network."""

from __future__ import annotations

import sys


def explain(error: Exception) -> str | None:
    """Explain an error in one line; None for an unexpected one. Imports no library that is not loaded yet."""
    if "psycopg" in sys.modules:
        import psycopg

        from services.store import diagnosis as database

        if isinstance(error, psycopg.Error):
            return database.explain(error)
    if "aiormq" in sys.modules:
        from services.broker import failures as broker

        if (explained := broker.explain(error)) is not None:
            return explained
    if isinstance(error, OSError):
        reason = error.strerror or str(error) or type(error).__name__
        return f"{error.filename}: {reason}" if error.filename is not None else reason
    return None
