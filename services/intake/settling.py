"""What becomes of a batch: decided and recorded, or put aside as dead letters, and answered."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from domain import DECIDER_OF_COMMAND
from domain.streams import stream_of
from services import metrics
from services.crash import AFTER_COMMIT
from services.intake.buffer import Delivery
from services.intake.outbox import Outbox
from services.intake.outcome import Outcome
from services.intake.store_thread import StoreThread
from services.messages import Incoming, Malformed, Reply
from services.store.unavailable import SessionLost, StatementFailed, StoreUnavailable

# What could not be dead-lettered comes again, after a pause in which the broker may recover.
BURY_PAUSE = 0.5
# Before a batch whose connection was lost is tried again on another one.
LOST_PAUSE = 0.5


class Settler:
    """Settles batches by one store and one outbox; it raises the store's errors only, whatever the messages are."""

    def __init__(self, store: StoreThread, outbox: Outbox, poison_attempts: int, reach: Callable[[str], None]) -> None:
        self._store = store
        self._outbox = outbox
        self._poison_attempts = poison_attempts
        self._reach = reach
        self._log = structlog.get_logger("commands")
        # While commands wait for the database; what waits for the broker does not count.
        self.deciding = False

    async def settle(self, batch: Sequence[Delivery]) -> set[int]:
        """Decide, record and answer, and return the tags that are done with."""
        bad = [each for each in batch if isinstance(each.command, Malformed) and not each.buried]
        # Meanwhile the rest is decided: they need not wait for the broker's confirms.
        burying = asyncio.create_task(self._bury(bad)) if bad else None
        try:
            settled = await self._decide([each for each in batch if isinstance(each.command, Incoming)])
        finally:
            if burying is not None:
                await burying
        return settled | {each.tag for each in batch if each.buried}

    async def _decide(self, good: Sequence[Delivery]) -> set[int]:
        if not good:
            return set()
        self.deciding = True
        first: Any = good[0].command
        if len(good) == 1 and first.redelivered:
            await self._alone(good[0], first)
        else:
            await self._run([each for each in good if each.reply is None])
        self.deciding = False
        self._reach(AFTER_COMMIT)
        answered = [(each, each.reply) for each in good if each.reply]
        await self._answer(answered)
        for said, times in Counter(reply.outcome for _, reply in answered).items():
            metrics.COMMANDS.labels(said).inc(times)
        return {delivery.tag for delivery, _ in answered}

    async def _run(self, deliveries: Sequence[Delivery], attempted: bool = False) -> None:
        """Decide and record, and leave each its reply; one that fails by itself gets none."""
        rest = deliveries
        while rest:
            outcomes = await self._together(rest, attempted)
            if outcomes is None:
                half = len(rest) // 2
                await self._run(rest[:half], attempted)
                rest = rest[half:]
                continue
            for delivery, outcome in zip(rest, outcomes, strict=False):
                # The rest of an outcome, its events above all, is let go of.
                delivery.reply = outcome.reply
                if outcome.failure is not None:
                    self._log.error("a command failed", exc_info=outcome.failure, **_context(outcome.incoming))
            rest = rest[len(outcomes) :]

    async def _together(self, deliveries: Sequence[Delivery], attempted: bool) -> list[Outcome] | None:
        """Return outcomes of the first commands, at least one, or None when several cannot be recorded together."""
        commands: list[Any] = [each.command for each in deliveries]
        try:
            return await self._record(commands, attempted)
        except Exception as error:
            if isinstance(error, StoreUnavailable) and not isinstance(error, StatementFailed):
                raise
            if len(commands) > 1:
                self._log.exception("a batch failed, trying its halves", commands=len(commands))
                return None
            self._log.exception("a command failed", **_context(commands[0]))
            return [Outcome(commands[0], failure=RuntimeError("not recorded"), recorded=False)]

    async def _record(self, commands: list[Incoming], attempted: bool) -> list[Outcome]:
        """Run a batch; one that loses its connection twice, while the database answers, counts as too much at once."""
        try:
            return await self._store.run(commands, attempted)
        except SessionLost as error:
            await self._demand_reached(error)
        await asyncio.sleep(LOST_PAUSE)
        try:
            return await self._store.run(commands, attempted)
        except SessionLost as error:
            await self._demand_reached(error)
            raise StatementFailed(str(error)) from error

    async def _demand_reached(self, error: SessionLost) -> None:
        self.deciding = False
        if not await self._store.reached():
            error.outage = True
            raise error
        self.deciding = True

    async def _alone(self, delivery: Delivery, command: Incoming) -> None:
        """Run a redelivered command by itself, counted first; no reply when it was buried instead."""
        if delivery.attempts is None:
            # Once a delivery: a database that goes away is not the command's doing.
            delivery.attempts = await self._store.count_attempt(command)
        if delivery.attempts < self._poison_attempts:
            await self._run([delivery], attempted=True)
            return
        self.deciding = False
        if not delivery.buried:
            poison = Malformed("poison", f"its worker failed or died {delivery.attempts} times while deciding it")
            await self._bury([delivery], poison)
        if delivery.buried:
            await self._store.forget_attempts(command)

    async def _answer(self, answered: Sequence[tuple[Delivery, Reply]]) -> None:
        replies = [(each.message.properties, reply) for each, reply in answered if each.message.properties.reply_to]
        if replies:
            channel = answered[0][0].channel
            await self._outbox.answer(replies, lambda: not channel.is_closed)

    async def _bury(self, deliveries: Sequence[Delivery], reason: Malformed | None = None) -> None:
        """Publish dead letters; those that the broker has are marked, and only they are acknowledged."""
        dead: list[Any] = [(delivery.message, reason or delivery.command) for delivery in deliveries]
        answered = []
        for delivery, (message, malformed), done in zip(deliveries, dead, await self._outbox.bury(dead), strict=True):
            if not done:
                continue
            delivery.buried = True
            metrics.DEAD_LETTERS.labels(malformed.code).inc()
            properties = message.properties
            self._log.warning(
                "dead letter",
                code=malformed.code,
                detail=malformed.detail,
                pointer=malformed.pointer,
                command=properties.message_id,
                type=properties.message_type,
                tenant=str((properties.headers or {}).get("tenant"))[:63],
            )
            reply = Reply(str(properties.message_id or ""), "rejected", error=malformed.refusal)
            answered.append((delivery, reply))
        await self._answer(answered)
        if len(answered) < len(deliveries):
            await asyncio.sleep(BURY_PAUSE)


def _context(command: Incoming) -> dict[str, Any]:
    try:
        own = next(iter(DECIDER_OF_COMMAND[command.name].reads(command.command)), None)
    except Exception:
        own = None
    return {
        "stream": stream_of(command.tenant, *own) if own is not None else None,
        "command": command.command_id,
        "type": command.name,
        "tenant": command.tenant,
        "correlation": command.correlation_id,
    }
