"""A few connections for the statements of asyncio tasks; a statement never waits for a database that is gone.

All statements are reads, or writes that may be repeated: one whose connection broke is sent again. Each connection has
a task that takes the next statement when it is done with one, so nothing is checked out and returned. It is opened when
all that are open are busy.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
import structlog

from services.store.connect import Backoff, connect_async
from services.store.unavailable import AWAY, StoreUnavailable

Rows = list[tuple[Any, ...]]
Params = Sequence[Any] | Mapping[str, Any]


@dataclass(slots=True)
class _Statement:
    sql: str
    params: Params
    answer: asyncio.Future[Rows]
    attempts: int = 0


@dataclass(slots=True)
class Pool:
    """`start` returns at once, also without a database; `fetch` raises `StoreUnavailable` while there is none."""

    url: str
    statement_timeout: float
    size: int = 4
    _waiting: deque[_Statement] = field(default_factory=deque)
    _idle: deque[asyncio.Future[None]] = field(default_factory=deque)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _connected: int = 0
    _failed: bool = False
    _log: Any = field(default_factory=lambda: structlog.get_logger("http.database"))

    def start(self) -> None:
        """Start the connections."""
        self._tasks = [
            asyncio.create_task(self._connection(), name=f"connection-{number}") for number in range(self.size)
        ]

    async def close(self) -> None:
        """Close the connections; what waits is refused."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._refuse_waiting()

    async def fetch(self, sql: str, params: Params = (), timeout: float | None = None) -> Rows:
        """Return all rows; raises `StoreUnavailable` when the database does not answer in time."""
        if self._failed and not self._connected:
            raise StoreUnavailable("the database cannot be reached")
        statement = _Statement(sql, params, asyncio.get_running_loop().create_future())
        self._waiting.append(statement)
        self._wake()
        try:
            # The server's own time-out is of no use when it is the server that hangs.
            async with asyncio.timeout(self.statement_timeout if timeout is None else timeout):
                return await statement.answer
        except TimeoutError:
            raise StoreUnavailable("the database did not answer in time") from None

    def _wake(self) -> None:
        while self._idle:
            idle = self._idle.popleft()
            if not idle.done():
                idle.set_result(None)
                return

    async def _connection(self) -> None:
        backoff = Backoff("database", self._log)
        while True:
            if not self._failed:
                await self._wanted(last=True)
            # Otherwise nothing is asked until a connection stands.
            try:
                connection = await connect_async(self.url, "http", self.statement_timeout)
            except psycopg.Error as error:
                backoff.lost(error)
                self._failed = True
                if not self._connected:
                    self._refuse_waiting()
                await asyncio.sleep(backoff.next_wait())
                continue
            backoff.reached()
            self._failed = False
            self._connected += 1
            try:
                await self._serve(connection)
            finally:
                self._connected -= 1
                with suppress(psycopg.Error):
                    await connection.close()

    async def _serve(self, connection: psycopg.AsyncConnection[Any]) -> None:
        while not connection.closed:
            await self._wanted()
            statement = self._waiting.popleft()
            if not statement.answer.done():
                await self._answer(connection, statement)

    async def _wanted(self, *, last: bool = False) -> None:
        """Wait for a statement, with `last` for one that no other connection is idle for."""
        while not self._waiting:
            idle = asyncio.get_running_loop().create_future()
            (self._idle.append if last else self._idle.appendleft)(idle)
            await idle

    async def _answer(self, connection: psycopg.AsyncConnection[Any], statement: _Statement) -> None:
        statement.attempts += 1
        try:
            cursor = await connection.execute(statement.sql, statement.params, prepare=True, binary=True)
            rows = await cursor.fetchall()
        except asyncio.CancelledError:
            statement.answer.cancel()
            raise
        except psycopg.errors.FeatureNotSupported as error:
            # A view that was switched to other columns makes statements prepared before useless: begin anew.
            await connection.close()
            self._failure(connection, statement, error)
        except psycopg.Error as error:
            self._failure(connection, statement, error)
        except Exception as error:
            # Such as a text that is no Unicode. It is the asker's error; what the connection is in then is not known.
            await connection.close()
            if not statement.answer.done():
                statement.answer.set_exception(error)
        else:
            if not statement.answer.done():
                statement.answer.set_result(rows)

    def _failure(self, connection: psycopg.AsyncConnection[Any], statement: _Statement, error: psycopg.Error) -> None:
        lost = connection.closed
        # When a server went away, every connection may be dead, so a statement may meet all of them.
        if lost and statement.attempts <= self.size:
            self._waiting.appendleft(statement)
            self._wake()
        elif statement.answer.done():
            return
        elif isinstance(error, psycopg.errors.UndefinedColumn):
            # The tables of the version before serve while those of this one are built.
            self._log.warning("a read model of another version is asked for", error=str(error).strip())
            statement.answer.set_exception(StoreUnavailable("a read model is being built for this version"))
        elif lost or isinstance(error, AWAY):
            self._log.warning("a statement got no answer", error=str(error).strip())
            statement.answer.set_exception(StoreUnavailable("the database did not answer"))
        else:
            statement.answer.set_exception(error)

    def _refuse_waiting(self) -> None:
        while self._waiting:
            answer = self._waiting.popleft().answer
            if not answer.done():
                answer.set_exception(StoreUnavailable("the database cannot be reached"))
