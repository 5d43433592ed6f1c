"""A look at the commands' queue for readiness; it declares nothing."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity

from services.intake.connected import connected, temporary_channel
from services.messages import COMMAND_QUEUE

# Of the two seconds that whoever asks waits at most, so that a connection that is lost is noticed here.
_TIMEOUT = 1.5


class BrokerAway(Exception):
    """The broker cannot be asked; the message is just the kind of the error, whose text may hold the address."""


@dataclass(slots=True)
class CommandQueue:
    """Asks over a connection of its own, which it opens when it is first asked and again when it is lost."""

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
            # Whatever was lost, the next question is asked over a new connection.
            await self.close()
            raise BrokerAway(type(error).__name__) from None

    async def _ask(self) -> int:
        connection = self._connection
        if connection is None or not connected(connection):
            await self.close()
            self._connection = connection = await aio_pika.connect(
                self.url, timeout=_TIMEOUT, client_properties={"connection_name": "foldwork-readiness"}
            )
        # A question that fails closes its channel, so each has a new one.
        async with temporary_channel(connection) as channel:
            queue = await channel.declare_queue(COMMAND_QUEUE, passive=True)
            return queue.declaration_result.consumer_count or 0

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                async with asyncio.timeout(_TIMEOUT):
                    await connection.close()
