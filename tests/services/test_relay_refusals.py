"""A message that the broker refuses for itself is no outage: its stream waits, and all else goes out."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from pamqp.commands import Basic

from domain.streams import stream_of
from domain.task import TaskCreated, TaskFieldsChanged
from services.broker.frames import writer
from services.broker.names import EVENT_EXCHANGE
from services.broker.publisher import MessageRefused, Publisher, command_sender
from services.broker.sender import Outgoing
from services.dev.broker import channel as development
from services.processors import relay, scheduler
from services.processors.scheduler import LONGEST_RESEND, Scheduler
from services.roles import make_role
from services.store import codec, standing
from services.store.append import NewEvent, append_in
from services.store.failures import OutsideUnavailable
from services.store.log import LogRow
from tests.brokers import BrokerInThread
from tests.eventually import eventually_async
from tests.services.harness import declare, settings
from tests.services.proxy import broker_proxy
from tests.services.test_relay import AT, position, relaying, subscribed

LIMIT = 50_000


def add(url: str, *tasks: str, title: str = "x") -> None:
    """Append an event for each `tenant/task`, a task's first by its creation."""
    with psycopg.connect(url) as conn:
        events = []
        for task in tasks:
            tenant, _, task_id = task.partition("/")
            stream = stream_of(tenant, "task", task_id)
            row = conn.execute(
                "SELECT coalesce(max(originator_version), 0) FROM stored_events WHERE originator_id = %s", (stream,)
            ).fetchone()
            assert row is not None
            version = row[0] + 1 + sum(event.stream == stream for event in events)
            event: Any = (
                TaskCreated(task_id, title) if version == 1 else TaskFieldsChanged(task_id, None, {}, {"title": title})
            )
            metadata = codec.Metadata(uuid.uuid4().hex, "cmd", "corr", "cause", "ann", AT)
            events.append(NewEvent(stream, version, codec.name_of(event), event, metadata))
        append_in(conn, events)


def held(url: str) -> dict[str, tuple[int, int]]:
    (line,) = [line for line in standing.status(url) if line.name == "relay"]
    assert line.halted_at is None
    return {each.entity: (each.position, each.waiting) for each in line.held}


def positions(subscriber: Any) -> list[int]:
    """Return the positions that came, each where it first did."""
    return list(dict.fromkeys(json.loads(message.body)["position"] for message in subscriber.messages))


@pytest.fixture
def small_messages(development_broker: BrokerInThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(development_broker.server, "max_message_size", LIMIT)


async def test_an_event_that_is_too_large_holds_up_its_stream_alone(
    migrated_url: str,
    development_broker: BrokerInThread,
    development_url: str,
    small_messages: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add(migrated_url, "acme/a", "acme/wide", "other/a")
    add(migrated_url, "acme/wide", title="x" * LIMIT)
    add(migrated_url, "acme/a", "acme/wide", "other/wide", "other/a", "acme/wide")
    async with subscribed(development_url) as subscriber:
        async with relaying(migrated_url, development_url):
            await eventually_async(lambda: position(migrated_url) == 9)
            assert held(migrated_url) == {"acme/task-wide": (4, 3)}
            await eventually_async(lambda: len(positions(subscriber)) == 6)
            assert positions(subscriber) == [1, 2, 3, 5, 7, 8]
            add(migrated_url, "acme/wide", "other/a")
            await eventually_async(lambda: positions(subscriber) == [1, 2, 3, 5, 7, 8, 11])
        monkeypatch.setattr(development_broker.server, "max_message_size", 2 * LIMIT)
        # After a restart what waited is published, in its order.
        async with relaying(migrated_url, development_url):
            await eventually_async(lambda: held(migrated_url) == {})
            await eventually_async(lambda: len(positions(subscriber)) == 11)
        assert positions(subscriber)[-4:] == [4, 6, 9, 10]


def _refuse(monkeypatch: pytest.MonkeyPatch, wanted: str, **properties: Any) -> None:
    """Give the events of a task properties, as when something made them, by which the broker refuses them."""
    publication = relay.publication

    def changed(row: LogRow) -> writer.Publication:
        exchange, key, body, header = publication(row)
        if row.stream == wanted:
            header = writer.content_header(Basic.Properties(message_id=str(row.position), **properties), len(body))
        return exchange, key, body, header

    monkeypatch.setattr(relay, "publication", changed)


@pytest.mark.parametrize("batch", [500, 1])
async def test_what_either_broker_refuses_for_itself_is_held_back(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    _refuse(monkeypatch, "acme/task-bad", user_id="somebody-else")
    add(migrated_url, *(f"acme/a{number}" for number in range(10)), "acme/bad", "other/bad", "acme/bad", "acme/a1")
    async with subscribed(amqp_url) as subscriber, relaying(migrated_url, amqp_url, follower_batch=batch):
        await eventually_async(lambda: position(migrated_url) == 14)
        assert held(migrated_url) == {"acme/task-bad": (11, 2)}
        (line,) = [line for line in standing.status(migrated_url) if line.name == "relay"]
        assert line.held[0].error.startswith("MessageRefused: ")
        assert "user_id" in line.held[0].error
        await eventually_async(lambda: positions(subscriber) == [*range(1, 11), 12, 14])
        monkeypatch.undo()
        standing.retry(migrated_url)
        await eventually_async(lambda: positions(subscriber) == [*range(1, 11), 12, 14, 11, 13])
        await eventually_async(lambda: held(migrated_url) == {})


async def test_a_message_that_the_broker_nacks_is_held_back(
    migrated_url: str, development_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a queue that is full and refuses what is published to it makes the broker do."""
    full = {"acme"}
    publish, refused = development.Channel.publish, set[tuple[Any, int]]()

    def refusing(self: Any, frame: Any, message: Any) -> None:
        publish(self, frame, message)
        if str(message.key).partition(".")[0] in full:
            refused.add((self, self.published))

    def confirm(self: Any) -> None:
        for tag in range(self._confirmed + 1, self.published + 1):
            self.send(Basic.Nack(tag, requeue=False) if (self, tag) in refused else Basic.Ack(tag))
        self._confirmed = self.published

    monkeypatch.setattr(development.Channel, "publish", refusing)
    monkeypatch.setattr(development.Channel, "confirm", confirm)
    add(migrated_url, "other/a", "acme/a", "other/b", "acme/b", "acme/a", "other/a")
    async with relaying(migrated_url, development_url):
        await eventually_async(lambda: position(migrated_url) == 6)
        assert held(migrated_url) == {"acme/task-a": (2, 2), "acme/task-b": (4, 1)}
        full.clear()
        standing.retry(migrated_url)
        await eventually_async(lambda: held(migrated_url) == {})


@asynccontextmanager
async def publishing(amqp_url: str) -> AsyncIterator[Publisher]:
    publisher = Publisher(amqp_url, "test")
    await publisher.start()
    try:
        yield publisher
    finally:
        await publisher.close()


def event(user_id: str | None = None) -> writer.Publication:
    return EVENT_EXCHANGE, "acme.task.created", b"{}", writer.content_header(Basic.Properties(user_id=user_id), 2)


async def test_a_publisher_tells_a_refusal_from_an_outage_and_goes_on_after_both(amqp_url: str) -> None:
    with broker_proxy(amqp_url) as (proxy, through):
        async with publishing(through) as publisher:
            for _ in range(2):
                await asyncio.to_thread(publisher.publish, [event()])
                with pytest.raises(MessageRefused):
                    await asyncio.to_thread(publisher.publish, [event(), event("nobody"), event()])
            proxy.forget_after = b"acme.task.created"
            with pytest.raises(OutsideUnavailable):
                await asyncio.to_thread(publisher.publish, [event()])
            proxy.forget_after = None

            async def published() -> bool:
                try:
                    await asyncio.to_thread(publisher.publish, [event()])
                except OutsideUnavailable:
                    return False
                return True

            await eventually_async(published)


async def test_what_is_to_be_done_meanwhile_is_done_until_the_confirms_are_there(amqp_url: str) -> None:
    with broker_proxy(amqp_url) as (proxy, through):
        async with publishing(through) as publisher:
            await asyncio.to_thread(publisher.publish, [event()])
            proxy.silence()
            called = []

            def meanwhile() -> None:
                called.append(None)
                if len(called) == 2:
                    raise LookupError

            # What it raises ends the wait.
            with pytest.raises(LookupError):
                await asyncio.to_thread(publisher.publish, [event()], meanwhile)


async def test_an_exchange_that_is_not_there_is_an_outage(amqp_url: str) -> None:
    async with publishing(amqp_url) as publisher:
        nowhere = ("foldwork.nowhere", *event()[1:])
        with pytest.raises(OutsideUnavailable):
            await asyncio.to_thread(publisher.publish, [nowhere])


async def test_a_message_that_cannot_be_written_leaves_the_others_of_a_publisher_alone(amqp_url: str) -> None:
    """Were it counted as published, each confirm after it would be taken for another's."""
    async with publishing(amqp_url) as publisher:
        await asyncio.to_thread(publisher.publish, [event()])
        for _ in range(2):
            with pytest.raises(TypeError, match="255 bytes"):
                await asyncio.to_thread(publisher.publish, [event(), (EVENT_EXCHANGE, "k" * 300, b"{}", event()[3])])
            await asyncio.to_thread(publisher.publish, [event(), event()])


def _due(conn: psycopg.Connection[Any], *tasks: str) -> None:
    for task in tasks:
        tenant, _, task_id = task.partition("/")
        conn.execute(
            "INSERT INTO deadlines_v1 (tenant, task_id, kind, due, due_at, position, todo, wake_at)"
            " VALUES (%s, %s, 'overdue', '2025-10-31T08:55:00Z', '2025-10-31', 1, 'send', '2025-10-31')",
            (tenant, task_id),
        )


async def test_a_deadline_whose_command_the_broker_refuses_keeps_no_other_from_being_sent(
    migrated_url: str, amqp_url: str
) -> None:
    await declare(amqp_url)
    sent: list[str] = []
    async with publishing(amqp_url) as publisher:
        send, publisher_user = command_sender(publisher), publisher.user

        def sending(commands: Sequence[Outgoing]) -> None:
            publisher.user = "nobody" if any(b'"bad"' in command.body for command in commands) else publisher_user
            send(commands)
            sent.extend(f"{command.tenant}/{json.loads(command.body)['id']}" for command in commands)

        with psycopg.connect(migrated_url, autocommit=True) as conn:
            _due(conn, "acme/a", "acme/bad", "acme/c", "other/a", "other/bad", "zed/a")
            runner = Scheduler(sending)
            await asyncio.to_thread(runner.turn, conn)
            assert sorted(sent) == ["acme/a", "acme/c", "other/a", "zed/a"]
            _due(conn, "acme/d")
            await asyncio.to_thread(runner.turn, conn)
            assert sent[4:] == ["acme/d"]
            waits = conn.execute(
                "SELECT DISTINCT task_id = 'bad', sends, extract(epoch FROM wake_at - now()) > %s FROM deadlines",
                (LONGEST_RESEND - 600,),
            ).fetchall()
            assert sorted(waits) == [(False, 1, False), (True, 1, True)]


def test_a_deadline_of_which_no_command_can_be_made_keeps_no_other_from_being_sent(
    migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, sent = scheduler.command_for, list[str]()

    def failing(row: scheduler.DueRow) -> Outgoing:
        if row.task_id == "bad":
            raise KeyError("no such thing")
        return make(row)

    monkeypatch.setattr(scheduler, "command_for", failing)
    with psycopg.connect(migrated_url, autocommit=True) as conn:
        _due(conn, "acme/a", "acme/bad", "acme/c")
        Scheduler(lambda commands: sent.extend(json.loads(each.body)["id"] for each in commands)).turn(conn)
    assert sorted(sent) == ["a", "c"]


def test_the_relay_holds_back_by_stream(migrated_url: str) -> None:
    role: Any = make_role("relay", settings(migrated_url, "amqp://guest:guest@127.0.0.1/"))
    (follower,) = role.make()
    with psycopg.connect(migrated_url) as conn:
        row = LogRow(1, "acme/task-t1", 1, "task.created", b'{"data":{"activity_id":"a"}}', AT)
        assert follower.held.entity_of(conn, row) == "acme/task-t1"
