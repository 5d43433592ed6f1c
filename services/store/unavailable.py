"""Errors of a database that cannot be reached, or that ended a statement or a connection."""

from __future__ import annotations

import psycopg
from psycopg_pool import PoolTimeout

from services.store.diagnosis import UnsuitableDatabase

# What psycopg raises when the database cannot be used for now, or a connection was lost.
AWAY = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    # The server has become a standby; another one accepts writes.
    psycopg.errors.ReadOnlySqlTransaction,
    # This process was frozen, or too slow, and others have got its locks.
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.TransactionTimeout,
)

# SQLSTATEs of a server that is read-only, has ended a session that was idle or too long in a transaction, lacks
# resources, has a lock held by others, or is stopping or starting, or has ended an idle session.
_OUTAGES = ("25006", "25P03", "25P04", "53", "55P03", "57P")


class StoreUnavailable(Exception):
    """The database cannot be reached or did not answer; the ledger tells whether a transaction was recorded.

    `outage` is set when the server itself said that it cannot work for now, although it may answer a plain query.
    """

    outage = False


class SessionLost(StoreUnavailable):
    """An established connection was lost: by an outage, or because of what was being executed."""


class StatementFailed(StoreUnavailable):
    """The server ended a statement as too large or too slow; a smaller batch may succeed."""


def unavailable(error: Exception) -> StoreUnavailable:
    """Translate an error whose cause is an error of psycopg or of its pool."""
    cause = error.__cause__
    if isinstance(cause, UnsuitableDatabase):
        found = StoreUnavailable(str(error))
        found.outage = True
        return found
    found = _kind(cause)(str(error))
    found.outage = isinstance(cause, PoolTimeout) or (getattr(cause, "sqlstate", None) or "").startswith(_OUTAGES)
    return found


def _kind(cause: BaseException | None) -> type[StoreUnavailable]:
    state = getattr(cause, "sqlstate", None)
    if state is None:
        # A time-out of the pool means that no connection could be made; otherwise there was one.
        return StoreUnavailable if isinstance(cause, PoolTimeout) else SessionLost
    # Program limits, and a cancelled statement; one that waits for a lock ends as 55P03 before that.
    return StatementFailed if state.startswith("54") or state == "57014" else StoreUnavailable
