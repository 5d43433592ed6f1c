"""One-line explanations of database errors for operators; they never contain a URL or a parameter."""

from __future__ import annotations

import psycopg

# By SQLSTATE or its prefix; the first match is used.
_MEANINGS = (
    ("42P01", "the database lacks a table, run `foldwork db upgrade`"),
    ("3F000", "no schema of the search_path exists, create one or change the search_path"),
    ("42501", "the database user lacks a privilege"),
    ("25006", "the database is read-only, it may be a standby"),
    ("25P03", "the database ended a session that was idle in a transaction"),
    ("25P04", "the database ended a session that was too long in a transaction"),
    ("57P05", "the database ended a session that was idle"),
    ("57014", "the database cancelled a statement"),
    ("55P03", "a lock in the database was not acquired in time"),
    ("53", "the database is short of resources"),
    ("57P", "the database server is stopping or starting"),
    ("08", "the connection to the database was lost"),
)
_REFUSED = "the database server refused the connection"
_OPTIONS = "unsupported startup parameter"
# Messages of libpq about an established connection.
_LOST = ("closed the connection", "connection is lost", "consuming input failed", "could not send data to server")
_SILENT = "the database did not answer"


def explain(error: psycopg.Error) -> str:
    """Explain an error: unreachable, refused at login, connection lost, or why a statement was refused."""
    message = " ".join((error.diag.message_primary or str(error)).split())
    state = error.sqlstate
    if state is None:
        return _without_state(error, message)
    for prefix, meaning in _MEANINGS:
        if state.startswith(prefix):
            return f"{meaning}: {message}"
    return f"the database refused a statement: {message} (SQLSTATE {state})"


def _without_state(error: psycopg.Error, message: str) -> str:
    if isinstance(error, UnsuitableDatabase) or message.startswith(_SILENT):
        return message
    if "FATAL:" in message:
        # For a failed connection libpq reports no SQLSTATE, only the server's message.
        reason = message.rpartition("FATAL:")[2].strip()
        if _OPTIONS in reason:
            return (
                f"{_REFUSED}: {reason}; a pooler takes no `options` in the URL, so set them by ALTER ROLE … SET,"
                " or connect directly"
            )
        return f"{_REFUSED}: {reason}"
    if isinstance(error, psycopg.InterfaceError) or any(mark in message for mark in _LOST):
        return f"the connection to the database was lost: {message}"
    return f"the database cannot be reached: {message.removeprefix('connection failed: ')}"


class UnsuitableDatabase(psycopg.OperationalError):
    """The database cannot be used as it is configured; the message says what has to change."""
