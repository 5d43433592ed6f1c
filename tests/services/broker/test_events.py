"""The typed subscriber for consumers of events, on both brokers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import pytest
from faststream.rabbit import RabbitBroker, RabbitMessage
from faststream.specification import AsyncAPI

from domain.task import TaskCreated, TaskFieldsChanged
from services.broker.events import Event, EventSubscriber
from services.broker.names import EVENT_EXCHANGE
from tests.eventually import LATE, eventually_async
from tests.services.harness import Client, dead_letters, declare, waiting
from tests.services.test_relay import add, relaying


@asynccontextmanager
async def started(broker: RabbitBroker) -> AsyncIterator[None]:
    await broker.start()
    try:
        yield
    finally:
        await broker.stop()


async def test_each_handler_gets_its_events_typed_and_in_order(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    broker = RabbitBroker(amqp_url)
    events, seen = EventSubscriber(broker, "billing", "acme.#"), list[tuple[int, Any]]()

    @events.on(TaskCreated)
    async def created(event: Event[TaskCreated]) -> None:
        seen.append((event.position, event.data))

    @events.on(TaskFieldsChanged)
    async def changed(event: Event[TaskFieldsChanged]) -> None:
        seen.append((event.position, event.data))

    async with started(broker), relaying(migrated_url, amqp_url):
        add(migrated_url, 3)
        add(migrated_url, 1, tenant="other")
        await eventually_async(lambda: len(seen) == 6)
    assert [position for position, _ in seen] == list(range(1, 7))
    assert [type(data) for _, data in seen] == [TaskCreated] * 3 + [TaskFieldsChanged] * 3
    assert seen[3][1].new == {"title": "x"}


async def test_an_exchange_of_a_tenant_has_its_events_alone(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    connection = await aio_pika.connect(amqp_url)
    channel = await connection.channel()
    # As an operator does, for a user that may read from this exchange and from no other.
    own = await channel.declare_exchange("events.acme", aio_pika.ExchangeType.TOPIC, durable=True)
    await own.bind(EVENT_EXCHANGE, "acme.#")
    broker = RabbitBroker(amqp_url)
    # Whatever pattern the subscriber asks for.
    events, seen = EventSubscriber(broker, "acme-billing", "#", exchange="events.acme"), list[str]()

    @events.on(TaskCreated)
    async def created(event: Event[TaskCreated]) -> None:
        seen.append(event.tenant)

    async with started(broker), relaying(migrated_url, amqp_url):
        for tenant in ("other", "acme-2", "acme", "acme-2", "acme"):
            add(migrated_url, 1, tenant=tenant)
        await eventually_async(lambda: len(seen) >= 2)
    assert seen == ["acme", "acme"]
    await channel.exchange_delete("events.acme")
    await connection.close()


async def test_a_type_without_a_handler_is_acknowledged(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    broker = RabbitBroker(amqp_url)
    events, seen = EventSubscriber(broker, "billing"), list[int]()

    @events.on(TaskFieldsChanged)
    async def changed(event: Event[TaskFieldsChanged]) -> None:
        seen.append(event.position)

    async with started(broker), relaying(migrated_url, amqp_url):
        add(migrated_url, 2)
        await eventually_async(lambda: seen == [3, 4])
    assert await waiting(amqp_url, "billing") == 0


async def test_a_message_whose_handler_fails_is_handled_again_before_the_next(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    broker = RabbitBroker(amqp_url, logger=None)
    events, seen = EventSubscriber(broker, "billing", "*.task.created"), list[int]()

    @events.on(TaskCreated)
    async def created(event: Event[TaskCreated]) -> None:
        seen.append(event.position)
        if len(seen) == 1:
            raise ConnectionError("the consumer's own database is away")

    async with started(broker), relaying(migrated_url, amqp_url):
        add(migrated_url, 2)
        await eventually_async(lambda: 2 in seen)
    assert seen == [1, 1, 2]


async def test_a_message_that_is_given_up_is_kept_and_lets_the_next_pass(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    broker = RabbitBroker(amqp_url, logger=None)
    events = EventSubscriber(broker, "billing", "*.task.created", attempts=3, pause=0.01)
    seen, bodies = list[int](), list[Any]()

    @events.on(TaskCreated)
    async def created(event: Event[TaskCreated], message: RabbitMessage) -> None:
        seen.append(event.position)
        if event.position == 2:
            bodies.append(message.body)
            raise ValueError("no price for é\ud800" + "x" * 5000)

    async with started(broker), relaying(migrated_url, amqp_url):
        add(migrated_url, 3)
        await eventually_async(lambda: 3 in seen)
    assert seen == [1, 2, 2, 2, 3]
    assert await waiting(amqp_url, "billing") == 0
    (letter,) = await dead_letters(amqp_url, queue="billing.dead")
    properties = letter.header.properties
    assert letter.body == bodies[0]
    assert (properties.message_type, properties.content_type) == ("task.created", "application/cloudevents+json")
    assert (properties.message_id, properties.delivery_mode) == (json.loads(letter.body)["id"], 2)
    assert letter.delivery.routing_key == "acme.task.created"
    assert properties.headers["x-foldwork-attempts"] == 3
    assert properties.headers["x-foldwork-error"].startswith("ValueError('no price for é")
    assert len(properties.headers["x-foldwork-error"]) < 1001


async def test_what_no_handler_can_read_is_given_up(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    broker = RabbitBroker(amqp_url, logger=None)
    events, seen = EventSubscriber(broker, "billing", "#", attempts=2, pause=0.01), list[int]()
    bodies = [b"{", b"[]", b'{"id":1}']

    @events.on(TaskCreated)
    async def created(event: Event[TaskCreated]) -> None:
        seen.append(event.position)

    async with started(broker), Client(amqp_url) as client:
        for body in bodies:
            await client.publish(body, EVENT_EXCHANGE, message_type="task.created")
        async with relaying(migrated_url, amqp_url):
            add(migrated_url, 1)
            await eventually_async(lambda: seen == [1])
    assert [each.body for each in await dead_letters(amqp_url, queue="billing.dead")] == bodies


async def test_a_message_that_ends_its_consumers_is_given_up_without_another_attempt(
    migrated_url: str, amqp_url: str
) -> None:
    await declare(amqp_url)
    add(migrated_url, 2)
    seen, never = list[int](), asyncio.Event()

    def subscribed() -> RabbitBroker:
        broker = RabbitBroker(amqp_url, logger=None, graceful_timeout=0.1)

        @EventSubscriber(broker, "billing", "*.task.created", attempts=1).on(TaskCreated)
        async def created(event: Event[TaskCreated]) -> None:
            seen.append(event.position)
            if event.position == 1:
                await never.wait()

        return broker

    async with started(subscribed()), relaying(migrated_url, amqp_url):
        await eventually_async(lambda: seen == [1])
    async with started(subscribed()):
        await eventually_async(lambda: seen == [1, 2])
    assert len(await dead_letters(amqp_url, queue="billing.dead")) == 1
    never.set()


async def test_a_stop_ends_the_pause_and_leaves_the_message_in_the_queue(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    add(migrated_url, 1)
    broker, seen = RabbitBroker(amqp_url, logger=None, graceful_timeout=LATE), list[int]()

    @EventSubscriber(broker, "billing", "*.task.created", attempts=None, pause=LATE).on(TaskCreated)
    async def created(event: Event[TaskCreated]) -> None:
        seen.append(event.position)
        raise ConnectionError("away for long")

    async with started(broker), relaying(migrated_url, amqp_url):
        await eventually_async(lambda: seen)

    async def is_back() -> bool:
        return await waiting(amqp_url, "billing") == 1

    await eventually_async(is_back)
    assert seen == [1]


@pytest.mark.parametrize("bad", [{"attempts": 0}, {"pause": 0.0}])
def test_no_attempt_and_no_pause_are_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match="at least"):
        EventSubscriber(RabbitBroker(), "billing", **bad)


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(KeyError):
        EventSubscriber(RabbitBroker(), "billing").on(dict)


def test_the_consumers_asyncapi_shows_what_it_takes() -> None:
    broker = RabbitBroker()

    @EventSubscriber(broker, "billing", "demo.task.created").on(TaskCreated)
    async def created(event: Event[TaskCreated]) -> None:
        """Bill a task."""

    document = json.loads(AsyncAPI(broker, schema_version="3.0.0").to_specification().to_json())
    ((_, channel),) = document["channels"].items()
    assert (channel["address"], channel["bindings"]["amqp"]["queue"]["name"]) == ("demo.task.created", "billing")
    payload = document["components"]["schemas"]["Event[TaskCreated]"]["properties"]["data"]
    assert payload == {"$ref": "#/components/schemas/TaskCreated"}
    assert {"id", "title", "activity_id"} <= set(document["components"]["schemas"]["TaskCreated"]["properties"])
