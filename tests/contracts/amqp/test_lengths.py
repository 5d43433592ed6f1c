"""Queues of limited length: what is published beyond the limit is refused, or the oldest messages give way."""

from typing import Any

import aiormq
import pytest
from aiormq.abc import AbstractChannel

from tests.contracts.amqp.messages import Fresh, count, drain, publish

REJECTING = {"x-max-length": 2, "x-overflow": "reject-publish"}


async def test_a_full_queue_refuses_what_is_published_until_it_has_room(channel: AbstractChannel, fresh: Fresh) -> None:
    exchange, full, other = fresh(), fresh(), fresh()
    await channel.exchange_declare(exchange, exchange_type="fanout")
    for queue, arguments in ((full, REJECTING), (other, {})):
        await channel.queue_declare(queue, exclusive=True, arguments=arguments)
        await channel.queue_bind(queue, exchange)
    await publish(channel, exchange, "", b"1", b"2")
    for body in (b"3", b"4"):
        with pytest.raises(aiormq.exceptions.DeliveryError):
            await publish(channel, exchange, "", body)
    # Another queue takes it, although the publisher is refused.
    assert await count(channel, other) == 4
    assert await drain(channel, full) == [b"1", b"2"]
    await publish(channel, exchange, "", b"5", b"6")
    assert await drain(channel, full) == [b"5", b"6"]


async def test_the_oldest_message_gives_way(channel: AbstractChannel, fresh: Fresh) -> None:
    queue, grave = fresh(), fresh()
    await channel.queue_declare(grave, exclusive=True)
    arguments: Any = {"x-max-length": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave}
    await channel.queue_declare(queue, exclusive=True, arguments=arguments)
    await publish(channel, "", queue, b"1", b"2", b"3")
    assert await drain(channel, queue) == [b"2", b"3"]
    message = await channel.basic_get(grave, no_ack=True)
    headers: Any = message.header.properties.headers
    assert (message.body, headers["x-first-death-reason"]) == (b"1", "maxlen")
