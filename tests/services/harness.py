"""Shared by the tests of the services: a worker, a sender of commands, and queries on what they leave."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

import aio_pika
import aiormq
import psycopg
from pamqp.commands import Basic
from pydantic import SecretStr

from services.broker import names, topology
from services.commands import wire
from services.commands.consumer import CommandConsumer
from services.commands.wire import Reply
from services.settings import Settings
from tests.eventually import PATIENCE, eventually_async

TENANT = "acme"


def settings(database_url: str, amqp_url: str, **given: Any) -> Settings:
    """Return settings that owe nothing to the environment."""
    return Settings(database_url=SecretStr(database_url), amqp_url=SecretStr(amqp_url), **given)


@asynccontextmanager
async def working(database_url: str, amqp_url: str, **given: Any) -> AsyncIterator[CommandConsumer]:
    """Give a worker that takes commands, and stop it at the end as SIGTERM does."""
    consumer = CommandConsumer(settings(database_url, amqp_url, **given))
    task = asyncio.create_task(consumer.run())
    try:
        await eventually_async(lambda: task.done() or not consumer.unready)
        assert not task.done(), task.exception()
        yield consumer
    finally:
        await consumer.stop()
        await asyncio.wait_for(task, PATIENCE)


async def declare(amqp_url: str) -> None:
    """Declare what a worker declares, for commands that are sent before there is one."""
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        await topology.declare(await connection.channel())


class Client:
    """A sender below aio-pika, which sets any property to anything, and a reply queue of its own."""

    def __init__(self, amqp_url: str) -> None:
        self._url = amqp_url
        self.reply_to = ""
        self.replies: dict[str, list[Reply]] = {}

    async def __aenter__(self) -> Self:
        self._connection = await aiormq.connect(self._url)
        self._channel = await self._connection.channel(publisher_confirms=True)
        listening = await self._connection.channel()
        declared = await listening.queue_declare(exclusive=True)
        self.reply_to = declared.queue or ""
        await listening.basic_consume(self.reply_to, self._answered, no_ack=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(Exception):
            await self._connection.close()

    async def _answered(self, message: Any) -> None:
        key = message.header.properties.correlation_id
        self.replies.setdefault(key, []).append(wire.decode_reply(message.body))

    async def publish(self, body: bytes, exchange: str = names.COMMAND_EXCHANGE, **properties: Any) -> None:
        """Publish bytes with just these properties, and wait for the confirm."""
        await self._channel.basic_publish(
            body, exchange=exchange, routing_key="k", properties=Basic.Properties(delivery_mode=2, **properties)
        )

    async def send(self, name: str, data: Any, command_id: str | None = None, **headers: Any) -> str:
        """Send a command as one should, and return its id, under which the answer is found."""
        command_id = command_id or uuid.uuid4().hex
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        properties = {"reply_to": self.reply_to, "message_type": name, "message_id": command_id}
        properties |= {"correlation_id": command_id, **headers.pop("properties", {})}
        given = {"tenant": TENANT} | {key.replace("_", "-"): value for key, value in headers.items()}
        await self.publish(body, headers=given, **properties)
        return command_id

    async def send_all(self, commands: list[tuple[str, Any]]) -> list[str]:
        """Send many commands, in order, and return their ids."""
        return list(await asyncio.gather(*(self.send(name, data) for name, data in commands)))

    async def ask(self, name: str, data: Any, command_id: str | None = None, **headers: Any) -> Reply:
        """Send a command and return the next answer under its id."""
        command_id = command_id or uuid.uuid4().hex
        before = len(self.replies.get(command_id, ()))
        await self.send(name, data, command_id, **headers)
        return await self.answer(command_id, before)

    async def answer(self, key: str, before: int = 0, timeout: float = PATIENCE) -> Reply:
        """Return an answer, when it is there."""
        return (
            await eventually_async(lambda: self.replies.get(key, ())[before : before + 1], timeout)
            and (self.replies[key][before])
        )

    async def answers(self, keys: list[str], timeout: float = PATIENCE) -> list[Reply]:
        """Return the first answer to each, when all are there."""
        await eventually_async(lambda: all(key in self.replies for key in keys), timeout)
        return [self.replies[key][0] for key in keys]


async def dead_letters(amqp_url: str, most: int = 1000, queue: str = names.DEAD_QUEUE) -> list[Any]:
    """Take all dead letters that lie there."""
    connection = await aiormq.connect(amqp_url)
    try:
        channel = await connection.channel()
        found = []
        while len(found) < most:
            message = await channel.basic_get(queue, no_ack=True)
            if isinstance(message.delivery, Basic.GetEmpty):
                break
            found.append(message)
        return found
    finally:
        await connection.close()


async def waiting(amqp_url: str, queue: str = names.COMMAND_QUEUE) -> int:
    """Return how many messages of a queue wait for a consumer."""
    connection = await aiormq.connect(amqp_url)
    try:
        declared = await (await connection.channel()).queue_declare(queue, passive=True)
        return int(declared.message_count or 0)
    finally:
        await connection.close()


def rows(database_url: str, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Return the rows of a query."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        return conn.execute(query, parameters or None).fetchall()  # type: ignore[call-overload]


def stored(database_url: str) -> list[tuple[str, int, str]]:
    """Return (stream, version, name) of the whole log, having checked that no position and no version is missing."""
    found = rows(
        database_url,
        "SELECT notification_id, originator_id, originator_version, topic FROM stored_events ORDER BY 1",
    )
    assert [row[0] for row in found] == list(range(1, len(found) + 1))
    versions: dict[str, int] = {}
    for _, stream, version, _ in found:
        versions[stream] = versions.get(stream, 0) + 1
        assert version == versions[stream], f"{stream} has no version {versions[stream]}"
    return [row[1:] for row in found]


def created(database_url: str) -> list[str]:
    """Return the ids of all tasks of the log, in order; one that was created twice stands there twice."""
    found = [stream for stream, _, name in stored(database_url) if name == "task.created"]
    return [stream.partition("/task-")[2] for stream in found]
