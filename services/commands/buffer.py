"""Deliveries that were received and wait for the next batch, in a bounded amount of memory, in turn between tenants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from services.broker.connection import Channel
from services.broker.frames.reader import Message
from services.broker.names import short
from services.commands import wire
from services.commands.turns import Turns
from services.commands.wire import Incoming, InvalidMessage, Reply
from services.settings import Settings
from services.store.append import CommandKey
from services.store.dead_letters import UNORDERED, stored_text

# What a delivery takes in memory beside its body and its properties, in bytes.
OVERHEAD = 1024
# The commands of a batch end with the one that fills this many bytes.
MAX_BATCH_BYTES = 8 << 20
# A batch that takes longer makes the next one smaller, down to the least: what arrives meanwhile waits for it.
BATCH_SECONDS, LEAST_BATCH = 0.25, 25
# So many commands are parsed ahead without a pause.
_PARSED_AT_ONCE = 25


@dataclass(slots=True, eq=False)
class Delivery:
    """A message; `command` is the command, or why the message is malformed, once it was parsed.

    `attempts`, `counted`, `failed` and `reply` keep what was done already, for a batch that runs again after an outage.
    `attempts` are the earlier ones at a redelivered command, and `counted` says that this one is counted as well.
    """

    channel: Channel
    message: Message
    tenant: str = ""
    command: Incoming | InvalidMessage | None = None
    attempts: int | None = None
    counted: bool = False
    failed: bool = False
    reply: Reply | None = None

    @property
    def tag(self) -> int:
        """Return the delivery tag, valid on this delivery's channel only."""
        return self.message.delivery_tag

    @property
    def redelivered(self) -> bool:
        """Tell whether it was delivered before, and not acknowledged."""
        return self.message.redelivered

    @property
    def dry_run(self) -> bool:
        """Tell whether it is only to be tried."""
        return wire.is_dry_run(self.message.properties.message_type)

    @property
    def ordered(self) -> bool:
        """Tell whether it must not overtake an earlier command of its routing key."""
        return (self.message.properties.headers or {}).get("ordered") is True

    @property
    def order(self) -> tuple[str, str] | None:
        """Return the tenant and the routing key within which it has its place; None if it has none."""
        key = stored_text(short(self.message.routing_key))
        return (self.tenant, key) if self.tenant and key not in UNORDERED else None

    @property
    def weight(self) -> int:
        """Return the bytes that it takes in memory."""
        return self.message.held + OVERHEAD

    @property
    def key(self) -> CommandKey:
        """Return the tenant and the id of a command."""
        return self.tenant, self.message.properties.message_id or ""


class Buffer:
    """Deliveries in order of arrival for each tenant, taken a batch at a time.

    What is malformed waits for its turn, too, since ordered commands must know what came before them; `bury` gets at
    once what has no place in any order.

    `held` is the size of all deliveries in memory, including those that are being processed. At `prefetch_bytes` `room`
    is cleared, and nothing more is read from the broker.
    """

    def __init__(self, settings: Settings, bury: Callable[[Delivery, InvalidMessage], None]) -> None:
        self._settings = settings
        self._bury = bury
        self._log = structlog.get_logger("commands")
        self._turns: Turns[Delivery] = Turns()
        self._limit = settings.batch_size
        self.held = 0
        self.room = asyncio.Event()
        self.room.set()
        self.arrived = asyncio.Event()
        self._closing = self._refusing = False

    def __len__(self) -> int:
        return len(self._turns)

    def add(self, channel: Channel, message: Message) -> None:
        """Add a message; called while frames are read, so it must not raise."""
        delivery = Delivery(channel, message)
        full = self.held + delivery.weight > self._settings.prefetch_bytes
        if full and not self._closing:
            self.room.clear()
        # While closing everything is read, since the broker's answer follows what it has sent, but no more is kept.
        self._refusing = self._refusing or (full and self._closing)
        if self._refusing:
            # Not acknowledged, so the broker requeues it.
            return
        self.held += delivery.weight
        malformed = self._look(delivery)
        if malformed is not None and delivery.order is None:
            self._bury(delivery, malformed)
            return
        delivery.command = malformed
        self._turns.add(delivery)
        self.arrived.set()

    async def take(self) -> list[Delivery]:
        """Return the next batch; its deliveries are given to `done` or `put_back` afterwards, or to `bury`."""
        wait = self._settings.batch_wait_ms / 1000
        if 1 < len(self._turns) < self._limit and wait:
            # Several commands are waiting, so there is load: wait briefly for a fuller batch.
            await asyncio.sleep(wait)
        batch = self._turns.take(self._limit, MAX_BATCH_BYTES)
        # What was redelivered may have killed its worker when it was parsed, so its attempts are counted before.
        for delivery in batch if batch and not batch[0].redelivered else ():
            self.parse(delivery)
        return batch

    def went(self, commands: int, seconds: float) -> None:
        """Note how long a batch took."""
        if seconds > BATCH_SECONDS:
            self._limit = max(min(LEAST_BATCH, self._limit), int(commands * BATCH_SECONDS / seconds))
        else:
            self._limit = min(self._settings.batch_size, 2 * self._limit)

    async def parse_ahead(self) -> None:
        """Parse about the next batch, while the one before is recorded."""
        for number, delivery in enumerate(list(self._turns.first(self._limit))):
            if not delivery.redelivered:
                self.parse(delivery)
            if number % _PARSED_AT_ONCE == 0:
                await asyncio.sleep(0)

    def put_back(self, deliveries: Sequence[Delivery]) -> None:
        """Let deliveries of a batch wait again, before the others of their tenants.

        Those whose channel was closed meanwhile are released: the broker delivers them again, and a batch must not hold
        tags of two channels.
        """
        self.done([each for each in deliveries if each.channel.is_closed])
        self._turns.put_back([each for each in deliveries if not each.channel.is_closed])

    def charge(self, tenant: str, cost: int) -> None:
        """Let a tenant pay for the bytes that its commands recorded."""
        self._turns.charge(tenant, cost)

    def done(self, deliveries: Sequence[Delivery]) -> None:
        """Release deliveries."""
        self.held -= sum(delivery.weight for delivery in deliveries)
        if self.held < self._settings.prefetch_bytes:
            self.room.set()

    def clear(self) -> None:
        """Drop all waiting deliveries."""
        self.done(self._turns.clear())

    def close(self) -> None:
        """Stop accepting deliveries beyond the limit; those are requeued by the broker."""
        self._closing = True
        self.room.set()

    def _look(self, delivery: Delivery) -> InvalidMessage | None:
        """Set the tenant from the envelope, without which none is to wait; return why the message is malformed."""
        message, settings = delivery.message, self._settings
        try:
            properties, size, limit = message.properties, message.size, settings.command_limit
            delivery.tenant = wire.parse_envelope(properties, size, limit, settings.may_send)["tenant"]
        except InvalidMessage as malformed:
            # What somebody sent who may not is no tenant's.
            if malformed.code != "forbidden":
                with suppress(InvalidMessage):
                    delivery.tenant = wire.tenant_of(message.properties)
            return _bare(malformed)
        except Exception as error:
            return self._unreadable(delivery, error)
        return None

    def parse(self, delivery: Delivery) -> Incoming | InvalidMessage:
        """Parse a delivery, unless that was done. Any error makes it a dead letter."""
        if delivery.command is None:
            delivery.command = self._parsed(delivery)
        return delivery.command

    def _parsed(self, delivery: Delivery) -> Incoming | InvalidMessage:
        message, settings = delivery.message, self._settings
        try:
            return wire.parse(
                message.properties,
                message.body,
                settings.command_limit,
                bool(message.redelivered),
                message.size,
                settings.may_send,
                message.routing_key,
            )
        except InvalidMessage as malformed:
            return _bare(malformed)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic in a Rust library is not an `Exception`
            return self._unreadable(delivery, error)

    def _unreadable(self, delivery: Delivery, error: BaseException) -> InvalidMessage:
        self._log.exception("cannot parse a message", command=str(delivery.message.properties.message_id)[:255])
        return InvalidMessage("unreadable", f"reading it failed: {error!r}"[:500])


def _bare(malformed: InvalidMessage) -> InvalidMessage:
    """Return it without the frames and the cause, which hold all that was parsed."""
    malformed.__context__ = malformed.__cause__ = None
    return malformed.with_traceback(None)
