"""The typed subscriber for consumers of events, on both brokers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from faststream.rabbit import RabbitBroker
from faststream.specification import AsyncAPI

from domain.task import TaskCreated, TaskFieldsChanged
from services.broker.events import Event, EventSubscriber
from tests.eventually import eventually_async
from tests.services.harness import declare, waiting
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


async def test_a_message_whose_handler_fails_comes_again(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    broker = RabbitBroker(amqp_url, logger=None)
    events, seen = EventSubscriber(broker, "billing", "*.task.created"), list[str]()

    @events.on(TaskCreated)
    async def created(event: Event[TaskCreated]) -> None:
        seen.append(event.id)
        if len(seen) == 1:
            raise ConnectionError("the consumer's own database is away")

    async with started(broker), relaying(migrated_url, amqp_url):
        add(migrated_url, 1)
        await eventually_async(lambda: len(seen) == 2)
        await asyncio.sleep(0.2)
    assert seen == [seen[0]] * 2


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
