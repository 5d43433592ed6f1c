"""Answers go to reply queues alone, and none of them holds up a batch."""

from __future__ import annotations

import json
from typing import Any

import aio_pika
import aiormq
from structlog.testing import capture_logs

from services.broker.names import COMMAND_EXCHANGE
from services.commands import wire
from tests.eventually import eventually_async
from tests.services.commands.shared import TASK, plain
from tests.services.harness import TENANT, Client, created, dead_letters, waiting, working


async def test_answers_go_to_reply_queues_only_and_never_hold_up(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        for number, queue in enumerate(("foldwork.commands", "foldwork.dead", "reply.nobody", "amq.gen-nobody", "x")):
            await client.send(TASK, {"id": f"t{number}"}, properties={"reply_to": queue})
        await client.send(TASK, b"{", properties={"reply_to": "foldwork.commands"})
        assert (await client.ask(TASK, {"id": "last"})).accepted
        assert len(created(migrated_url)) == 6
        assert len(await dead_letters(amqp_url)) == 1
        assert await waiting(amqp_url) == 0


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
            assert wire.decode_reply(body).accepted
        with capture_logs() as logs:
            for number in range(3):
                await client.send(TASK, {"id": f"b{number}"}, properties={"reply_to": "my-queue"})
            assert (await client.ask(TASK, {"id": "last"})).accepted
        told = [line for line in logs if line["event"] == "answers to this user are not sent to this queue"]
        assert [line["reply_to"] for line in told] == ["my-queue"]


async def test_no_answer_goes_to_a_queue_of_another_user(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url), Client(amqp_url) as client, plain(amqp_url) as channel:
        ours, theirs = "reply.guest.orders", "reply.beta.orders"
        for queue in (ours, theirs):
            await channel.queue_declare(queue, exclusive=True)
        for number, (queue, user) in enumerate([(theirs, "guest"), (theirs, None), (ours, None), (ours, "guest")]):
            await client.send(TASK, {"id": f"t{number}"}, f"c{number}", properties={"reply_to": queue, "user_id": user})
        assert (await client.ask(TASK, {"id": "last"})).accepted
        taken = [(await channel.basic_get(queue, no_ack=True)).body for queue in (ours, ours, theirs)]
        assert [wire.decode_reply(body).command_id for body in taken if body] == ["c3"]
        assert len(created(migrated_url)) == 5


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

        before = [connection.transport.connection for connection in consumer.outbox.connections]  # type: ignore[union-attr]
        with capture_logs() as logs:
            for number in range(3):
                await client.send(TASK, {"id": f"forged{number}"}, properties={"reply_to": forged})
                await ask_directly(f"direct{number}")
                await client.send(TASK, b"{")
                assert (await client.ask(TASK, {"id": f"good{number}"})).accepted
            await eventually_async(lambda: set(direct) >= {"direct0", "direct1", "direct2"})
            await eventually_async(lambda: consumer.outbox.direct.refused(forged))
        letters_found: list[Any] = []

        async def all_letters() -> bool:
            letters_found.extend(await dead_letters(amqp_url))
            return len(letters_found) == 3

        await eventually_async(all_letters)
        told = [
            line for line in logs if line["event"] == "the broker closed the connection because of this reply queue"
        ]
        assert [line["reply_to"] for line in told] == [forged]
        # The connections that all others' answers and letters go out on have never been lost.
        assert [connection.transport.connection for connection in consumer.outbox.connections] == before  # type: ignore[union-attr]
        assert all(connection.is_opened for connection in before)
