"""What ordered commands wait for: earlier commands of their routing key that are dead letters, or are tried again."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace

from services.broker.names import short
from services.commands.buffer import Delivery
from services.commands.wire import WAITS, Incoming, InvalidMessage
from services.store import dead_letter_order
from services.store.append import CommandKey
from services.store.dead_letter_order import Order
from services.store.dead_letters import letter_id, stored_text
from services.store.event_store import EventStore


class Ahead:
    """What is ahead of the ordered commands of a batch: in the batch, in the worker's memory, and in the database.

    A batch without any is given as none.

    `known` is what this worker has not seen through to its end: messages of which it makes dead letters, and in words
    the commands that failed and are tried again. It is taken before the database is asked, so nothing is missed. Those
    that were `tried` had nothing ahead of them then, and what has come since is behind them.
    """

    def __init__(
        self, batch: Sequence[Delivery], known: Mapping[Order, Delivery | str], tried: Container[CommandKey] = ()
    ) -> None:
        self._batch = batch
        self._known = known
        self._tried = tried

    def given(self, deliveries: Sequence[Delivery], store: EventStore) -> list[Incoming]:
        """Return the commands of deliveries of the batch; those that have to wait say what for in `behind`."""
        if not self._batch:
            return [each.command for each in deliveries if isinstance(each.command, Incoming)]
        seen, wanted = dict(self._known), set(deliveries)
        found: list[Incoming] = []
        asked: dict[int, Order] = {}
        for each in self._batch:
            command, order = each.command, each.order
            if isinstance(command, InvalidMessage) and order is not None and not each.dry_run:
                seen.setdefault(order, each)
            elif each.failed and order is not None:
                seen.setdefault(order, f"the command {each.key[1]}")
            elif each in wanted and isinstance(command, Incoming):
                if command.ordered and order is not None and each.key not in self._tried:
                    command = replace(command, behind=_named(seen.get(order), order))
                    if command.behind is None:
                        asked[len(found)] = order
                found.append(command)
        if asked:
            letters = dead_letter_order.ahead(store, asked, [each.command_id for each in found])
            for index, letter in zip(asked, letters, strict=True):
                if letter is not None:
                    found[index] = replace(found[index], behind=f"the dead letter {letter}")
        return found


def name_of(delivery: Delivery, order: Order) -> str:
    """Return the id that the letter made of a delivery will have, unless it is one that was sent again."""
    message, properties = delivery.message, delivery.message.properties
    sha256 = bytes.fromhex(message.sha256) if message.sha256 else hashlib.sha256(message.body).digest()
    message_id, kind = (stored_text(short(each)) for each in (properties.message_id, properties.message_type))
    return letter_id(order[0], message_id, kind, order[1], sha256)


def _named(what: Delivery | str | None, order: Order) -> str | None:
    return f"the dead letter {name_of(what, order)}" if isinstance(what, Delivery) else what


def waiting(command: Incoming) -> InvalidMessage:
    """Return the reason of a command that is parked since it is behind another."""
    return InvalidMessage(WAITS, f"it is `ordered`, and {command.behind} of the same routing key comes first")
