"""What the tests of messages have in common: publishing, getting and waiting for what arrives."""

import asyncio
from collections.abc import Callable
from typing import Any

from aiormq.abc import AbstractChannel, DeliveredMessage

from tests.eventually import PATIENCE

from .conftest import eventually

Fresh = Callable[[], str]
QUORUM = {"x-queue-type": "quorum"}


async def publish(channel: AbstractChannel, exchange: str, key: str, *bodies: bytes, **options: Any) -> None:
    for body in bodies:
        await channel.basic_publish(body, exchange=exchange, routing_key=key, **options)


async def get(channel: AbstractChannel, queue: str, *, no_ack: bool = True) -> DeliveredMessage:
    """The next message; a queue may take a moment to have it."""
    found: list[DeliveredMessage] = []

    async def there() -> bool:
        message = await channel.basic_get(queue, no_ack=no_ack)
        if message.delivery_tag:
            found.append(message)
        return bool(found)

    await eventually(there)
    return found[0]


async def drain(channel: AbstractChannel, queue: str) -> list[bytes]:
    bodies = []
    while (message := await channel.basic_get(queue, no_ack=True)).delivery_tag:
        bodies.append(message.body)
    return bodies


async def count(channel: AbstractChannel, queue: str) -> int | None:
    return (await channel.queue_declare(queue, passive=True)).message_count


class Inbox:
    """What a consumer got, in order, and a way to wait for it."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[DeliveredMessage] = asyncio.Queue()

    async def __call__(self, message: DeliveredMessage) -> None:
        self._messages.put_nowait(message)

    async def take(self, number: int = 1) -> list[DeliveredMessage]:
        return [await asyncio.wait_for(self._messages.get(), PATIENCE) for _ in range(number)]

    @property
    def empty(self) -> bool:
        return self._messages.empty()


def bodies(messages: list[DeliveredMessage]) -> list[bytes]:
    return [message.body for message in messages]
