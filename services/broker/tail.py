"""A subscriber of the events exchange with a queue of its own, as any consumer of Foldwork's events would have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aio_pika.exceptions import AMQPError

from services.broker.connection import connect
from services.broker.names import EVENT_EXCHANGE
from services.broker.topology import declare
from services.errors import OperatorError

# In bytes: AMQP gives the length of a routing key one byte.
MAX_PATTERN = 255


class SubscriptionLost(OperatorError):
    """The broker has gone, and the queue with it."""


@asynccontextmanager
async def subscription(amqp_url: str, pattern: str = "#") -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
    """Give (routing key, CloudEvents JSON) of each event from now on whose key fits the topic pattern.

    The events end with `SubscriptionLost`: what comes while nobody is connected is not kept for later.
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
