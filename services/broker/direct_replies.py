"""First answers to direct-reply names, on a connection of their own: RabbitMQ closes a connection on a forged name.

A direct-reply name contains a token of the broker, which only the broker can verify.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from contextlib import suppress
from typing import Any

import structlog
from aiormq.exceptions import AMQPConnectionError, ConnectionClosed
from pamqp.commands import Basic

from services.broker.connection import connect
from services.cancellation import cancel

_MAX_NAMES, _MAX_WAITING = 10_000, 1000
_CONNECT_SECONDS, _CONFIRM_SECONDS = 5.0, 5.0

Answer = tuple[str, bytes, Basic.Properties]


class DirectReplies:
    """Sends the first answer to each name alone, with a confirm; names that the broker accepted are remembered.

    A name for which the broker closes the connection gets no more answers. No batch waits for any of this.
    """

    def __init__(self, amqp_url: str) -> None:
        self._url = amqp_url
        self._known: OrderedDict[str, None] = OrderedDict()
        self._refused: OrderedDict[str, None] = OrderedDict()
        self._waiting: deque[Answer] = deque()
        self._connection: Any = None
        self._channel: Any = None
        self._work: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("commands")

    def known(self, name: str) -> bool:
        """Tell whether the broker has accepted an answer to this name."""
        if name not in self._known:
            return False
        self._known.move_to_end(name)
        return True

    def refused(self, name: str) -> bool:
        """Tell whether the broker has closed a connection because of this name."""
        return name in self._refused

    def forget(self) -> None:
        """Forget all accepted names, as after a lost connection."""
        self._known.clear()

    def put(self, answer: Answer) -> None:
        """Queue an answer; it is dropped if too many wait."""
        if len(self._waiting) >= _MAX_WAITING:
            self._log.info("answer dropped, too many are waiting", reply_to=answer[0])
            return
        self._waiting.append(answer)
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._send_all(), name="direct-replies")

    async def close(self) -> None:
        """Stop sending and disconnect."""
        self._waiting.clear()
        if self._work is not None:
            await cancel(self._work)
            self._work = None
        await self._disconnect()
        self._known.clear()

    async def _send_all(self) -> None:
        while self._waiting:
            answer = self._waiting.popleft()
            name = answer[0]
            if self.refused(name):
                continue
            try:
                if self._channel is None or self._channel.is_closed:
                    await self._connect()
            except Exception as error:
                # Their senders will ask again; without a broker answers would only accumulate.
                self._log.info("answers not sent", answers=len(self._waiting) + 1, error=repr(error))
                self._waiting.clear()
                return
            sent = await self._send(*answer)
            if sent:
                _remember(self._known, name)
                continue
            if self._ended_by_publish():
                _remember(self._refused, name)
                self._log.warning("the broker closed the connection because of this reply queue", reply_to=name)
            await self._disconnect()

    async def _send(self, name: str, body: bytes, properties: Basic.Properties) -> bool:
        # As a task: a publish that is lost with its connection may end as cancelled.
        publish = asyncio.ensure_future(self._channel.basic_publish(body, routing_key=name, properties=properties))
        try:
            done, _ = await asyncio.wait(
                {publish, self._closing}, timeout=_CONFIRM_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            publish.cancel()
        return publish in done and not publish.cancelled() and publish.exception() is None

    @property
    def _closing(self) -> asyncio.Future[Any]:
        closing: asyncio.Future[Any] = self._connection.transport.connection.closing
        return closing

    def _ended_by_publish(self) -> bool:
        """Tell whether the broker closed the connection because of an error, not because it shut down or was lost."""
        closing = self._closing
        error = closing.exception() if closing.done() and not closing.cancelled() else None
        return isinstance(error, AMQPConnectionError) and type(error) not in (AMQPConnectionError, ConnectionClosed)

    async def _connect(self) -> None:
        await self._disconnect()
        self._connection = await connect(self._url, "commands-first-answers", _CONNECT_SECONDS)
        async with asyncio.timeout(_CONNECT_SECONDS):
            self._channel = await self._connection.transport.connection.channel(publisher_confirms=True)

    async def _disconnect(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with suppress(Exception):
                async with asyncio.timeout(1):
                    await connection.close()


def _remember(names: OrderedDict[str, None], name: str) -> None:
    names[name] = None
    names.move_to_end(name)
    if len(names) > _MAX_NAMES:
        names.popitem(last=False)
