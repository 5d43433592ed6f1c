"""The background sender of bulks. They are stored first, so any process can continue when one ends.

A bulk is sent under a lease, a few commands at a time. Each command has an id of its own, so sending one twice has no
effect. A command that the broker took may still be lost, by a stream that this version cannot read or as a dead letter,
so what the ledger does not have is sent again from time to time, until the ledger has all of it or the bulk is deleted
with the receipts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import msgspec
import psycopg
import structlog

from domain.errors import Refusal
from services.broker.sender import NotSent, Outgoing
from services.commands.wire import Reply
from services.http.core.errors import too_many
from services.http.core.middleware import CURRENT
from services.store import bulks, ledger
from services.store.pool import Pool
from services.store.unavailable import StoreUnavailable

# Bulks that are sent at once, each of another tenant, and the commands of one that are under way.
AT_ONCE, UNDER_WAY = 4, 100
# Bulks that may wait for being sent: of one tenant, and of all.
MAX_OF_TENANT, MAX_WAITING = 20, 200
# In seconds: how long a lease lasts, how often a process looks for what nobody sends, what a command has until it is
# decided, the pause after it did not take one, and what a stop leaves for what is under way.
LEASE, POLL, DECIDED, PAUSE, LAST = 30.0, 5.0, 10.0, 1.0, 5.0
# In seconds: after how long what is undecided is sent again. It doubles up to `MAX_AGAIN`, and after a day it is a day,
# since a command that kills its worker does so each time.
AGAIN, MAX_AGAIN = 60.0, 3600.0


class StoredItem(msgspec.Struct, array_like=True):
    """A part of a bulk as it is stored: the request's own name for it, its id, and why it never became a command.

    Or the id and the fingerprint of that command: only what the ledger has under both is the part's.
    """

    ref: str | None
    id: str | None
    error: Refusal | None
    command_id: str | None = None
    fingerprint: bytes | None = None


class Command(msgspec.Struct, array_like=True):
    """A command of a bulk as it is stored: `index` is the place of its part, `name` None for the bulk's own command.

    `version` is the one that what it changes has to have, if any.
    """

    index: int
    routing_key: str
    key: str | None
    data: msgspec.Raw
    name: str | None = None
    version: int | None = None

    @classmethod
    def of(cls, index: int, outgoing: Outgoing, usual: str) -> Self:
        """Return what is stored of a command of a bulk whose own command is the `usual` one."""
        name = None if outgoing.name == usual else outgoing.name
        body, key = msgspec.Raw(outgoing.body), outgoing.idempotency_key
        return cls(index, outgoing.routing_key, key, body, name, outgoing.expected_version)


encode = msgspec.json.Encoder().encode
decode_items = msgspec.json.Decoder(list[StoredItem]).decode
_decode_commands = msgspec.json.Decoder(list[Command]).decode


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


@dataclass(frozen=True, slots=True)
class _Taken:
    """A bulk that this process sends; `sent` of its commands were taken before."""

    tenant: str
    id: str
    command: str
    actor: str
    traceparent: str | None
    items: bytes
    commands: bytes
    sent: int

    def outgoing(self) -> list[Outgoing]:
        """Return its commands."""
        ids = [item.command_id or "" for item in decode_items(self.items)]
        return [
            Outgoing(
                command.name or self.command,
                bytes(command.data),
                self.tenant,
                command.routing_key,
                self.actor,
                ids[command.index],
                command.key,
                command.version,
                traceparent=self.traceparent,
            )
            for command in _decode_commands(self.commands)
        ]


@dataclass(slots=True)
class BulkSender:
    """Stores bulks, and sends those that are stored until `close`."""

    pool: Pool
    sender: Sender
    _running: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    # Tenants that have had a turn, while others wait for theirs.
    _served: set[str] = field(default_factory=set)
    _wanted: asyncio.Event = field(default_factory=asyncio.Event)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None
    _log: Any = field(default_factory=lambda: structlog.get_logger("bulks"))

    def start(self) -> None:
        """Begin to send what is stored."""
        self._task = asyncio.create_task(self._run(), name="bulks")

    async def close(self) -> None:
        """End after the commands under way; what is not sent yet is left to another process, or to the next start."""
        self._stopping.set()
        self._wanted.set()
        tasks = [task for task in (self._task, *self._running.values()) if task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=LAST)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def store(
        self,
        tenant: str,
        bulk_id: str,
        command: str,
        actor: str,
        items: Sequence[StoredItem],
        commands: Sequence[Command],
    ) -> None:
        """Store a bulk and have it sent; raises `ApiError` when too many wait, or nothing can be stored."""
        values = {
            "tenant": tenant,
            "id": bulk_id,
            "command": command,
            "actor": actor,
            "traceparent": CURRENT.get().traceparent,
            "items": encode(items),
            "commands": encode(commands),
            "every": MAX_WAITING,
            "own": MAX_OF_TENANT,
        }
        if not await self.pool.fetch(bulks.STORE, values):
            raise too_many("too many bulk requests wait to be sent")
        self._wanted.set()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            self._wanted.clear()
            # Without a database nothing can be sent; it is looked for again as after any pause.
            with suppress(StoreUnavailable, psycopg.Error):
                while len(self._running) < AT_ONCE and not self._stopping.is_set():
                    rows = await self.pool.fetch(bulks.TAKE, (LEASE, list({*self._running, *self._served})))
                    if rows:
                        self._begin(_Taken(*rows[0]))
                    elif self._served <= self._running.keys():
                        break
                    else:
                        self._served.clear()
            await _until(self._wanted, POLL)

    def _begin(self, bulk: _Taken) -> None:
        task = asyncio.create_task(self._carry_out(bulk), name="bulk")
        self._running[bulk.tenant] = task
        self._served.add(bulk.tenant)

        def ended(task: asyncio.Task[None]) -> None:
            del self._running[bulk.tenant]
            self._wanted.set()
            if not task.cancelled() and (error := task.exception()) is not None:
                self._log.error("a bulk could not be sent", tenant=bulk.tenant, bulk=bulk.id, error=repr(error))

        task.add_done_callback(ended)

    async def _carry_out(self, bulk: _Taken) -> None:
        commands = bulk.outgoing()
        total, rest = len(commands), commands[bulk.sent :]
        if not rest:
            # The ledger tells what is left of a bulk that the broker has taken.
            rest = await self._undecided(bulk.tenant, commands)
            if not rest:
                await self._note(bulks.DONE, bulk.tenant, bulk.id)
                return
        while rest and not self._stopping.is_set():
            taken = await self._send(rest[:UNDER_WAY])
            rest = rest[taken:]
            await self._note(bulks.PROGRESS, total - len(rest), LEASE, bulk.tenant, bulk.id)
            if taken == 0:
                await _until(self._stopping, PAUSE)
        if rest:
            await self._note(bulks.PROGRESS, total - len(rest), 0.0, bulk.tenant, bulk.id)
            return
        while (
            not await self._note(bulks.SENT, total, AGAIN, MAX_AGAIN, bulk.tenant, bulk.id)
            and not self._stopping.is_set()
        ):
            await _until(self._stopping, PAUSE)

    async def _undecided(self, tenant: str, commands: Sequence[Outgoing]) -> list[Outgoing]:
        rows = await self.pool.fetch(*ledger.outcomes(tenant, [command.command_id for command in commands]))
        decided = {row[0] for row in rows}
        return [command for command in commands if command.command_id not in decided]

    async def _send(self, commands: Sequence[Outgoing]) -> int:
        """Send commands side by side, and return how many of them, from the first on, the broker has taken.

        They are waited for until they are decided, so that no more than these wait before the commands of others.
        """

        async def one(command: Outgoing) -> bool:
            try:
                await self.sender.send(command, DECIDED)
            except NotSent:
                return False
            return True

        taken = await asyncio.gather(*map(one, commands))
        return taken.index(False) if False in taken else len(taken)

    async def _note(self, statement: str, *values: Any) -> bool:
        """Write progress down; tell whether that was possible. What was not is sent twice at worst."""
        try:
            await self.pool.fetch(statement, values)
        except (StoreUnavailable, psycopg.Error) as error:
            self._log.warning("the progress of a bulk could not be stored", error=str(error))
            return False
        return True


async def _until(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
