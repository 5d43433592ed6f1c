"""Makes dead letters in the background, many by one write, so that no good command waits for them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import structlog
import uuid_utils

from services import metrics
from services.broker.names import short
from services.broker.outbox import Outbox
from services.commands.buffer import Delivery
from services.commands.order import name_of
from services.commands.wire import PARKED, WAITS, InvalidMessage, Reply
from services.store.dead_letter_order import Burial, Order
from services.store.dead_letters import stored_text
from services.store.unavailable import StoreUnavailable

# The most dead letters in one write, in number and in bytes.
_MOST, _MOST_BYTES = 500, 4 << 20
# Before letters that the broker did not confirm are published again, doubled each time, up to the longest.
BURY_PAUSE, LONGEST_PAUSE = 0.5, 10.0


@dataclass(slots=True, eq=False)
class Pending:
    """A delivery of which a letter is made, and why. Ids of letters are in the order in which these were made."""

    delivery: Delivery
    reason: InvalidMessage
    letter: str = field(default_factory=lambda: str(uuid_utils.uuid7()))

    @property
    def order(self) -> Order | None:
        """Return within which order commands wait for it; nothing waits for a dry run, which leaves no letter."""
        return None if self.delivery.dry_run else self.delivery.order

    @property
    def burial(self) -> Burial | None:
        """Return what is noted while it is on its way to the table, if a command may wait for it."""
        order = self.order
        if order is None:
            return None
        message_id = stored_text(short(self.delivery.message.properties.message_id))
        return Burial(self.letter, *order, message_id, name_of(self.delivery, order))


class Burials:
    """Messages that are no commands, until the broker has confirmed their dead letters; `buried` is called then.

    They are not acknowledged before. If the database is not available to `buried`, it is called again. What waits here
    counts towards the bytes in memory; `dropped` releases those whose channel was closed, since the broker delivers
    them again.
    """

    def __init__(
        self,
        outbox: Outbox,
        buried: Callable[[Sequence[Pending]], Awaitable[None]],
        dropped: Callable[[Sequence[Delivery]], None],
    ) -> None:
        self._outbox = outbox
        self._buried = buried
        self._dropped = dropped
        self._waiting: deque[Pending] = deque()
        self._confirmed: list[Pending] = []
        # All that is not done with, in order.
        self._open: dict[str, Pending] = {}
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._log = structlog.get_logger("commands")

    def put(self, delivery: Delivery, reason: InvalidMessage) -> None:
        """Let a dead letter be made of a delivery."""
        dead = Pending(delivery, reason)
        self._open[dead.letter] = dead
        self._waiting.append(dead)
        self._idle.clear()
        self._arrived.set()

    def ahead(self) -> dict[Order, Delivery]:
        """Return the first of each order whose letter is neither noted nor dropped yet."""
        found: dict[Order, Delivery] = {}
        for dead in self._open.values():
            if (order := dead.order) is not None:
                found.setdefault(order, dead.delivery)
        return found

    async def finish(self, seconds: float) -> None:
        """Wait until all letters are confirmed, but no longer than this."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            self._log.warning("dead letters not confirmed, the messages will be redelivered", letters=len(self._open))

    async def run(self) -> None:
        """Publish what comes, until cancelled."""
        pause = BURY_PAUSE
        while True:
            await self._arrived.wait()
            noted = await self._note_all()
            wave = self._wave()
            if noted and not wave:
                self._arrived.clear()
                self._idle.set()
            elif (not wave or await self._publish(wave)) and noted:
                pause = BURY_PAUSE
            else:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _wave(self) -> list[Pending]:
        """Take the next letters, and drop those whose channel is closed."""
        wave: list[Pending] = []
        dropped, size = [], 0
        while self._waiting and len(wave) < _MOST and size < _MOST_BYTES:
            dead = self._waiting.popleft()
            if dead.delivery.channel.is_closed:
                dropped.append(dead.delivery)
                del self._open[dead.letter]
            else:
                wave.append(dead)
                size += dead.delivery.weight
        self._dropped(dropped)
        return wave

    async def _note_all(self) -> bool:
        """Have confirmed letters noted, and their messages acknowledged; tell whether that was done."""
        if not self._confirmed:
            return True
        try:
            await self._buried(self._confirmed)
        except StoreUnavailable as error:
            self._log.info("dead letters cannot be noted yet", letters=len(self._confirmed), error=str(error))
            return False
        for dead in self._confirmed:
            del self._open[dead.letter]
        self._confirmed = []
        return True

    async def _publish(self, wave: Sequence[Pending]) -> bool:
        """Publish letters, and tell whether the broker has taken any; the others wait again, behind those that came."""
        if self._outbox.blocked is not None:
            # Each connection is blocked, and free again, at a moment of its own: the answers would not be sent.
            self._waiting.extendleft(reversed(wave))
            return False
        # A dry run is answered, and leaves nothing else.
        letters = [(each.delivery.message, each.reason, each.letter) for each in wave if not each.delivery.dry_run]
        confirmed = iter(await self._outbox.bury(letters) if letters else ())
        done = [each.delivery.dry_run or next(confirmed) for each in wave]
        buried = [letter for letter, fine in zip(wave, done, strict=True) if fine]
        self._waiting.extend(letter for letter, fine in zip(wave, done, strict=True) if not fine)
        for dead in buried:
            self._note(dead.delivery, dead.reason)
        if buried:
            await self._answer(buried)
            self._confirmed += buried
            await self._note_all()
        return bool(buried)

    def _note(self, delivery: Delivery, reason: InvalidMessage) -> None:
        properties = delivery.message.properties
        if not delivery.dry_run:
            metrics.DEAD_LETTERS.labels(reason.code).inc()
        self._log.warning(
            "dry run of no command" if delivery.dry_run else "dead letter",
            code=reason.code,
            detail=reason.detail,
            pointer=reason.pointer,
            command=properties.message_id,
            type=properties.message_type,
            tenant=str((properties.headers or {}).get("tenant"))[:63],
            user=properties.user_id,
        )

    async def _answer(self, buried: Sequence[Pending]) -> None:
        channel = buried[0].delivery.channel
        replies = [
            (
                properties := dead.delivery.message.properties,
                Reply(
                    str(properties.message_id or ""),
                    PARKED if dead.reason.code == WAITS else "rejected",
                    error=dead.reason.refusal,
                    dry_run=dead.delivery.dry_run or msgspec.UNSET,
                ),
            )
            for dead in buried
            if dead.delivery.message.properties.reply_to
        ]
        if replies:
            await self._outbox.answer(replies, lambda: not channel.is_closed)
