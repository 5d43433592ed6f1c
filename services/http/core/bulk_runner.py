"""Previews bulks and runs them: their items are sent a few at a time, as dry runs first, then as commands.

Each item's command has an id that follows from the bulk's seed and the item's number. So whoever goes on with a bulk
may send again what has no answer yet: the ledger knows what was decided. What has no answer is sent again after the
others; while nothing at all is answered, nothing more is sent.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, ClassVar

from domain.errors import Refusal
from services.broker.sender import NotSent, Outgoing
from services.commands.wire import Reply
from services.dead_letters import Rules
from services.http.core import bulk_acts
from services.http.core.bulk_action import LEASE, Action
from services.http.core.bulk_letter_runs import LetterRuns, of_letter
from services.http.core.bulk_outcomes import Item, Outcome, columns, decided, lost, of_reply
from services.http.core.bulk_states import (
    ABORTED,
    ABORTING,
    NEW_FAILURE,
    PREVIEWING,
    REFUSED,
    RETRY,
    RUNNING,
    SKIPPED,
    UNKNOWN,
    command_id,
)
from services.http.core.jobs import Jobs, until
from services.http.core.pace import ALL, RAMP, Pace
from services.http.core.shares import Turns
from services.store import bulk_actions, bulk_letters, ledger
from services.store.connect import connect
from services.store.operations import By

# Bulks that a process works on at once, and the items of one that are under way.
AT_ONCE, UNDER_WAY = 64, 100
# In seconds: how often a process looks for what nobody works on, what a command has until it is decided, the pause
# after none was, how long an aborted bulk waits for what was sent, and the time between two looks at letters.
POLL, DECIDED, PAUSE, SETTLED, LOOK = 1.0, 10.0, 1.0, 30.0, 0.2
# How often an item is sent while others are answered, before its outcome is given up.
MAX_ATTEMPTS = 5
_SKIPPED_AT_ONCE = 5000
# Looks for what nobody works on between two for bulks that expire.
EXPIRE_EVERY = 60
# A dry run that is refused so was not decided.
_NOT_DECIDED = ("unavailable",)


@dataclass(slots=True)
class BulkRunner(Jobs[Action]):
    """Works on the bulks that are stored until `close`. `at_work` are the turns of a tenant's commands."""

    _: KW_ONLY
    at_work: Turns
    # What dead letters are checked by.
    rules: Rules
    _looks: int = 0
    _letters: LetterRuns = field(init=False)

    def __post_init__(self) -> None:
        self._letters = LetterRuns(self.pool, self.rules)

    poll: ClassVar[float] = POLL

    @property
    def at_once(self) -> int:
        """Return how many bulks are worked on at once."""
        return AT_ONCE

    async def _take(self, skip: Sequence[str]) -> Action | None:
        if self._looks % EXPIRE_EVERY == 0:
            await self.pool.fetch(bulk_actions.EXPIRE, {"hours": bulk_actions.KEPT_HOURS})
        self._looks += 1
        rows = await self.pool.fetch(bulk_actions.TAKE, (LEASE, list(skip)))
        return Action(*rows[0]) if rows else None

    async def _carry_out(self, job: Action) -> None:
        if job.state == ABORTING:
            await self._settle(job)
        else:
            await self._send_all(job)
        # Another state, or another process, may have work for it.
        await self._note(bulk_actions.RELEASE, job.values)

    async def _send_all(self, job: Action) -> None:
        clock = asyncio.get_running_loop().time
        pace = Pace.of((job.rate or ALL) if job.state == RUNNING else ALL, UNDER_WAY, clock())
        while not self._stopping.is_set():
            await until(self._stopping, pace.at - clock())
            if self._stopping.is_set():
                return
            taken = bulk_actions.IN_ORDER if job.of_letters else bulk_actions.ITEMS
            rows = await self._note(taken, {**job.values, "most": pace.count})
            if rows is None:
                await until(self._stopping, PAUSE)
                continue
            if not rows:
                if job.state == PREVIEWING:
                    if job.command == RETRY:
                        await self._note(*bulk_letters.older(job.tenant, job.id))
                    await self._note(bulk_actions.PREVIEWED, job.values)
                else:
                    await self._act(job, "finish", bulk_actions.ENDED, {"end": "finished"})
                return
            pace.sent(len(rows), clock())
            outcomes = await self._work_on(job, [Item(*row) for row in sorted(rows)])
            failed = any(outcome.state in (REFUSED, UNKNOWN) for outcome in outcomes)
            if failed and job.rate == RAMP and job.state == RUNNING:
                await self._act(job, "pause", bulk_actions.PAUSE, {"reason": NEW_FAILURE})
                return

    async def _work_on(self, job: Action, items: Sequence[Item]) -> list[Outcome]:
        if not job.of_letters:
            return await self._send(job, {item: job.outgoing(item) for item in items})
        if job.state == RUNNING:
            return await self._hand_over(job, items)
        commands, outcomes = await asyncio.to_thread(self._letters.prepare, job, items)
        await self._store(job, outcomes)
        return [*outcomes, *(await self._send(job, commands) if commands else ())]

    async def _hand_over(self, job: Action, items: Sequence[Item]) -> list[Outcome]:
        """Have letters sent again, or discard them, and return the outcomes once all of them are decided and stored.

        Those that are not decided yet when the bulk is paused have some time left.
        """
        left, outcomes = await asyncio.to_thread(self._letters.hand_over, job, items)
        clock = asyncio.get_running_loop().time
        handed_at = renewed_at = clock()
        while left and not self._stopping.is_set():
            rows = await self._note(*bulk_letters.outcomes(job.tenant, [item.entity_id for item in left]))
            if rows is not None:
                by_id = {row[0]: row for row in rows}
                found = [of_letter(item, by_id.get(item.entity_id), job.id) for item in left]
                decided_now = [outcome for outcome in found if outcome is not None]
                await self._store(job, decided_now)
                outcomes += decided_now
                left = [item for item, outcome in zip(left, found, strict=True) if outcome is None]
            if left and clock() >= renewed_at + PAUSE:
                renewed_at = clock()
                is_over = await self._note(bulk_actions.RENEW, job.values) == []
                if is_over and clock() >= handed_at + DECIDED:
                    break
            if left:
                await until(self._stopping, LOOK)
        return outcomes

    async def _send(self, job: Action, commands: Mapping[Item, Outgoing]) -> list[Outcome]:
        """Send items side by side, and return the outcomes of those that were answered, once they are stored.

        As long as none is, they are sent again. They are given up in the end if the workers are there all the same, and
        answer none of them after that either: they may have come back only after the last time.
        """
        rounds, answering, items, versioned = 0, False, list(commands), not job.of_letters
        while True:
            rounds += 1
            replies = await asyncio.gather(*(self._ask(job, outgoing) for outgoing in commands.values()))
            outcomes = [
                of_reply(item, reply, versioned=versioned) for item, reply in zip(items, replies, strict=True) if reply
            ]
            left = [item for item, reply in zip(items, replies, strict=True) if reply is None]
            if outcomes:
                outcomes += [lost(item, job.state == PREVIEWING) for item in left if item.attempts >= MAX_ATTEMPTS]
            elif answering:
                outcomes = [lost(item, job.state == PREVIEWING) for item in left]
            elif rounds >= MAX_ATTEMPTS:
                answering = await self._workers_answer(commands[items[0]])
            if outcomes:
                await self._store(job, outcomes)
                return outcomes
            await until(self._stopping, PAUSE)
            if self._stopping.is_set() or not await self._note(bulk_actions.RENEW, job.values):
                return []

    async def _workers_answer(self, outgoing: Outgoing) -> bool:
        """Tell whether the workers answer at all: a dry run is answered even if deciding it fails."""
        probe = replace(outgoing, command_id=str(uuid.uuid4()), dry_run=True)
        with suppress(NotSent):
            return await self.sender.send(probe, DECIDED) is not None
        return False

    async def _ask(self, job: Action, outgoing: Outgoing) -> Reply | None:
        """Return the answer to an item's command, or None when there is none in time."""
        try:
            async with self.at_work.turn(job.tenant, DECIDED):
                reply = await self.sender.send(outgoing, DECIDED)
        except (NotSent, TimeoutError):
            return None
        if reply is None or not outgoing.dry_run:
            return reply
        is_decided = reply.tried and (reply.error is None or reply.error.code not in _NOT_DECIDED)
        return reply if is_decided else None

    async def _settle(self, job: Action) -> None:
        """Skip what was not sent before a bulk was aborted, wait for the outcomes of what was, and end it."""
        end = job.reason or ABORTED
        while await self._note(bulk_actions.SKIP, {**job.values, "reason": end, "most": _SKIPPED_AT_ONCE}):
            await self._note(bulk_actions.RENEW, job.values)
        clock = asyncio.get_running_loop().time
        until_when = clock() + SETTLED
        while not self._stopping.is_set():
            items = [Item(*row) for row in await self.pool.fetch(bulk_actions.SENT, job.values)]
            outcomes = await self._outcomes(job, items, end)
            if clock() >= until_when:
                known = {outcome.number for outcome in outcomes}
                outcomes += [lost(item, job.state == PREVIEWING) for item in items if item.number not in known]
            await self._store(job, outcomes)
            if await self._act(job, "finish", bulk_actions.ENDED, {"end": end}):
                return
            await until(self._stopping, PAUSE)
            await self._note(bulk_actions.RENEW, job.values)

    async def _outcomes(self, job: Action, items: Sequence[Item], end: str) -> list[Outcome]:
        """Return the outcomes that are known of items that were sent, or taken in order to be sent."""
        if job.of_letters:
            rows = await self.pool.fetch(*bulk_letters.outcomes(job.tenant, [item.entity_id for item in items]))
            by_id = {row[0]: row for row in rows}
            mine = {each for each, row in by_id.items() if bulk_letters.is_of(row, job.id)}
            known = [of_letter(item, by_id[item.entity_id], job.id) for item in items if item.entity_id in mine]
            rest = [Outcome(item.number, SKIPPED, end) for item in items if item.entity_id not in mine]
            return [*(outcome for outcome in known if outcome is not None), *rest]
        ids = {command_id(job.seed, item.number): item for item in items}
        return [
            decided(ids[name], Refusal(code, detail or "", pointer or "") if code is not None else None, first, last)
            for name, _, code, detail, pointer, first, last in await self.pool.fetch(
                *ledger.outcomes(job.tenant, list(ids))
            )
        ]

    async def _store(self, job: Action, outcomes: Sequence[Outcome]) -> None:
        if outcomes:
            await self._note(bulk_actions.NOTE, {**job.values, **columns(outcomes)})

    async def _act(self, job: Action, verb: str, statement: str, values: Mapping[str, Any]) -> bool:
        """Change the state of a bulk, and record that; tell whether it was in the state for it."""

        def whole() -> bool:
            with connect(self.pool.url, "bulks", self.pool.statement_timeout, autocommit=True) as conn:
                return bulk_acts.recorded(
                    conn, job.tenant, job.id, verb, By(job.actor),
                    lambda conn: bool(conn.execute(statement, {**job.values, **values}).fetchall()),
                )  # fmt: skip

        return await asyncio.to_thread(whole)
