"""Where dead letters go, and what they say of their way."""

from typing import Any

from aiormq.abc import AbstractChannel
from pamqp.commands import Basic

from tests.contracts.amqp.messages import QUORUM, Fresh, Inbox, drain, get, publish


async def test_dead_letters_say_where_they_come_from(
    channel: AbstractChannel, fresh: Fresh, version: tuple[int, int]
) -> None:
    exchange, queue, grave = fresh(), fresh(), fresh()
    await channel.exchange_declare(exchange, exchange_type="topic")
    await channel.queue_declare(grave, exclusive=True)
    await channel.queue_bind(grave, exchange, routing_key="dead.#")
    arguments = {"x-dead-letter-exchange": exchange, "x-dead-letter-routing-key": "dead.letter"}
    await channel.queue_declare(queue, exclusive=True, arguments=arguments)
    await channel.queue_bind(queue, exchange, routing_key="alive")
    await publish(channel, exchange, "alive", b"1", properties=Basic.Properties(headers={"mine": 1}, message_id="m"))
    for round_ in (1, 2):
        message = await get(channel, queue, no_ack=False)
        assert message.delivery_tag is not None
        await channel.basic_reject(message.delivery_tag, requeue=False)
        dead = await get(channel, grave)
        headers: Any = dead.header.properties.headers
        assert (dead.body, dead.exchange, dead.routing_key) == (b"1", exchange, "dead.letter")
        assert dead.redelivered is (version >= (4, 3))
        assert (headers["mine"], dead.header.properties.message_id) == (1, "m")
        (death,) = headers["x-death"]
        # Since RabbitMQ 4 a client that publishes a dead letter again makes a new message of it.
        count = round_ if version < (4, 0) else 1
        expected = {"count": count, "reason": "rejected", "queue": queue, "exchange": exchange}
        assert death == expected | {"routing-keys": ["alive"], "time": death["time"]}
        first = [headers[f"x-first-death-{name}"] for name in ("exchange", "queue", "reason")]
        assert first == [exchange, queue, "rejected"]
        await publish(channel, exchange, "alive", dead.body, properties=dead.header.properties)


async def test_dead_letters_without_a_key_keep_theirs_and_remember_all_deaths(
    channel: AbstractChannel, fresh: Fresh
) -> None:
    first, second, grave = fresh(), fresh(), fresh()
    await channel.exchange_declare(exchange := fresh(), exchange_type="fanout")
    await channel.queue_declare(grave, exclusive=True)
    await channel.queue_bind(grave, exchange)
    to_second = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": second}
    await channel.queue_declare(first, exclusive=True, arguments=to_second)
    await channel.queue_declare(second, exclusive=True, arguments={"x-dead-letter-exchange": exchange})
    await publish(channel, "", first, b"1")
    for queue in (first, second):
        message = await get(channel, queue, no_ack=False)
        await channel.basic_nack(message.delivery_tag or 0, requeue=False)
    dead = await get(channel, grave)
    headers: Any = dead.header.properties.headers
    assert dead.routing_key == second
    assert [death["queue"] for death in headers["x-death"]] == [second, first]
    assert headers["x-first-death-queue"] == first


async def test_dead_letters_for_a_missing_exchange_are_dropped(channel: AbstractChannel, fresh: Fresh) -> None:
    queue = fresh()
    await channel.queue_declare(queue, exclusive=True, arguments={"x-dead-letter-exchange": fresh()})
    await publish(channel, "", queue, b"1")
    message = await get(channel, queue, no_ack=False)
    await channel.basic_reject(message.delivery_tag or 0, requeue=False)
    assert await drain(channel, queue) == []


async def test_a_quorum_queue_gives_up_after_the_delivery_limit(channel: AbstractChannel, fresh: Fresh) -> None:
    queue, grave, inbox = fresh(), fresh(), Inbox()
    await channel.queue_declare(grave, exclusive=True)
    limited = QUORUM | {"x-delivery-limit": 2, "x-overflow": "reject-publish", "x-dead-letter-exchange": ""}
    limited |= {"x-dead-letter-strategy": "at-least-once", "x-dead-letter-routing-key": grave}
    await channel.queue_declare(queue, durable=True, arguments=limited)
    await channel.basic_consume(queue, inbox)
    await publish(channel, "", queue, b"1")
    for delivery in range(3):
        (message,) = await inbox.take()
        assert message.redelivered is (delivery > 0)
        headers: Any = message.header.properties.headers or {}
        assert headers.get("x-delivery-count", 0) == delivery
        await channel.basic_reject(message.delivery_tag or 0, requeue=True)  # RabbitMQ 4.3 does not count a nack
    headers = (await get(channel, grave)).header.properties.headers
    assert [(death["reason"], death["count"]) for death in headers["x-death"]] == [("delivery_limit", 1)]
    assert headers["x-first-death-reason"] == "delivery_limit"
