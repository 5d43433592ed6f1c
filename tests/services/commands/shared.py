"""What the tests of the way of a command share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiormq

from services.commands.buffer import Delivery
from services.commands.consumer import CommandConsumer
from services.commands.order import Ahead

TASK = "task.create"


def tasks(count: int, prefix: str = "t") -> list[tuple[str, Any]]:
    return [(TASK, {"id": f"{prefix}{number}"}) for number in range(count)]


def batches_of(consumer: CommandConsumer) -> list[int]:
    """Watch the sizes of the batches that reach the store."""
    sizes: list[int] = []
    run = consumer.store.run

    async def watched(deliveries: Sequence[Delivery], ahead: Ahead) -> Any:
        sizes.append(len(deliveries))
        return await run(deliveries, ahead)

    consumer.store.run = watched  # type: ignore[method-assign]
    return sizes


@asynccontextmanager
async def plain(amqp_url: str) -> AsyncIterator[aiormq.abc.AbstractChannel]:
    connection = await aiormq.connect(amqp_url)
    try:
        yield await connection.channel()
    finally:
        await connection.close()


def code(letter: Any) -> str:
    return str(letter.header.properties.headers["x-foldwork-code"])
