"""What is over after a time: messages that wait too long, and queues that nobody uses."""

from collections.abc import Callable
from typing import Any

import aiormq
import pytest
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic, Channel, Queue

from .conftest import eventually
from .messages import QUORUM, Inbox, bodies, count, drain, get, publish
from .wire import Wire

Fresh = Callable[[], str]


def until(milliseconds: int) -> Basic.Properties:
    return Basic.Properties(expiration=str(milliseconds))


async def buried(channel: AbstractChannel, fresh: Fresh, **arguments: Any) -> tuple[str, str]:
    """A queue and the one that gets its dead letters."""
    queue, grave = fresh(), fresh()
    await channel.queue_declare(grave, exclusive=True)
    letters = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave}
    durable = arguments.get("x-queue-type") == "quorum"
    await channel.queue_declare(queue, durable=durable, arguments=arguments | letters)
    return queue, grave


async def pass_time(channel: AbstractChannel, fresh: Fresh, milliseconds: int) -> None:
    """Waits as long by the broker's own clock."""
    queue, grave = await buried(channel, fresh)
    await publish(channel, "", queue, b"", properties=until(milliseconds))
    await get(channel, grave)


@pytest.mark.parametrize("arguments", [{}, QUORUM], ids=["classic", "quorum"])
async def test_a_message_that_expires_is_a_dead_letter(channel: AbstractChannel, fresh: Fresh, arguments: Any) -> None:
    queue, grave = await buried(channel, fresh, **arguments)
    await publish(channel, "", queue, b"1", properties=until(20))
    dead = await get(channel, grave)
    headers: Any = dead.header.properties.headers
    (death,) = headers["x-death"]
    found = {name: death[name] for name in ("reason", "queue", "exchange", "count", "original-expiration")}
    assert found == {"reason": "expired", "queue": queue, "exchange": "", "count": 1, "original-expiration": "20"}
    assert (dead.body, dead.header.properties.expiration) == (b"1", None)
    assert headers["x-first-death-reason"] == "expired"
    assert await count(channel, queue) == 0


@pytest.mark.parametrize(("of_queue", "of_message"), [(20, None), (20, 60000), (60000, 20)])
async def test_the_shorter_time_to_live_counts(
    channel: AbstractChannel, fresh: Fresh, of_queue: int, of_message: int | None
) -> None:
    queue, grave = await buried(channel, fresh, **{"x-message-ttl": of_queue})
    properties = Basic.Properties() if of_message is None else until(of_message)
    await publish(channel, "", queue, b"1", b"2", properties=properties)
    assert [(await get(channel, grave)).body for _ in range(2)] == [b"1", b"2"]


async def test_a_rejected_message_does_not_expire_any_more(channel: AbstractChannel, fresh: Fresh) -> None:
    queue, grave = await buried(channel, fresh)
    await publish(channel, "", queue, b"1", properties=until(60000))
    message = await get(channel, queue, no_ack=False)
    assert message.header.properties.expiration == "60000"
    await channel.basic_reject(message.delivery_tag or 0, requeue=False)
    assert (await get(channel, grave)).header.properties.expiration is None


async def test_a_message_waits_for_the_one_before_it_to_expire(channel: AbstractChannel, fresh: Fresh) -> None:
    queue = fresh()
    await channel.queue_declare(queue, exclusive=True)
    await publish(channel, "", queue, b"stays")
    await publish(channel, "", queue, b"goes", properties=until(10))
    await pass_time(channel, fresh, 50)
    assert await count(channel, queue) == 2
    assert await drain(channel, queue) == [b"stays"]


async def test_a_message_without_time_reaches_who_is_ready(channel: AbstractChannel, fresh: Fresh) -> None:
    queue, inbox = fresh(), Inbox()
    await channel.queue_declare(queue, exclusive=True)
    await publish(channel, "", queue, b"nobody is there", properties=until(0))
    assert await drain(channel, queue) == []
    await channel.basic_consume(queue, inbox, no_ack=True)
    await publish(channel, "", queue, b"1", properties=until(0))
    assert bodies(await inbox.take()) == [b"1"]


async def test_a_message_that_comes_back_too_late_is_gone(channel: AbstractChannel, fresh: Fresh) -> None:
    queue, grave = await buried(channel, fresh)
    connection = await aiormq.connect(str(channel.connection.url))
    inbox, holding = Inbox(), await connection.channel()
    await holding.basic_consume(queue, inbox)
    await publish(channel, "", queue, b"1", properties=until(20))
    await inbox.take()
    await pass_time(channel, fresh, 50)
    assert await count(channel, grave) == 0
    await connection.close()
    assert (await get(channel, grave)).body == b"1"


async def test_a_queue_that_nobody_uses_is_deleted(broker_url: str, fresh: Fresh) -> None:
    """A publisher does not keep a queue; a consumer does, for as long as it is there."""
    queue = fresh()
    connection = await aiormq.connect(broker_url)
    publisher = await connection.channel(publisher_confirms=True)

    async def gone() -> bool:
        try:
            await publisher.basic_publish(b"x", routing_key=queue, mandatory=True)
        except aiormq.exceptions.PublishError:
            return True
        except aiormq.exceptions.DeliveryError:
            return False  # it is just going
        return False

    async with Wire(broker_url) as wire:
        await wire.open(channels=(1,))
        declare = Queue.Declare(queue=queue, arguments={"x-expires": 100})
        wire.send(declare, Basic.Consume(queue=queue, no_ack=True, consumer_tag="t"), channel=1)
        await wire.expect(Queue.DeclareOk)
        await wire.expect(Basic.ConsumeOk)
        await pass_time(publisher, fresh, 250)
        wire.send(Queue.Declare(queue=queue, passive=True), channel=1)
        assert (await wire.expect(Queue.DeclareOk)).consumer_count == 1
        wire.send(Basic.Cancel("t"), channel=1)
        await wire.expect(Basic.CancelOk)
        await eventually(gone)
        wire.send(Queue.Declare(queue=queue, passive=True), channel=1)
        assert (await wire.expect(Channel.Close)).reply_code == 404
    await connection.close()
