"""A subscriber of the events exchange with a queue of its own, as any consumer of Foldwork's events would have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika

from services.intake.topology import declare
from services.messages import EVENT_EXCHANGE


@asynccontextmanager
async def subscription(amqp_url: str, pattern: str = "#") -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
    """Give (routing key, CloudEvents JSON) of each event from now on whose key fits the topic pattern."""
    connection = await aio_pika.connect(amqp_url, client_properties={"connection_name": "foldwork-tail"}, timeout=10)
    try:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=100)
        await declare(channel)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(EVENT_EXCHANGE, pattern)

        async def deliveries() -> AsyncIterator[tuple[str, bytes]]:
            async with queue.iterator() as messages:
                async for message in messages:
                    yield message.routing_key or "", message.body
                    await message.ack()

        yield deliveries()
    finally:
        await connection.close()
