"""Bulk requests: many commands by one request, each decided by itself, in the caller's time or in the background.

Each part's command has a random id of its own that is stored with it, so it has a receipt and may be sent twice, and
nobody can take the id of one that is still to be sent.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from domain.errors import Refusal
from services.broker.sender import NotSent, Outgoing, Unconfirmed
from services.commands.wire import InvalidMessage, Reply, fingerprint, load_json
from services.http.core import dry_runs
from services.http.core.bulk_sender import Command, StoredItem, decode_items
from services.http.core.call import Call
from services.http.core.errors import ApiError, unavailable
from services.http.core.middleware import CURRENT
from services.http.core.models import Request
from services.http.core.sending import outgoing, receipt_path
from services.http.core.service import Service
from services.http.core.submit import idempotency_key, new_id
from services.store import bulks, ledger
from services.store.pool import Pool
from services.store.unavailable import StoreUnavailable

# Parts that are read or sent before other requests get a turn.
_STRETCH = 50
OUTCOMES = ("accepted", "rejected", "undecided")
# The reply to a command whose id another one has.
_CONFLICT = Refusal("command-id-conflict", "another command came under this id", "")
NOT_TAKEN = "the command was not taken; it may be sent again"
_UNSURE = "the command may have been taken: see its receipt, or repeat it under the same Idempotency-Key"


@dataclass(slots=True)
class Item:
    """One part of a bulk request, and what became of it so far. `ref` is the request's own name for it.

    `pointer` turns a place in the command's data into one in the part.
    `unsure`: it was refused since the broker did not say whether it had taken the command.
    """

    ref: str | None = None
    id: str | None = None
    pointer: Callable[[str], str] = str
    command: Outgoing | None = None
    refused: ApiError | None = None
    unsure: bool = False
    reply: Reply | None = None

    @property
    def undecided(self) -> bool:
        """Tell whether the command was taken, or will be, and has no answer yet."""
        return self.refused is None and self.reply is None

    @property
    def receipt(self) -> str | None:
        """Return where the receipt of its command lies, if it became one."""
        return None if self.command is None else receipt_path(self.command.command_id)

    def stored(self) -> StoredItem:
        """Return what is stored of the part."""
        command, refused = self.command, self.refused
        if command is None:
            return StoredItem(self.ref, self.id, None if refused is None else refused.refusal)
        mark = fingerprint(command.name, load_json(command.body), command.actor)
        return StoredItem(self.ref, self.id, None, command.command_id, mark)


@dataclass(frozen=True, slots=True)
class Change:
    """What a part asks of something that exists: a request, its command, the id, and the routing key of that.

    `version` is the one that it has to have, if any; `extra` is data of the command that is not in the request.
    """

    request: Request
    command: str
    id: str
    route: str
    version: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Bulk:
    """A bulk request: one command for each part that can be one, in the order of the request.

    `name` is the command of the parts that do not have another one, `began` the time when the request came. `position`
    is the highest one of what was accepted, `receipt` where that of a bulk in the background lies.
    """

    call: Call
    name: str
    items: list[Item] = field(default_factory=list)
    position: int | None = None
    receipt: str | None = None
    began: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    async def carry_out(self, models: Iterable[str], background: bool) -> None:
        """Have the commands decided, and these read models show that; or store them, to be sent whatever happens.

        Raises `ApiError` when nothing can be sent, or stored.
        """
        if not background:
            await self._decide(models)
        elif any(item.undecided for item in self.items):
            await self._store()

    async def _decide(self, models: Iterable[str]) -> None:
        """Send all commands side by side and wait for their answers; the time grows with the bulk."""
        service, loop = self.call.service, asyncio.get_running_loop()
        if not service.sender.ready:
            raise unavailable("no command was taken; the request may be sent again")
        deadline = self.began + seconds_for(service, len(self.items))

        async def one(item: Item, command: Outgoing) -> None:
            try:
                async with service.at_work.turn(self.call.caller.tenant, deadline - loop.time()):
                    item.reply = await service.sender.send(command, deadline - loop.time())
            except Unconfirmed:
                item.unsure, item.refused = True, unavailable(_UNSURE)
            except (NotSent, TimeoutError):
                item.refused = unavailable(NOT_TAKEN)
            else:
                if item.reply is not None and item.reply.error is not None:
                    refused = ApiError.of(item.reply.error)
                    item.refused = refused.at(item.pointer(refused.pointer))

        async with asyncio.TaskGroup() as group:
            for index, item in enumerate(self.items, 1):
                if item.command is not None:
                    group.create_task(one(item, item.command))
                if index % _STRETCH == 0:
                    await asyncio.sleep(0)
        replies = [item.reply for item in self.items if item.reply is not None]
        CURRENT.get().position = max((reply.position or 0 for reply in replies), default=None)
        self.position = max((reply.position or 0 for reply in replies if reply.accepted), default=None)
        if self.position:
            # What was accepted is there; that the database went away since makes no failure of it.
            with suppress(StoreUnavailable):
                await service.positions.reached(models, self.position, deadline - loop.time())

    async def _store(self) -> None:
        stored = []
        for item in self.items:
            stored.append(item.stored())
            if len(stored) % _STRETCH == 0:
                await asyncio.sleep(0)
        commands = [
            Command.of(index, item.command, self.name)
            for index, item in enumerate(self.items)
            if item.command is not None
        ]
        bulk_id, caller = new_id(), self.call.caller
        await self.call.service.bulks.store(caller.tenant, bulk_id, self.name, caller.actor, stored, commands)
        self.receipt = f"/v1/bulks/{bulk_id}"


def seconds_for(service: Service, parts: int) -> float:
    """Return the time that a bulk request of so many parts has."""
    return service.settings.reply_timeout + parts * service.settings.bulk_item_ms / 1000


async def prepared(
    call: Call,
    name: str,
    parts: Sequence[Any],
    read: Callable[[int, Any], Request | Change],
    ref: Callable[[Any], str | None] = lambda _: None,
    extra_data: Mapping[str, Any] | None = None,
    began: float | None = None,
) -> Bulk:
    """Return a bulk of these parts, each with its command, or with why it is none.

    `read` returns a part's request, or raises why there is none; `extra_data` is data that is not in it. A request
    creates something, unless it is part of a `Change`. The id of what is created is generated here unless the data has
    one. With an `Idempotency-Key` it follows from that and the part's name or place, so that a repetition is the same
    command, and its answer knows the id at once. `began` is when the request came, if that is not now.
    """
    dry_runs.demand_none()
    bulk, key, caller = Bulk(call, name), idempotency_key(), call.caller
    bulk.began = bulk.began if began is None else began
    for index, part in enumerate(parts):
        item, own_id, own_key = Item(ref(part)), new_id(), None
        if key is not None:
            # No name has a NUL, so a place is never taken for one.
            named = f"\0{index}" if item.ref is None else item.ref
            mark = hashlib.sha256(f"{caller.tenant}\0{key}\0{named}".encode()).hexdigest()
            own_id, own_key = mark[:32], f"bulk-{mark}"
        try:
            asked, version = read(index, part), None
            if isinstance(asked, Change):
                request, own_name, route = asked.request, asked.command, asked.route
                data = {**asked.extra, **request.data(), "id": asked.id}
                version = asked.version
            else:
                request, own_name = asked, name
                data = {"id": own_id, **(extra_data or {}), **request.data()}
                route = data["id"]
            command = outgoing(
                call.service, caller, own_name, data, route, typed=True, idempotency_key=own_key,
                expected_version=version,
            )  # fmt: skip
        except (ApiError, InvalidMessage) as error:
            item.refused = ApiError.caused_by(error)
        else:
            item.id, item.command = data["id"], command
            item.pointer = request.pointer
        bulk.items.append(item)
        if len(bulk.items) % _STRETCH == 0:
            await asyncio.sleep(0)
    return bulk


async def progress(pool: Pool, tenant: str, bulk_id: str) -> dict[str, Any] | None:
    """Return how far a bulk in the background is, and the outcome of each part from the ledger; None if unknown."""
    rows = await pool.fetch(*bulks.stored(tenant, bulk_id))
    if not rows:
        return None
    command, stored, sent, created_at = rows[0]
    items = decode_items(stored)
    ids = [item.command_id for item in items if item.command_id is not None]
    decided = {row[0]: row[1:] for row in await pool.fetch(*ledger.outcomes(tenant, ids))}
    parts = [_outcome(item, decided) for item in items]
    counts = {outcome: sum(part["outcome"] == outcome for part in parts) for outcome in OUTCOMES}
    return {
        "id": bulk_id,
        "command": command,
        "state": "running" if counts["undecided"] else "done",
        "created_at": created_at,
        "total": len(items),
        # What is decided was sent, if that is not noted yet.
        "sent": max(sent, len(decided)),
        **counts,
        "position": max((part["position"] for part in parts if part["position"]), default=None),
        "items": parts,
    }


def _outcome(item: StoredItem, decided: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    part: dict[str, Any] = {"ref": item.ref, "id": item.id, "receipt": None, "position": None, "error": item.error}
    if item.command_id is None:
        return {**part, "outcome": "rejected"}
    if item.command_id not in decided:
        # Without its command's id, which whoever reads this could take before it is used.
        return {**part, "outcome": "undecided"}
    mark, code, detail, pointer, _, position = decided[item.command_id]
    part["receipt"] = receipt_path(item.command_id)
    if mark != item.fingerprint:
        return {**part, "outcome": "rejected", "error": _CONFLICT}
    if code is not None:
        return {**part, "outcome": "rejected", "error": Refusal(code, detail or "", pointer or "")}
    return {**part, "outcome": "accepted", "position": position}
