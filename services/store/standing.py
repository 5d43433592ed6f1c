"""The status of the followers: position, halts, and the entities that they hold back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from projections.statement import Query
from services.errors import OperatorError
from services.store import held, log, operations
from services.store.connect import connect
from services.store.held import HeldEntity
from services.store.operations import Operation

# The first half of the advisory lock of a rebuild; the other half is the read model's.
_REBUILD_LOCK = 4_012_002
_SERVING = "r.name || '_' || r.serving"
_ALL = (
    "WITH tables AS (SELECT r.name, s.suffix, s.suffix = r.serving AS serving,"
    " r.name || '_' || s.suffix AS follower FROM read_models AS r"
    " CROSS JOIN LATERAL (SELECT r.serving UNION SELECT r.building"
    " UNION SELECT substr(f.name, length(r.name) + 2) FROM followers AS f"
    " WHERE f.name ~ ('^' || r.name || '_v[0-9]+(r[0-9]+)?$')) AS s (suffix) WHERE s.suffix IS NOT NULL)"
    " SELECT coalesce(t.name, f.name), coalesce(t.suffix, ''), coalesce(t.serving, true),"
    " coalesce(f.position, 0), f.halted_at, f.error, coalesce(t.follower, f.name)"
    " FROM tables AS t FULL JOIN followers AS f ON f.name = t.follower"
    " ORDER BY t.name IS NULL, 1, 2"
)
# (name, tables, whether they serve, position, halted at, class of the error, follower, head, age of the next event). An
# error's text may hold a tenant's data, so only its beginning is given.
FIGURES = Query(
    "SELECT s.name, s.suffix, s.serving, s.position, s.halted_at, split_part(s.error, ':', 1), s.follower,"  # noqa: S608
    f" ({log.HEAD}), extract(epoch FROM now() - e.recorded_at)::float8"
    f" FROM ({_ALL}) AS s (name, suffix, serving, position, halted_at, error, follower)"
    " LEFT JOIN stored_events AS e ON e.notification_id = s.position + 1",
    (),
)
# A follower of tables that do not serve (of a rebuild, or replaced ones) does not count for readiness.
# (name, position, halted at, whether it counts, head, held, age of the next event, seconds since it last moved)
FOLLOWERS = Query(
    "SELECT f.name, f.position, f.halted_at,"  # noqa: S608
    f" NOT EXISTS (SELECT FROM read_models AS r WHERE f.name LIKE r.name || '\\_v%%' AND f.name <> {_SERVING}),"
    f" ({log.HEAD}), f.held, extract(epoch FROM now() - e.recorded_at)::float8,"
    " extract(epoch FROM now() - f.updated_at)::float8"
    " FROM followers AS f LEFT JOIN stored_events AS e ON e.notification_id = f.position + 1",
    (),
)
# Whether the server takes no writes: it is a standby, or was made read-only.
READ_ONLY = Query("SELECT current_setting('transaction_read_only') = 'on'", ())
# (role, process id of the server, state, since when, for how many seconds, whether it waits for a lock) of the sessions
# of the roles that record, follow and schedule. Each of them does something every few seconds, also when there is
# nothing to do. Those of rebuilds are left out; other users' are not shown by the server.
SESSIONS = Query(
    "SELECT substr(application_name, 10), pid, state, state_change,"
    " extract(epoch FROM clock_timestamp() - state_change)::float8, wait_event_type IS NOT DISTINCT FROM 'Lock'"
    " FROM pg_stat_activity WHERE datname = current_database() AND state_change IS NOT NULL"
    " AND application_name ~ '^foldwork-(commands|scheduler|dispatcher|webhook-sender|follower-.*)$'"
    " AND application_name !~ '_v[0-9]+$' ORDER BY pid",
    (),
)
# How much each follower holds back, since when, from which position on, and why. An error's text may hold a tenant's
# data, so only its beginning is given.
HELD = Query(
    "SELECT e.follower, count(*), min(e.since), min(e.position),"
    " (array_agg(split_part(e.error, ':', 1) ORDER BY e.since, e.position))[1] FROM held_entities AS e GROUP BY 1",
    (),
)
# The serving tables without a follower.
UNFOLLOWED = Query(
    f"SELECT {_SERVING} FROM read_models AS r WHERE NOT EXISTS (SELECT FROM followers AS f WHERE f.name = {_SERVING})",  # noqa: S608
    (),
)
# The position of the serving tables of each read model, and the last position of the log.
POSITIONS = Query(
    f"SELECT r.name, coalesce(f.position, 0), ({log.HEAD})"  # noqa: S608
    f" FROM read_models AS r LEFT JOIN followers AS f ON f.name = {_SERVING}",
    (),
)


class UnknownFollower(OperatorError):
    """There is no follower of this name."""


@dataclass(frozen=True, slots=True)
class Status:
    """The status of one follower, and of the tables that it fills, if any."""

    name: str
    suffix: str
    serving: bool
    position: int
    head: int
    halted_at: int | None
    error: str | None
    held: list[HeldEntity]

    @property
    def lag(self) -> int:
        return self.head - self.position


def status(database_url: str) -> list[Status]:
    """Return the status of the serving tables and of the rebuild of each read model, then of the other followers."""
    with connect(database_url, "projections", autocommit=True) as conn:
        head, waiting = log.head(conn), held.status(conn)
        rows = conn.execute(_ALL).fetchall()
    return [
        Status(name, suffix, serving, position, max(head, position), halted_at, error, waiting.get(follower, []))
        for name, suffix, serving, position, halted_at, error, follower in rows
    ]


def retry(database_url: str, name: str | None = None, actor: str | None = None) -> int:
    """Make the held-back entities of one follower, or of all, due now; return their number.

    A read model is given by its own name, without the suffix of its tables. For each follower that holds something back
    it is recorded as an act of the actor, if one is given.
    """
    with connect(database_url, "projections", autocommit=True) as conn:
        return retry_in(conn, name, None, actor)


def retry_in(
    conn: psycopg.Connection[Any],
    name: str | None,
    tenant: str | None,
    actor: str | None = None,
    key_id: str | None = None,
) -> int:
    """Do the same on a connection that is in no transaction, for the entities of one tenant only, if one is given."""
    rows = conn.execute(_ALL).fetchall()
    followers = [follower for of, *_, follower in rows if name in (None, of)]
    if name is not None and not followers:
        known = ", ".join(dict.fromkeys(of for of, *_ in rows))
        raise UnknownFollower(f"unknown follower {name}; the followers are {known}")
    count = 0
    for follower in followers:
        with conn.transaction():
            due = held.retry_now(conn, follower, tenant)
            if due and actor is not None:
                act = Operation(
                    tenant, actor, "held-back.retry", f"follower/{follower}", details={"entities": due}, key_id=key_id
                )
                operations.record(conn, act)
            count += due
    return count


def position(conn: psycopg.Connection[Any], name: str) -> int:
    """Return the position of a follower, 0 if it does not exist."""
    row = conn.execute("SELECT position FROM followers WHERE name = %s", (name,)).fetchone()
    return int(row[0]) if row is not None else 0


def halted(conn: psycopg.Connection[Any], name: str) -> tuple[int | None, str | None]:
    """Return the position at which a follower is halted, and the error."""
    row = conn.execute("SELECT halted_at, error FROM followers WHERE name = %s", (name,)).fetchone()
    return (row[0], row[1]) if row is not None else (None, None)


def locked(conn: psycopg.Connection[Any], names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Lock the rows of these followers; return the position and the generation of held entities of each."""
    statement = "SELECT name, position, held FROM followers WHERE name = ANY(%s) ORDER BY name FOR UPDATE"
    return {name: (at, generation) for name, at, generation in conn.execute(statement, (list(names),)).fetchall()}


def remove(conn: psycopg.Connection[Any], name: str) -> None:
    conn.execute("DELETE FROM followers WHERE name = %s", (name,))


def nobody_rebuilds(conn: psycopg.Connection[Any], read_model: str) -> bool:
    """Take the lock of a read model's rebuild for the rest of the transaction; false if another session has it."""
    row = conn.execute("SELECT pg_try_advisory_xact_lock(%s, hashtext(%s))", (_REBUILD_LOCK, read_model)).fetchone()
    return row == (True,)


def begin_rebuild(conn: psycopg.Connection[Any], read_model: str) -> bool:
    """Take the lock of a read model's rebuild for the rest of the session; false if another session has it."""
    row = conn.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", (_REBUILD_LOCK, read_model)).fetchone()
    return row == (True,)
