"""What is at hand: deliveries, read as they come, in an amount of memory that is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from aiormq.abc import AbstractChannel

from services import messages
from services.intake.frames import Message
from services.messages import Incoming, Malformed, Reply
from services.settings import Settings


@dataclass(slots=True)
class Delivery:
    """A message as it came, parsed; `command` is what it says, or why it says nothing.

    `buried`, `attempts` and `reply` keep what was done for it already when the database goes away and its batch is
    run again.
    """

    channel: AbstractChannel
    message: Message
    command: Incoming | Malformed
    buried: bool = False
    attempts: int | None = None
    reply: Reply | None = None

    @property
    def tag(self) -> int:
        """Return the delivery tag, good on this delivery's own channel alone."""
        return self.message.delivery_tag

    @property
    def decidable(self) -> bool:
        """Tell whether it is a command."""
        return not isinstance(self.command, Malformed)


class Buffer:
    """Deliveries in the order of their arrival, until they are taken, a batch at a time.

    `held` are the bytes of all bodies and properties at hand, of a batch that is being worked on as well. From the
    prefetch's bytes on `room` is not set, and nothing more is read from the broker.
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

    def add(self, channel: AbstractChannel, message: Message) -> None:
        """Take a message; called while frames are read, so nothing here may raise."""
        full = self.held + message.held > self._settings.prefetch_bytes
        if full and not self._closing:
            self.room.clear()
        # While it closes all is read, for the broker's answer stands behind what it has sent; but no more is kept.
        self._refusing = self._refusing or (full and self._closing)
        if self._refusing:
            # Not acknowledged, so the broker has it back.
            return
        self.held += message.held
        self._waiting.append(Delivery(channel, message, self._parse(message)))
        if len(self._waiting) == 1:
            self.arrived.set()

    async def take(self) -> list[Delivery]:
        """Return the next batch, of which `done` is to be told."""
        limit, wait = self._settings.batch_size, self._settings.batch_wait_ms / 1000
        if 1 < len(self._waiting) < limit and wait:
            # More than one command came at once: there is load, and a fuller batch is worth a moment.
            await asyncio.sleep(wait)
        if not self._waiting:
            return []
        # A redelivered command may be what killed its worker, so it runs alone.
        size = next(
            (index for index, each in enumerate(self._waiting[:limit]) if each.message.redelivered and each.decidable),
            limit,
        )
        batch = self._waiting[: max(size, 1)]
        del self._waiting[: len(batch)]
        return batch

    def done(self, batch: Sequence[Delivery]) -> None:
        """Let go of a batch."""
        self.held -= sum(delivery.message.held for delivery in batch)
        if self.held < self._settings.prefetch_bytes:
            self.room.set()

    def clear(self) -> None:
        """Let go of all that waits."""
        waiting, self._waiting = self._waiting, []
        self.done(waiting)

    def close(self) -> None:
        """Keep no more than there is room for."""
        self._closing = True
        self.room.set()

    def _parse(self, message: Message) -> Incoming | Malformed:
        """Return what a message says. Whatever goes wrong with that, it is the message that is put aside."""
        try:
            return messages.parse(
                message.properties,
                message.body,
                self._settings.command_limit,
                bool(message.redelivered),
                message.size,
                self._settings.may_send,
            )
        except Malformed as malformed:
            # The frames and the cause hold all that was parsed.
            malformed.__context__ = malformed.__cause__ = None
            return malformed.with_traceback(None)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic in a library written in Rust is no `Exception`
            self._log.exception("a message cannot be read", command=str(message.properties.message_id)[:255])
            return Malformed("unreadable", f"reading it failed: {error!r}"[:500])
