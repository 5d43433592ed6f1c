"""Publishing many messages by one write, and counting their confirms; aiormq's own way is a future for each message."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiormq.abc import ChannelFrame

from services.broker.frames import writer
from services.broker.frames.reader import Frames
from services.broker.frames.writer import Publication

# Codes by which a broker closes a channel, or a connection, over a message: content too large, no consumers,
# precondition failed; frame error and syntax error. Others mean that the broker, or an exchange, is not available.
_REFUSING_CODES = frozenset({311, 313, 406, 501, 502})
_ACCESS_REFUSED = 403


class Returned(Exception):
    """A message reached no queue."""


def _refuses(code: int, text: str) -> bool:
    """Tell whether the broker closed a channel because of a message that was published."""
    # Topic permissions may allow a user some routing keys only.
    return code in _REFUSING_CODES or (code == _ACCESS_REFUSED and "to topic" in text)


class Confirms:
    """Counts the confirms of one channel, a whole write at a time."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self._first = self._last = 0
        self._open: set[int] = set()
        self._refused: set[int] = set()
        self._returned = False
        self._all: asyncio.Future[None] | None = None
        self.refusal: str | None = None

    def expect(self, count: int) -> None:
        """Begin to count the confirms of the next `count` messages."""
        self._first, self._last = self._last + 1, self._last + count
        self._open = set(range(self._first, self._first + count))
        self._refused, self._returned = set(), False
        self._all = self.channel.create_future()

    async def settled(self) -> int:
        """Wait until all are confirmed, and return how many of them the broker refused; raises if the channel ends."""
        if self._all is not None:
            await self._all
        return len(self._refused)

    @property
    def accepted(self) -> list[bool]:
        """Return for each message of the write whether the broker is known to have taken it."""
        lacking = self._open | self._refused
        return [not self._returned and tag not in lacking for tag in range(self._first, self._last + 1)]

    def confirmed(self, tag: int, multiple: bool, accepted: bool) -> None:
        """Note an ack or nack."""
        settled = {each for each in self._open if each <= tag} if multiple else self._open & {tag}
        self._open -= settled
        if not accepted:
            # For example by a full queue that rejects publishes.
            self._refused |= settled
        if self._all is not None and not self._all.done() and not self._open:
            self._all.set_result(None)

    def returned(self, exchange: str) -> None:
        """Note a message that reached no queue; which one it was is not known, and it is confirmed as well."""
        self._returned = True
        if self._all is not None and not self._all.done():
            self._all.set_exception(Returned(f"no queue is bound for messages to {exchange}"))

    def closed(self, code: int, text: str) -> None:
        """Note why the broker closes the channel; aiormq ends the future, in what may be a bare `Exception`."""
        if _refuses(code, text):
            self.refusal = text


class Writes:
    """One write at a time on the publishing channel of a connection, whose frames are taken by `frames`."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._confirms: Confirms | None = None

    async def write(self, channel: Any, publications: Sequence[Publication]) -> Confirms:
        """Write the messages, and return what counts their confirms."""
        number, size = channel.number, channel.max_content_size
        payload = b"".join([writer.frames(number, size, each) for each in publications])
        async with channel.lock:
            if self._confirms is None or self._confirms.channel is not channel:
                # Every new channel counts from 1.
                self._confirms = Confirms(channel)
                self._frames.confirms = {number: self._confirms}
            # Under the lock: a caller that gives up while waiting must not leave the count ahead of the broker's.
            self._confirms.expect(len(publications))
            await channel.write_queue.put(ChannelFrame(payload=payload, should_close=False))
        return self._confirms
