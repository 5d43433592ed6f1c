"""Processes a batch: commands are decided and recorded, other messages become dead letters, and all are answered."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from domain import DECIDER_OF_COMMAND
from domain.streams import stream_of
from services import metrics
from services.broker.outbox import Outbox
from services.commands.buffer import Delivery
from services.commands.outcome import Outcome
from services.commands.store_thread import StoreThread
from services.commands.wire import Incoming, InvalidMessage, Reply
from services.crash import AFTER_COMMIT
from services.store.unavailable import SessionLost, StatementFailed, StoreUnavailable

# A message that could not be dead-lettered is requeued after a pause in which the broker may recover.
BURY_PAUSE = 0.5
# Before a batch whose connection was lost runs again on another one.
LOST_PAUSE = 0.5


class Settler:
    """Processes batches with one store and one outbox; raises the store's errors only, whatever the messages are."""

    def __init__(self, store: StoreThread, outbox: Outbox, poison_attempts: int, reach: Callable[[str], None]) -> None:
        self._store = store
        self._outbox = outbox
        self._poison_attempts = poison_attempts
        self._reach = reach
        self._log = structlog.get_logger("commands")
        # True while commands wait for the database, not while dead letters wait for the broker.
        self.deciding = False

    async def settle(self, batch: Sequence[Delivery]) -> set[int]:
        """Decide, record and answer, and return the tags to acknowledge."""
        bad = [each for each in batch if isinstance(each.command, InvalidMessage) and not each.buried]
        # The rest is decided meanwhile, without waiting for the broker's confirms.
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
        for outcome, count in Counter(reply.outcome for _, reply in answered).items():
            metrics.COMMANDS.labels(outcome).inc(count)
        return {delivery.tag for delivery, _ in answered}

    async def _run(self, deliveries: Sequence[Delivery], attempted: bool = False) -> None:
        """Decide and record, and set each delivery's reply; a command that fails gets none."""
        rest = deliveries
        while rest:
            outcomes = await self._together(rest, attempted)
            if outcomes is None:
                half = len(rest) // 2
                await self._run(rest[:half], attempted)
                rest = rest[half:]
                continue
            for delivery, outcome in zip(rest, outcomes, strict=False):
                # The rest of the outcome, mainly its events, is released.
                delivery.reply = outcome.reply
                if outcome.failure is not None:
                    self._log.error("command failed", exc_info=outcome.failure, **_context(outcome.incoming))
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
                self._log.exception("batch failed, trying its halves", commands=len(commands))
                return None
            self._log.exception("command failed", **_context(commands[0]))
            return [Outcome(commands[0], failure=RuntimeError("not recorded"), recorded=False)]

    async def _record(self, commands: list[Incoming], attempted: bool) -> list[Outcome]:
        """Run a batch; if it loses its connection twice while the database answers, it counts as too large."""
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
        """Run a redelivered command alone and count the attempt; after too many, make it a dead letter."""
        if delivery.attempts is None:
            # Once per delivery: an outage of the database must not count against the command.
            delivery.attempts = await self._store.count_attempt(command)
        if delivery.attempts < self._poison_attempts:
            await self._run([delivery], attempted=True)
            return
        self.deciding = False
        if not delivery.buried:
            poison = InvalidMessage("poison", f"its worker failed or died {delivery.attempts} times while deciding it")
            await self._bury([delivery], poison)
        if delivery.buried:
            await self._store.forget_attempts(command)

    async def _answer(self, answered: Sequence[tuple[Delivery, Reply]]) -> None:
        replies = [(each.message.properties, reply) for each, reply in answered if each.message.properties.reply_to]
        if replies:
            channel = answered[0][0].channel
            await self._outbox.answer(replies, lambda: not channel.is_closed)

    async def _bury(self, deliveries: Sequence[Delivery], reason: InvalidMessage | None = None) -> None:
        """Publish dead letters and mark those that the broker confirmed; only they are acknowledged."""
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
