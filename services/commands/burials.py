"""Makes dead letters in the background, many by one write, so that no good command waits for them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog

from services import metrics
from services.broker.outbox import Outbox
from services.commands.buffer import Delivery
from services.commands.wire import InvalidMessage, Reply

# The most dead letters in one write, in number and in bytes.
_MOST, _MOST_BYTES = 500, 4 << 20
# Before letters that the broker did not confirm are published again, doubled each time, up to the longest.
BURY_PAUSE, LONGEST_PAUSE = 0.5, 10.0


class Burials:
    """Messages that are no commands, until the broker has confirmed their dead letters; `buried` is called then.

    They are not acknowledged before. What waits here counts towards the bytes in memory; `dropped` releases those whose
    channel was closed, since the broker delivers them again.
    """

    def __init__(
        self,
        outbox: Outbox,
        buried: Callable[[Sequence[Delivery]], Awaitable[None]],
        dropped: Callable[[Sequence[Delivery]], None],
    ) -> None:
        self._outbox = outbox
        self._buried = buried
        self._dropped = dropped
        self._waiting: deque[tuple[Delivery, InvalidMessage]] = deque()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._log = structlog.get_logger("commands")

    def put(self, delivery: Delivery, reason: InvalidMessage) -> None:
        """Let a dead letter be made of a delivery."""
        self._waiting.append((delivery, reason))
        self._idle.clear()
        self._arrived.set()

    async def finish(self, seconds: float) -> None:
        """Wait until all letters are confirmed, but no longer than this."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            self._log.warning(
                "dead letters not confirmed, the messages will be redelivered", letters=len(self._waiting)
            )

    async def run(self) -> None:
        """Publish what comes, until cancelled."""
        pause = BURY_PAUSE
        while True:
            await self._arrived.wait()
            wave = self._wave()
            if not wave:
                self._arrived.clear()
                self._idle.set()
            elif await self._publish(wave):
                pause = BURY_PAUSE
            else:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _wave(self) -> list[tuple[Delivery, InvalidMessage]]:
        """Take the next letters, and drop those whose channel is closed."""
        wave: list[tuple[Delivery, InvalidMessage]] = []
        dropped, size = [], 0
        while self._waiting and len(wave) < _MOST and size < _MOST_BYTES:
            delivery, reason = self._waiting.popleft()
            if delivery.channel.is_closed:
                dropped.append(delivery)
            else:
                wave.append((delivery, reason))
                size += delivery.weight
        self._dropped(dropped)
        return wave

    async def _publish(self, wave: Sequence[tuple[Delivery, InvalidMessage]]) -> bool:
        """Publish letters, and tell whether the broker has taken any; the others wait again, behind those that came."""
        if self._outbox.blocked is not None:
            # Each connection is blocked, and free again, at a moment of its own: the answers would not be sent.
            self._waiting.extendleft(reversed(wave))
            return False
        # A dry run is answered, and leaves nothing else.
        letters = [(delivery.message, reason) for delivery, reason in wave if not delivery.dry_run]
        confirmed = iter(await self._outbox.bury(letters) if letters else ())
        done = [delivery.dry_run or next(confirmed) for delivery, _ in wave]
        buried = [letter for letter, fine in zip(wave, done, strict=True) if fine]
        self._waiting.extend(letter for letter, fine in zip(wave, done, strict=True) if not fine)
        for delivery, reason in buried:
            self._note(delivery, reason)
        if buried:
            await self._answer(buried)
            await self._buried([delivery for delivery, _ in buried])
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

    async def _answer(self, buried: Sequence[tuple[Delivery, InvalidMessage]]) -> None:
        channel = buried[0][0].channel
        replies = [
            (properties, Reply(str(properties.message_id or ""), "rejected", error=reason.refusal, dry_run=dry_run))
            for properties, reason, dry_run in (
                (delivery.message.properties, reason, delivery.dry_run or msgspec.UNSET) for delivery, reason in buried
            )
            if properties.reply_to
        ]
        if replies:
            await self._outbox.answer(replies, lambda: not channel.is_closed)
