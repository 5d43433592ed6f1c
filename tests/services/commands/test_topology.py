"""What is deleted on the broker is declared again, whichever role starts first."""

from __future__ import annotations

import asyncio
from typing import Any

import aiormq
import psycopg
import pytest
from aiormq.exceptions import ChannelNotFoundEntity

from services.broker import names
from services.broker.names import COMMAND_EXCHANGE, COMMAND_QUEUE, DEAD_EXCHANGE, DEAD_QUEUE, EVENT_EXCHANGE
from services.commands import consumer as consumers
from services.roles import make_role
from services.store.append import APPEND_LOCK
from tests.eventually import PATIENCE, eventually_async
from tests.services.commands.shared import TASK, plain, tasks
from tests.services.harness import Client, settings, working


async def test_a_deleted_queue_is_declared_again_and_consumed(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url) as consumer, Client(amqp_url) as client:
        assert (await client.ask(TASK, {"id": "a"})).accepted
        connection = await aiormq.connect(amqp_url)
        await (await connection.channel()).queue_delete(names.COMMAND_QUEUE)
        await connection.close()
        await eventually_async(lambda: consumer.unready == ["broker"])
        await eventually_async(lambda: not consumer.unready)
        assert (await client.ask(TASK, {"id": "b"})).accepted
        sent = await client.send_all(tasks(50))
        assert all(reply.accepted for reply in await client.answers(sent))


async def test_what_was_taken_before_the_queue_was_deleted_is_still_done(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url, batch_size=1) as consumer, Client(amqp_url) as client:
        with psycopg.connect(migrated_url) as blocking:
            blocking.execute("SELECT pg_advisory_xact_lock(%s)", (APPEND_LOCK,))
            sent = await client.send_all(tasks(20))
            await eventually_async(lambda: len(consumer.buffer) == 19)
            connection = await aiormq.connect(amqp_url)
            await (await connection.channel()).queue_delete(names.COMMAND_QUEUE)
            await connection.close()
            await eventually_async(lambda: consumer.unready == ["broker"])
            await eventually_async(lambda: not consumer.unready)
            blocking.rollback()
        assert all(reply.accepted for reply in await client.answers(sent))
        assert (await client.ask(TASK, {"id": "b"})).accepted


async def test_a_consumer_that_the_broker_has_lost_consumes_again(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word from the broker: its cancellation did not arrive."""
    monkeypatch.setattr(consumers, "DECLARE_SECONDS", 0.1)
    watched: list[tuple[Any, str]] = []
    consume = aiormq.Channel.basic_consume

    async def watching(self: Any, queue: str, *rest: Any, **given: Any) -> Any:
        if queue == COMMAND_QUEUE:
            watched.append((self, given["consumer_tag"]))
        return await consume(self, queue, *rest, **given)

    monkeypatch.setattr(aiormq.Channel, "basic_consume", watching)
    async with working(migrated_url, amqp_url) as consumer, Client(amqp_url) as client:
        channel, tag = next(each for each in watched if each[1].startswith("foldwork-"))
        await channel.basic_cancel(tag)
        assert consumer.unready == []
        assert (await client.ask(TASK, {"id": "a"})).accepted


async def test_an_idle_consumer_and_one_that_stands_by_are_left_alone(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "DECLARE_SECONDS", 0.05)
    lost: list[str] = []
    given = {"consumer_timeout": 0.3}
    async with working(migrated_url, amqp_url, **given) as first, working(migrated_url, amqp_url, **given) as second:
        for name, consumer in (("first", first), ("second", second)):
            monkeypatch.setattr(consumer.subscriber, "vanished", lambda name=name: lost.append(name))
        # Longer than either watch waits.
        until = asyncio.get_running_loop().time() + 1.0
        await eventually_async(lambda: asyncio.get_running_loop().time() > until)
        assert (first.unready, second.unready, lost) == ([], [], [])


async def _missing(amqp_url: str) -> list[str]:
    """Return what of the topology is not there."""
    missing = []
    for name in (COMMAND_EXCHANGE, DEAD_EXCHANGE, EVENT_EXCHANGE):
        try:
            async with plain(amqp_url) as channel:
                await channel.exchange_declare(name, passive=True)
        except ChannelNotFoundEntity:
            missing.append(f"exchange {name}")
    for name in (COMMAND_QUEUE, DEAD_QUEUE):
        try:
            async with plain(amqp_url) as channel:
                await channel.queue_declare(name, passive=True)
        except ChannelNotFoundEntity:
            missing.append(f"queue {name}")
    return missing


async def _nothing_missing(amqp_url: str) -> bool:
    return await _missing(amqp_url) == []


@pytest.mark.parametrize("name", ["http", "commands", "relay", "policies"])
async def test_each_role_declares_everything_when_it_starts(migrated_url: str, amqp_url: str, name: str) -> None:
    assert len(await _missing(amqp_url)) == 5
    role = make_role(name, settings(migrated_url, amqp_url, http_port=0))
    task = asyncio.create_task(role.run())
    try:
        await eventually_async(lambda: _nothing_missing(amqp_url))
    finally:
        await role.stop()
        await asyncio.wait_for(task, PATIENCE)


async def test_a_deleted_exchange_is_there_again(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "DECLARE_SECONDS", 0.2)
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        for name in (EVENT_EXCHANGE, DEAD_EXCHANGE, COMMAND_EXCHANGE):
            async with plain(amqp_url) as channel:
                await channel.exchange_delete(name)
        await eventually_async(lambda: _nothing_missing(amqp_url))
        assert (await client.ask(TASK, {"id": "a"})).accepted
