"""A lost connection to the broker, or a broker that is away, loses nothing, repeats nothing and ends nobody."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from services.broker import connection
from services.broker.command_queue import CommandQueue
from services.broker.names import COMMAND_QUEUE
from services.commands import worker as workers
from services.commands.consumer import CommandConsumer
from services.commands.watchdog import NotConsuming
from services.roles import RoleEnded, Roles
from services.store.append import APPEND_LOCK
from tests.eventually import PATIENCE, eventually_async
from tests.services.commands.shared import TASK, plain, tasks
from tests.services.harness import Client, created, dead_letters, declare, rows, settings, waiting, working
from tests.services.proxy import broker_proxy


async def test_a_connection_that_closes_while_idle_comes_back(migrated_url: str, amqp_url: str) -> None:
    with broker_proxy(amqp_url) as (proxy, through):
        async with working(migrated_url, through) as consumer, Client(amqp_url) as client:
            assert (await client.ask(TASK, {"id": "a"})).accepted
            proxy.cut()
            sent = await client.send(TASK, {"id": "b"})
            assert (await client.answer(sent)).accepted
            assert consumer.unready == []
    assert created(migrated_url) == ["a", "b"]


async def test_a_connection_that_falls_silent_is_replaced(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEARTBEAT_SECONDS", 1)
    with broker_proxy(amqp_url) as (proxy, through):
        async with working(migrated_url, through) as consumer, Client(amqp_url) as client:
            assert (await client.ask(TASK, {"id": "a"})).accepted
            before = proxy.connections
            proxy.silence()
            sent = await client.send(TASK, {"id": "b"})
            await eventually_async(lambda: created(migrated_url) == ["a", "b"])
            await eventually_async(lambda: proxy.connections >= 2 * before and not consumer.unready)
            # The answer may have gone into a connection whose silence was noticed later than that of the deliveries.
            assert (await client.ask(TASK, {"id": "b"}, sent)).accepted
    assert created(migrated_url) == ["a", "b"]


async def test_a_broker_that_was_late_at_the_start_may_go_and_come_back(migrated_url: str, amqp_url: str) -> None:
    with broker_proxy(amqp_url) as (proxy, through):
        proxy.down()
        consumer = CommandConsumer(settings(migrated_url, through))
        task = asyncio.create_task(consumer.run())
        await eventually_async(lambda: consumer.watchdog.last_error or None)  # an attempt has failed
        proxy.up()
        async with Client(amqp_url) as client:
            await eventually_async(lambda: consumer.unready == [] or None)
            assert (await client.ask(TASK, {"id": "a"})).accepted
            proxy.cut()
            assert (await client.answer(await client.send(TASK, {"id": "b"}))).accepted
        await consumer.stop()
        await task


async def test_a_connection_that_closes_between_commit_and_ack_repeats_nothing(
    migrated_url: str, amqp_url: str
) -> None:
    await declare(amqp_url)
    with broker_proxy(amqp_url) as (proxy, through):
        async with Client(amqp_url) as client:
            sent = await client.send_all(tasks(400))
            consumer = CommandConsumer(settings(migrated_url, through, batch_size=200))
            cuts = 0

            class Cut:
                def reach(self, point: str) -> None:
                    nonlocal cuts
                    if point == "before-ack" and cuts < 3:
                        cuts += 1
                        proxy.cut()

            consumer.crash = Cut()  # type: ignore[assignment]
            task = asyncio.create_task(consumer.run())
            assert all(reply.accepted for reply in await client.answers(sent))
            await eventually_async(lambda: cuts == 3)
            await eventually_async(lambda: not consumer.unready)
            await eventually_async(lambda: not consumer.buffer)
            await consumer.stop()
            await task
    assert sorted(created(migrated_url)) == sorted(f"t{number}" for number in range(400))
    assert len(rows(migrated_url, "SELECT 1 FROM ledger")) == 400
    assert await waiting(amqp_url) == 0
    assert await dead_letters(amqp_url) == []


async def test_a_batch_never_mixes_the_deliveries_of_a_channel_that_closed_with_those_of_the_next(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is lost, and is back, while a batch is acknowledged of which one transaction took only a part."""
    monkeypatch.setattr(workers, "MAX_BATCH_EVENTS", 5)
    await declare(amqp_url)
    with broker_proxy(amqp_url) as (proxy, through):
        async with Client(amqp_url) as client:
            sent = await client.send_all(tasks(40))
            consumer = CommandConsumer(settings(migrated_url, through))
            settle, take = consumer.subscriber.settle, consumer.buffer.take
            lost, mixed = 0, list[int]()

            async def slowly(channel: Any, done: Any, again: Any = ()) -> None:
                nonlocal lost
                # The second time all of them are redelivered, and those of both channels could be taken together.
                if lost < 2 and len(done) == 5:
                    lost += 1
                    proxy.cut()
                    # As a write that waits for its time-out: the new channel has delivered by then.
                    await eventually_async(lambda: channel.is_closed and consumer.subscriber.consuming)
                    await eventually_async(lambda: len(consumer.buffer) > 0)
                await settle(channel, done, again)

            async def watched() -> Any:
                batch = await take()
                mixed.append(len({id(each.channel) for each in batch}))
                return batch

            monkeypatch.setattr(consumer.subscriber, "settle", slowly)
            monkeypatch.setattr(consumer.buffer, "take", watched)
            task = asyncio.create_task(consumer.run())
            assert all(reply.accepted for reply in await client.answers(sent))
            await eventually_async(lambda: not consumer.buffer.held)
            await consumer.stop()
            await task
    assert (lost, max(mixed)) == (2, 1)
    assert await waiting(amqp_url) == 0


async def test_answers_do_not_hold_up_a_batch_whose_connection_is_gone(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    with broker_proxy(amqp_url) as (proxy, through):
        async with Client(amqp_url) as client:
            sent = await client.send_all(tasks(60))
            consumer = CommandConsumer(settings(migrated_url, through))
            cut, passed = threading.Event(), threading.Event()
            done = consumer.buffer.done

            class Down:
                def reach(self, point: str) -> None:
                    if point == "after-commit" and not cut.is_set():
                        proxy.down()
                        cut.set()

            def acknowledged(batch: Any) -> None:
                done(batch)
                if batch and cut.is_set():
                    passed.set()

            consumer.crash, consumer.buffer.done = Down(), acknowledged  # type: ignore[assignment, method-assign]
            task = asyncio.create_task(consumer.run())
            await eventually_async(cut.is_set)
            await eventually_async(passed.is_set)
            proxy.up()
            assert all(reply.accepted for reply in await client.answers(sent))
            await consumer.stop()
            await task
    assert len(created(migrated_url)) == 60


async def test_six_dropped_connections_under_prefetch_bury_nobody(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    with broker_proxy(amqp_url) as (proxy, through):
        async with Client(amqp_url) as client:
            with psycopg.connect(migrated_url) as blocking:
                # Nothing can be recorded meanwhile, so all hundred are handed out, and come back, six times.
                blocking.execute("SELECT pg_advisory_xact_lock(%s)", (APPEND_LOCK,))
                async with working(migrated_url, through, prefetch=100, batch_size=1) as consumer:
                    sent = await client.send_all(tasks(100))
                    for _ in range(6):
                        await eventually_async(lambda: len(consumer.buffer) >= 99 and not consumer.unready)
                        proxy.cut()
                        await eventually_async(lambda: bool(consumer.unready))
                    blocking.rollback()
                    assert all(reply.accepted for reply in await client.answers(sent))
    assert sorted(created(migrated_url)) == sorted(f"t{number}" for number in range(100))
    assert await dead_letters(amqp_url) == []


async def test_what_should_consume_and_does_not_ends_the_process(migrated_url: str, amqp_url: str) -> None:
    async with plain(amqp_url) as channel:
        await channel.queue_declare(COMMAND_QUEUE, durable=True)  # of another kind, so it cannot be declared
    role = CommandConsumer(settings(migrated_url, amqp_url, consumer_timeout=0.5))
    with pytest.raises(NotConsuming, match="commands"):
        await asyncio.wait_for(role.run(), PATIENCE)
    with capture_logs() as logs, pytest.raises(RoleEnded):
        await asyncio.wait_for(
            Roles(settings(migrated_url, amqp_url, consumer_timeout=0.5), ["commands"]).run(), PATIENCE
        )
    assert [line["role"] for line in logs if line["event"] == "a role ended by itself"] == ["commands"]


async def test_who_cannot_consume_again_ends_too(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = CommandConsumer(settings(migrated_url, amqp_url, consumer_timeout=0.5))
    task = asyncio.create_task(consumer.run())
    await eventually_async(lambda: not consumer.unready)

    async def failing() -> None:
        raise ValueError("no topology")

    consumer.subscriber.declare = failing
    async with plain(amqp_url) as channel:
        await channel.queue_delete(COMMAND_QUEUE)
    with pytest.raises(NotConsuming):
        await asyncio.wait_for(task, PATIENCE)


async def test_an_outage_of_the_broker_ends_nobody(migrated_url: str, amqp_url: str) -> None:
    with broker_proxy(amqp_url) as (proxy, through):
        proxy.down()
        consumer = CommandConsumer(settings(migrated_url, through, consumer_timeout=0.3))
        task = asyncio.create_task(consumer.run())
        for up in (True, False, True):
            if up:
                proxy.up()
                await eventually_async(lambda: not consumer.unready)
            else:
                proxy.down()
                await eventually_async(lambda: consumer.unready == ["broker"])
            # Longer than it may be without commands while the broker is there.
            done, _ = await asyncio.wait({task}, timeout=1.0)
            assert not done
        await consumer.stop()
        await task


async def test_readiness_comes_back_after_a_lost_connection(migrated_url: str, amqp_url: str) -> None:
    with broker_proxy(amqp_url) as (proxy, through):
        async with working(migrated_url, amqp_url):
            queue = CommandQueue(through)
            assert (await queue.counts()).consumers == 1
            proxy.cut()
            await eventually_async(lambda: _counts(queue))
            proxy.down()
            assert not await _counts(queue)
            proxy.up()
            await eventually_async(lambda: _counts(queue))
            await queue.close()


async def _counts(queue: CommandQueue) -> bool:
    try:
        return (await queue.counts()).consumers == 1
    except Exception:
        return False
