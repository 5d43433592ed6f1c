"""The dispatcher: it calls the provider for each dispatch attempt, and stores the outcome for the scheduler to report.

An attempt is taken under a lease, so one process makes it. The provider is called at least once per attempt, always
with the same idempotency key: a process killed between the call and storing the outcome repeats it. The outcome is
recorded once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

import msgspec
import psycopg

from domain.lifecycle import TERMINAL
from domain.plan import reason_of
from domain.streams import stream_of
from domain.task import DispatchRequested, ReportDispatch, Task, evolve
from projections import deadlines, due
from services.processors.calling import Caller
from services.processors.providers import Call, Calls, Outcome
from services.store import codec, log

NAME = "dispatcher"
# Calls at the same time, of this process and of one tenant. Beyond `SHARED_CALLS`, a tenant with a call under way gets
# no other one, so that a few tenants with slow providers leave places to the rest.
MAX_CALLS, SHARED_CALLS, MAX_CALLS_OF_TENANT = 64, 32, 4
# Longer than the longest time-out of a provider, with time to store its outcome.
LEASE = 60.0

Open = Callable[[], AbstractAsyncContextManager[Calls]]
_encode = msgspec.json.Encoder().encode


class Attempt(NamedTuple):
    """A dispatch attempt without an outcome; `position` is that of the event that requested it."""

    tenant: str
    task_id: str
    number: str
    position: int


def payload(tenant: str, task: Task) -> bytes:
    """Return the body of a call: the task, as the provider sees it."""
    made, plan = task.created, task.created.plan
    assert plan is not None  # noqa: S101
    return _encode(
        {
            "id": task.id,
            "type": made.type,
            "attempt": task.attempt,
            "tenant": tenant,
            "channel": plan.channel,
            "reason": reason_of(task.title, plan.reason),
            "commerceId": made.commerce,
            "assignedRouteId": made.route,
            "assignedOperatorId": made.operator,
            "scheduledAt": plan.scheduled_at,
            "suggestedExecutionTime": plan.suggested_at,
            "userStatus": plan.user_status,
            "score": plan.score,
            "attributes": task.attributes,
            "targets": [target.user for target in task.targets if target.status == "RESOLVED"],
        }
    )


class Dispatcher(Caller[Calls]):
    """Runs an event loop in a thread; several processes may run one. `on_called` runs before an outcome is stored."""

    def __init__(self, providers: Open, *, poll: float = 1.0, on_called: Callable[[], None] = lambda: None) -> None:
        super().__init__(NAME, providers(), poll)
        self._on_called = on_called
        self._after = ""
        self._running: dict[Attempt, asyncio.Task[None]] = {}
        self._outcomes: dict[Attempt, Outcome] = {}

    def running(self) -> Iterable[asyncio.Task[None]]:
        return self._running.values()

    async def take(self, conn: psycopg.AsyncConnection[Any], client: Calls) -> int:
        shared = len(self._running) < SHARED_CALLS
        free = (SHARED_CALLS if shared else MAX_CALLS) - len(self._running)
        of_tenant = MAX_CALLS_OF_TENANT if shared else 1
        if free <= 0:
            return 0
        busy = Counter(attempt.tenant for attempt in self._running)
        full = [tenant for tenant, count in busy.items() if count >= of_tenant]
        tenants: list[str] = []
        for after in dict.fromkeys((self._after, "")):
            given = (deadlines.CALL, after, deadlines.CALL, [*full, *tenants], free - len(tenants))
            found = await conn.execute(due.TENANTS, given, prepare=False)
            tenants += [tenant for (tenant,) in await found.fetchall()]
            if len(tenants) == free:
                break
        if not tenants:
            self._after = ""
            return 0
        self._after = tenants[-1]
        share = max(1, free // len(tenants))
        most = [min(share, of_tenant - busy[tenant]) for tenant in tenants]
        leased = await conn.execute(due.LEASE, (tenants, most, deadlines.CALL, free, LEASE), prepare=False)
        # A lease that expired during an outage of the database must not start a second call.
        attempts = [each for row in await leased.fetchall() if (each := Attempt(*row)) not in self._running]
        for attempt, asked, task in await self._current(conn, attempts):
            self._running[attempt] = asyncio.create_task(self._call(attempt, asked, task, client))
        return len(attempts)

    async def _current(
        self, conn: psycopg.AsyncConnection[Any], attempts: list[Attempt]
    ) -> list[tuple[Attempt, DispatchRequested, Task]]:
        """Return the attempts that are still current according to the streams of the tasks; read models may lag."""
        streams = {stream_of(attempt.tenant, "task", attempt.task_id): attempt for attempt in attempts}
        tasks: dict[str, Task | None] = {}
        asked: dict[str, DispatchRequested] = {}
        # Row by row: together the tasks of one round may have hundreds of megabytes of events.
        rows = conn.cursor().stream(*log.events_of_streams(list(streams)), binary=True)
        async for stream, name, state in rows:
            if stream not in streams:
                continue
            try:
                event = codec.decode(name, state)
                tasks[stream] = evolve(tasks.get(stream), event)
            except Exception as error:
                # The other attempts continue; this one is tried again when its lease expires.
                self._log.warning("task cannot be loaded", stream=stream, error=str(error))
                streams.pop(stream, None)
                continue
            if isinstance(event, DispatchRequested):
                asked[stream] = event
        current = []
        for stream, attempt in streams.items():
            task = tasks.get(stream)
            open_yet = task is not None and task.in_flight and task.lifecycle not in TERMINAL
            if open_yet and task is not None and str(task.attempt) == attempt.number:
                current.append((attempt, asked[stream], task))
        return current

    async def _call(self, attempt: Attempt, asked: DispatchRequested, task: Task, calls: Calls) -> None:
        try:
            key = f"{attempt.tenant}/{attempt.task_id}/{attempt.number}"
            body = payload(attempt.tenant, task)
            outcome = await calls.call(Call(attempt.tenant, asked.channel, key, asked.provider, body))
        except Exception:
            self._log.exception("call failed unexpectedly", tenant=attempt.tenant, task=attempt.task_id)
            outcome = Outcome(False, None, "error", "the provider could not be called")
        self._on_called()
        self._outcomes[attempt] = outcome
        self.ended()

    async def store(self, conn: psycopg.AsyncConnection[Any]) -> None:
        """Hand the outcomes over to the scheduler; if a row is gone, its task has ended."""
        for attempt, outcome in list(self._outcomes.items()):
            place = (attempt.tenant, attempt.task_id, deadlines.ATTEMPT, attempt.position)
            await conn.execute(due.DONE, (deadlines.SEND, _report(attempt, outcome), *place), prepare=False)
            await conn.execute(f"NOTIFY {deadlines.CHANNEL}")
            del self._outcomes[attempt], self._running[attempt]


def _report(attempt: Attempt, outcome: Outcome) -> str:
    """Return the command that reports an outcome, as JSON; lone surrogates in texts are replaced."""
    texts = (outcome.reference, outcome.code, outcome.message)
    kept = [None if text is None else text.encode("utf-8", "replace").decode() for text in texts]
    return _encode(ReportDispatch(attempt.task_id, int(attempt.number), outcome.succeeded, *kept)).decode()
