"""The queue of dead letters, for the thread that stores them: taken in batches, and acknowledged afterwards."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import structlog

from services.broker import topology
from services.broker.connection import Channel, connect
from services.broker.frames.reader import Message
from services.broker.names import DEAD_QUEUE
from services.broker.subscriber import Subscriber
from services.cancellation import cancel
from services.store.connect import Backoff

# What is received ahead, in number and in bytes, and what a batch has at most.
_PREFETCH, _PREFETCH_BYTES = 500, 8 << 20
MOST, MOST_BYTES = 200, 4 << 20
# Foldwork adds to the headers of a message, and writes what is not UTF-8 as text: at most one frame in all.
_MAX_HEADERS = 128 << 10
_SETTLE_SECONDS, _DECLARE_SECONDS = 10.0, 10.0


class Taken(NamedTuple):
    """A letter, with the channel on which it is acknowledged."""

    channel: Channel
    message: Message


class DeadQueue:
    """Consumes the queue on the loop of `start`, and reconnects by itself. `limit`: bytes of a body that are kept.

    What was not settled when its connection is lost comes again.
    """

    def __init__(self, amqp_url: str, limit: int) -> None:
        self._url = amqp_url
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening: asyncio.Task[None] | None = None
        self._waiting: deque[Taken] = deque()
        self._held = 0
        self._arrived = threading.Condition()
        self._room = asyncio.Event()
        self._room.set()
        self._log = structlog.get_logger("dead-letters")
        self._subscriber = Subscriber(
            amqp_url,
            prefetch=_PREFETCH,
            limit=limit,
            room=self._room,
            received=self._received,
            channel_opened=self._forget,
            declare=self._declare,
            queue=DEAD_QUEUE,
            name="dead-letters",
            max_headers=_MAX_HEADERS,
        )

    async def start(self) -> None:
        """Keep the running loop for the thread's calls, and start to connect in the background."""
        self._loop = asyncio.get_running_loop()
        self._opening = asyncio.create_task(self._open(), name="open-dead-letters")

    async def close(self) -> None:
        """Disconnect; the broker keeps what was not settled."""
        if self._opening is not None:
            await cancel(self._opening)
        await self._subscriber.close()

    @property
    def consuming(self) -> bool:
        """Tell whether the queue is consumed now."""
        return self._subscriber.connected and self._subscriber.consuming

    def take(self, seconds: float) -> list[Taken]:
        """Return the next letters, in order, waiting at most so long for the first one; to be called from a thread."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._waiting, seconds)
            batch: list[Taken] = []
            size = 0
            while self._waiting and len(batch) < MOST and size < MOST_BYTES:
                batch.append(self._waiting.popleft())
                size += batch[-1].message.held
            self._held -= size
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._look_for_room)
        return batch

    def settle(self, batch: Sequence[Taken]) -> None:
        """Acknowledge letters; those of a channel that was lost are delivered again. To be called from a thread."""
        if self._loop is None:
            return
        for channel in {each.channel for each in batch}:
            tags = [each.message.delivery_tag for each in batch if each.channel is channel]
            settling = asyncio.run_coroutine_threadsafe(self._subscriber.settle(channel, tags), self._loop)
            try:
                settling.result(_SETTLE_SECONDS)
            except Exception as error:
                # They come again, and are recognised.
                self._log.info("letters not acknowledged", letters=len(tags), error=repr(error))

    async def _open(self) -> None:
        backoff = Backoff("broker", self._log)
        while True:
            try:
                await self._subscriber.connect()
                await self._subscriber.start()
            except Exception as error:
                backoff.lost(error)
                await self._subscriber.close()
                await asyncio.sleep(backoff.next_wait())
            else:
                backoff.reached()
                return

    async def _declare(self) -> None:
        async with asyncio.timeout(_DECLARE_SECONDS):
            connection = await connect(self._url, "dead-letters-topology")
            try:
                await topology.declare(await connection.channel())
            finally:
                with suppress(Exception):
                    await connection.close()

    def _received(self, channel: Channel, message: Message) -> None:
        with self._arrived:
            self._waiting.append(Taken(channel, message))
            self._held += message.held
            if self._held >= _PREFETCH_BYTES:
                self._room.clear()
            self._arrived.notify()

    def _forget(self) -> None:
        """Drop what came on another channel: it comes again."""
        with self._arrived:
            self._waiting.clear()
            self._held = 0
        self._room.set()

    def _look_for_room(self) -> None:
        with self._arrived:
            if self._held < _PREFETCH_BYTES:
                self._room.set()
