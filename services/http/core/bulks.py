"""Bulk requests: many commands by one request, each decided by itself, in the caller's time or in the background.

Each part's command has a random id of its own that is stored with it, so it has a receipt and may be sent twice, and
nobody can take the id of one that is still to be sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from services.broker.sender import NotSent, Outgoing, Unconfirmed
from services.commands.wire import Malformed, Reply, fingerprint
from services.http.core.authenticator import Caller
from services.http.core.bulk_sender import Command, StoredItem
from services.http.core.command import new_id, outgoing, receipt_path
from services.http.core.errors import ApiError, unavailable
from services.http.core.routes import refusal
from services.http.core.service import Service

# Parts that are read or sent before other requests get a turn.
_STRETCH = 50
_UNSURE = "the command may have been taken: see its receipt, or repeat it under the same Idempotency-Key"


@dataclass(slots=True)
class Item:
    """One part of a bulk request, and what became of it so far. `ref` is the request's own name for it.

    `unsure`: it was refused since the broker did not say whether it had taken the command.
    """

    ref: str | None = None
    id: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
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


@dataclass(slots=True)
class Bulk:
    """A bulk request: one command for each part that can be one, all of one type."""

    name: str
    items: list[Item] = field(default_factory=list)
    pointer: Callable[[str], str] = str
    id: str = field(default_factory=new_id)

    @property
    def receipt(self) -> str:
        """Return where the receipt of a bulk that is carried out in the background lies."""
        return f"/v1/bulks/{quote(self.id)}"

    def give(
        self, service: Service, caller: Caller, item: Item, data: dict[str, Any], key: str | None, typed: bool = False
    ) -> None:
        """Give a part its command, which names what it is about by `data["id"]`; raises `ApiError` and `Malformed`."""
        item.command = outgoing(service, caller, self.name, data, data["id"], typed=typed, idempotency_key=key)
        item.id, item.data = data["id"], data


async def prepared(
    name: str,
    parts: Sequence[Any],
    ref: Callable[[Any], str | None],
    prepare: Callable[[Bulk, Item, Any], None],
    pointer: Callable[[str], str] = str,
) -> Bulk:
    """Return a bulk of these parts in their order. `prepare` gives a part its command, or raises why it cannot.

    `pointer` turns a place in a command's data into one in the part that it was made of.
    """
    bulk = Bulk(name, pointer=pointer)
    for part in parts:
        item = Item(ref(part))
        try:
            prepare(bulk, item, part)
        except (ApiError, Malformed) as error:
            item.refused = refusal(error)
        bulk.items.append(item)
        if len(bulk.items) % _STRETCH == 0:
            await asyncio.sleep(0)
    return bulk


async def decide(service: Service, bulk: Bulk, models: Iterable[str]) -> int | None:
    """Send all commands side by side, wait for their answers and then for these read models.

    Returns the highest position, None when nothing was accepted in time. The time grows with the bulk.
    """
    if not service.sender.ready:
        raise unavailable("no command was taken; the request may be sent again")
    loop, settings = asyncio.get_running_loop(), service.settings
    deadline = loop.time() + settings.reply_timeout + len(bulk.items) * settings.bulk_item_ms / 1000

    async def one(item: Item, command: Outgoing) -> None:
        try:
            item.reply = await service.sender.send(command, deadline - loop.time())
        except Unconfirmed:
            item.unsure, item.refused = True, unavailable(_UNSURE)
        except NotSent:
            item.refused = unavailable("the command was not taken; it may be sent again")
        else:
            if item.reply is not None and item.reply.error is not None:
                refused = ApiError.of(item.reply.error)
                item.refused = refused.at(bulk.pointer(refused.pointer))

    async with asyncio.TaskGroup() as group:
        for index, item in enumerate(bulk.items, 1):
            if item.command is not None:
                group.create_task(one(item, item.command))
            if index % _STRETCH == 0:
                await asyncio.sleep(0)
    replies = (item.reply for item in bulk.items if item.reply is not None and item.reply.accepted)
    position = max((reply.position or 0 for reply in replies), default=None)
    if position:
        # What was accepted is there; that the database went away since makes no failure of it.
        with suppress(ApiError):
            await service.positions.reached(models, position, deadline - loop.time())
    return position


async def hand_over(service: Service, caller: Caller, bulk: Bulk) -> None:
    """Store a bulk, to be sent by this process or another whatever happens; raises `ApiError` when that cannot be."""
    items = []
    for item in bulk.items:
        items.append(_stored(item))
        if len(items) % _STRETCH == 0:
            await asyncio.sleep(0)
    commands = [Command.of(index, item.command) for index, item in enumerate(bulk.items) if item.command is not None]
    await service.bulks.store(caller.tenant, bulk.id, bulk.name, caller.actor, items, commands)


def _stored(item: Item) -> StoredItem:
    command, refused = item.command, item.refused
    if command is None:
        return StoredItem(item.ref, item.id, None if refused is None else refused.refusal)
    mark = fingerprint(command.name, item.data, command.actor)
    return StoredItem(item.ref, item.id, None, command.command_id, mark)
