"""Asks the broker for the consumers and the messages of the queues, for readiness and metrics; declares nothing."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity

from services.broker.connection import connect, connected, temporary_channel
from services.broker.names import COMMAND_QUEUE, DEAD_QUEUE

# Shorter than the two seconds that a probe waits, so that a lost connection is noticed here.
_TIMEOUT = 1.5


class BrokerAway(Exception):
    """The broker cannot be reached. The message is only the error's class: its text may hold the address."""


class Counts(NamedTuple):
    """The consumers of commands, the commands that wait for one, and the dead letters."""

    consumers: int
    waiting: int = 0
    dead: int = 0


@dataclass(slots=True)
class CommandQueue:
    """Uses a connection of its own, opened on first use and again after it was lost."""

    url: str
    _connection: AbstractConnection | None = None

    async def counts(self) -> Counts:
        """Count consumers and messages, 0 of a queue that does not exist yet; raises `BrokerAway`."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                waiting, consumers = await self._ask(COMMAND_QUEUE)
                dead, _ = await self._ask(DEAD_QUEUE)
                return Counts(consumers, waiting, dead)
        except Exception as error:
            # What is lost with its connection may end in a bare Exception. The next call opens a new connection.
            await self.close()
            raise BrokerAway("the connection was lost" if type(error) is Exception else type(error).__name__) from None

    async def _ask(self, name: str) -> tuple[int, int]:
        connection = self._connection
        if connection is None or not connected(connection):
            await self.close()
            self._connection = connection = await connect(self.url, "readiness", _TIMEOUT)
        # A passive declaration that fails closes its channel, so each call opens a new one.
        try:
            async with temporary_channel(connection) as channel:
                found = (await channel.declare_queue(name, passive=True)).declaration_result
        except ChannelNotFoundEntity:
            return 0, 0
        return found.message_count or 0, found.consumer_count or 0

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                async with asyncio.timeout(_TIMEOUT):
                    await connection.close()
