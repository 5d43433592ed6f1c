"""The background sender of bulks. They are stored first, so any process can continue when one ends.

A bulk is sent under a lease, a few commands at a time. Each command has an id of its own, so sending one twice has no
effect. A command that the broker took may still be lost, by a stream that this version cannot read or as a dead letter,
so what the ledger does not have is sent again from time to time, until the ledger has all of it or the bulk is deleted
with the receipts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import msgspec

from domain.errors import Refusal
from services.broker.sender import NotSent, Outgoing
from services.http.core.errors import too_many
from services.http.core.jobs import Jobs, until
from services.http.core.middleware import CURRENT
from services.store import bulks, ledger

# Bulks that are sent at once, each of another tenant, and the commands of one that are under way.
AT_ONCE, UNDER_WAY = 4, 100
# Bulks that may wait for being sent: of one tenant, and of all.
MAX_OF_TENANT, MAX_WAITING = 20, 200
# In seconds: how long a lease lasts, what a command has until it is decided, and the pause after none was taken.
LEASE, DECIDED, PAUSE = 30.0, 10.0, 1.0
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

    @property
    def turn(self) -> str:
        """Return the tenant: its bulks are sent one after the other."""
        return self.tenant

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


class BulkSender(Jobs[_Taken]):
    """Stores bulks, and sends those that are stored until `close`."""

    @property
    def at_once(self) -> int:
        """Return how many bulks are sent at once, each of another tenant."""
        return AT_ONCE

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
        self.wake()

    async def _take(self, skip: Sequence[str]) -> _Taken | None:
        rows = await self.pool.fetch(bulks.TAKE, (LEASE, skip))
        return _Taken(*rows[0]) if rows else None

    async def _carry_out(self, job: _Taken) -> None:
        commands = job.outgoing()
        total, rest = len(commands), commands[job.sent :]
        if not rest:
            # The ledger tells what is left of a bulk that the broker has taken.
            rest = await self._undecided(job.tenant, commands)
            if not rest:
                await self._note(bulks.DONE, (job.tenant, job.id))
                return
        while rest and not self._stopping.is_set():
            taken = await self._send(rest[:UNDER_WAY])
            rest = rest[taken:]
            await self._note(bulks.PROGRESS, (total - len(rest), LEASE, job.tenant, job.id))
            if taken == 0:
                await until(self._stopping, PAUSE)
        if rest:
            await self._note(bulks.PROGRESS, (total - len(rest), 0.0, job.tenant, job.id))
            return
        noted = (total, AGAIN, MAX_AGAIN, job.tenant, job.id)
        while await self._note(bulks.SENT, noted) is None and not self._stopping.is_set():
            await until(self._stopping, PAUSE)

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
