"""The messages of durable queues in a file, together with the durable exchanges, queues and bindings.

Whatever arrives during a write is in the next one, so that any number of publishes share one fsync; they are confirmed
after it. Deliveries and acknowledgements are written without an fsync, a little later: one that is lost means that a
message is delivered once more.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from services.dev.broker.frames import CONTENT, Message, parse
from services.dev.broker.message_file import Defined, Delivered, Gone, MessageFile, Record, Stored
from services.dev.broker.vhost import Binding, Exchange, Item, Queue, Storage, VirtualHost

if TYPE_CHECKING:
    from services.dev.broker.channel import Channel

LAZY, RETRY = 0.02, 1.0  # seconds until acknowledgements are written, and until a failed write is repeated
_FULL = (errno.ENOSPC, errno.EDQUOT)
log = structlog.get_logger(__name__)


class _Batch(NamedTuple):
    items: dict[int, tuple[Item, Channel | None]]
    tags: dict[Channel, int]
    delivered: list[int]
    gone: list[int]
    defined: Defined | None


class Journal(Storage):
    """Called from the event loop; a thread writes. `add` to `changed` say what has changed in memory."""

    def __init__(self, path: Path, vhosts: dict[str, VirtualHost]) -> None:
        self._file, self._vhosts = MessageFile(path), vhosts
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="messages")
        self._live: dict[int, Item] = {}
        self._new: dict[int, tuple[Item, Channel | None]] = {}  # those not yet written, with who waits for a confirm
        self._tags: dict[Channel, int] = {}
        self._delivered, self._gone, self._last = list[int](), list[int](), 0
        self._changed, self._defined = False, Defined({}, {})
        self._failing = False
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: Item, publisher: Channel | None) -> None:
        self._last += 1
        item.id = self._last
        confirming = publisher if publisher is not None and publisher.confirms else None
        self._live[item.id], self._new[item.id] = item, (item, confirming)
        if confirming is not None:
            self._tags[confirming] = confirming.unwritten = confirming.published + 1
        self._start()

    def delivered(self, item: Item) -> None:
        if item.id in self._live and item.id not in self._new:
            self._delivered.append(item.id)
            self._start(LAZY)

    def gone(self, item: Item) -> None:
        if self._live.pop(item.id, None) is not None and self._new.pop(item.id, None) is None:
            self._gone.append(item.id)
            self._start(LAZY)

    def deleted(self, queue: Queue) -> None:
        for item in [item for item in self._live.values() if item.queue is queue]:
            self.gone(item)

    def changed(self) -> None:
        self._changed = True
        self._start()

    def restore(self) -> None:
        """Reads the file, and fills the queues. Raises `OperatorError` when that cannot be done."""
        records, cut = self._file.read()
        if cut:
            log.warning("the end of the messages was not written completely and is cut", bytes=cut)
        kept, deliveries = dict[int, Stored](), Counter[int]()
        for record in records:
            match record:
                case Stored():
                    kept[record.id], self._last = record, max(self._last, record.id)
                case Delivered():
                    deliveries.update(record.ids)
                case Gone():
                    for number in record.ids:
                        kept.pop(number, None)
                case Defined():
                    self._defined = record
        self._define(self._defined)
        for number, stored in sorted(kept.items()):
            if (queue := self._vhosts[stored.vhost].queues.get(stored.queue)) is not None:
                self._put(queue, stored, stored.deliveries + deliveries[number])
        for queue in [queue for vhost in self._vhosts.values() for queue in vhost.queues.values()]:
            queue.expire()
        try:
            self._file.replace([self._defined, *map(_stored, self._live.values())])
            self._new.clear()
        except OSError as error:
            self._fail(error)

    def _define(self, defined: Defined) -> None:
        for name, exchanges in defined.exchanges.items():
            vhost = self._vhosts[name] = VirtualHost(name, self)
            for key, (kind, auto_delete, internal, bindings) in exchanges.items():
                bound = {Binding(*binding): None for binding in bindings}
                vhost.exchanges[key] = Exchange(kind, True, auto_delete, internal, bound)
            for key, (auto_delete, arguments) in defined.queues[name].items():
                vhost.queues[key] = Queue(vhost, key, True, auto_delete, None, arguments)
                vhost.queues[key].use()

    def _put(self, queue: Queue, stored: Stored, deliveries: int) -> None:
        properties = parse(CONTENT.pack(60, 0, len(stored.body)) + stored.properties)
        headers: dict[str, Any] = properties.headers or {}
        deaths = tuple(headers["x-death"]) if stored.died else ()
        message = Message(stored.exchange, stored.key, properties, stored.properties, stored.body, deaths)
        expires = inf if stored.expires is None else time.monotonic() + stored.expires - time.time()
        if deliveries > queue.arguments.get("x-delivery-limit", deliveries) >= 0:
            queue.vhost.dead_letter(queue, message, "delivery_limit")
        else:
            self._live[stored.id] = queue.restore(message, deliveries, expires, stored.id)

    async def close(self) -> None:
        """Writes what is left."""
        if self._timer is not None:
            self._timer.cancel()
        await (self._task or self._flush())
        self._thread.shutdown()
        self._file.close()

    def _start(self, after: float = 0.0) -> None:
        if self._task is not None or (after and self._timer is not None):
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        if after:
            self._timer = loop.call_later(after, self._start)
        else:
            self._task = loop.create_task(self._flush())

    @property
    def _waiting(self) -> bool:
        return bool(self._new or self._delivered or self._gone or self._changed or self._tags)

    async def _flush(self) -> None:
        while self._waiting:
            await self._shrink()
            batch, changed = self._take()
            records: list[Record] = [] if batch.defined is None else [batch.defined]
            records += [_stored(item) for item, _ in batch.items.values()]
            sync = bool(records)
            records += [kind(ids) for kind, ids in ((Delivered, batch.delivered), (Gone, batch.gone)) if ids]
            try:
                await self._in_thread(self._file.append, records, sync=sync)
            except OSError as error:
                self._fail(error)
                self._changed |= changed
                self._give_up(batch)
                break
            self._succeed(batch)
        self._task = None
        if self._waiting:
            self._start(RETRY)

    def _take(self) -> tuple[_Batch, bool]:
        changed, self._changed = self._changed, False
        defined = _definitions(self._vhosts) if changed else self._defined
        batch = _Batch(
            self._new, self._tags, self._delivered, self._gone, None if defined == self._defined else defined
        )
        self._new, self._tags, self._delivered, self._gone = {}, {}, [], []
        return batch, changed

    def _succeed(self, batch: _Batch) -> None:
        self._defined = batch.defined or self._defined
        if self._failing:
            self._failing = False
            log.warning("messages are written again", file=str(self._file.path))
        for channel, tag in batch.tags.items():
            channel.settle_publishes(tag, accepted=True)

    def _fail(self, error: OSError) -> None:
        if error.errno not in _FULL:
            self._file.doubt()
        if not self._failing:
            self._failing = True
            log.error(
                "messages cannot be written; publishes to durable queues are refused until they can",
                file=str(self._file.path),
                error=str(error),
            )

    def _give_up(self, batch: _Batch) -> None:
        """Takes the messages that are refused out of their queues; what is not a publisher's to repeat is kept."""
        refused = {number for number, (_, publisher) in batch.items.items() if publisher is not None}
        for number in refused:
            self._live.pop(number, None)
        for queue in {batch.items[number][0].queue for number in refused}:
            queue.ready = deque(item for item in queue.ready if item.id not in refused)
        kept = {number: batch.items[number] for number in batch.items.keys() - refused if number in self._live}
        self._new = dict(sorted((kept | self._new).items()))
        self._delivered[:0], self._gone[:0] = batch.delivered, batch.gone
        for channel, tag in batch.tags.items():
            channel.settle_publishes(tag, accepted=False)

    async def _shrink(self) -> None:
        """Writes what is left to a new file, if this one has grown; if that fails, it goes on growing."""
        if not self._file.grown:
            return
        marks, self._delivered = self._delivered, []
        left = [_stored(item) for number, item in self._live.items() if number not in self._new]
        try:
            await self._in_thread(self._file.replace, [self._defined, *left])
        except OSError as error:
            self._delivered[:0] = marks
            self._file.put_off()
            log.debug("no new file of messages", error=str(error))

    async def _in_thread(self, call: Callable[..., None], records: list[Record], **options: bool) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, partial(call, records, **options))


def _stored(item: Item) -> Stored:
    message, queue = item.message, item.queue
    expires = None if item.expires == inf else time.time() + item.expires - time.monotonic()
    return Stored(
        item.id,
        queue.vhost.name,
        queue.name,
        item.returns + item.delivered,
        expires,
        bool(message.deaths),
        message.exchange,
        message.key,
        message.encoded,
        message.body,
    )


def _definitions(vhosts: dict[str, VirtualHost]) -> Defined:
    exchanges, queues = {}, {}
    for name, vhost in vhosts.items():
        durable = {key: queue for key, queue in vhost.queues.items() if queue.durable and queue.owner is None}
        queues[name] = {key: (queue.auto_delete, queue.arguments) for key, queue in durable.items()}
        lasting = {key: exchange for key, exchange in vhost.exchanges.items() if exchange.durable}
        exchanges[name] = {
            key: (
                exchange.type,
                exchange.auto_delete,
                exchange.internal,
                [each[:] for each in exchange.bindings if each.target in (durable if each.to_queue else lasting)],
            )
            for key, exchange in lasting.items()
        }
    return Defined(exchanges, queues)
