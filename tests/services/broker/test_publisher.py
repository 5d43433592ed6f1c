"""The publisher of threads."""

from __future__ import annotations

import asyncio

import pytest

from services.broker.publisher import Publisher, command_sender
from services.broker.sender import Outgoing
from services.store.failures import OutsideUnavailable


async def test_a_write_that_is_cancelled_is_an_outage_and_no_fault_of_a_message(amqp_url: str) -> None:
    publisher = Publisher(amqp_url, "test")
    send = command_sender(publisher)
    await publisher.start()
    try:
        await asyncio.to_thread(send, [Outgoing("task.create", b"{}", "acme")])
        before = asyncio.all_tasks()
        sending = asyncio.create_task(asyncio.to_thread(send, [Outgoing("task.create", b"{}", "acme")]))
        while not (writing := asyncio.all_tasks() - before - {sending}):
            await asyncio.sleep(0)
        for task in writing:
            task.cancel()
        with pytest.raises(OutsideUnavailable, match="did not confirm"):
            await sending
    finally:
        await publisher.close()
