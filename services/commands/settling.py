"""Decides, records and answers a batch; what one transaction does not take is left for a later batch."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import structlog

from domain import DECIDER_OF_COMMAND
from domain.streams import stream_of
from services import metrics
from services.broker.outbox import Outbox
from services.commands.buffer import Delivery
from services.commands.burials import Burials
from services.commands.order import Ahead, waiting
from services.commands.outcome import Outcome, failed, interrupted
from services.commands.store_thread import StoreThread
from services.commands.wire import Incoming, InvalidMessage
from services.crash import AFTER_COMMIT
from services.store.append import CommandKey
from services.store.dead_letter_order import Order
from services.store.unavailable import SessionLost, StatementFailed, StoreUnavailable

# Before a batch whose connection was lost runs again on another one.
LOST_PAUSE = 0.5


@dataclass(slots=True)
class Settled:
    """What became of a batch: what is to be acknowledged, what is to be requeued, and what is left for a later batch.

    What became a dead letter is in none of them.
    """

    done: list[Delivery] = field(default_factory=list)
    again: list[Delivery] = field(default_factory=list)
    left: list[Delivery] = field(default_factory=list)


class Settler:
    """Processes batches with one store and one outbox; raises the store's errors only, whatever the messages are.

    `charge` gets the bytes that a tenant's commands recorded, `burials` what is malformed, poison, or has to wait.
    """

    def __init__(
        self,
        store: StoreThread,
        outbox: Outbox,
        poison_attempts: int,
        reach: Callable[[str], None],
        charge: Callable[[str, int], None],
        burials: Burials,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._poison_attempts = poison_attempts
        self._reach = reach
        self._charge = charge
        self._burials = burials
        # Commands that failed and come again, with their places, for the ordered ones that must not overtake them.
        self.failing: dict[CommandKey, Order] = {}
        self._ahead = Ahead((), {})
        self._log = structlog.get_logger("commands")
        # True while commands wait for the database.
        self.deciding = False

    async def settle(self, batch: Sequence[Delivery]) -> Settled:
        """Decide, record and answer; after an error of the store the same batch is given again."""
        self.deciding = True
        for each in batch:
            if each.redelivered and each.dry_run and each.reply is None:
                each.reply = interrupted(each.key[1])
        undecided = [each for each in batch if each.reply is None and not each.failed and self._decidable(each)]
        self._ahead = self._look_ahead(batch)
        buried: set[Delivery] = set()
        if batch[0].redelivered:
            undecided = await self._attempted(undecided, buried)
        await self._run(undecided)
        self.deciding = False
        self._reach(AFTER_COMMIT)
        settled = Settled()
        for each in batch:
            if isinstance(each.command, InvalidMessage) and not settled.left:
                # Not before those that came before it are decided.
                self._burials.put(each, each.command)
            elif each not in buried:
                (settled.done if each.reply else settled.again if each.failed else settled.left).append(each)
            self._note_failing(each)
        await self._answer(settled.done)
        return settled

    @staticmethod
    def _decidable(delivery: Delivery) -> bool:
        """Tell whether to decide it now; an ordered one of a lost channel comes again, behind what came before it."""
        if isinstance(delivery.command, InvalidMessage):
            return False
        return not delivery.ordered or not delivery.channel.is_closed

    def _look_ahead(self, batch: Sequence[Delivery]) -> Ahead:
        if not any(each.ordered for each in batch):
            return Ahead((), {})
        failing = {order: f"the command {key[1]}" for key, order in self.failing.items()}
        return Ahead(batch, {**failing, **self._burials.ahead()}, self.failing)

    def _note_failing(self, delivery: Delivery) -> None:
        if delivery.failed:
            if not delivery.channel.is_closed and (order := delivery.order) is not None:
                self.failing[delivery.key] = order
        elif self.failing and (delivery.reply is not None or isinstance(delivery.command, InvalidMessage)):
            self.failing.pop(delivery.key, None)

    async def _answer(self, done: Sequence[Delivery]) -> None:
        answered = [(each, each.reply) for each in done if each.reply is not None]
        replies = [(each.message.properties, reply) for each, reply in answered if each.message.properties.reply_to]
        if replies:
            channel = answered[0][0].channel
            await self._outbox.answer(replies, lambda: not channel.is_closed)
        for outcome, count in Counter("dry-run" if reply.tried else reply.outcome for _, reply in answered).items():
            metrics.COMMANDS.labels(outcome).inc(count)

    async def _attempted(self, redelivered: list[Delivery], buried: set[Delivery]) -> list[Delivery]:
        """Return which of the redelivered commands to run now: one that was attempted before runs alone.

        Those before it run together: most commands are redelivered because their worker or its connection ended.
        """
        unknown = [each for each in redelivered if each.attempts is None]
        if unknown:
            found = await self._store.attempts([each.key for each in unknown])
            for each in unknown:
                each.attempts = found.get(each.key, 0)
        first = next(iter(redelivered), None)
        if first is None or not first.attempts:
            return list(takewhile(lambda each: not each.attempts, redelivered))
        if first.attempts < self._poison_attempts:
            return [first]
        buried.add(first)
        detail = f"its worker failed or died {first.attempts} times while deciding it"
        self._burials.put(first, InvalidMessage("poison", detail))
        self.failing.pop(first.key, None)
        return []

    async def _run(self, deliveries: Sequence[Delivery]) -> bool:
        """Decide and record, and set each delivery's reply, or that it failed; tell whether none is left.

        A batch that fails is halved. One that fills a transaction ends with it, so that other tenants have their turn.
        """
        if not deliveries:
            return True
        outcomes = await self._together(deliveries)
        if outcomes is None:
            half = len(deliveries) // 2
            return await self._run(deliveries[:half]) and await self._run(deliveries[half:])
        commands = [each for each in deliveries if not isinstance(each.command, InvalidMessage)]
        for delivery, outcome in zip(commands, outcomes, strict=False):
            # The rest of the outcome, mainly its events, is released.
            delivery.reply = outcome.reply
            if outcome.waits:
                delivery.command = waiting(outcome.incoming)
            if outcome.decided:
                self._charge(delivery.tenant, sum(len(event.state) for event in outcome.decided))
            if outcome.failure is not None:
                # A dry run is not tried again.
                delivery.failed = not outcome.incoming.dry_run
                delivery.reply = None if delivery.failed else failed(outcome.incoming)
                self._log.error("command failed", exc_info=outcome.failure, **_context(outcome.incoming))
        return len(outcomes) == len(commands)

    async def _together(self, deliveries: Sequence[Delivery]) -> list[Outcome] | None:
        """Return outcomes of the first commands, at least one, or None when several cannot be recorded together."""
        try:
            return await self._record(deliveries)
        except Exception as error:
            if isinstance(error, StoreUnavailable) and not isinstance(error, StatementFailed):
                raise
            if len(deliveries) > 1:
                self._log.exception("batch failed, trying its halves", commands=len(deliveries))
                return None
            command: Any = deliveries[0].command
            if not isinstance(command, Incoming):
                raise
            self._log.exception("command failed", **_context(command))
            return [Outcome(command, failure=RuntimeError("not recorded"), recorded=False)]

    async def _record(self, deliveries: Sequence[Delivery]) -> list[Outcome]:
        """Run a batch; if it loses its connection twice while the database answers, it counts as too large."""
        try:
            return await self._once(deliveries)
        except SessionLost as error:
            await self._demand_reached(error)
        await asyncio.sleep(LOST_PAUSE)
        try:
            return await self._once(deliveries)
        except SessionLost as error:
            await self._demand_reached(error)
            raise StatementFailed(str(error)) from error

    def _once(self, deliveries: Sequence[Delivery]) -> Awaitable[list[Outcome]]:
        if deliveries[0].redelivered:
            return self._store.run_counted(deliveries, self._ahead)
        return self._store.run(deliveries, self._ahead)

    async def _demand_reached(self, error: SessionLost) -> None:
        self.deciding = False
        if not await self._store.reached():
            error.outage = True
            raise error
        self.deciding = True


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
