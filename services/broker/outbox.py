"""Publishes answers and dead letters, over connections of their own: the consumer's is not read while it is full."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeGuard

import structlog
import uuid_utils
from aio_pika.abc import AbstractRobustChannel, AbstractRobustConnection
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic

from services.broker import names, topology
from services.broker.connection import connect_robust, temporary_channel
from services.broker.dead_letters import Dead, DeadLetters
from services.broker.direct_replies import DirectReplies
from services.broker.frames.properties import Properties
from services.commands import wire
from services.commands.wire import Reply

# How long a batch waits for the answers' channel, and how long sending one answer may take.
_CHANNEL_SECONDS, _ANSWER_SECONDS = 1.0, 1.0
_DECLARE_SECONDS = 10.0
_MAX_LOGGED = 1000


class Outbox:
    """What the commands role publishes. No message can make it raise, so none can end the consumer."""

    def __init__(self, amqp_url: str) -> None:
        self._url = amqp_url
        self.connections: list[AbstractRobustConnection] = []
        self._answers: AbstractRobustChannel | None = None
        # A batch has waited for the channel without success; the next ones do not wait until it is back.
        self._waited = False
        self.direct = DirectReplies(amqp_url)
        self._letters: DeadLetters | None = None
        # Reply queues that are not allowed, and were logged.
        self._logged: set[str] = set()
        self._log = structlog.get_logger("commands")

    async def open(self) -> None:
        """Connect; from then on the connections reconnect by themselves."""
        letters, answers = await self._connect("dead-letters"), await self._connect("answers")
        self._letters = DeadLetters(letters)
        await self._letters.open()
        answers.close_callbacks.add(lambda *_: self.direct.forget())
        channel: Any = await answers.channel(publisher_confirms=False)
        self._answers = channel

    async def _connect(self, name: str) -> AbstractRobustConnection:
        connection = await connect_robust(self._url, f"commands-{name}")
        self.connections.append(connection)
        return connection

    async def declare(self) -> None:
        """Declare the topology; may be repeated."""
        if not self.connections:
            raise ConnectionError("the connection is not open")
        async with asyncio.timeout(_DECLARE_SECONDS), temporary_channel(self.connections[0]) as channel:
            await topology.declare(channel)

    async def close(self) -> None:
        connections, self.connections, self._answers, self._letters = self.connections, [], None, None
        await self.direct.close()
        for connection in connections:
            with suppress(Exception):
                await connection.close()

    async def bury(self, dead: Sequence[Dead]) -> list[bool]:
        """Publish dead letters, and return which of them the broker confirmed; only those messages are acknowledged."""
        return [False] * len(dead) if self._letters is None else await self._letters.bury(dead)

    async def answer(self, replies: Sequence[tuple[Properties, Reply]], still: Callable[[], bool]) -> None:
        """Send answers to the reply queues; an answer that cannot be delivered is dropped.

        `still` tells whether to go on waiting for a channel; commands that are redelivered are answered then. The first
        answer to a direct-reply name is sent separately.
        """
        wanted = []
        for properties, reply in replies:
            queue = properties.reply_to
            if not self._may_go(queue, properties.user_id):
                continue
            if not names.is_direct(queue) or self.direct.known(queue):
                wanted.append((properties, reply))
            elif not self.direct.refused(queue):
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
                # Some writes to a lost connection never return.
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await self._send(channel, properties, reply)
        except Exception as error:
            self._log.info("answers not sent", error=repr(error))

    def _put(self, queue: str, properties: Properties, reply: Reply) -> None:
        try:
            self.direct.put((queue, *_encoded(properties, reply)))
        except Exception as error:
            self._log.debug("answer not sent", command=reply.command_id, error=repr(error))

    async def _send(self, channel: Any, properties: Properties, reply: Reply) -> None:
        try:
            body, basic = _encoded(properties, reply)
            await channel.basic_publish(body, routing_key=properties.reply_to, properties=basic, wait=False)
        except Exception as error:
            self._log.debug("answer not sent", command=reply.command_id, error=repr(error))

    def _may_go(self, queue: str | None, user: str | None) -> TypeGuard[str]:
        if queue is None:
            return False
        if names.may_reply_to(queue, user):
            return True
        if queue not in self._logged:
            if len(self._logged) >= _MAX_LOGGED:
                self._logged.clear()
            self._logged.add(queue)
            self._log.warning("answers to this user are not sent to this queue", reply_to=queue[:255], user=user)
        return False

    async def _channel(self, still: Callable[[], bool]) -> AbstractChannel | None:
        """Return the channel under the robust one once it is open, which takes a moment after a reconnect."""
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


def _encoded(properties: Properties, reply: Reply) -> tuple[bytes, Basic.Properties]:
    basic = Basic.Properties(
        content_type="application/json",
        correlation_id=properties.correlation_id,
        message_id=str(uuid_utils.uuid7()),
        message_type="reply",
    )
    return wire.encode_reply(reply), basic
