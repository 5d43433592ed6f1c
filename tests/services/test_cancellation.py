"""What is given up in the middle, a wait or a role, leaves neither a lost connection nor a task that never ends."""

from __future__ import annotations

import asyncio

import aio_pika
import pytest
from aiormq.exceptions import ChannelClosed
from pamqp import commands

from services import cancellation
from services.broker.connection import connected, temporary_channel
from services.broker.outbox import Outbox
from services.cancellation import cancel
from services.commands import consumer as consumers
from tests.eventually import LATE, eventually_async
from tests.services.harness import working
from tests.services.proxy import Proxy, broker_proxy

CHANNEL_CLOSE = commands.Channel.Close.index.to_bytes(4)


class Holding(Proxy):
    """A proxy that keeps back what the broker says from the time at which the client closes a channel."""

    def __init__(self, target: str | tuple[str, int]) -> None:
        self.holding = asyncio.Event()
        self.released = asyncio.Event()
        super().__init__(target)

    async def forward(self, data: bytes, outward: bool) -> None:
        """Set `holding` at the first `channel.close`, and let the broker's answer wait for `released`."""
        if outward and CHANNEL_CLOSE in data:
            self.holding.set()
        elif not outward and self.holding.is_set():
            await self.released.wait()

    def release(self) -> None:
        """Let the broker's answers through."""
        self.loop.call_soon_threadsafe(self.released.set)


async def test_closing_a_channel_may_be_given_up_without_losing_the_connection(amqp_url: str) -> None:
    with broker_proxy(amqp_url, Holding) as (proxy, through):
        connection = await aio_pika.connect(through)

        async def use() -> None:
            async with temporary_channel(connection):
                pass

        task = asyncio.create_task(use())
        await eventually_async(proxy.holding.is_set)
        await cancel(task)
        assert task.cancelled()
        proxy.release()
        for _ in range(3):  # a broker that has ended the connection would have said so by then
            async with temporary_channel(connection) as channel:
                await channel.declare_queue(exclusive=True)
        assert connected(connection)
        await connection.close()


async def test_a_task_that_catches_its_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellation, "AGAIN_SECONDS", 0.01)
    caught = 0

    async def stubborn() -> None:
        nonlocal caught
        while caught < 2:
            try:
                await asyncio.sleep(LATE)
            except asyncio.CancelledError:
                caught += 1
        raise ValueError("at last")

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await cancel(task)
    assert task.done()
    assert caught == 2


async def test_a_worker_stops_whose_cancelled_declaration_ends_as_an_error(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiormq raises the error of a channel that closes instead of the cancellation that comes at the same time."""
    monkeypatch.setattr(cancellation, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(consumers, "DECLARE_SECONDS", 0.0)
    declaring = asyncio.Event()

    async def consuming(self: Outbox) -> int:
        declaring.set()
        try:
            await asyncio.sleep(LATE)
        except asyncio.CancelledError:
            raise ChannelClosed(None, None) from None

    async with working(migrated_url, amqp_url):
        monkeypatch.setattr(Outbox, "consumers", consuming)
        await eventually_async(declaring.is_set)
