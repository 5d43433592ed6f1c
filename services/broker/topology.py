"""The exchanges and queues. Arguments of an existing queue cannot be changed; what may change belongs in a policy."""

from __future__ import annotations

from typing import Any

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel

from services.broker.names import COMMAND_EXCHANGE, COMMAND_QUEUE, DEAD_EXCHANGE, DEAD_QUEUE, EVENT_EXCHANGE

# Only a last resort: dropped connections count as deliveries, and must not dead-letter commands that were never read.
DELIVERY_LIMIT = 1000

QUEUE_ARGUMENTS: Any = {
    "x-single-active-consumer": True,
    "x-dead-letter-exchange": DEAD_EXCHANGE,
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
    "x-delivery-limit": DELIVERY_LIMIT,
}


async def declare(channel: AbstractChannel) -> int:
    """Declare everything, and return how many consume commands.

    Every role does, so that none depends on another having started.
    """
    # Before the commands' queue, so that no dead-lettered command is lost.
    await _declare_dead_letters(channel)
    await channel.declare_exchange(EVENT_EXCHANGE, ExchangeType.TOPIC, durable=True)
    commands = await channel.declare_exchange(COMMAND_EXCHANGE, ExchangeType.TOPIC, durable=True)
    queue = await channel.declare_queue(
        COMMAND_QUEUE, durable=True, arguments={**QUEUE_ARGUMENTS, "x-queue-type": "quorum"}
    )
    await queue.bind(commands, "#")
    return queue.declaration_result.consumer_count or 0


async def _declare_dead_letters(channel: AbstractChannel) -> None:
    exchange = await channel.declare_exchange(DEAD_EXCHANGE, ExchangeType.FANOUT, durable=True)
    queue = await channel.declare_queue(DEAD_QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
    await queue.bind(exchange)
