"""What an operator does over HTTP, in a thread with a connection of its own: it is done rarely.

The work does it in `operations.acting`, as the command line does, so that it is recorded, also when it is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import psycopg

from domain.errors import RefusalError
from services.http.core.call import Call
from services.http.core.errors import ApiError, unavailable
from services.http.core.shares import MAX_LONG_ACTS
from services.store.connect import connect
from services.store.operations import By
from services.store.unavailable import AWAY

T = TypeVar("T")
# More at a time wait; each holds a connection.
_THREADS = ThreadPoolExecutor(2, "http-acts")
_LONG_THREADS = ThreadPoolExecutor(MAX_LONG_ACTS, "http-long-acts")


def by(call: Call) -> By:
    """Return who does what a call asks for."""
    return By(call.caller.actor, call.caller.key_id)


async def act(call: Call, work: Callable[[psycopg.Connection[Any]], T]) -> T:
    """Run work on a connection in autocommit mode, and return its result.

    The work makes its transaction itself, and may be interrupted by nothing but its own errors. Raises `ApiError` for
    what it refuses, and while the database is away.
    """
    settings = call.service.settings

    def run() -> T:
        with connect(
            settings.database_url.get_secret_value(), "http-acts", settings.statement_timeout, autocommit=True
        ) as conn:
            return work(conn)

    return await _run(_THREADS, run)


async def act_for_long(call: Call, work: Callable[[], T]) -> T:
    """Run work that waits for others than the database; raises `ApiError` as `act` does, and if there is too much."""
    with call.service.long_acts.request(call.caller):
        return await _run(_LONG_THREADS, work)


async def _run(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    try:
        return await asyncio.get_running_loop().run_in_executor(threads, work)
    except RefusalError as error:
        raise ApiError.caused_by(error) from None
    except AWAY:
        raise unavailable("the database did not answer; look whether it was done before you repeat it") from None
