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
from services.messages import Incoming, Malformed, Problem, Reply
from services.store.event_store import StoreUnavailable

# What could not be dead-lettered comes again, after a pause in which the broker may recover.
BURY_PAUSE = 0.5


class Settler:
    """Settles batches by one store and one outbox; it raises the store's errors only, whatever the messages are."""

    def __init__(self, store: StoreThread, outbox: Outbox, poison_attempts: int, reach: Callable[[str], None]) -> None:
        self._store = store
        self._outbox = outbox
        self._poison_attempts = poison_attempts
        self._reach = reach
        self._log = structlog.get_logger("commands")

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
        commands: list[Any] = [delivery.command for delivery in good]
        if not commands:
            return set()
        if len(good) == 1 and commands[0].redelivered:
            outcomes = await self._alone(good[0], commands[0])
        else:
            outcomes = await self._run(commands)
        self._reach(AFTER_COMMIT)
        answered = [(each, outcome.reply) for each, outcome in zip(good, outcomes, strict=False) if outcome.reply]
        await self._answer(answered)
        for said, times in Counter(reply.outcome for _, reply in answered).items():
            metrics.COMMANDS.labels(said).inc(times)
        return {delivery.tag for delivery, _ in answered}

    async def _run(self, commands: list[Incoming], attempted: bool = False) -> list[Outcome]:
        try:
            outcomes = await self._store.run(commands, attempted)
        except StoreUnavailable:
            raise
        except Exception:
            if len(commands) > 1:
                self._log.exception("a batch failed, trying its commands one by one", commands=len(commands))
                return [outcome for command in commands for outcome in await self._run([command])]
            outcomes = [Outcome(commands[0], failure=RuntimeError("not recorded"), recorded=False)]
            self._log.exception("a command failed", **_context(commands[0]))
        for outcome in outcomes:
            if outcome.failure is not None:
                self._log.error("a command failed", exc_info=outcome.failure, **_context(outcome.incoming))
        return outcomes

    async def _alone(self, delivery: Delivery, command: Incoming) -> list[Outcome]:
        """Run a redelivered command by itself, counted first; no outcome when it was buried instead."""
        if delivery.attempts is None:
            # Once a delivery: a database that goes away is not the command's doing.
            delivery.attempts = await self._store.count_attempt(command)
        if delivery.attempts < self._poison_attempts:
            return await self._run([command], attempted=True)
        if not delivery.buried:
            poison = Malformed("poison", f"its worker failed or died {delivery.attempts} times while deciding it")
            await self._bury([delivery], poison)
        if delivery.buried:
            await self._store.forget_attempts(command)
        return []

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
            error = Problem(malformed.code, malformed.detail, malformed.pointer)
            answered.append((delivery, Reply(str(properties.message_id or ""), "rejected", error=error)))
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
