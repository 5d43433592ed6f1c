"""Answers and dead letters, over a connection of their own: the consumer's own is not read while there is no room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import aio_pika
import structlog
import uuid_utils
from aio_pika.abc import AbstractRobustChannel, AbstractRobustConnection
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic

from services import messages
from services.intake import topology
from services.intake.dead_letters import Dead, DeadLetters
from services.intake.frames import Properties
from services.messages import Reply

# How long a batch waits for the channel that its answers go out on, and how long sending one of them may take.
_CHANNEL_SECONDS, _ANSWER_SECONDS = 5.0, 1.0
_DECLARE_SECONDS = 10.0
_MAX_TOLD = 1000


class Outbox:
    """What the commands role publishes. No message makes anything here raise, so none can end the consumer."""

    def __init__(self, amqp_url: str) -> None:
        self._url = amqp_url
        self._connection: AbstractRobustConnection | None = None
        self._answers: AbstractRobustChannel | None = None
        self._letters: DeadLetters | None = None
        # Reply queues of which was said that no answer goes there.
        self._told: set[str] = set()
        self._log = structlog.get_logger("commands")

    async def open(self) -> None:
        """Connect; from there on the connection comes back by itself."""
        connection = await aio_pika.connect_robust(
            self._url,
            client_properties={"connection_name": "foldwork-commands-answers"},
            timeout=10,
            reconnect_interval=1,
        )
        self._connection = connection
        answers: Any = await connection.channel(publisher_confirms=False)
        self._answers = answers
        self._letters = DeadLetters(connection)
        await self._letters.open()

    async def declare(self) -> None:
        """Declare everything, again too; raises when that cannot be done."""
        if self._connection is None:
            raise ConnectionError("the connection is not open")
        async with asyncio.timeout(_DECLARE_SECONDS), self._connection.channel() as channel:
            await topology.declare(channel)

    async def close(self) -> None:
        """Disconnect."""
        connection, self._connection, self._answers, self._letters = self._connection, None, None, None
        if connection is not None:
            with suppress(Exception):
                await connection.close()

    async def bury(self, dead: Sequence[Dead]) -> list[bool]:
        """Publish messages as dead letters, and return which of them the broker has; only those are acknowledged."""
        return [False] * len(dead) if self._letters is None else await self._letters.bury(dead)

    async def answer(self, replies: Sequence[tuple[Properties, Reply]], still: Callable[[], bool]) -> None:
        """Send answers to whoever asked for one; one that cannot be delivered is the asker's loss alone.

        `still` tells whether it is worth waiting for a channel; commands that come again are answered then.
        """
        wanted = [(properties, reply) for properties, reply in replies if self._may_go(properties.reply_to)]
        if not wanted:
            return
        try:
            channel = await self._channel(still)
            if channel is None:
                return
            for properties, reply in wanted:
                if channel.is_closed or not still():
                    return
                # Of a connection that is lost some writes wait for ever.
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await self._send(channel, properties, reply)
        except Exception as error:
            self._log.info("answers were not sent", error=repr(error))

    async def _send(self, channel: Any, properties: Properties, reply: Reply) -> None:
        try:
            body = messages.encode_reply(reply)
            given = Basic.Properties(
                content_type="application/json",
                correlation_id=properties.correlation_id,
                message_id=str(uuid_utils.uuid7()),
                message_type="reply",
            )
            await channel.basic_publish(body, routing_key=properties.reply_to, properties=given, wait=False)
        except Exception as error:
            self._log.debug("an answer was not sent", command=reply.command_id, error=repr(error))

    def _may_go(self, queue: str | None) -> bool:
        if queue is None:
            return False
        if messages.may_reply_to(queue):
            return True
        if queue not in self._told:
            if len(self._told) >= _MAX_TOLD:
                self._told.clear()
            self._told.add(queue)
            allowed = list(messages.REPLY_QUEUES)
            self._log.warning("no answer goes to this queue", reply_to=queue[:255], prefixes_allowed=allowed)
        return False

    async def _channel(self, still: Callable[[], bool]) -> AbstractChannel | None:
        """Return the channel under the robust one, when it is open; after a reconnect that takes a moment."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _CHANNEL_SECONDS
        while self._answers is not None:
            with suppress(Exception):
                async with asyncio.timeout(0.1):
                    await self._answers.ready()
                    channel = await self._answers.get_underlay_channel()
                if not channel.is_closed:
                    return channel
            if not still() or loop.time() > deadline:
                return None
            await asyncio.sleep(0.01)
        return None
