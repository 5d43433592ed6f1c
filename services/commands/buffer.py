"""Deliveries that were received and wait for the next batch, in a bounded amount of memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from services.broker.connection import Channel
from services.broker.frames.reader import Message
from services.commands import wire
from services.commands.wire import Incoming, InvalidMessage, Reply
from services.settings import Settings


@dataclass(slots=True)
class Delivery:
    """A parsed message; `command` is the command, or why the message is malformed.

    `buried`, `attempts` and `reply` keep what was done already, for a batch that runs again after an outage.
    """

    channel: Channel
    message: Message
    command: Incoming | InvalidMessage
    buried: bool = False
    attempts: int | None = None
    reply: Reply | None = None

    @property
    def tag(self) -> int:
        """Return the delivery tag, valid on this delivery's channel only."""
        return self.message.delivery_tag

    @property
    def decidable(self) -> bool:
        """Tell whether it is a command."""
        return not isinstance(self.command, InvalidMessage)


class Buffer:
    """Deliveries in order of arrival, taken a batch at a time.

    `held` is the size of all bodies and properties in memory, including the batch being processed. At
    `prefetch_bytes` `room` is cleared, and nothing more is read from the broker.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log = structlog.get_logger("commands")
        self._waiting: list[Delivery] = []
        self.held = 0
        self.room = asyncio.Event()
        self.room.set()
        self.arrived = asyncio.Event()
        self._closing = self._refusing = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, channel: Channel, message: Message) -> None:
        """Add a message; called while frames are read, so it must not raise."""
        full = self.held + message.held > self._settings.prefetch_bytes
        if full and not self._closing:
            self.room.clear()
        # While closing everything is read, since the broker's answer follows what it has sent, but no more is kept.
        self._refusing = self._refusing or (full and self._closing)
        if self._refusing:
            # Not acknowledged, so the broker requeues it.
            return
        self.held += message.held
        self._waiting.append(Delivery(channel, message, self._parse(message)))
        if len(self._waiting) == 1:
            self.arrived.set()

    async def take(self) -> list[Delivery]:
        """Return the next batch; call `done` with it afterwards."""
        limit, wait = self._settings.batch_size, self._settings.batch_wait_ms / 1000
        if 1 < len(self._waiting) < limit and wait:
            # Several commands are waiting, so there is load: wait briefly for a fuller batch.
            await asyncio.sleep(wait)
        if not self._waiting:
            return []
        # A redelivered command may have killed its worker, so it runs alone.
        size = next(
            (index for index, each in enumerate(self._waiting[:limit]) if each.message.redelivered and each.decidable),
            limit,
        )
        batch = self._waiting[: max(size, 1)]
        del self._waiting[: len(batch)]
        return batch

    def done(self, batch: Sequence[Delivery]) -> None:
        """Release a batch."""
        self.held -= sum(delivery.message.held for delivery in batch)
        if self.held < self._settings.prefetch_bytes:
            self.room.set()

    def clear(self) -> None:
        """Drop all waiting deliveries."""
        waiting, self._waiting = self._waiting, []
        self.done(waiting)

    def close(self) -> None:
        """Stop accepting deliveries beyond the limit; those are requeued by the broker."""
        self._closing = True
        self.room.set()

    def _parse(self, message: Message) -> Incoming | InvalidMessage:
        """Parse a message. Any error makes it a dead letter."""
        try:
            return wire.parse(
                message.properties,
                message.body,
                self._settings.command_limit,
                bool(message.redelivered),
                message.size,
                self._settings.may_send,
            )
        except InvalidMessage as malformed:
            # The frames and the cause hold all that was parsed.
            malformed.__context__ = malformed.__cause__ = None
            return malformed.with_traceback(None)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic in a Rust library is not an `Exception`
            self._log.exception("cannot parse a message", command=str(message.properties.message_id)[:255])
            return InvalidMessage("unreadable", f"reading it failed: {error!r}"[:500])
