"""What an operator does over HTTP in one transaction, in a thread with a connection of its own: it is done rarely."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import psycopg

from services.http.core.call import Call
from services.http.core.errors import unavailable
from services.store.connect import connect
from services.store.unavailable import AWAY

T = TypeVar("T")
# More at a time wait; each holds a connection.
_THREADS = ThreadPoolExecutor(2, "http-acts")


async def act(call: Call, work: Callable[[psycopg.Connection[Any]], T]) -> T:
    """Run work on a connection in autocommit mode, and return its result; raises `ApiError` while the database is away.

    The work makes its transaction itself, and may be interrupted by nothing but its own errors.
    """
    settings = call.service.settings

    def run() -> T:
        with connect(
            settings.database_url.get_secret_value(), "http-acts", settings.statement_timeout, autocommit=True
        ) as conn:
            return work(conn)

    try:
        return await asyncio.get_running_loop().run_in_executor(_THREADS, run)
    except AWAY:
        raise unavailable("the database did not answer; look whether it was done before you repeat it") from None
