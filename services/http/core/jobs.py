"""Jobs that are stored, so that any process may go on with them when another ends, and how a process works on them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import psycopg
import structlog

from services.broker.sender import Outgoing
from services.commands.wire import Reply
from services.store.pool import Params, Pool, Rows
from services.store.unavailable import StoreUnavailable


class Sender(Protocol):
    """Sends commands to the workers and receives their replies."""

    @property
    def ready(self) -> bool:
        """Tell whether commands can be sent now."""

    @property
    def blocked(self) -> str | None:
        """Return why the broker reads nothing from the connection now, if so."""

    @property
    def unanswered(self) -> float | None:
        """Return for how many seconds no command has been answered, although some were sent."""

    async def start(self) -> None:
        """Connect; raises when there is nothing to connect to."""

    async def close(self) -> None:
        """Let go of the connection."""

    async def send(self, outgoing: Outgoing, timeout: float, *, wait: bool = True) -> Reply | None:
        """Send, and wait for the answer, or without `wait` just until the command is taken; raises `NotSent`."""


class Job(Protocol):
    """A stored job that this process works on. Jobs with the same `turn` are done one after the other."""

    @property
    def tenant(self) -> str:
        """Return whose it is."""

    @property
    def id(self) -> str:
        """Return its id."""

    @property
    def turn(self) -> str:
        """Return the name under which it takes turns with others."""


_Job = TypeVar("_Job", bound=Job)


@dataclass(slots=True)
class Jobs(ABC, Generic[_Job]):
    """Works on stored jobs until `close`: a few at once, taking turns. A job is taken under a lease."""

    pool: Pool
    sender: Sender
    _running: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    # Those that have had a turn, while others wait for theirs.
    _served: set[str] = field(default_factory=set)
    _wanted: asyncio.Event = field(default_factory=asyncio.Event)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None
    _log: Any = field(default_factory=lambda: structlog.get_logger("bulks"))

    # In seconds: how often a process looks for what nobody works on, and what a stop leaves for what is under way.
    poll: ClassVar[float] = 5.0
    last: ClassVar[float] = 5.0

    @property
    @abstractmethod
    def at_once(self) -> int:
        """Return how many jobs are worked on at once."""

    @abstractmethod
    async def _take(self, skip: Sequence[str]) -> _Job | None:
        """Take the next job that is due, but none of these turns."""

    @abstractmethod
    async def _carry_out(self, job: _Job) -> None:
        """Work on a job."""

    def start(self) -> None:
        """Begin to work on what is stored."""
        self._task = asyncio.create_task(self._run(), name="bulks")

    def wake(self) -> None:
        """Look at once for what is due."""
        self._wanted.set()

    async def close(self) -> None:
        """End after the commands under way; what is left is for another process, or for the next start."""
        self._stopping.set()
        self._wanted.set()
        tasks = [task for task in (self._task, *self._running.values()) if task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self.last)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while not self._stopping.is_set():
            self._wanted.clear()
            # Without a database nothing can be done; it is looked for again as after any pause.
            with suppress(StoreUnavailable, psycopg.Error):
                while len(self._running) < self.at_once and not self._stopping.is_set():
                    job = await self._take(list({*self._running, *self._served}))
                    if job is not None:
                        self._begin(job)
                    elif self._served <= self._running.keys():
                        break
                    else:
                        self._served.clear()
            await until(self._wanted, self.poll)

    def _begin(self, job: _Job) -> None:
        task = asyncio.create_task(self._carry_out(job), name="bulk")
        self._running[job.turn] = task
        self._served.add(job.turn)

        def ended(task: asyncio.Task[None]) -> None:
            del self._running[job.turn]
            self._wanted.set()
            if not task.cancelled() and (error := task.exception()) is not None:
                self._log.error("a bulk could not be carried out", tenant=job.tenant, bulk=job.id, error=repr(error))

        task.add_done_callback(ended)

    async def _note(self, statement: str, values: Params) -> Rows | None:
        """Write progress down; None if that was not possible. What was not written is sent twice at worst."""
        try:
            return await self.pool.fetch(statement, values)
        except (StoreUnavailable, psycopg.Error) as error:
            self._log.warning("the progress of a bulk could not be stored", error=str(error))
            return None


async def until(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, at most so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
