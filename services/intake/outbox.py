"""Answers and dead letters, each over a connection of its own: the consumer's is not read while there is no room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeGuard

import aio_pika
import structlog
import uuid_utils
from aio_pika.abc import AbstractRobustChannel, AbstractRobustConnection
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic

from services import messages
from services.intake import topology
from services.intake.connected import temporary_channel
from services.intake.dead_letters import Dead, DeadLetters
from services.intake.direct_replies import DirectReplies
from services.intake.properties import Properties
from services.messages import Reply

# How long one batch waits for the channel that answers go out on, and how long sending one of them may take.
_CHANNEL_SECONDS, _ANSWER_SECONDS = 1.0, 1.0
_DECLARE_SECONDS = 10.0
_MAX_TOLD = 1000


class Outbox:
    """What the commands role publishes. No message makes anything here raise, so none can end the consumer."""

    def __init__(self, amqp_url: str) -> None:
        self._url = amqp_url
        self._connections: list[AbstractRobustConnection] = []
        self._answers: AbstractRobustChannel | None = None
        # A batch has waited for the channel in vain: the next ones do not, until it is back.
        self._waited = False
        self._direct = DirectReplies(amqp_url)
        self._letters: DeadLetters | None = None
        # Reply queues of which was said that no answer goes there.
        self._told: set[str] = set()
        self._log = structlog.get_logger("commands")

    async def open(self) -> None:
        """Connect; from there on the connections come back by themselves."""
        letters, answers = await self._connect("dead-letters"), await self._connect("answers")
        self._letters = DeadLetters(letters)
        await self._letters.open()
        answers.close_callbacks.add(lambda *_: self._direct.forget())
        channel: Any = await answers.channel(publisher_confirms=False)
        self._answers = channel

    async def _connect(self, name: str) -> AbstractRobustConnection:
        connection = await aio_pika.connect_robust(
            self._url,
            client_properties={"connection_name": f"foldwork-commands-{name}"},
            timeout=10,
            reconnect_interval=1,
        )
        self._connections.append(connection)
        return connection

    async def declare(self) -> None:
        """Declare everything, again too; raises when that cannot be done."""
        if not self._connections:
            raise ConnectionError("the connection is not open")
        async with asyncio.timeout(_DECLARE_SECONDS), temporary_channel(self._connections[0]) as channel:
            await topology.declare(channel)

    async def close(self) -> None:
        """Disconnect."""
        connections, self._connections, self._answers, self._letters = self._connections, [], None, None
        await self._direct.close()
        for connection in connections:
            with suppress(Exception):
                await connection.close()

    async def bury(self, dead: Sequence[Dead]) -> list[bool]:
        """Publish messages as dead letters, and return which of them the broker has; only those are acknowledged."""
        return [False] * len(dead) if self._letters is None else await self._letters.bury(dead)

    async def answer(self, replies: Sequence[tuple[Properties, Reply]], still: Callable[[], bool]) -> None:
        """Send answers to whoever asked for one; one that cannot be delivered is the asker's loss alone.

        `still` tells whether it is worth waiting for a channel; commands that come again are answered then. Of a
        direct-reply name that is new, the answer goes out by itself.
        """
        wanted = []
        for properties, reply in replies:
            queue = properties.reply_to
            if not self._may_go(queue):
                continue
            if not messages.is_direct(queue) or self._direct.known(queue):
                wanted.append((properties, reply))
            elif not self._direct.refused(queue):
                self._put(queue, properties, reply)
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

    def _put(self, queue: str, properties: Properties, reply: Reply) -> None:
        try:
            self._direct.put((queue, *_written(properties, reply)))
        except Exception as error:
            self._log.debug("an answer was not sent", command=reply.command_id, error=repr(error))

    async def _send(self, channel: Any, properties: Properties, reply: Reply) -> None:
        try:
            body, given = _written(properties, reply)
            await channel.basic_publish(body, routing_key=properties.reply_to, properties=given, wait=False)
        except Exception as error:
            self._log.debug("an answer was not sent", command=reply.command_id, error=repr(error))

    def _may_go(self, queue: str | None) -> TypeGuard[str]:
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
                    self._waited = False
                    return channel
            if not still():
                return None
            if self._waited or loop.time() > deadline:
                self._waited = True
                return None
            await asyncio.sleep(0.01)
        return None


def _written(properties: Properties, reply: Reply) -> tuple[bytes, Basic.Properties]:
    given = Basic.Properties(
        content_type="application/json",
        correlation_id=properties.correlation_id,
        message_id=str(uuid_utils.uuid7()),
        message_type="reply",
    )
    return messages.encode_reply(reply), given
