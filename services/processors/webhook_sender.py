"""The sender of webhooks: it delivers queued events, those of an activity in order, and records what became of them.

A delivery is made under a lease, at least once, always with the id of its event: a process killed between the answer
and the record repeats it. A receiver that does not work is tried by one delivery at a time, and these calls take no
place of others.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import psycopg

from services import cloud_events
from services.processors.calling import Caller
from services.processors.receivers import Delivered, Delivery, Sending
from services.processors.webhook_follower import now
from services.store import codec, webhook_queue
from services.store.log import LogRow
from services.webhooks import ACTIVE, DELIVERED, DISABLED, PARKED, PENDING

NAME = "webhook-sender"
# Calls at the same time, of this process, of one tenant and of one webhook. Beyond `SHARED_CALLS` a tenant with a call
# under way gets no other one.
MAX_CALLS, SHARED_CALLS, MAX_CALLS_OF_TENANT, MAX_CALLS_OF_WEBHOOK = 48, 32, 16, 8
# The same for receivers that do not work, each of which has one.
MAX_PROBES, MAX_PROBES_OF_TENANT = 16, 4
# Bytes of events that are being sent; the one that reaches it is the last.
MAX_BYTES = 32 << 20
# Longer than a call takes, with time to record its outcome.
LEASE = timedelta(seconds=60)
# Seconds until a delivery is repeated, and a receiver tried again: doubled each time, up to the longest.
RETRY, LONGEST_RETRY = 5.0, 1800.0
# For how long that goes on.
GIVE_UP = timedelta(days=3)
# Failures in a row after which a receiver counts as not working, although it answers.
MAX_FAILURES = 10
# Answers that tell of the receiver, not of the event; none at all does so, too.
_AWAY = (408, 425, 429, 502, 503, 504)
_GONE = 410
# Seconds between two prunings.
_PRUNE = 60.0

Open = Callable[[], AbstractAsyncContextManager[Sending]]


class Leased(NamedTuple):
    """A delivery that this process makes; `probing`: to try whether the receiver works."""

    tenant: str
    webhook: str
    position: int
    event_id: str
    probing: bool

    @property
    def place(self) -> tuple[str, str]:
        return self.tenant, self.webhook


def wait_of(attempts: int) -> timedelta:
    """Return the time until the next attempt, with jitter."""
    seconds = min(LONGEST_RETRY, RETRY * 2.0 ** min(attempts - 1, 20))
    return timedelta(seconds=seconds * random.uniform(0.75, 1.0))  # noqa: S311


class WebhookSender(Caller[Sending]):
    """Several processes may run one. `on_sent` runs before an outcome is recorded."""

    def __init__(
        self,
        receivers: Open,
        *,
        poll: float = 1.0,
        clock: Callable[[], datetime] = now,
        on_sent: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(NAME, receivers(), poll)
        self._clock = clock
        self._on_sent = on_sent
        self._running: dict[Leased, asyncio.Task[None]] = {}
        self._outcomes: dict[Leased, Delivered] = {}
        self._bytes = Counter[Leased]()
        self._delivered: set[tuple[str, str]] = set()
        self._pruned = time.monotonic()

    def running(self) -> Iterable[asyncio.Task[None]]:
        return self._running.values()

    async def take(self, conn: psycopg.AsyncConnection[Any], client: Sending) -> int:
        took = 0
        while self._bytes.total() < MAX_BYTES:
            leased = await self._lease(conn, client)
            if leased is None:
                break
            took += leased
        await self._prune(conn)
        return took

    async def _lease(self, conn: psycopg.AsyncConnection[Any], client: Sending) -> int | None:
        """Take what is due of the webhook that has been due for longest, and begin to send it; None if none is due."""
        at = self._clock()
        async with conn.transaction():
            found = await conn.execute(webhook_queue.TAKE, {"now": at, **self._limits()})
            row = await found.fetchone()
            if row is None:
                return None
            tenant, webhook, url, secret, old_secret, probing = row
            secrets = [each for each in (secret, old_secret) if each is not None]
            most = 1 if probing else self._room(tenant, webhook)
            named = {"tenant": tenant, "webhook": webhook, "now": at, "until": at + LEASE, "probing": probing}
            rows = await (await conn.execute(webhook_queue.LEASE, {**named, "most": most})).fetchall()
            await conn.execute(webhook_queue.LOOK_AGAIN, {**named, "took": bool(rows)})
        taken = 0
        for position, event_id in sorted(rows):
            leased = Leased(tenant, webhook, position, event_id, probing)
            # A lease that expired during an outage of the database must not start a second call.
            if leased in self._running:
                continue
            body = await _body(conn, leased)
            if body is None:
                self._running[leased] = asyncio.create_task(asyncio.sleep(0))
                self._outcomes[leased] = Delivered(None, "the log does not have the event any more", hopeless=True)
                self.ended()
                continue
            self._bytes[leased] = len(body)
            delivery = Delivery(tenant, webhook, url, secrets, event_id, int(at.timestamp()), body)
            self._running[leased] = asyncio.create_task(self._send(leased, delivery, client))
            taken += 1
        return taken

    def _limits(self) -> dict[str, Any]:
        """Return the parameters that leave out what has as many calls as it may have."""
        probes = Counter(each.tenant for each in self._running if each.probing)
        calls = Counter(each.tenant for each in self._running if not each.probing)
        of_webhook = Counter(each.place for each in self._running)
        most = MAX_CALLS_OF_TENANT if calls.total() < SHARED_CALLS else 1
        probed = {each.place for each in self._running if each.probing}
        busy = [place for place, count in of_webhook.items() if count >= MAX_CALLS_OF_WEBHOOK or place in probed]
        return {
            "full": [tenant for tenant, count in calls.items() if count >= most],
            "full_probing": [tenant for tenant, count in probes.items() if count >= MAX_PROBES_OF_TENANT],
            "calls": calls.total() < MAX_CALLS,
            "probes": probes.total() < MAX_PROBES,
            "busy_tenants": [tenant for tenant, _ in busy],
            "busy": [webhook for _, webhook in busy],
        }

    def _room(self, tenant: str, webhook: str) -> int:
        """Return how many calls a webhook may have beside those under way."""
        calls = [each for each in self._running if not each.probing]
        of_tenant = sum(each.tenant == tenant for each in calls)
        of_webhook = sum(each.place == (tenant, webhook) for each in calls)
        most = MAX_CALLS_OF_TENANT if len(calls) < SHARED_CALLS else 1
        return max(1, min(MAX_CALLS - len(calls), most - of_tenant, MAX_CALLS_OF_WEBHOOK - of_webhook))

    async def _send(self, leased: Leased, delivery: Delivery, client: Sending) -> None:
        try:
            outcome = await client.send(delivery)
        except Exception:
            self._log.exception("delivery failed unexpectedly", tenant=leased.tenant, webhook=leased.webhook)
            outcome = Delivered(None, "the delivery could not be made")
        self._on_sent()
        self._outcomes[leased] = outcome
        self.ended()

    async def store(self, conn: psycopg.AsyncConnection[Any]) -> None:
        for leased, outcome in list(self._outcomes.items()):
            async with conn.transaction():
                await self._record(conn, leased, outcome)
            del self._outcomes[leased], self._running[leased], self._bytes[leased]

    async def _record(self, conn: psycopg.AsyncConnection[Any], leased: Leased, outcome: Delivered) -> None:
        """Record what became of a delivery; a webhook or a delivery that is gone meanwhile needs nothing."""
        webhook = await (await conn.execute(webhook_queue.LOCK, leased.place)).fetchone()
        key = (*leased.place, leased.position, leased.event_id)
        before = await (await conn.execute(webhook_queue.STARTED, key)).fetchone() if webhook is not None else None
        if webhook is None or before is None:
            return
        at = self._clock()
        named = {"tenant": leased.tenant, "webhook": leased.webhook, "position": leased.position, "now": at}
        done = {**named, "status": outcome.status, "answer": outcome.answer}
        if outcome.taken:
            self._delivered.add(leased.place)
            given = {"state": DELIVERED, "next_at": at, "failing_since": None}
            await conn.execute(webhook_queue.RECORD, {**done, **given})
            await conn.execute(webhook_queue.SUCCEEDED, (at, *leased.place))
            if webhook[3]:
                await conn.execute(webhook_queue.BACK, (at, *leased.place, list(_AWAY)))
                self._log.info("receiver works again", tenant=leased.tenant, webhook=leased.webhook)
            return
        state, failures, failing_since, probes, due_at = webhook
        attempts, first = before[0] + 1, before[1] or at
        away = not outcome.hopeless and (outcome.status is None or outcome.status in _AWAY)
        parked = outcome.hopeless or (not away and at - first >= GIVE_UP)
        given = {"state": PARKED if parked else PENDING, "next_at": at + wait_of(attempts), "failing_since": first}
        await conn.execute(webhook_queue.RECORD, {**done, **given})
        error = f"answered {outcome.status}" if outcome.status is not None else outcome.answer
        cause = None
        if outcome.status == _GONE:
            cause = "the receiver answered 410: it wants no more"
        elif away and failing_since is not None and at - failing_since >= GIVE_UP:
            cause = f"no delivery has succeeded for {GIVE_UP.days} days: {error}"
        # Calls that were under way when the receiver was found not to work say nothing new.
        if probes == 0 and (away or failures + 1 >= MAX_FAILURES):
            probes, due_at = 1, at + wait_of(1)
            self._log.warning("receiver does not work", tenant=leased.tenant, webhook=leased.webhook, error=error)
        elif leased.probing:
            probes += 1
            due_at = at + wait_of(probes)
        elif probes == 0:
            due_at = at
        disabled = cause is not None and state == ACTIVE
        if disabled:
            self._log.error("webhook disabled", tenant=leased.tenant, webhook=leased.webhook, cause=cause)
        given = {"state": DISABLED if disabled else state, "cause": cause if disabled else None, "error": error}
        await conn.execute(
            webhook_queue.FAILED, {**named, **given, "parked": int(parked), "probes": probes, "due_at": due_at}
        )

    async def _prune(self, conn: psycopg.AsyncConnection[Any]) -> None:
        """Delete what need not be kept of what was delivered."""
        if time.monotonic() < self._pruned + _PRUNE:
            return
        self._pruned = time.monotonic()
        while self._delivered:
            await conn.execute(*webhook_queue.pruned_of(*self._delivered.pop()))
        for state in webhook_queue.KEPT_DAYS:
            await conn.execute(*webhook_queue.pruned(state, self._clock()))


async def _body(conn: psycopg.AsyncConnection[Any], leased: Leased) -> bytes | None:
    """Return the event as it is published, None if the log has another one, or none, at its position."""
    found = await conn.execute(*webhook_queue.event(leased.position), prepare=True, binary=True)
    row = await found.fetchone()
    if row is None:
        return None
    event = LogRow(*row)
    same = codec.raw(event.state, event.name).meta.id == leased.event_id
    return cloud_events.cloud_event(event) if same and event.stream.startswith(f"{leased.tenant}/") else None
