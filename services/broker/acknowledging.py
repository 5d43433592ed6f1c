"""Acknowledgements in any order: what is settled up to a tag goes as one frame, everything beyond it one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from aiormq.abc import ChannelFrame
from pamqp import frame
from pamqp.commands import Basic

# How long writing may take; a connection that is lost never says that it has written.
_WRITE_SECONDS = 1.0


class Acknowledgements:
    """The delivery tags of one channel, which the broker counts from 1.

    A tag is settled once: the broker closes the channel for one that it does not know, and an acknowledgement of all up
    to a tag names one that is still open.
    """

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        # All tags up to here are settled, and these beyond.
        self._floor = 0
        self._beyond: set[int] = set()
        # Frames go out in the order in which tags were settled.
        self._lock = asyncio.Lock()

    async def settle(self, done: Collection[int], again: Collection[int] = ()) -> None:
        """Acknowledge the tags that are done, and requeue the others."""
        async with self._lock:
            frames = self._frames(done, again)
            if frames and not self.channel.is_closed:
                payload = b"".join(frame.marshal(each, self.channel.number) for each in frames)
                # Written before this returns: closing the connection drops what waits.
                written = asyncio.get_running_loop().create_future()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_WRITE_SECONDS):
                        await self.channel.write_queue.put(ChannelFrame(payload, False, written))
                        await written

    def _frames(self, done: Collection[int], again: Collection[int]) -> list[Basic.Ack | Basic.Reject]:
        self._beyond.update(done, again)
        while self._floor + 1 in self._beyond:
            self._floor += 1
            self._beyond.remove(self._floor)
        # reject, not nack: RabbitMQ 4.3 does not count a nack towards the delivery limit.
        frames: list[Basic.Ack | Basic.Reject] = [Basic.Reject(tag, requeue=True) for tag in sorted(again)]
        together = max((tag for tag in done if tag <= self._floor), default=0)
        if together:
            frames.append(Basic.Ack(together, multiple=True))
        return frames + [Basic.Ack(tag) for tag in sorted(done) if tag > self._floor]
