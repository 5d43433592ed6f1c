"""Asks the broker how many consumers the commands' queue has, for the readiness probe; declares nothing."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity

from services.broker.connection import connect, connected, temporary_channel
from services.broker.names import COMMAND_QUEUE

# Shorter than the two seconds that a probe waits, so that a lost connection is noticed here.
_TIMEOUT = 1.5


class BrokerAway(Exception):
    """The broker cannot be reached. The message is only the error's class: its text may hold the address."""


@dataclass(slots=True)
class CommandQueue:
    """Uses a connection of its own, opened on first use and again after it was lost."""

    url: str
    _connection: AbstractConnection | None = None

    async def consumers(self) -> int:
        """Return how many consume commands, 0 when there is no queue yet; raises `BrokerAway`."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await self._ask()
        except ChannelNotFoundEntity:
            return 0
        except (AMQPError, OSError, RuntimeError) as error:
            # The next call opens a new connection.
            await self.close()
            raise BrokerAway(type(error).__name__) from None

    async def _ask(self) -> int:
        connection = self._connection
        if connection is None or not connected(connection):
            await self.close()
            self._connection = connection = await connect(self.url, "readiness", _TIMEOUT)
        # A passive declaration that fails closes its channel, so each call opens a new one.
        async with temporary_channel(connection) as channel:
            queue = await channel.declare_queue(COMMAND_QUEUE, passive=True)
            return queue.declaration_result.consumer_count or 0

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                async with asyncio.timeout(_TIMEOUT):
                    await connection.close()
