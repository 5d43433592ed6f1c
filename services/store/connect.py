"""Connections to PostgreSQL, each with time-outs that end a half-open one, and the backoff of whoever lost theirs."""

from __future__ import annotations

import random
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo


def conninfo(database_url: str, role: str, statement_timeout: float) -> str:
    """Return the URL with Foldwork's own name and time-outs added."""
    return make_conninfo(
        database_url,
        application_name=f"foldwork-{role}"[:63],
        connect_timeout=5,
        tcp_user_timeout=10_000,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        options=f"-c statement_timeout={int(statement_timeout * 1000)} -c lock_timeout={int(statement_timeout * 1000)}"
        " -c timezone=UTC",
    )


def connect(
    database_url: str, role: str, statement_timeout: float = 30.0, *, autocommit: bool = False
) -> psycopg.Connection[tuple[Any, ...]]:
    """Open a connection."""
    return psycopg.connect(conninfo(database_url, role, statement_timeout), autocommit=autocommit)


class Backoff:
    """Waits that grow from 0.1 s to 3 s, and one log line per change of state."""

    def __init__(self, what: str, log: Any) -> None:
        self._what = what
        self._log = log
        self._failures = 0

    def lost(self, error: BaseException) -> None:
        """Note a failure."""
        self._failures += 1
        if self._failures == 1:
            self._log.warning(f"{self._what} lost", error=str(error).strip())

    def reached(self) -> None:
        """Note a success."""
        if self._failures:
            self._log.info(f"{self._what} back", failures=self._failures)
        self._failures = 0

    def next_wait(self) -> float:
        """Return the seconds to wait before the next attempt."""
        ceiling: float = min(3.0, 0.1 * 2.0 ** min(self._failures, 6))
        return ceiling * random.uniform(0.5, 1.0)  # noqa: S311
