"""What the tests of the way of a command share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiormq

from services.commands.consumer import CommandConsumer
from services.commands.wire import Incoming

TASK = "task.create"


def tasks(count: int, prefix: str = "t") -> list[tuple[str, Any]]:
    return [(TASK, {"id": f"{prefix}{number}"}) for number in range(count)]


def batches_of(consumer: CommandConsumer) -> list[int]:
    """Watch the sizes of the batches that reach the store."""
    sizes: list[int] = []
    run = consumer.store.run

    async def watched(commands: list[Incoming], attempted: bool = False) -> Any:
        sizes.append(len(commands))
        return await run(commands, attempted)

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
