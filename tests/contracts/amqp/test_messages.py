"""What happens to messages on their way to a queue: routing, contents, confirms and returns."""

import asyncio

import aiormq
import pytest
from aiormq.abc import AbstractChannel, AbstractConnection
from pamqp.commands import Basic

from tests.contracts.amqp.messages import Fresh, count, drain, get, publish


@pytest.mark.parametrize(
    ("pattern", "key", "reached"),
    [
        ("a.*", "a.b", True), ("a.*", "a", False), ("a.*", "a.b.c", False), ("#", "", True), ("#", "a.b", True),
        ("a.#", "a", True), ("a.#.z", "a.z", True), ("a.#.z", "a.b.c.z", True), ("a.#.z", "a.b", False),
        ("*", "", False), ("*.*", "a.", True), ("", "", True), ("#.b.#", "a.b.c.b", True),
    ],
)  # fmt: skip
async def test_topics(channel: AbstractChannel, fresh: Fresh, pattern: str, key: str, reached: bool) -> None:
    exchange, queue = fresh(), fresh()
    await channel.exchange_declare(exchange, exchange_type="topic")
    await channel.queue_declare(queue, exclusive=True)
    await channel.queue_bind(queue, exchange, routing_key=pattern)
    await publish(channel, exchange, key, b"x")
    assert await drain(channel, queue) == ([b"x"] if reached else [])


async def test_fanout_and_direct_reach_a_queue_once(channel: AbstractChannel, fresh: Fresh) -> None:
    exchange, inner, queue = fresh(), fresh(), fresh()
    await channel.exchange_declare(exchange, exchange_type="fanout")
    await channel.exchange_declare(inner, exchange_type="direct", internal=True)
    await channel.queue_declare(queue, exclusive=True)
    await channel.exchange_bind(inner, exchange, routing_key="anything")
    await channel.queue_bind(queue, exchange, routing_key="a")
    await channel.queue_bind(queue, exchange, routing_key="b")
    await channel.queue_bind(queue, inner, routing_key="key")
    await publish(channel, exchange, "key", b"1")
    assert await drain(channel, queue) == [b"1"]
    await channel.queue_unbind(queue, exchange, routing_key="a")
    await channel.queue_unbind(queue, exchange, routing_key="b")
    await publish(channel, exchange, "key", b"2")
    await channel.exchange_unbind(inner, exchange, routing_key="anything")
    await publish(channel, exchange, "key", b"3")
    assert await drain(channel, queue) == [b"2"]


async def test_an_auto_delete_exchange_goes_with_its_last_binding(connection: AbstractConnection, fresh: Fresh) -> None:
    channel, exchange, queue = await connection.channel(), fresh(), fresh()
    await channel.exchange_declare(exchange, auto_delete=True)
    await channel.queue_declare(queue)
    await channel.queue_bind(queue, exchange, routing_key="a")
    await channel.queue_delete(queue)
    with pytest.raises(aiormq.exceptions.ChannelNotFoundEntity):
        await channel.exchange_declare(exchange, passive=True)


async def test_everything_about_a_message_arrives(channel: AbstractChannel, fresh: Fresh) -> None:
    queue = fresh()
    await channel.queue_declare(queue, exclusive=True)
    properties = Basic.Properties(
        content_type="application/json", content_encoding="utf-8", delivery_mode=2, priority=3, correlation_id="c",
        headers={"text": "ä", "number": 2**40, "yes": True, "list": [1, {"a": None}]}, reply_to="r", message_id="m",
        message_type="t", user_id="guest", app_id="a",
    )  # fmt: skip
    body = bytes(range(256)) * 2048
    await publish(channel, "", queue, body, properties=properties)
    got = await get(channel, queue)
    assert got.body == body
    assert got.header.properties == properties
    assert (got.exchange, got.routing_key, got.redelivered) == ("", queue, False)
    await publish(channel, "", queue, b"")
    assert (await get(channel, queue)).body == b""


async def test_confirms_and_returns(channel: AbstractChannel, fresh: Fresh) -> None:
    queue = fresh()
    await channel.queue_declare(queue, exclusive=True)
    sending = (channel.basic_publish(b"x", routing_key=queue, mandatory=True) for _ in range(200))
    results = await asyncio.gather(*sending)
    assert all(isinstance(result, Basic.Ack) for result in results)
    assert await count(channel, queue) == 200
    assert isinstance(await channel.basic_publish(b"x", routing_key=fresh()), Basic.Ack)
    with pytest.raises(aiormq.exceptions.PublishError) as unroutable:
        await channel.basic_publish(b"x", routing_key=fresh(), mandatory=True)
    assert isinstance(unroutable.value.frame, Basic.Return)
    assert (await channel.queue_purge(queue)).message_count == 200
