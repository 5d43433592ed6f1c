"""The relay: every event published, in order, under its own id, whatever happens to broker, database and process."""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiormq
import psycopg
import pytest

from domain.streams import stream_of
from domain.task import TaskCreated, TaskFieldsChanged
from services.broker import publisher as publisher_module
from services.broker.names import EVENT_EXCHANGE
from services.broker.publisher import Publisher, command_sender
from services.broker.sender import Outgoing
from services.broker.tail import subscription
from services.processors.relay import relay_handle
from services.roles import make_role
from services.store import codec, log
from services.store.append import NewEvent, append_in
from services.store.failures import OutsideUnavailable
from tests.eventually import PATIENCE, eventually_async
from tests.services.harness import Client, declare, rows, settings, working
from tests.services.processes import nursery
from tests.services.proxy import broker_proxy

AT = datetime(2025, 10, 31, 8, 0, tzinfo=UTC)


def add(url: str, streams: int, versions: int = 2, tenant: str = "acme") -> None:
    """Record events of so many new streams, a version of each in turn."""
    ids = [uuid.uuid4().hex for _ in range(streams)]
    with psycopg.connect(url) as conn:
        for version in range(1, versions + 1):
            events = []
            for task_id in ids:
                first = version == 1
                event: Any = TaskCreated(task_id) if first else TaskFieldsChanged(task_id, None, {}, {"title": "x"})
                metadata = codec.Metadata(uuid.uuid4().hex, "cmd", "corr", "cause", "ann", AT)
                stream = stream_of(tenant, "task", task_id)
                events.append(NewEvent(stream, version, codec.name_of(event), event, metadata))
            append_in(conn, events)


def ids(url: str) -> list[str]:
    with psycopg.connect(url, autocommit=True) as conn:
        return [codec.raw(row.state).meta.id for row in log.read(conn, 0, 100_000)]


class Subscriber:
    """A queue bound to all events, and what came to it."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    @property
    def ids(self) -> list[str]:
        """Return the ids in the order of their arrival."""
        return [message.header.properties.message_id for message in self.messages]

    @property
    def once(self) -> list[str]:
        """Return the ids without repetitions, as a subscriber that knows its duplicates sees them."""
        return list(dict.fromkeys(self.ids))


@asynccontextmanager
async def subscribed(amqp_url: str) -> AsyncIterator[Subscriber]:
    await declare(amqp_url)
    plain = await aiormq.connect(amqp_url)
    channel = await plain.channel()
    queue = (await channel.queue_declare(exclusive=True)).queue
    assert queue is not None
    await channel.queue_bind(queue, EVENT_EXCHANGE, "#")
    found = Subscriber()

    async def take(message: Any) -> None:
        found.messages.append(message)

    await channel.basic_consume(queue, take, no_ack=True)
    yield found
    await plain.close()


@asynccontextmanager
async def relaying(database_url: str, amqp_url: str, **given: Any) -> AsyncIterator[None]:
    role = make_role("relay", settings(database_url, amqp_url, **given))
    task = asyncio.create_task(role.run())
    await eventually_async(lambda: not role.unready)
    try:
        yield
    finally:
        await role.stop()
        await asyncio.wait_for(task, PATIENCE)


def position(url: str) -> int:
    found = rows(url, "SELECT position FROM followers WHERE name = 'relay'")
    return int(found[0][0]) if found else 0


async def published(url: str, subscriber: Subscriber) -> None:
    """Wait until the relay says that it is done and the subscriber has it."""
    wanted = ids(url)
    await eventually_async(lambda: position(url) == len(wanted) and len(subscriber.once) == len(wanted))
    assert subscriber.once == wanted


async def test_every_event_once_in_order_as_a_cloud_event(migrated_url: str, amqp_url: str) -> None:
    add(migrated_url, 30)
    async with subscribed(amqp_url) as subscriber, relaying(migrated_url, amqp_url, follower_batch=7):
        await published(migrated_url, subscriber)
        add(migrated_url, 5, tenant="other")
        await published(migrated_url, subscriber)
    assert subscriber.ids == ids(migrated_url)
    last = subscriber.messages[-1]
    properties = last.header.properties
    assert last.routing_key == "other.task.fields-changed"
    assert properties.content_type == "application/cloudevents+json"
    assert (properties.delivery_mode, properties.message_type) == (2, "task.fields-changed")
    assert properties.headers == {"tenant": "other"}
    event = json.loads(last.body)
    assert event.pop("recordedat")
    subject = event.pop("subject")
    assert subject.startswith("task/")
    assert event == {
        "specversion": "1.0",
        "id": properties.message_id,
        "source": "/foldwork/other",
        "type": "task.fields-changed",
        "time": "2025-10-31T08:00:00Z",
        "datacontenttype": "application/json",
        "tenant": "other",
        "position": 70,
        "streamversion": 2,
        "commandid": "cmd",
        "correlationid": "corr",
        "causationid": "cause",
        "actor": "ann",
        "data": {"id": subject.removeprefix("task/"), "activity_id": None, "old": {}, "new": {"title": "x"}},
    }


async def test_the_broker_gone_and_back_loses_nothing_and_keeps_the_order(migrated_url: str, amqp_url: str) -> None:
    with broker_proxy(amqp_url) as (proxy, through):
        async with subscribed(amqp_url) as subscriber, relaying(migrated_url, through, follower_batch=20):
            for _ in range(3):
                add(migrated_url, 50)
                await eventually_async(lambda: position(migrated_url) > 0)
                proxy.cut()
            proxy.down()
            add(migrated_url, 10)
            proxy.up()
            await published(migrated_url, subscriber)
    assert rows(migrated_url, "SELECT 1 FROM followers WHERE halted_at IS NOT NULL") == []


async def test_a_broker_that_is_gone_halts_nothing(migrated_url: str, amqp_url: str) -> None:
    """However its confirms end, the events are as good as before, so the relay waits and tries again."""
    add(migrated_url, 1)
    with broker_proxy(amqp_url) as (proxy, through):
        publisher = Publisher(through, "relay")
        with pytest.raises(OutsideUnavailable):
            publisher.publish([])
        await publisher.start()
        try:
            with psycopg.connect(migrated_url, autocommit=True) as conn:
                batch = log.read(conn, 0, 10)
                handle = relay_handle(publisher)
                await asyncio.to_thread(handle, conn, batch)
                # The confirm never comes: the connection ends as soon as the broker answers.
                proxy.forget_after = b"task.created"
                with pytest.raises(OutsideUnavailable):
                    await asyncio.to_thread(handle, conn, batch)
        finally:
            await publisher.close()


async def test_the_exchange_deleted_is_declared_again(migrated_url: str, amqp_url: str) -> None:
    async with relaying(migrated_url, amqp_url):
        async with subscribed(amqp_url) as subscriber:
            add(migrated_url, 2)
            await published(migrated_url, subscriber)
        connection = await aiormq.connect(amqp_url)
        await (await connection.channel()).exchange_delete(EVENT_EXCHANGE)
        await connection.close()
        add(migrated_url, 2)
        await eventually_async(lambda: position(migrated_url) == 8)


async def test_the_database_connection_killed_repeats_at_most_under_the_same_id(
    migrated_url: str, amqp_url: str
) -> None:
    async with subscribed(amqp_url) as subscriber, relaying(migrated_url, amqp_url, follower_batch=10):
        for _ in range(4):
            add(migrated_url, 40)
            rows(
                migrated_url,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'foldwork-follower-relay' AND datname = current_database()",
            )
        await published(migrated_url, subscriber)


async def test_two_relays_publish_each_event_once_while_nothing_fails(migrated_url: str, amqp_url: str) -> None:
    async with (
        subscribed(amqp_url) as subscriber,
        relaying(migrated_url, amqp_url, follower_batch=5),
        relaying(migrated_url, amqp_url, follower_batch=5),
    ):
        for _ in range(10):
            add(migrated_url, 5)
            await published(migrated_url, subscriber)
    assert subscriber.ids == ids(migrated_url)


async def test_a_relay_killed_before_it_saved_repeats_under_the_same_ids(migrated_url: str, amqp_url: str) -> None:
    add(migrated_url, 10)
    env = {"database_url": migrated_url, "amqp_url": amqp_url, "follower_batch": "8"}
    async with subscribed(amqp_url) as subscriber:
        for _ in range(3):
            with nursery().start("relay", env={**env, "test_build": "1", "crash_at": "after-publish"}) as process:
                assert await process.ended() == -signal.SIGKILL, process.output
        assert position(migrated_url) == 0
        async with relaying(migrated_url, amqp_url):
            await published(migrated_url, subscriber)
        await eventually_async(lambda: len(subscriber.ids) == 24 + 20)
    assert subscriber.ids == [*(ids(migrated_url)[:8] * 3), *ids(migrated_url)]


async def test_a_follower_sends_commands_that_a_worker_takes(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    publisher = Publisher(amqp_url, "policies")
    await publisher.start()
    command = Outgoing("task.create", b'{"id": "a"}', "acme", "a", command_id="from-policy")
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        for _ in range(2):
            await asyncio.to_thread(command_sender(publisher), [command])
        again = await client.ask("task.create", {"id": "a"}, "from-policy")
        assert (again.outcome, again.duplicate) == ("accepted", True)
    await publisher.close()


async def test_threads_that_share_a_publisher_do_not_take_each_others_confirms(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "CONFIRM_SECONDS", 10.0)
    await declare(amqp_url)
    publisher = Publisher(amqp_url, "policies")
    await publisher.start()
    send = command_sender(publisher)

    def often(name: str) -> None:
        for number in range(20):
            send([Outgoing("task.create", b"{}", "acme", name, command_id=f"{name}-{number}-{each}") for each in "ab"])

    try:
        # Who lost a confirm would wait for it until its time-out, and fail.
        await asyncio.gather(*(asyncio.to_thread(often, name) for name in ("scheduler", "policy", "third")))
    finally:
        await publisher.close()


async def test_a_subscription_gives_what_fits_its_pattern(migrated_url: str, amqp_url: str) -> None:
    async with subscription(amqp_url, "acme.task.created") as events, relaying(migrated_url, amqp_url):
        add(migrated_url, 2)
        found = [await asyncio.wait_for(anext(events), PATIENCE) for _ in range(2)]
    assert [key for key, _ in found] == ["acme.task.created"] * 2
    assert [json.loads(body)["position"] for _, body in found] == [1, 2]
