"""Commands are taken in batches, decided, answered and acknowledged; nothing is acknowledged that was not done."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiormq
import psycopg
import pytest

from services.broker import topology
from services.broker.sender import CommandSender
from services.commands.consumer import CommandConsumer
from services.settings import Settings
from services.store.append import APPEND_LOCK
from tests.eventually import eventually_async
from tests.services.commands.shared import TASK, batches_of, tasks
from tests.services.harness import Client, created, dead_letters, declare, rows, settings, stored, waiting, working


async def test_an_answer_says_what_became_of_the_command(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        first = await client.ask(TASK, {"id": "a", "title": "A"}, "c1")
        assert (first.command_id, first.outcome, first.duplicate, first.position, first.error) == (
            "c1",
            "accepted",
            False,
            1,
            None,
        )
        assert [(e.position, e.type, e.stream, e.version) for e in first.events] == [(1, "task.created", "task-a", 1)]
        again = await client.ask(TASK, {"title": "A", "id": "a"}, "c1")
        assert (again.outcome, again.duplicate, again.position, again.events) == ("accepted", True, 1, first.events)
        other = await client.ask(TASK, {"id": "b"}, "c1")
        assert (other.outcome, other.error and other.error.code) == ("rejected", "command-id-conflict")
        refused = await client.ask("task.complete", {"id": "nothing"}, "c2")
        assert refused.error is not None
        assert (refused.outcome, refused.position, refused.events) == ("rejected", 1, ())
        assert (refused.error.code, refused.error.pointer) == ("not-found", "/id")
        repeated = await client.ask("task.complete", {"id": "nothing"}, "c2")
        assert (repeated.duplicate, repeated.error) == (True, refused.error)
        assert stored(migrated_url) == [("acme/task-a", 1, "task.created")]


async def test_a_lone_command_does_not_wait_for_a_batch(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url, batch_wait_ms=1000.0), Client(amqp_url) as client:
        await client.ask(TASK, {"id": "warm"})
        started = time.monotonic()
        for number in range(30):
            assert (await client.ask(TASK, {"id": f"t{number}"})).accepted
        assert time.monotonic() - started < 20.0


async def test_what_waits_is_one_batch_up_to_the_size_that_is_set(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        sent = await client.send_all(tasks(100))
        consumer = CommandConsumer(settings(migrated_url, amqp_url, batch_size=30, batch_wait_ms=200.0))
        sizes = batches_of(consumer)
        task = asyncio.create_task(consumer.run())
        assert all(reply.accepted for reply in await client.answers(sent))
        await consumer.stop()
        await task
    assert max(sizes) == 30
    assert len(sizes) <= 6
    assert created(migrated_url) == [f"t{number}" for number in range(100)]


async def test_what_was_at_hand_is_done_and_the_rest_stays_when_it_stops(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        await client.send_all(tasks(300))
        async with working(migrated_url, amqp_url, prefetch=50, batch_size=10):
            await eventually_async(lambda: bool(rows(migrated_url, "SELECT 1 FROM ledger LIMIT 1")))
        done = len(created(migrated_url))
        assert done > 0
        assert await waiting(amqp_url) == 300 - done
        async with working(migrated_url, amqp_url):
            await eventually_async(lambda: len(created(migrated_url)) == 300)
        assert await waiting(amqp_url) == 0


async def test_a_slow_statement_leaves_the_loop_to_answer(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        await client.ask(TASK, {"id": "warm"})
        loop = asyncio.get_running_loop()
        with psycopg.connect(migrated_url) as blocking:
            # The statement that records the command waits for the lock.
            blocking.execute("SELECT pg_advisory_xact_lock(%s)", (APPEND_LOCK,))
            sent = await client.send(TASK, {"id": "a"})
            worst, until = 0.0, loop.time() + 3
            while loop.time() < until:
                started = loop.time()
                tick = loop.create_future()
                loop.call_later(0.02, tick.set_result, None)
                await tick
                worst = max(worst, loop.time() - started - 0.02)
            assert created(migrated_url) == ["warm"]
            blocking.rollback()
        assert worst < 1.5  # the statement takes twice as long
        assert (await client.answer(sent)).accepted


async def test_a_sender_speaks_for_the_tenants_of_its_user(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The test's own user stands for a foreign one: Foldwork connects as somebody else as far as the settings know.
    own = aiormq.abc.URL(amqp_url).user or "guest"
    monkeypatch.setattr(Settings, "broker_user", "somebody-else")
    async with working(migrated_url, amqp_url, amqp_senders={own: ("acme",)}), Client(amqp_url) as client:
        assert (await client.ask(TASK, {"id": "a"}, properties={"user_id": own})).accepted
        other = await client.ask(TASK, {"id": "b"}, properties={"user_id": own}, tenant="other")
        assert other.error is not None
        assert other.error.code == "forbidden"
        unnamed = await client.ask(TASK, {"id": "c"})
        assert unnamed.error is not None
        assert unnamed.error.code == "forbidden"
        with pytest.raises(aiormq.exceptions.ChannelPreconditionFailed):
            await client.send(TASK, {"id": "d"}, properties={"user_id": "somebody"})
        letters = await dead_letters(amqp_url)
        codes = [letter.header.properties.headers["x-foldwork-code"] for letter in letters]
        assert codes == ["forbidden", "forbidden"]
    assert created(migrated_url) == ["a"]


async def test_old_receipts_go_and_idempotency_keys_stay(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        first = await client.ask(TASK, {"id": "a"}, idempotency_key="k")
        assert first.accepted
    with psycopg.connect(migrated_url) as conn:
        conn.execute("UPDATE ledger SET recorded_at = now() - interval '31 days'")
        conn.execute(
            "INSERT INTO ledger (tenant, command_id, fingerprint, recorded_at)"
            " SELECT 'acme', 'old-' || n, '', now() - interval '31 days' FROM generate_series(1, 6000) AS n"
        )
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        await eventually_async(lambda: rows(migrated_url, "SELECT count(*) FROM ledger") == [(0,)])
        again = await client.ask(TASK, {"id": "a"}, idempotency_key="k")
        assert (again.outcome, again.duplicate, again.events) == ("accepted", True, first.events)
        conflict = await client.ask(TASK, {"id": "b"}, idempotency_key="k")
        assert conflict.error is not None
        assert conflict.error.code == "idempotency-conflict"
    assert created(migrated_url) == ["a"]


async def test_a_sender_is_ready_only_when_it_can_send(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the connection and the exchange nothing can be sent, so nobody may be told that it can."""
    seen: list[bool] = []
    sender = CommandSender(amqp_url)
    declare = topology.declare

    async def declared(channel: Any) -> None:
        seen.append(sender.ready)
        await declare(channel)

    monkeypatch.setattr(topology, "declare", declared)
    try:
        await sender.start()
        assert (seen, sender.ready) == ([False], True)
    finally:
        await sender.close()
    assert not sender.ready
