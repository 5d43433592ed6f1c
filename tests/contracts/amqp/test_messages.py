"""What happens to messages: routing, deliveries, acknowledgements, dead letters and direct replies."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import aio_pika
import aiormq
import pytest
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from pamqp.commands import Basic

from tests.eventually import PATIENCE

from .conftest import eventually

Fresh = Callable[[], str]
QUORUM = {"x-queue-type": "quorum"}
ALWAYS_ROUTED = (4, 2)  # since then a mandatory direct reply counts as routed, whoever is there


async def publish(channel: AbstractChannel, exchange: str, key: str, *bodies: bytes, **options: Any) -> None:
    for body in bodies:
        await channel.basic_publish(body, exchange=exchange, routing_key=key, **options)


async def get(channel: AbstractChannel, queue: str, *, no_ack: bool = True) -> DeliveredMessage:
    """The next message; a queue may take a moment to have it."""
    found: list[DeliveredMessage] = []

    async def there() -> bool:
        message = await channel.basic_get(queue, no_ack=no_ack)
        if message.delivery_tag:
            found.append(message)
        return bool(found)

    await eventually(there)
    return found[0]


async def drain(channel: AbstractChannel, queue: str) -> list[bytes]:
    bodies = []
    while (message := await channel.basic_get(queue, no_ack=True)).delivery_tag:
        bodies.append(message.body)
    return bodies


async def count(channel: AbstractChannel, queue: str) -> int | None:
    return (await channel.queue_declare(queue, passive=True)).message_count


class Inbox:
    """What a consumer got, in order, and a way to wait for it."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[DeliveredMessage] = asyncio.Queue()

    async def __call__(self, message: DeliveredMessage) -> None:
        self._messages.put_nowait(message)

    async def take(self, number: int = 1) -> list[DeliveredMessage]:
        return [await asyncio.wait_for(self._messages.get(), PATIENCE) for _ in range(number)]

    @property
    def empty(self) -> bool:
        return self._messages.empty()


def bodies(messages: list[DeliveredMessage]) -> list[bytes]:
    return [message.body for message in messages]


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
    amqp_url: str, channel: AbstractChannel, fresh: Fresh, whole: bool
) -> None:
    queue, inbox = fresh(), Inbox()
    await channel.queue_declare(queue)
    await publish(channel, "", queue, *b"1 2 3".split())
    leaving = await aiormq.connect(amqp_url)
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
    amqp_url: str, channel: AbstractChannel, fresh: Fresh, arguments: Any
) -> None:
    queue, boxes = fresh(), [Inbox() for _ in range(3)]
    await channel.queue_declare(queue, durable=True, arguments={"x-single-active-consumer": True} | arguments)
    leaving = await aiormq.connect(amqp_url)
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


async def test_consumers_hear_that_their_queue_is_gone(amqp_url: str, channel: AbstractChannel, fresh: Fresh) -> None:
    queue, gone = fresh(), asyncio.Event()
    connection = await aio_pika.connect(amqp_url)
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


async def test_exclusive_queues_are_for_one_connection(amqp_url: str, channel: AbstractChannel, fresh: Fresh) -> None:
    queue = fresh()
    owner = await aiormq.connect(amqp_url)
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


async def test_direct_replies(amqp_url: str, channel: AbstractChannel, fresh: Fresh, version: tuple[int, int]) -> None:
    queue, inbox = fresh(), Inbox()
    await channel.queue_declare(queue, exclusive=True)
    asking = await aiormq.connect(amqp_url)
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


async def test_aio_pika_sees_a_working_broker(amqp_url: str, fresh: Fresh) -> None:
    async with await aio_pika.connect_robust(amqp_url) as connection:
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
