"""Direct replies, and what aio-pika makes of all of it."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import aio_pika
import aiormq
import pytest
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic

from tests.contracts.amqp.messages import QUORUM, Fresh, Inbox, bodies, get, publish

ALWAYS_ROUTED = (4, 2)  # since then a mandatory direct reply counts as routed, whoever is there


async def test_direct_replies(
    broker_url: str, channel: AbstractChannel, fresh: Fresh, version: tuple[int, int]
) -> None:
    queue, inbox = fresh(), Inbox()
    await channel.queue_declare(queue, exclusive=True)
    asking = await aiormq.connect(broker_url)
    asker = await asking.channel(publisher_confirms=False)
    await asker.basic_consume("amq.rabbitmq.reply-to", inbox, no_ack=True)
    properties = Basic.Properties(reply_to="amq.rabbitmq.reply-to", correlation_id="7")
    await publish(asker, "", queue, b"question", properties=properties)
    question = await get(channel, queue)
    address = str(question.header.properties.reply_to)
    assert address.startswith("amq.rabbitmq.reply-to.")
    await publish(channel, "", address, b"answer", properties=Basic.Properties(correlation_id="7"))
    (answer,) = await inbox.take()
    assert (answer.body, answer.exchange, answer.routing_key) == (b"answer", "", address)
    assert answer.header.properties.correlation_id == "7"
    await asking.close()
    assert isinstance(await channel.basic_publish(b"late", routing_key=address), Basic.Ack)
    with returned(version < ALWAYS_ROUTED):
        await channel.basic_publish(b"late", routing_key=address, mandatory=True)


@contextmanager
def returned(expected: bool) -> Iterator[None]:
    with pytest.raises(aiormq.exceptions.PublishError) if expected else nullcontext():
        yield


async def test_a_mandatory_direct_reply_arrives_and_is_returned(
    channel: AbstractChannel, fresh: Fresh, version: tuple[int, int]
) -> None:
    queue, inbox = fresh(), Inbox()
    await channel.queue_declare(queue, exclusive=True)
    await channel.basic_consume("amq.rabbitmq.reply-to", inbox, no_ack=True)
    await publish(channel, "", queue, b"?", properties=Basic.Properties(reply_to="amq.rabbitmq.reply-to"))
    address = str((await get(channel, queue)).header.properties.reply_to)
    with returned(version < ALWAYS_ROUTED):
        await channel.basic_publish(b"!", routing_key=address, mandatory=True)
    assert bodies(await inbox.take()) == [b"!"]


async def test_aio_pika_sees_a_working_broker(broker_url: str, fresh: Fresh) -> None:
    async with await aio_pika.connect_robust(broker_url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=10)
        exchange = await channel.declare_exchange(fresh(), aio_pika.ExchangeType.TOPIC)
        queue = await channel.declare_queue(fresh(), durable=True, arguments=QUORUM)
        await queue.bind(exchange, "orders.*")
        for number in range(50):
            await exchange.publish(aio_pika.Message(b"%d" % number, delivery_mode=2), "orders.new")
        seen = []
        async with queue.iterator() as messages:
            async for message in messages:
                async with message.process():
                    seen.append(int(message.body))
                if len(seen) == 50:
                    break
        assert seen == list(range(50))
