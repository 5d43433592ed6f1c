"""During a broker's alarm commands are decided and acknowledged, and who publishes says why it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from services.broker.publisher import Publisher, command_sender
from services.broker.sender import CommandSender, NotSent, Outgoing, Unconfirmed
from services.store.failures import OutsideUnavailable
from tests.brokers import BrokerInThread
from tests.eventually import LATE, PATIENCE, eventually_async
from tests.services.commands.shared import TASK, tasks
from tests.services.harness import TENANT, Client, created, dead_letters, declare, waiting, working

BLOCKED = "connection blocked by the broker: low on memory"


@pytest.fixture
def alarming() -> Iterator[BrokerInThread]:
    """A development broker of the test's own."""
    broker = BrokerInThread()
    yield broker
    broker.set_alarm(None)
    broker.close()


async def test_what_was_taken_is_acknowledged_and_the_queue_shrinks(
    migrated_url: str, alarming: BrokerInThread
) -> None:
    url = alarming.virtual_host()
    await declare(url)
    async with Client(url) as client:
        sent = await client.send_all(tasks(100))
        bad = await client.send_all([(TASK, b"{")] * 3)
        rest = await client.send_all(tasks(100, "r"))
        alarming.set_alarm("low on memory")
        async with working(migrated_url, url, prefetch=20, batch_size=5) as consumer:
            await eventually_async(lambda: len(created(migrated_url)) == 200)
            await eventually_async(lambda: consumer.unready == [BLOCKED])
            # Only the messages whose dead letters are not confirmed are left.
            await eventually_async(lambda: alarming.unacknowledged(url) == 3)
            assert await waiting(url) == 0
            alarming.set_alarm(None)
            answers = await client.answers(bad)
            assert [answer.error and answer.error.code for answer in answers] == ["not-json"] * 3
            assert consumer.unready == []
            await eventually_async(lambda: alarming.unacknowledged(url) == 0)
            # The answers that were not sent come from the ledger.
            again = await client.ask(TASK, {"id": "r99"}, rest[-1])
            assert (again.outcome, again.duplicate) == ("accepted", True)
        assert len(await dead_letters(url)) == 3
    assert len(sent) == 100


async def test_a_worker_stops_in_time_during_an_alarm(migrated_url: str, alarming: BrokerInThread) -> None:
    url = alarming.virtual_host()
    await declare(url)
    async with Client(url) as client:
        await client.send_all([*tasks(5), (TASK, b"{"), (TASK, b"{")])
        alarming.set_alarm("low on memory")
        loop = asyncio.get_running_loop()
        async with working(migrated_url, url, shutdown_grace=3.0) as consumer:
            await eventually_async(lambda: consumer.unready == [BLOCKED])
            started = loop.time()
        assert loop.time() - started < 15.0
        # No dead letter that was not confirmed is acknowledged.
        assert await waiting(url) >= 1


def _command(task_id: str) -> Outgoing:
    return Outgoing(TASK, b'{"id": "%b"}' % task_id.encode(), TENANT)


async def test_a_sender_refuses_at_once_during_an_alarm(alarming: BrokerInThread) -> None:
    sender = CommandSender(alarming.virtual_host())
    await sender.start()
    try:
        alarming.set_alarm("low on memory")
        # The broker takes the first and reads no more: the second may have been taken.
        sent = [asyncio.create_task(sender.send(_command(each), LATE, wait=False)) for each in "ab"]
        results: list[Any] = await asyncio.wait_for(asyncio.gather(*sent, return_exceptions=True), PATIENCE)
        assert results[0] is None
        assert isinstance(results[1], Unconfirmed)
        assert BLOCKED in str(results[1])
        with pytest.raises(NotSent, match=BLOCKED) as refused:
            await sender.send(_command("c"), LATE)
        assert not isinstance(refused.value, Unconfirmed)
        alarming.set_alarm(None)
        await eventually_async(lambda: sender.blocked is None)
        assert await sender.send(_command("d"), PATIENCE, wait=False) is None
    finally:
        await sender.close()


async def test_a_publisher_waits_for_the_end_of_an_alarm_without_holding_a_thread(alarming: BrokerInThread) -> None:
    publisher = Publisher(alarming.virtual_host(), "test")
    await publisher.start()
    send = command_sender(publisher)
    try:
        await asyncio.to_thread(send, [_command("a")])
        alarming.set_alarm("low on memory")
        await asyncio.to_thread(send, [_command("b")])
        await eventually_async(lambda: publisher.blocked == "low on memory")
        with pytest.raises(OutsideUnavailable, match=BLOCKED):
            await asyncio.to_thread(send, [_command("c")])
        alarming.set_alarm(None)
        await eventually_async(lambda: publisher.blocked is None)
        await asyncio.to_thread(send, [_command("c")])
    finally:
        await publisher.close()
