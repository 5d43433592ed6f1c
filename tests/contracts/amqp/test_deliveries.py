"""What happens to messages between a queue and its consumers: prefetch, turns, acknowledgements, lost consumers."""

import asyncio
from typing import Any

import aio_pika
import aiormq
import pytest
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp.commands import Basic

from tests.contracts.amqp.messages import QUORUM, Fresh, Inbox, bodies, count, get, publish

from .conftest import eventually


async def test_prefetch_holds_for_each_consumer(channel: AbstractChannel, fresh: Fresh) -> None:
    queue, first, second = fresh(), Inbox(), Inbox()
    await channel.queue_declare(queue, exclusive=True)
    await publish(channel, "", queue, *b"1 2 3 4 5".split())
    await channel.basic_qos(prefetch_count=2)
    await channel.basic_consume(queue, first)
    assert bodies(await first.take(2)) == [b"1", b"2"]
    await channel.basic_qos(prefetch_count=1)
    await channel.basic_consume(queue, second)
    got = await second.take()
    assert bodies(got) == [b"3"]
    assert first.empty
    assert await count(channel, queue) == 2
    await channel.basic_ack(got[0].delivery_tag)
    assert bodies(await second.take()) == [b"4"]
    await channel.basic_ack(got[0].delivery_tag - 1, multiple=True)
    assert bodies(await first.take()) == [b"5"]


async def test_consumers_take_turns(channel: AbstractChannel, fresh: Fresh) -> None:
    queue, first, second = fresh(), Inbox(), Inbox()
    await channel.queue_declare(queue, exclusive=True)
    await channel.basic_consume(queue, first, no_ack=True)
    await channel.basic_consume(queue, second, no_ack=True)
    await publish(channel, "", queue, *b"1 2 3 4".split())
    assert bodies(await first.take(2)) == [b"1", b"3"]
    assert bodies(await second.take(2)) == [b"2", b"4"]


@pytest.mark.parametrize("arguments", [{}, QUORUM | {"x-delivery-limit": 5}], ids=["classic", "quorum"])
async def test_what_is_given_back_keeps_its_place(channel: AbstractChannel, fresh: Fresh, arguments: Any) -> None:
    queue = fresh()
    await channel.queue_declare(queue, durable=True, arguments=arguments)
    await publish(channel, "", queue, *b"1 2 3".split())
    first, second = await get(channel, queue, no_ack=False), await get(channel, queue, no_ack=False)
    assert second.delivery_tag is not None
    await channel.basic_nack(second.delivery_tag, multiple=True, requeue=True)
    again = [await get(channel, queue, no_ack=False) for _ in range(3)]
    assert [(message.body, message.redelivered) for message in again] == [(b"1", True), (b"2", True), (b"3", False)]
    assert first.body == b"1"


@pytest.mark.parametrize("whole", [False, True], ids=["channel", "connection"])
async def test_what_was_not_settled_comes_back(
    broker_url: str, channel: AbstractChannel, fresh: Fresh, whole: bool
) -> None:
    queue, inbox = fresh(), Inbox()
    await channel.queue_declare(queue)
    await publish(channel, "", queue, *b"1 2 3".split())
    leaving = await aiormq.connect(broker_url)
    other = await leaving.channel()
    await other.basic_consume(queue, inbox)
    messages = await inbox.take(3)
    assert messages[1].delivery_tag is not None
    await other.basic_ack(messages[1].delivery_tag)
    await (leaving if whole else other).close()
    again = [await get(channel, queue), await get(channel, queue)]
    assert [(message.body, message.redelivered) for message in again] == [(b"1", True), (b"3", True)]
    await leaving.close()


async def test_recover_gives_everything_back(channel: AbstractChannel, fresh: Fresh) -> None:
    queue, inbox = fresh(), Inbox()
    await channel.queue_declare(queue, exclusive=True)
    await channel.basic_consume(queue, inbox)
    await publish(channel, "", queue, b"1", b"2")
    await inbox.take(2)
    await channel.basic_recover(requeue=True)
    assert [(message.body, message.redelivered) for message in await inbox.take(2)] == [(b"1", True), (b"2", True)]


async def test_get_says_how_many_are_left(channel: AbstractChannel, fresh: Fresh) -> None:
    queue = fresh()
    await channel.queue_declare(queue, exclusive=True)
    await publish(channel, "", queue, b"1", b"2")
    message = await get(channel, queue)
    assert isinstance(message.delivery, Basic.GetOk)
    assert message.delivery.message_count == 1


async def test_a_cancelled_consumer_keeps_what_it_has(channel: AbstractChannel, fresh: Fresh) -> None:
    queue, inbox = fresh(), Inbox()
    await channel.queue_declare(queue, exclusive=True)
    consumer = await channel.basic_consume(queue, inbox)
    await publish(channel, "", queue, b"1")
    (message,) = await inbox.take()
    await channel.basic_cancel(str(consumer.consumer_tag))
    await publish(channel, "", queue, b"2")
    assert await count(channel, queue) == 1
    assert message.delivery_tag is not None
    await channel.basic_reject(message.delivery_tag, requeue=True)
    assert [(await get(channel, queue)).body, (await get(channel, queue)).body] == [b"1", b"2"]


@pytest.mark.parametrize("arguments", [{}, QUORUM], ids=["classic", "quorum"])
async def test_the_next_single_active_consumer_takes_over(
    broker_url: str, channel: AbstractChannel, fresh: Fresh, arguments: Any
) -> None:
    queue, boxes = fresh(), [Inbox() for _ in range(3)]
    await channel.queue_declare(queue, durable=True, arguments={"x-single-active-consumer": True} | arguments)
    leaving = await aiormq.connect(broker_url)
    await (await leaving.channel()).basic_consume(queue, boxes[0])
    second = await channel.basic_consume(queue, boxes[1])
    await channel.basic_consume(queue, boxes[2])
    await publish(channel, "", queue, b"1", b"2")
    assert bodies(await boxes[0].take(2)) == [b"1", b"2"]
    await leaving.close()
    again = await boxes[1].take(2)
    assert [(message.body, message.redelivered) for message in again] == [(b"1", True), (b"2", True)]
    await channel.basic_ack(again[1].delivery_tag or 0, multiple=True)
    await channel.basic_cancel(str(second.consumer_tag))
    await publish(channel, "", queue, b"3")
    assert bodies(await boxes[2].take()) == [b"3"]
    assert all(box.empty for box in boxes)


async def test_consumers_hear_that_their_queue_is_gone(broker_url: str, channel: AbstractChannel, fresh: Fresh) -> None:
    queue, gone = fresh(), asyncio.Event()
    connection = await aio_pika.connect(broker_url)
    async with connection:
        consuming = await connection.channel()
        await channel.queue_declare(queue)
        underlay = await consuming.get_underlay_channel()

        async def never(_: DeliveredMessage) -> None:
            raise AssertionError

        consumer = await underlay.basic_consume(queue, never)
        await channel.queue_delete(queue)

        async def cancelled() -> bool:
            await underlay.basic_qos(prefetch_count=1)
            return consumer.consumer_tag not in underlay.consumers

        await eventually(cancelled)
        gone.set()
    assert gone.is_set()


async def test_exclusive_queues_are_for_one_connection(broker_url: str, channel: AbstractChannel, fresh: Fresh) -> None:
    queue = fresh()
    owner = await aiormq.connect(broker_url)
    named = await (await owner.channel()).queue_declare("", exclusive=True)
    await (await owner.channel()).queue_declare(queue, exclusive=True)
    assert str(named.queue).startswith("amq.gen-")
    for attempt in ("queue_declare", "queue_delete", "queue_purge", "basic_get"):
        other = await channel.connection.channel()
        with pytest.raises(aiormq.exceptions.ChannelLockedResource):
            await getattr(other, attempt)(queue)
    await owner.close()

    async def gone() -> bool:
        try:
            await (await channel.connection.channel()).queue_declare(queue, passive=True)
        except aiormq.exceptions.ChannelNotFoundEntity:
            return True
        except aiormq.exceptions.ChannelLockedResource:
            return False
        return False

    await eventually(gone)


async def test_an_auto_delete_queue_goes_with_its_last_consumer(channel: AbstractChannel, fresh: Fresh) -> None:
    queue = fresh()
    await channel.queue_declare(queue, auto_delete=True)
    consumers = [await channel.basic_consume(queue, Inbox()) for _ in range(2)]
    await channel.basic_cancel(str(consumers[0].consumer_tag))
    assert (await channel.queue_declare(queue, passive=True)).consumer_count == 1
    await channel.basic_cancel(str(consumers[1].consumer_tag))
    with pytest.raises(aiormq.exceptions.ChannelNotFoundEntity):
        await channel.queue_declare(queue, passive=True)
