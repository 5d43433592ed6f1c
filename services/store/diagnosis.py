"""What a failure of the database means, in one line for people; it never quotes a URL or a parameter."""

from __future__ import annotations

import psycopg

# By SQLSTATE, or by its class of two characters; the first one that fits is said.
_MEANINGS = (
    ("42P01", "the database lacks a table, run `foldwork db upgrade`"),
    ("3F000", "no schema of the search_path exists, create one or change the search_path"),
    ("42501", "the database user lacks a privilege"),
    ("25006", "the database only reads, it may be a standby"),
    ("57014", "the database cancelled a statement"),
    ("55P03", "a lock in the database was not had in time"),
    ("53", "the database is short of resources"),
    ("57P", "the database server is stopping or starting"),
    ("08", "the connection to the database was lost"),
)
_REFUSED = "the database server refused the connection"
_OPTIONS = "unsupported startup parameter"
# libpq's words for a connection that there was.
_LOST = ("closed the connection", "connection is lost", "consuming input failed", "could not send data to server")


def explain(error: psycopg.Error) -> str:
    """Return what went wrong: not reached, refused at the login, lost, or a statement that was refused and why."""
    said = " ".join((error.diag.message_primary or str(error)).split())
    state = error.sqlstate
    if state is None:
        return _without_state(error, said)
    for prefix, meaning in _MEANINGS:
        if state.startswith(prefix):
            return f"{meaning}: {said}"
    return f"the database refused a statement: {said} (SQLSTATE {state})"


def _without_state(error: psycopg.Error, said: str) -> str:
    if isinstance(error, UnsuitableDatabase):
        return said
    if "FATAL:" in said:
        # libpq gives no SQLSTATE of a connection that was not made, only the server's own words.
        reason = said.rpartition("FATAL:")[2].strip()
        if _OPTIONS in reason:
            return (
                f"{_REFUSED}: {reason}; a pooler takes no `options` in the URL, so set them by ALTER ROLE … SET,"
                " or connect directly"
            )
        return f"{_REFUSED}: {reason}"
    if isinstance(error, psycopg.InterfaceError) or any(mark in said for mark in _LOST):
        return f"the connection to the database was lost: {said}"
    return f"the database cannot be reached: {said.removeprefix('connection failed: ')}"


class UnsuitableDatabase(psycopg.OperationalError):
    """The database was reached, and Foldwork cannot work on it as it is; the text says what has to change."""
