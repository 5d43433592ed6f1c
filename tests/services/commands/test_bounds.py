"""The memory that messages take is bounded."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any, cast

import psycopg
import pytest

from services.broker import dead_letters as letters
from services.commands import wire
from services.commands.buffer import OVERHEAD, Buffer
from services.commands.consumer import CommandConsumer
from services.store.append import APPEND_LOCK
from tests.eventually import PATIENCE, eventually_async
from tests.services.commands.shared import TASK, code
from tests.services.harness import TENANT, Client, created, dead_letters, declare, settings, waiting, working


async def test_the_bytes_at_hand_are_bounded(migrated_url: str, amqp_url: str) -> None:
    budget, large = 1 << 20, "x" * 100_000
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        with psycopg.connect(migrated_url) as blocking:
            blocking.execute("SELECT pg_advisory_xact_lock(%s)", (APPEND_LOCK,))
            async with working(migrated_url, amqp_url, prefetch_bytes=budget, batch_size=5) as consumer:
                sent = await client.send_all(
                    [(TASK, {"id": f"t{number}", "fields": {"x": large}}) for number in range(60)]
                )
                await eventually_async(lambda: not consumer.buffer.room.is_set())
                # What comes goes nowhere: more is asked for than fits, and nothing more is read.
                for _ in range(20):
                    await asyncio.wait({asyncio.create_task(client.publish(b"{", exchange=""))})
                    assert budget - 100_100 <= consumer.buffer.held <= budget + 4 * 100_100
                assert consumer.unready == []
                blocking.rollback()
                assert all(reply.accepted for reply in await client.answers(sent))
                await eventually_async(lambda: consumer.buffer.held == 0)
    assert created(migrated_url) == [f"t{number}" for number in range(60)]


async def test_of_what_is_over_the_limit_little_is_held(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waves: list[int] = []

    async def unconfirmed(dead: Any) -> list[bool]:
        waves.append(len(dead))
        return [False] * len(dead)

    await declare(amqp_url)
    async with Client(amqp_url) as client, working(migrated_url, amqp_url, batch_size=1) as consumer:
        monkeypatch.setattr(consumer.outbox, "bury", unconfirmed)
        for _ in range(10):
            await client.send(TASK, b"x" * (8 << 20))
        await eventually_async(lambda: len(waves) > 1 and sum(waves[-2:]) >= 10)
        assert consumer.buffer.held < 10 * (5000 + OVERHEAD)
        # No command waits for them.
        assert (await client.ask(TASK, {"id": "a"})).accepted
        monkeypatch.undo()
        found: list[Any] = []

        async def all_found() -> bool:
            found.extend(await dead_letters(amqp_url))
            return len(found) == 10

        await eventually_async(all_found)
    assert {(code(letter), letter.body) for letter in found} == {("too-large", b"x" * 4096)}
    digest = hashlib.sha256(b"x" * (8 << 20)).hexdigest()
    assert {letter.header.properties.headers["x-foldwork-sha256"] for letter in found} == {digest}


async def test_who_stops_without_room_keeps_what_fits_and_leaves_the_rest(migrated_url: str, amqp_url: str) -> None:
    large = "x" * 100_000
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        sent = await client.send_all([(TASK, {"id": f"t{number}", "fields": {"x": large}}) for number in range(60)])
        with psycopg.connect(migrated_url) as blocking:
            blocking.execute("SELECT pg_advisory_xact_lock(%s)", (APPEND_LOCK,))
            consumer = CommandConsumer(settings(migrated_url, amqp_url, prefetch_bytes=1 << 20, batch_size=1))
            task = asyncio.create_task(consumer.run())
            await eventually_async(lambda: not consumer.buffer.room.is_set())
            await consumer.stop()
            blocking.rollback()
        await asyncio.wait_for(task, PATIENCE)
        done = len(created(migrated_url))
        assert 0 < done < 20
        await eventually_async(lambda: _waits(amqp_url, 60 - done))
        async with working(migrated_url, amqp_url):
            assert all(reply.accepted for reply in await client.answers(sent))
    assert sorted(created(migrated_url)) == sorted(f"t{number}" for number in range(60))


async def _waits(amqp_url: str, count: int) -> bool:
    return await waiting(amqp_url) == count


@pytest.mark.parametrize(
    ("data", "refused"), [({"id": "a", "fields": {"x": [[]] * 6000}}, True), ({"id": "a", "other": [[]] * 6000}, False)]
)
async def test_of_what_is_refused_nothing_parsed_is_held(amqp_url: str, data: Any, refused: bool) -> None:
    message = letters.Message(1, False, "k")
    properties: Any = message.properties
    properties.message_id, properties.message_type, properties.headers = "m", TASK, {"tenant": TENANT}
    message.body, message.header_size = json.dumps(data).encode(), 100
    message.size = len(message.body)
    buffer = Buffer(settings("postgresql://", amqp_url), lambda *_: None)
    buffer.add(cast("Any", None), message)
    assert buffer.held == message.size + 100 + OVERHEAD
    (delivery,) = await buffer.take()
    command = delivery.command
    kept = command.refusal if isinstance(command, wire.Incoming) else command
    assert isinstance(command, wire.Incoming) == refused
    assert kept is not None
    assert (getattr(kept, "__traceback__", None), getattr(kept, "__context__", None)) == (None, None)
    assert getattr(command, "command", None) is None
    buffer.done([delivery])
    assert buffer.held == 0
