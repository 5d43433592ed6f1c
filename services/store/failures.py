"""The errors of a follower: a temporary outage, a fault of the system, or a fault of the event."""

from __future__ import annotations

import traceback

import psycopg

from services.store.log import LogGap
from services.store.unavailable import AWAY


class OutsideUnavailable(Exception):
    """A system outside the database is unavailable; the follower waits and does not halt."""


class Fenced(Exception):
    """Another process took over this follower; the current transaction is not committed."""


UNAVAILABLE = (*AWAY, OutsideUnavailable)
_PASSING = (*UNAVAILABLE, Fenced)
# SQLSTATE classes caused by the values: data, cardinality, constraints, limits, and RAISE in a trigger.
_OF_THE_VALUES = frozenset({"21", "22", "23", "44", "54", "P0"})
_MAX_TOLD, _MAX_FRAMES = 1000, 12


def timed_out(error: Exception) -> bool:
    """Whether a statement exceeded the statement time-out."""
    # A statement cancelled by a user has the same SQLSTATE; its text differs, and may be translated by `lc_messages`.
    return isinstance(error, psycopg.errors.QueryCanceled) and "user request" not in str(error)


def lost(error: Exception) -> bool:
    """Whether the connection was lost or the server was shut down."""
    state = getattr(error, "sqlstate", None)
    return (
        isinstance(error, AWAY)
        and not isinstance(error, psycopg.errors.PipelineAborted)
        and (state is None or state.startswith(("08", "25P03", "25P04", "57P")))
    )


def passes(error: Exception) -> bool:
    """Whether an error is temporary, and no fault of the events that were being handled."""
    # An exceeded program limit or time-out is an OperationalError too, but not temporary.
    return (
        isinstance(error, _PASSING)
        and not (getattr(error, "sqlstate", None) or "").startswith("54")
        and not timed_out(error)
    )


def systemic(error: Exception) -> bool:
    """Whether the database or the program is at fault, so that other events would fail too."""
    if timed_out(error):
        return False
    state = getattr(error, "sqlstate", None)
    return isinstance(error, (LogGap, MemoryError)) or (state is not None and state[:2] not in _OF_THE_VALUES)


def told(error: BaseException) -> str:
    """Return an error as text that can be stored in the database."""
    text = f"{type(error).__name__}: {error}"[:_MAX_TOLD]
    return text.replace("\0", "\\0").encode("utf-8", "replace").decode("utf-8")


def where(error: Exception) -> str:
    """Return the stack of an error for the log, without values, which may be confidential or large."""
    return "".join(traceback.format_tb(error.__traceback__)[-_MAX_FRAMES:])
