"""A temporary subscription to the events exchange, for `foldwork tail` and the demonstration."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aio_pika.exceptions import AMQPError

from services.broker.connection import connect
from services.broker.names import EVENT_EXCHANGE
from services.broker.topology import declare
from services.errors import OperatorError

# In bytes: AMQP stores the length of a routing key in one byte.
MAX_PATTERN = 255


class SubscriptionLost(OperatorError):
    """The connection was lost, and the exclusive queue with it."""


@asynccontextmanager
async def subscription(amqp_url: str, pattern: str = "#") -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
    """Yield (routing key, CloudEvents JSON) of each event from now on whose key matches the topic pattern.

    Raises `SubscriptionLost`: events that are published while it is not connected are not kept.
    """
    connection = await connect(amqp_url, "tail")
    try:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=100)
        await declare(channel)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(EVENT_EXCHANGE, pattern)

        async def deliveries() -> AsyncIterator[tuple[str, bytes]]:
            try:
                async with queue.iterator() as messages:
                    async for message in messages:
                        yield message.routing_key or "", message.body
                        await message.ack()
            except (AMQPError, ConnectionError) as error:
                raise SubscriptionLost(f"the connection to the broker was lost: {error}") from error
            raise SubscriptionLost("the connection to the broker was lost")

        yield deliveries()
    finally:
        await connection.close()
