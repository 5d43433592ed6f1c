"""What a failure of a follower says: that something is away for a while, that something is wrong, or of the event."""

from __future__ import annotations

import traceback

import psycopg

from services.store.log import LogGap


class OutsideUnavailable(Exception):
    """What a follower acts on cannot be reached; its events are as good as before, so it waits and does not halt."""


class Fenced(Exception):
    """Another process took this follower over; what was done since is not saved."""


UNAVAILABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    # A server that was made a standby; another one takes writes.
    psycopg.errors.ReadOnlySqlTransaction,
    OutsideUnavailable,
)
_PASSING = (*UNAVAILABLE, Fenced)
# Classes of SQLSTATE that speak of the values at hand: data, cardinality, constraints, limits, and RAISE of a trigger.
_OF_THE_VALUES = frozenset({"21", "22", "23", "44", "54", "P0"})
_MAX_TOLD, _MAX_FRAMES = 1000, 12


def timed_out(error: Exception) -> bool:
    """Tell whether a statement took longer than the statement time-out: too much for one, or too much at once."""
    # A statement that a person cancels has the same SQLSTATE. The text is translated where `lc_messages` says so.
    return isinstance(error, psycopg.errors.QueryCanceled) and "user request" not in str(error)


def lost(error: Exception) -> bool:
    """Tell whether the connection was lost, or the server ended."""
    state = getattr(error, "sqlstate", None)
    return (
        isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
        and not isinstance(error, psycopg.errors.PipelineAborted)
        and (state is None or state.startswith(("08", "57P")))
    )


def passes(error: Exception) -> bool:
    """Tell whether a failure says nothing of the events that were being handled."""
    # What is too long for PostgreSQL, or takes too long, counts as operational too, but stays so.
    return (
        isinstance(error, _PASSING)
        and not (getattr(error, "sqlstate", None) or "").startswith("54")
        and not timed_out(error)
    )


def systemic(error: Exception) -> bool:
    """Tell whether the database or the program is not as it should be, so that other events would fail too."""
    if timed_out(error):
        return False
    state = getattr(error, "sqlstate", None)
    return isinstance(error, (LogGap, MemoryError)) or (state is not None and state[:2] not in _OF_THE_VALUES)


def told(error: Exception) -> str:
    """Return a failure as text that the database takes."""
    text = f"{type(error).__name__}: {error}"[:_MAX_TOLD]
    return text.replace("\0", "\\0").encode("utf-8", "replace").decode("utf-8")


def where(error: Exception) -> str:
    """Return where a failure was raised, for the log: without values, which may be a tenant's and of any size."""
    return "".join(traceback.format_tb(error.__traceback__)[-_MAX_FRAMES:])
