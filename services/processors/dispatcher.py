"""The dispatcher: it calls the provider of each attempt at dispatch, and writes down what came of it for the scheduler.

An attempt is taken under a lease, so just one process makes it. Outside it happens at least once, under one key: who is
killed between the call and the writing down makes the call again. It is recorded once, whoever reports it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, NamedTuple

import msgspec
import psycopg
import structlog

from domain.lifecycle import TERMINAL
from domain.plan import reason_of
from domain.streams import stream_of
from domain.task import DispatchRequested, Provider, ReportDispatch, Task, evolve
from projections import deadlines, due
from services.processors.providers import Call, Calls, Outcome
from services.store import codec, log
from services.store.connect import Backoff, connect_async

NAME = "dispatcher"
AT_ONCE, OF_EACH = 16, 4
# Longer than the longest time-out of a provider, with time to write its outcome down.
LEASE = 60.0
# How long calls under way may take to end when the service stops.
LAST_CALLS = 2.0

Open = Callable[[], AbstractAsyncContextManager[Calls]]
_encode = msgspec.json.Encoder().encode


class Attempt(NamedTuple):
    """An attempt at dispatch that waits for its outcome; `position` is that of the event that asked for it."""

    tenant: str
    task_id: str
    number: str
    position: int


def payload(tenant: str, task: Task) -> bytes:
    """Return what a provider is told of a task."""
    made, plan = task.created, task.created.plan
    assert plan is not None  # noqa: S101
    return _encode(
        {
            "id": task.id,
            "type": "TASK",
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


class Dispatcher:
    """Runs an event loop in a thread, beside others of its kind. `on_called` runs before an outcome is written down."""

    def __init__(self, providers: Open, *, poll: float = 1.0, on_called: Callable[[], None] = lambda: None) -> None:
        self.name = NAME
        self._open = providers
        self._poll = poll
        self._on_called = on_called
        self._after = ""
        self._running: dict[Attempt, asyncio.Task[None]] = {}
        self._outcomes: dict[Attempt, Outcome] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._log = structlog.get_logger("dispatcher")
        self.stopped = threading.Event()
        self.connected = False

    def run(self, database_url: str, statement_timeout: float = 30.0) -> None:
        """Dispatch until `stop`, reconnecting by itself; one log line per change of state."""
        asyncio.run(self._run(database_url, statement_timeout))

    def stop(self) -> None:
        """Ask the dispatcher to end once the calls under way have ended, or soon."""
        self.stopped.set()
        self.look()

    def look(self) -> None:
        """Look for attempts now; for any thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # The loop has ended.
                self._loop.call_soon_threadsafe(self._wanted.set)

    @property
    def unready(self) -> list[str]:
        """Name the dispatcher when it should work and has no connection."""
        return [self.name] if not self.connected and not self.stopped.is_set() else []

    async def _run(self, database_url: str, statement_timeout: float) -> None:
        self._wanted = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        backoff = Backoff("connection", self._log)
        async with self._open() as calls:
            while not self.stopped.is_set():
                try:
                    async with await connect_async(database_url, NAME, statement_timeout) as conn:
                        await self._work(conn, calls, backoff)
                except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                    self.connected = False
                    backoff.lost(error)
                    await self._pause(backoff.next_wait())
                except Exception:
                    self._log.exception("dispatcher failed")
                    await self._pause(backoff.next_wait())
            left = [task for task in self._running.values() if not task.done()]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _work(self, conn: psycopg.AsyncConnection[Any], calls: Calls, backoff: Backoff) -> None:
        while not self.stopped.is_set():
            self._wanted.clear()
            await self._write_down(conn)
            took = await self._take(conn, calls)
            backoff.reached()
            self.connected = True
            if not took:
                await self._wait(self._poll)
        if self._running:
            await asyncio.wait(self._running.values(), timeout=LAST_CALLS)
        await self._write_down(conn)

    async def _pause(self, seconds: float) -> None:
        # What was wanted before cannot be done now, and must not make this a busy loop.
        self._wanted.clear()
        if not self.stopped.is_set():
            await self._wait(seconds)

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wanted.wait()

    async def _take(self, conn: psycopg.AsyncConnection[Any], calls: Calls) -> int:
        """Begin calls, as many as there is room for, and return how many."""
        free = AT_ONCE - len(self._running)
        if free <= 0:
            return 0
        busy = Counter(attempt.tenant for attempt in self._running)
        full = [tenant for tenant, count in busy.items() if count >= OF_EACH]
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
        most = [min(share, OF_EACH - busy[tenant]) for tenant in tenants]
        leased = await conn.execute(due.LEASE, (LEASE, tenants, most, deadlines.CALL, free), prepare=False)
        # A lease that ran out while the database was away is no reason to call while the first call is under way.
        attempts = [each for row in await leased.fetchall() if (each := Attempt(*row)) not in self._running]
        for attempt, provider, task in await self._current(conn, attempts):
            self._running[attempt] = asyncio.create_task(self._call(attempt, provider, task, calls))
        return len(attempts)

    async def _current(
        self, conn: psycopg.AsyncConnection[Any], attempts: list[Attempt]
    ) -> list[tuple[Attempt, Provider, Task]]:
        """Return those attempts that are still to be made, by the tasks' own streams; read models may be behind."""
        streams = {stream_of(attempt.tenant, "task", attempt.task_id): attempt for attempt in attempts}
        tasks: dict[str, Task | None] = {}
        providers: dict[str, Provider] = {}
        found = await conn.execute(*log.events_of_streams(list(streams)), prepare=False, binary=True)
        for stream, name, state in await found.fetchall():
            if stream not in streams:
                continue
            try:
                event = codec.decode(name, state)
                tasks[stream] = evolve(tasks.get(stream), event)
            except Exception as error:
                # No reason to hold up the others; it is looked at again when its lease has run out.
                self._log.warning("a task that cannot be read", stream=stream, error=str(error))
                streams.pop(stream, None)
                continue
            if isinstance(event, DispatchRequested):
                providers[stream] = event.provider
        current = []
        for stream, attempt in streams.items():
            task = tasks.get(stream)
            open_yet = task is not None and task.in_flight and task.lifecycle not in TERMINAL
            if open_yet and task is not None and str(task.attempt) == attempt.number:
                current.append((attempt, providers[stream], task))
        return current

    async def _call(self, attempt: Attempt, provider: Provider, task: Task, calls: Calls) -> None:
        try:
            key = f"{attempt.tenant}/{attempt.task_id}/{attempt.number}"
            outcome = await calls.call(Call(attempt.tenant, key, provider, payload(attempt.tenant, task)))
        except Exception:
            self._log.exception("a call failed unexpectedly", tenant=attempt.tenant, task=attempt.task_id)
            outcome = Outcome(False, None, "error", "the provider could not be called")
        self._on_called()
        self._outcomes[attempt] = outcome
        self._wanted.set()

    async def _write_down(self, conn: psycopg.AsyncConnection[Any]) -> None:
        """Hand outcomes over to the scheduler; a row that is gone was of a task that has ended."""
        for attempt, outcome in list(self._outcomes.items()):
            place = (attempt.tenant, attempt.task_id, deadlines.ATTEMPT, attempt.position)
            await conn.execute(due.DONE, (deadlines.SEND, _report(attempt, outcome), *place), prepare=False)
            await conn.execute(f"NOTIFY {deadlines.CHANNEL}")
            del self._outcomes[attempt], self._running[attempt]


def _report(attempt: Attempt, outcome: Outcome) -> str:
    """Return the command that reports an outcome, as JSON; of texts that no JSON can hold, what can be kept of them."""
    texts = (outcome.reference, outcome.code, outcome.message)
    kept = [None if text is None else text.encode("utf-8", "replace").decode() for text in texts]
    return _encode(ReportDispatch(attempt.task_id, int(attempt.number), outcome.succeeded, *kept)).decode()
