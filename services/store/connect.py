"""Connections to PostgreSQL, with time-outs that detect a server that hangs, and with fixed session settings.

The settings are made by a statement after connecting, not by startup parameters: the `options` of the URL are kept,
and poolers such as PgBouncer refuse startup parameters that they do not know.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.generators import send

from services.store.diagnosis import UnsuitableDatabase, explain

MIN_SERVER_VERSION = 15
# Parameters that the URL may override.
_DEFAULTS = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}
# The same for the server's end of the connection, so that it ends the session of a host that is lost. A server ignores
# them on a Unix-domain socket.
_SERVER_DEFAULTS = {
    "tcp_user_timeout": "10s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}
# Settings that the statements depend on; they override those of the URL, the role and the database.
SESSION = {
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "default_transaction_isolation": "read committed",
}
# The server ends a session that is idle in a transaction, and so one whose process is frozen or whose host is lost, and
# releases its locks; what that process still sends then is refused. It is shorter than the lock time-out, so that those
# who wait for the locks get them.
IDLE_SHARE = 0.6
# Settings that the options of the URL override, as a share of the statement time-out. The lock time-out is shorter, so
# that the error distinguishes a statement that waits for a lock from one that is slow.
_TIMEOUTS = {"statement_timeout": 1.0, "lock_timeout": 0.9, "idle_in_transaction_session_timeout": IDLE_SHARE}
# How long the client waits for an answer, as a share of the statement time-out. A server that is frozen, or lost behind
# a proxy that still acknowledges, does not end its statements itself.
ANSWER_SHARE = 1.25
# The server ends a session that is longer in a transaction, whatever it waits for: also for the rest of a pipeline, in
# which it does not count as idle. Several statements share it. Servers older than this have no such limit.
_TRANSACTION_SHARE = 3.0
_TRANSACTION_TIMEOUT_SINCE = 170_000
# Another time-out than 0 does not change one that is running, which therefore is ended first.
_END_IN_TIME = "SELECT set_config('transaction_timeout', '0', true), set_config('transaction_timeout', %s, true)"
_SETTING_UP_SECONDS = 10.0
_OPTION = re.compile(r"(?:-c\s*|--)([A-Za-z_][\w.-]*)\s*=")


class NoAnswer(psycopg.OperationalError):
    """The server did not answer in time; the connection was closed."""


class Session(psycopg.Connection[tuple[Any, ...]]):
    """A connection on which no answer is awaited longer than `answer_within`, in seconds."""

    answer_within: float | None = _SETTING_UP_SECONDS

    def wait(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        try:
            return super().wait(_within(gen, self.answer_within), *args, **kwargs)
        except NoAnswer:
            self.pgconn.finish()
            raise

    @contextmanager
    def pipeline(self) -> Iterator[psycopg.Pipeline]:
        """Do as psycopg's does, but send nothing after the end of the pipeline.

        psycopg asks for a flush after it, and while a server has that to read last, it does not end the session for
        being idle in a transaction.
        """
        with super().pipeline() as pipeline:
            pipeline._exit_gen = partial(_ended, pipeline)  # type: ignore[method-assign]
            yield pipeline


def _ended(pipeline: psycopg.Pipeline) -> PQGen[None]:
    try:
        pipeline._enqueue_sync()
        yield from pipeline._communicate_gen()
    finally:
        # The socket may have taken a part of the last statement only, and reading the results does not send the rest.
        yield from send(pipeline.pgconn)
        yield from pipeline._fetch_gen(flush=False)


class AsyncSession(psycopg.AsyncConnection[tuple[Any, ...]]):
    """The same for asyncio."""

    answer_within: float | None = _SETTING_UP_SECONDS

    async def wait(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        try:
            return await super().wait(_within(gen, self.answer_within), *args, **kwargs)
        except NoAnswer:
            self.pgconn.finish()
            raise


def _within(gen: PQGen[RV], seconds: float | None) -> PQGen[RV]:
    """Raise `NoAnswer` when nothing has arrived and so many seconds are over."""
    if seconds is None:
        return (yield from gen)
    deadline = time.monotonic() + seconds
    try:
        wanted = next(gen)
        while True:
            # psycopg resumes a generator several times a second, with nothing when nothing is ready.
            ready = yield wanted
            if not ready and time.monotonic() > deadline:
                raise NoAnswer(f"the database did not answer within {seconds:g} s, the connection was closed")
            wanted = gen.send(ready)
    except StopIteration as finished:
        return cast("RV", finished.value)


@contextmanager
def without_time_limit(conn: psycopg.Connection[Any]) -> Iterator[None]:
    """Let the statements of the block take as long as they need; the caller's transaction contains it."""
    conn.execute("SET LOCAL statement_timeout = 0")
    if conn.info.server_version >= _TRANSACTION_TIMEOUT_SINCE:
        conn.execute("SET LOCAL transaction_timeout = 0")
    assert isinstance(conn, Session)  # noqa: S101
    before, conn.answer_within = conn.answer_within, None
    try:
        yield
    finally:
        conn.answer_within = before


def end_in_time(conn: psycopg.Connection[Any]) -> None:
    """Let the server end the caller's transaction, which stops everybody else, as late as an answer is awaited."""
    within = getattr(conn, "answer_within", None)
    if within is not None and conn.info.server_version >= _TRANSACTION_TIMEOUT_SINCE:
        conn.execute(_END_IN_TIME, (str(int(within * 1000)),), prepare=True)


def stay(conn: psycopg.Connection[Any]) -> None:
    """Keep the server from ending the caller's transaction as idle, while it waits for something else."""
    conn.execute("SELECT 1")


def conninfo(database_url: str, role: str) -> str:
    """Return the URL with Foldwork's application name and time-outs, unless it sets its own."""
    given = conninfo_to_dict(database_url)
    own = {**_DEFAULTS, "fallback_application_name": f"foldwork-{role}"[:63]}
    added: dict[str, Any] = {name: value for name, value in own.items() if name not in given}
    # With SQL_ASCII the driver returns bytes, and other encodings lack characters.
    return make_conninfo(database_url, **added, client_encoding="UTF8")


def connect(
    database_url: str,
    role: str,
    statement_timeout: float = 30.0,
    *,
    autocommit: bool = False,
) -> Session:
    """Open a connection; a statement time-out of 0 means none.

    Raises `UnsuitableDatabase`, and whatever psycopg raises.
    """
    conn = Session.connect(conninfo(database_url, role), autocommit=True)
    try:
        prepare(conn, statement_timeout)
        conn.autocommit = autocommit
    except BaseException:
        conn.close()
        raise
    return conn


async def connect_async(database_url: str, role: str, statement_timeout: float = 30.0) -> AsyncSession:
    """Open a connection in autocommit, as `connect` does."""
    conn = await AsyncSession.connect(conninfo(database_url, role), autocommit=True)
    try:
        _demand_suitable(conn.info)
        cursor = await conn.execute(*_settings(conn.info, statement_timeout))
        conn.answer_within = _answer_within(await cursor.fetchone())
    except BaseException:
        await conn.close()
        raise
    return conn


def prepare(conn: Session, statement_timeout: float) -> None:
    """Set up the session of an open connection in autocommit mode."""
    _demand_suitable(conn.info)
    conn.answer_within = _answer_within(conn.execute(*_settings(conn.info, statement_timeout)).fetchone())


def _answer_within(settings: tuple[Any, ...] | None) -> float | None:
    """Return how long an answer is awaited; the URL may have set another statement time-out."""
    statement_timeout = float(settings[0]) if settings is not None else 0.0
    return ANSWER_SHARE * statement_timeout or None


def _settings(info: psycopg.ConnectionInfo, statement_timeout: float) -> tuple[str, list[str]]:
    """Return the statement that sets up a session, and its parameters."""
    named = {name.replace("-", "_").lower() for name in _OPTION.findall(info.options)}
    milliseconds = statement_timeout * 1000
    shares = dict(_TIMEOUTS)
    if info.server_version >= _TRANSACTION_TIMEOUT_SINCE:
        shares["transaction_timeout"] = _TRANSACTION_SHARE
    times = {name: str(int(milliseconds * share)) for name, share in shares.items()}
    wanted = {**SESSION, **{name: each for name, each in {**times, **_SERVER_DEFAULTS}.items() if name not in named}}
    # A single schema, so that no table of another schema is found, or dropped, by mistake.
    first = "set_config('search_path', coalesce(quote_ident(current_schema()), current_setting('search_path')), false)"
    rest = ", set_config(%s, %s, false)" * len(wanted)
    effective = "SELECT extract(epoch FROM current_setting('statement_timeout')::interval)"
    made = f"WITH made AS MATERIALIZED (SELECT {first}{rest}) {effective} FROM made"  # noqa: S608
    return made, [text for pair in wanted.items() for text in pair]


def _demand_suitable(info: psycopg.ConnectionInfo) -> None:
    # The server reports both when the connection starts, so no query is needed.
    encoding = info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise UnsuitableDatabase(
            f"the database's encoding is {encoding}, and it has to be UTF8:"
            " create it with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )
    if info.server_version < MIN_SERVER_VERSION * 10_000:
        raise UnsuitableDatabase(
            f"the database server is PostgreSQL {info.server_version // 10_000},"
            f" and it has to be {MIN_SERVER_VERSION} or newer"
        )


def demand_sessions(database_url: str) -> None:
    """Raise `UnsuitableDatabase` when a pooler in transaction mode is detected."""
    with connect(database_url, "check", autocommit=True) as first:
        pid = _pid(first)
        if pid == first.info.backend_pid:
            return
        # A pooler answers the login itself, so the process id that it reported is not that of the server process.
        with connect(database_url, "check", autocommit=True) as second:
            shared = _pid(second) == _pid(first)
    if shared:
        raise UnsuitableDatabase(
            "the pooler before the database pools transactions, and Foldwork needs sessions:"
            " set pool_mode = session, or connect directly"
        )


def _pid(conn: psycopg.Connection[tuple[Any, ...]]) -> int:
    row = conn.execute("SELECT pg_backend_pid()").fetchone()
    return int(row[0]) if row is not None else 0


class Backoff:
    """Waits that grow from 0.1 s to 3 s, and one log line per change of state."""

    def __init__(self, what: str, log: Any) -> None:
        self._what = what
        self._log = log
        self.failures = 0

    def lost(self, error: BaseException) -> None:
        """Note a failure."""
        self.failures += 1
        if self.failures == 1:
            self._log.warning(f"{self._what} lost", error=_said(error))

    def reached(self) -> None:
        """Note a success."""
        if self.failures:
            self._log.info(f"{self._what} back", failures=self.failures)
        self.failures = 0

    def next_wait(self) -> float:
        """Return the seconds to wait before the next attempt."""
        ceiling: float = min(3.0, 0.1 * 2.0 ** min(self.failures, 6))
        return ceiling * random.uniform(0.5, 1.0)  # noqa: S311


def _said(error: BaseException) -> str:
    return explain(error) if isinstance(error, psycopg.Error) else str(error).strip()
