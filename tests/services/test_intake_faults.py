"""Nothing that arrives, and nothing that the broker refuses or forgets, ends the consumer or is tried for ever."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import aio_pika
import aiormq
import psycopg
import pytest
from aiormq.exceptions import ChannelNotFoundEntity
from structlog.testing import capture_logs

from services import messages
from services.follower_role import RoleEnded
from services.intake import consumer as consumers
from services.intake import dead_letters as letters
from services.intake.buffer import Buffer
from services.intake.command_queue import CommandQueue
from services.intake.consumer import CommandConsumer
from services.intake.watchdog import NotConsuming
from services.messages import COMMAND_EXCHANGE, COMMAND_QUEUE, DEAD_EXCHANGE, DEAD_QUEUE, EVENT_EXCHANGE
from services.roles import Roles, make_role
from services.store.append import APPEND_LOCK
from tests.eventually import PATIENCE, eventually_async
from tests.services.harness import (
    TENANT,
    Client,
    broker_proxy,
    created,
    dead_letters,
    declare,
    settings,
    waiting,
    working,
)

TASK = "task.create"


def code(letter: Any) -> str:
    return str(letter.header.properties.headers["x-foldwork-code"])


@asynccontextmanager
async def plain(amqp_url: str) -> AsyncIterator[aiormq.abc.AbstractChannel]:
    connection = await aiormq.connect(amqp_url)
    try:
        yield await connection.channel()
    finally:
        await connection.close()


@pytest.mark.parametrize("error", [ZeroDivisionError("why"), RecursionError(), type("Panic", (BaseException,), {})()])
async def test_whatever_reading_a_message_raises_it_is_a_dead_letter(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    parse_data = messages.parse_data

    def failing(name: str, body: bytes, *rest: Any) -> Any:
        if b"boom" in body:
            raise error
        return parse_data(name, body, *rest)

    monkeypatch.setattr(messages, "parse_data", failing)
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        with capture_logs() as logs:
            refused = await client.ask(TASK, {"id": "boom"})
        assert refused.error is not None
        assert refused.error.code == "unreadable"
        assert "a message cannot be read" in [line["event"] for line in logs]
        assert (await client.ask(TASK, {"id": "good"})).accepted
        (letter,) = await dead_letters(amqp_url)
        assert (code(letter), json.loads(letter.body)) == ("unreadable", {"id": "boom"})


async def test_what_somebody_may_not_send_is_never_parsed(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bytes] = []
    monkeypatch.setattr(messages, "parse_data", lambda name, body, *rest: parsed.append(body))
    async with working(migrated_url, amqp_url) as consumer, Client(amqp_url) as client:
        object.__setattr__(consumer._buffer, "_settings", _nobody_may(consumer._buffer._settings))
        refused = await client.ask(TASK, b'{"fields": {"a": 1e999, "a": 1}}')
        assert refused.error is not None
        assert refused.error.code == "forbidden"
    assert parsed == []


def _nobody_may(own: Any) -> Any:
    class Nobody:
        def __getattr__(self, name: str) -> Any:
            return getattr(own, name)

        def may_send(self, user: str | None, tenant: str) -> bool:
            return False

    return Nobody()


def _change_letters(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], None]) -> None:
    whole = letters._whole_letter

    def changed(*arguments: Any) -> Any:
        letter = whole(*arguments)
        change(letter)
        return letter

    monkeypatch.setattr(letters, "_whole_letter", changed)


async def test_a_letter_that_the_broker_refuses_is_cut_and_its_neighbours_are_whole(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(letter: Any) -> None:
        if b"odd" in letter.body:
            letter.user_id = "somebody"  # for which any broker closes the channel

    _change_letters(monkeypatch, refused)
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        sent = [await client.send(TASK, b"{" + what) for what in (b"a", b"odd", b"b", b"odd", b"c")]
        assert [reply.error and reply.error.code for reply in await client.answers(sent)] == ["not-json"] * 5
        assert (await client.ask(TASK, {"id": "good"})).accepted
        found = await dead_letters(amqp_url)
        # One whose confirm the closing of the channel overtook is published again.
        assert sorted({letter.body for letter in found}) == [b"", b"{a", b"{b", b"{c"]
        bare = next(letter for letter in found if not letter.body).header.properties.headers
        bare.pop("x-delivery-count", None)  # RabbitMQ's own
        assert bare == {
            "tenant": TENANT,
            "x-foldwork-code": "not-json",
            "x-foldwork-sha256": hashlib.sha256(b"{odd").hexdigest(),
            "x-foldwork-bytes": 4,
        }
    assert await waiting(amqp_url) == 0


async def test_a_letter_that_ends_the_connection_is_cut_in_the_end(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In one frame, which is too large.
    _change_letters(monkeypatch, lambda letter: letter.headers.update(x="y" * 200_000))
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        await client.send(TASK, b"{")
        (letter,) = await eventually_async(lambda: dead_letters(amqp_url))
        assert (code(letter), letter.body) == ("not-json", b"")
        assert (await client.ask(TASK, {"id": "good"})).accepted


async def test_ids_that_grow_when_they_are_read_are_cut_to_what_can_be_sent(amqp_url: str) -> None:
    message: Any = letters.Message(1, False, "é" * 300)
    message.body = b"{"
    for name in ("message_id", "message_type", "correlation_id", "content_type"):
        setattr(message.properties, name, "\\xff" * 255 + "é")
    message.properties.headers = {"tenant": "é" * 100, "bad": object(), "long": "x" * 70_000, "few": [b"\xff"]}
    await declare(amqp_url)
    connection = await aio_pika.connect_robust(amqp_url)
    try:
        dead = letters.DeadLetters(connection)
        await dead.open()
        assert await dead.bury([(message, messages.Malformed("bad", "é" * 2000, "/" + "é" * 2000))] * 3) == [True] * 3
    finally:
        await connection.close()
    letter = (await dead_letters(amqp_url))[0].header.properties
    for text in (letter.message_id, letter.message_type, letter.correlation_id, letter.content_type):
        assert 250 < len(text.encode()) <= 255
    assert (letter.headers["tenant"], letter.headers["few"]) == ("é" * 100, ["\\xff"])
    assert {"bad", "long"}.isdisjoint(letter.headers)


async def test_what_is_deleted_is_declared_again_and_no_letter_is_lost(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        async with plain(amqp_url) as channel:
            await channel.queue_delete(DEAD_QUEUE)
        sent = await client.send(TASK, b"{")
        assert (await client.answer(sent)).error is not None
        assert [code(letter) for letter in await dead_letters(amqp_url)] == ["not-json"]
        async with plain(amqp_url) as channel:
            await channel.exchange_delete(DEAD_EXCHANGE)
        sent = await client.send(TASK, b"{")
        assert (await client.answer(sent)).error is not None
        assert [code(letter) for letter in await dead_letters(amqp_url)] == ["not-json"]


async def test_many_bad_messages_are_put_aside_together(migrated_url: str, amqp_url: str) -> None:
    """Their confirms are awaited together, also of those that were delivered before; a good one need not wait long."""
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        for _ in range(200):
            await client.send(TASK, b"{")
        async with plain(amqp_url) as channel:
            queue = await channel.queue_declare(COMMAND_QUEUE, passive=True)
            assert queue.message_count == 200
        consumer = CommandConsumer(settings(migrated_url, amqp_url))
        waves: list[int] = []
        bury = consumer._outbox.bury

        async def watched(dead: Any) -> list[bool]:
            waves.append(len(dead))
            return await bury(dead)

        consumer._outbox.bury = watched  # type: ignore[method-assign]
        task = asyncio.create_task(consumer.run())
        assert (await client.ask(TASK, {"id": "good"})).accepted
        await consumer.stop()
        await task
    assert sum(waves) == 200
    assert len(waves) < 20
    assert len(await dead_letters(amqp_url)) == 200


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
                await eventually_async(lambda: not consumer._buffer.room.is_set())
                # What comes goes nowhere: more is asked for than fits, and nothing more is read.
                for _ in range(20):
                    await asyncio.wait({asyncio.create_task(client.publish(b"{", exchange=""))})
                    assert budget - 100_100 <= consumer._buffer.held <= budget + 4 * 100_100
                assert consumer.unready == []
                blocking.rollback()
                assert all(reply.accepted for reply in await client.answers(sent))
                await eventually_async(lambda: consumer._buffer.held == 0)
    assert created(migrated_url) == [f"t{number}" for number in range(60)]


async def test_of_what_is_over_the_limit_little_is_held(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        with psycopg.connect(migrated_url) as blocking:
            blocking.execute("SELECT pg_advisory_xact_lock(%s)", (APPEND_LOCK,))
            async with working(migrated_url, amqp_url, batch_size=1) as consumer:
                first = await client.send(TASK, {"id": "a"})
                for _ in range(10):
                    await client.send(TASK, b"x" * (8 << 20))
                await eventually_async(lambda: len(consumer._buffer) == 10)
                assert consumer._buffer.held < 10 * 5000
                blocking.rollback()
                assert (await client.answer(first)).accepted
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
            await eventually_async(lambda: not consumer._buffer.room.is_set())
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

    consumer._subscriber.declare = failing
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
            assert await queue.consumers() == 1
            proxy.cut()
            await eventually_async(lambda: _counts(queue))
            proxy.down()
            assert not await _counts(queue)
            proxy.up()
            await eventually_async(lambda: _counts(queue))
            await queue.close()


async def _counts(queue: CommandQueue) -> bool:
    try:
        return await queue.consumers() == 1
    except Exception:
        return False


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


async def test_replies_go_to_the_anonymous_queues_of_aio_pika_and_others_are_told(
    migrated_url: str, amqp_url: str
) -> None:
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        connection = await aio_pika.connect(amqp_url)
        async with connection:
            queue = await (await connection.channel()).declare_queue(exclusive=True)
            await client.send(TASK, {"id": "a"}, "c1", properties={"reply_to": queue.name})

            async def answered() -> list[bytes]:
                message = await queue.get(no_ack=True, fail=False)
                return [] if message is None else [message.body]

            (body,) = await eventually_async(answered)
            assert messages.decode_reply(body).accepted
        with capture_logs() as logs:
            for number in range(3):
                await client.send(TASK, {"id": f"b{number}"}, properties={"reply_to": "my-queue"})
            assert (await client.ask(TASK, {"id": "last"})).accepted
        told = [line for line in logs if line["event"] == "no answer goes to this queue"]
        assert [line["reply_to"] for line in told] == ["my-queue"]


async def test_a_forged_direct_reply_name_costs_nobody_an_answer_or_a_dead_letter(
    migrated_url: str, amqp_url: str
) -> None:
    forged = "amq.rabbitmq.reply-to.YWJj.YWJj"
    async with working(migrated_url, amqp_url) as consumer, Client(amqp_url) as client, plain(amqp_url) as channel:
        direct: list[Any] = []

        async def answered(message: Any) -> None:
            direct.append(message.header.properties.correlation_id)

        await channel.basic_consume("amq.rabbitmq.reply-to", answered, no_ack=True)

        async def ask_directly(name: str) -> None:
            given: Any = {"message_type": TASK, "message_id": name, "correlation_id": name}
            properties = aiormq.spec.Basic.Properties(
                headers={"tenant": TENANT}, reply_to="amq.rabbitmq.reply-to", **given
            )
            await channel.basic_publish(
                json.dumps({"id": name}).encode(), exchange=COMMAND_EXCHANGE, routing_key="k", properties=properties
            )

        before = [connection.transport.connection for connection in consumer._outbox._connections]  # type: ignore[union-attr]
        with capture_logs() as logs:
            for number in range(3):
                await client.send(TASK, {"id": f"forged{number}"}, properties={"reply_to": forged})
                await ask_directly(f"direct{number}")
                await client.send(TASK, b"{")
                assert (await client.ask(TASK, {"id": f"good{number}"})).accepted
            await eventually_async(lambda: set(direct) >= {"direct0", "direct1", "direct2"})
            await eventually_async(lambda: consumer._outbox._direct.refused(forged))
        letters_found: list[Any] = []

        async def all_letters() -> bool:
            letters_found.extend(await dead_letters(amqp_url))
            return len(letters_found) == 3

        await eventually_async(all_letters)
        told = [line for line in logs if line["event"] == "the broker ends the connection for this reply queue"]
        assert [line["reply_to"] for line in told] == [forged]
        # The connections that all others' answers and letters go out on have never been lost.
        assert [connection.transport.connection for connection in consumer._outbox._connections] == before  # type: ignore[union-attr]
        assert all(connection.is_opened for connection in before)


async def test_large_headers_are_a_dead_letter_of_their_tenant(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        await client.send(TASK, {"id": "a"}, x="x" * 17_000)
        assert (await client.ask(TASK, {"id": "b"}, x="x" * 15_000)).accepted
        (letter,) = await eventually_async(lambda: dead_letters(amqp_url))
        assert code(letter) == "unreadable"
        assert letter.header.properties.headers["tenant"] == TENANT


@pytest.mark.parametrize(
    ("data", "refused"), [({"id": "a", "fields": {"x": [[]] * 6000}}, True), ({"id": "a", "other": [[]] * 6000}, False)]
)
async def test_of_what_is_refused_nothing_parsed_is_held(amqp_url: str, data: Any, refused: bool) -> None:
    message = letters.Message(1, False, "k")
    properties: Any = message.properties
    properties.message_id, properties.message_type, properties.headers = "m", TASK, {"tenant": TENANT}
    message.body, message.header_size = json.dumps(data).encode(), 100
    message.size = len(message.body)
    buffer = Buffer(settings("postgresql://", amqp_url))
    buffer.add(cast("Any", None), message)
    assert buffer.held == message.size + 100
    (delivery,) = await buffer.take()
    command = delivery.command
    kept = command.refusal if isinstance(command, messages.Incoming) else command
    assert isinstance(command, messages.Incoming) == refused
    assert kept is not None
    assert (getattr(kept, "__traceback__", None), getattr(kept, "__context__", None)) == (None, None)
    assert getattr(command, "command", None) is None
    buffer.done([delivery])
    assert buffer.held == 0
