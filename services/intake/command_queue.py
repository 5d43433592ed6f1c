"""A look at the commands' queue for readiness; it declares nothing, and needs nothing else of this package."""

from __future__ import annotations

from dataclasses import dataclass

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity

from services.messages import COMMAND_QUEUE

_TIMEOUT = 2.0


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
            return await self._ask()
        except ChannelNotFoundEntity:
            return 0
        except (AMQPError, OSError, RuntimeError) as error:
            raise BrokerAway(type(error).__name__) from None

    async def _ask(self) -> int:
        if self._connection is None or self._connection.is_closed:
            self._connection = await aio_pika.connect(
                self.url, timeout=_TIMEOUT, client_properties={"connection_name": "foldwork-readiness"}
            )
        # A question that fails closes its channel, so each has a new one.
        async with self._connection.channel() as channel:
            queue = await channel.declare_queue(COMMAND_QUEUE, passive=True)
            return queue.declaration_result.consumer_count or 0

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()
