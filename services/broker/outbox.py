"""Publishes answers and dead letters, over connections of their own.

The consumer's is not read while it is full, and a broker in an alarm reads nothing from a connection that publishes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeGuard

import structlog
import uuid_utils
from aio_pika.abc import AbstractRobustChannel, AbstractRobustConnection
from aiormq.abc import ChannelFrame
from pamqp.commands import Basic

from services.broker import names, topology
from services.broker.connection import connect_robust, temporary_channel
from services.broker.dead_letters import Dead, DeadLetters
from services.broker.direct_replies import DirectReplies
from services.broker.frames import writer
from services.broker.frames.properties import Properties
from services.broker.frames.reader import Frames
from services.commands import wire
from services.commands.wire import Reply
from services.settings import broker_user

# How long a batch waits for the answers' channel, and how long sending its answers may take.
_CHANNEL_SECONDS, _ANSWER_SECONDS = 1.0, 1.0
_DECLARE_SECONDS, _CLOSE_SECONDS = 10.0, 2.0
_MAX_LOGGED = 1000


class Outbox:
    """What the commands role publishes. No message can make it raise, so none can end the consumer."""

    def __init__(self, amqp_url: str) -> None:
        self._url = amqp_url
        self.connections: list[AbstractRobustConnection] = []
        self._frames = {"dead-letters": Frames(), "answers": Frames()}
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
        self._letters = DeadLetters(letters, self._frames["dead-letters"], broker_user(self._url))
        await self._letters.open()
        answers.close_callbacks.add(lambda *_: self.direct.forget())
        channel: Any = await answers.channel(publisher_confirms=False)
        self._answers = channel

    async def _connect(self, name: str) -> AbstractRobustConnection:
        connection = await connect_robust(self._url, f"commands-{name}", self._frames[name])
        self.connections.append(connection)
        return connection

    @property
    def blocked(self) -> str | None:
        """Return why the broker reads nothing from one of the connections, as it does during an alarm."""
        return next((frames.blocked for frames in self._frames.values() if frames.blocked is not None), None)

    async def declare(self) -> None:
        """Declare the topology; may be repeated."""
        await self.consumers()

    async def consumers(self) -> int:
        """Declare the topology, and return how many consume commands."""
        if not self.connections:
            raise ConnectionError("the connection is not open")
        async with asyncio.timeout(_DECLARE_SECONDS), temporary_channel(self.connections[0]) as channel:
            return await topology.declare(channel)

    async def close(self) -> None:
        connections, self.connections, self._answers, self._letters = self.connections, [], None, None
        await self.direct.close()
        for connection in connections:
            # A broker in an alarm does not answer.
            with suppress(Exception):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await connection.close()

    async def bury(self, dead: Sequence[Dead]) -> list[bool]:
        """Publish dead letters, and return which of them the broker confirmed; only those messages are acknowledged."""
        return [False] * len(dead) if self._letters is None else await self._letters.bury(dead)

    async def answer(self, replies: Sequence[tuple[Properties, Reply]], still: Callable[[], bool]) -> None:
        """Send answers to the reply queues; an answer that cannot be delivered is dropped.

        `still` tells whether to go on waiting for a channel; commands that are redelivered are answered then. The first
        answer to a direct-reply name is sent separately. While the broker blocks the connection nothing is sent: what
        it does not read would stay in memory. Who sends a command again gets its answer from the ledger.
        """
        wanted = []
        for properties, reply in replies:
            queue = properties.reply_to
            if self._frames["answers"].blocked is not None or not self._may_go(queue, properties.user_id):
                continue
            encoded = self._encoded(properties, reply)
            if encoded is None:
                continue
            if not names.is_direct(queue) or self.direct.known(queue):
                wanted.append((queue, *encoded))
            elif not self.direct.refused(queue):
                self.direct.put((queue, *encoded))
        if not wanted:
            return
        try:
            channel = await self._channel(still)
            if channel is None or not still():
                return
            number, size = channel.number, channel.max_content_size
            payload = b"".join(
                writer.frames(number, size, ("", queue, body, writer.content_header(basic, len(body))))
                for queue, body, basic in wanted
            )
            # With a future the next write waits until the broker has taken this one.
            drained = asyncio.get_running_loop().create_future()
            async with asyncio.timeout(_ANSWER_SECONDS):
                await channel.write_queue.put(ChannelFrame(payload, should_close=False, drain_future=drained))
        except Exception as error:
            self._log.info("answers not sent", answers=len(wanted), error=repr(error))

    def _encoded(self, properties: Properties, reply: Reply) -> tuple[bytes, Basic.Properties] | None:
        basic = Basic.Properties(
            content_type="application/json",
            correlation_id=names.short(properties.correlation_id),
            message_id=str(uuid_utils.uuid7()),
            message_type="reply",
        )
        try:
            return wire.encode_reply(reply), basic
        except Exception as error:
            self._log.debug("answer not sent", command=reply.command_id, error=repr(error))
            return None

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

    async def _channel(self, still: Callable[[], bool]) -> Any:
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
