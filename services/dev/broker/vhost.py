"""Queues, exchanges and their virtual host; a requeued message returns to its original position."""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from operator import attrgetter
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from services.dev.broker.frames import Fault, Message

if TYPE_CHECKING:
    from services.dev.broker.channel import Channel

KINDS, PERSISTENT = ("direct", "topic", "fanout"), 2
POSITION = attrgetter("position")
LEAST = {"x-expires": 1, "x-max-length": 0, "x-message-ttl": 0}
QUORUM_ONLY = ("x-dead-letter-strategy", "x-delivery-limit")
ARGUMENTS: dict[str, type | tuple[str, ...]] = {
    "x-queue-type": ("classic", "quorum"),
    "x-dead-letter-exchange": str,
    "x-dead-letter-routing-key": str,
    "x-delivery-limit": int,
    "x-expires": int,
    "x-max-length": int,
    "x-message-ttl": int,
    "x-overflow": ("drop-head", "reject-publish"),
    "x-single-active-consumer": bool,
    # It has no effect in memory.
    "x-dead-letter-strategy": ("at-most-once", "at-least-once"),
}


def checked(arguments: dict[str, Any], where: str) -> dict[str, Any]:
    """The arguments with the default type of the queue; an unknown argument is refused, not ignored."""
    arguments = {"x-queue-type": "classic"} | arguments
    for name, value in arguments.items():
        if (allowed := ARGUMENTS.get(name)) is None or value == "stream":
            raise Fault(540, f"{name}={value} for {where}")
        valid = value in allowed if isinstance(allowed, tuple) else type(value) is allowed
        valid = valid and value >= LEAST.get(name, value)
        if not valid or (name in QUORUM_ONLY and arguments["x-queue-type"] == "classic"):
            raise Fault(406, f"invalid arg '{name}' for {where}: {value}")
    if "x-dead-letter-routing-key" in arguments and "x-dead-letter-exchange" not in arguments:
        raise Fault(406, f"invalid arg 'x-dead-letter-routing-key' for {where}: there is no exchange for it")
    return arguments


def dispatch(queues: "Iterable[Queue]") -> None:
    for queue in dict.fromkeys(queues):
        queue.dispatch()


class Storage:
    """Is told of the messages of durable queues, and that definitions have changed; this one keeps nothing."""

    def add(self, item: "Item", publisher: "Channel | None") -> None: ...

    def delivered(self, item: "Item") -> None: ...

    def gone(self, item: "Item") -> None: ...

    def deleted(self, queue: "Queue") -> None: ...

    def changed(self) -> None: ...

    def restore(self) -> None: ...

    async def close(self) -> None: ...


@dataclass(slots=True, eq=False)
class Item:
    queue: "Queue"
    position: int
    message: Message
    returns: int = 0
    expires: float = inf
    consumer: "Consumer | None" = None
    id: int = 0  # in the storage
    delivered: bool = False
    restored: bool = False


@dataclass(slots=True, eq=False)
class Consumer:
    channel: "Channel"
    queue: "Queue"
    tag: str
    no_ack: bool
    exclusive: bool
    prefetch: int
    unacked: int = 0

    @property
    def ready(self) -> bool:
        """Whether it may receive a message; not while its connection applies back-pressure."""
        return self.channel.connection.writable and (not self.prefetch or self.no_ack or self.unacked < self.prefetch)


@dataclass(eq=False)
class Queue:
    vhost: "VirtualHost"
    name: str
    durable: bool
    auto_delete: bool
    owner: object  # the connection that an exclusive queue belongs to
    arguments: dict[str, Any] = field(default_factory=dict)
    deleted: bool = False

    def __post_init__(self) -> None:
        self.consumers, self.ready, self._enqueued = list[Consumer](), deque[Item](), 0
        self.quorum = self.arguments.get("x-queue-type") == "quorum"
        self.single_active = self.arguments.get("x-single-active-consumer", False)
        # Of the ready messages; in RabbitMQ a policy may set it, too.
        self.limit: float = self.arguments.get("x-max-length", inf)
        self._timer: asyncio.TimerHandle | None = None
        self._lease: asyncio.TimerHandle | None = None

    @property
    def full(self) -> bool:
        """Whether it refuses what is published."""
        return len(self.ready) >= self.limit and self.arguments.get("x-overflow") == "reject-publish"

    def restore(self, message: Message, returns: int, expires: float, number: int) -> Item:
        self._enqueued += 1
        self.ready.append(Item(self, self._enqueued, message, returns, expires, id=number, restored=True))
        return self.ready[-1]

    def enqueue(self, message: Message, publisher: "Channel | None" = None) -> None:
        self._enqueued += 1
        item = Item(self, self._enqueued, message)
        self.ready.append(item)
        if self.durable and self.owner is None and (self.quorum or message.properties.delivery_mode == PERSISTENT):
            self.vhost.storage.add(item, publisher)
        self.dispatch()
        # Expire afterwards: even with a time to live of 0, a message reaches a consumer that is ready.
        if ttl := [ms for ms in (message.ttl, self.arguments.get("x-message-ttl")) if ms is not None]:
            item.expires = monotonic() + min(ttl) / 1000
            self.expire()
        while len(self.ready) > self.limit and self.arguments.get("x-overflow") != "reject-publish":
            self.vhost.dead_letter(self, (item := self.ready.popleft()).message, "maxlen")
            self.vhost.storage.gone(item)

    def dispatch(self) -> None:
        """Delivers ready messages to the consumers in turn."""
        self.expire()
        while self.ready and (consumer := self._next()) is not None:
            consumer.channel.deliver(self.ready.popleft(), consumer, no_ack=consumer.no_ack)
            self.expire()

    def expire(self) -> None:
        """Drops expired messages, from the front only: as in RabbitMQ, a message waits for the one before it."""
        while self.ready and self.ready[0].expires <= monotonic():
            self.vhost.dead_letter(self, (item := self.ready.popleft()).message, "expired")
            self.vhost.storage.gone(item)
        if self._timer is None and self.ready and (until := self.ready[0].expires) < inf:
            self._timer = asyncio.get_running_loop().call_later(until - monotonic(), self._due)

    def _due(self) -> None:
        self._timer = None
        self.dispatch()

    def use(self) -> None:
        """Restarts the timer that deletes an unused queue."""
        if self._lease is not None:
            self._lease.cancel()
        if (lease := self.arguments.get("x-expires")) is not None:
            self._lease = asyncio.get_running_loop().call_later(lease / 1000, self._lapse)

    def _lapse(self) -> None:
        if not self.deleted and not self.consumers:
            self.vhost.delete_queue(self)

    def _next(self) -> Consumer | None:
        candidates = self.consumers[:1] if self.single_active else self.consumers
        if (consumer := next((one for one in candidates if one.ready), None)) is not None and not self.single_active:
            self.consumers.remove(consumer)
            self.consumers.append(consumer)
        return consumer

    def give_back(self, items: Iterable[Item]) -> list[Message]:
        """Requeues delivered messages within the delivery limit; the caller then dispatches."""
        back, limit = sorted(items, key=POSITION), self.arguments.get("x-delivery-limit", -1)
        for item in back:
            item.returns += 1
            item.consumer, item.delivered = None, False
            if item.returns > limit >= 0:
                self.vhost.storage.gone(item)
        kept = [item for item in back if not item.returns > limit >= 0]
        if self.ready and kept and kept[-1].position > self.ready[0].position:
            self.ready = deque(sorted([*kept, *self.ready], key=POSITION))
        else:
            self.ready.extendleft(reversed(kept))
        return [item.message for item in back if item.returns > limit >= 0]


class Binding(NamedTuple):
    to_queue: bool
    target: str
    key: str
    arguments: str  # only to tell bindings apart: no exchange type that is implemented reads them


@dataclass(slots=True, eq=False)
class Exchange:
    type: str
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    bindings: dict[Binding, None] = field(default_factory=dict)

    def route(self, key: str) -> list[Binding]:
        if self.type == "topic":
            words = key.split(".") if key else []
            return [one for one in self.bindings if matches(one.key.split(".") if one.key else [], words)]
        return [one for one in self.bindings if self.type == "fanout" or one.key == key]


def matches(pattern: list[str], key: list[str]) -> bool:
    """`*` matches one word, `#` any number of words."""
    if not pattern or not key:
        return not key and all(word == "#" for word in pattern)
    if pattern[0] == "#":
        return matches(pattern[1:], key) or matches(pattern, key[1:])
    return pattern[0] in ("*", key[0]) and matches(pattern[1:], key[1:])


class VirtualHost:
    def __init__(self, name: str, storage: Storage) -> None:
        self.name, self.storage, self.queues = name, storage, dict[str, Queue]()
        self.exchanges = {f"amq.{kind}": Exchange(kind) for kind in KINDS}

    def place(self, kind: str, name: str) -> str:
        return f"{kind} '{name}' in vhost '{self.name}'"

    def exchange(self, name: str) -> Exchange:
        if name not in self.exchanges:
            no_default = Fault(403, "operation not permitted on the default exchange")
            raise Fault(404, f"no {self.place('exchange', name)}") if name else no_default
        return self.exchanges[name]

    def queue(self, name: str, connection: object) -> Queue:
        if (found := self.queues.get(name)) is None:
            raise Fault(404, f"no {self.place('queue', name)}")
        if found.owner not in (None, connection):
            raise Fault(405, f"cannot obtain exclusive access to locked {self.place('queue', name)}")
        return found

    def delete_queue(self, queue: Queue) -> None:
        del self.queues[queue.name]
        queue.deleted = True
        queue.ready.clear()
        self.storage.deleted(queue)
        self.storage.changed()
        self._forget(to_queue=True, target=queue.name)
        for consumer in queue.consumers:
            consumer.channel.lost(consumer)

    def delete_exchange(self, name: str) -> None:
        del self.exchanges[name]
        self._forget(to_queue=False, target=name)

    def unbind(self, source: str, binding: Binding) -> None:
        """Removing a binding that does not exist is not an error."""
        exchange = self.exchanges.get(source, Exchange("direct"))
        if exchange.bindings.pop(binding, False) is None and exchange.auto_delete and not exchange.bindings:
            self.delete_exchange(source)

    def _forget(self, *, to_queue: bool, target: str) -> None:
        for name, binding in [(name, one) for name, exchange in self.exchanges.items() for one in exchange.bindings]:
            if (binding.to_queue, binding.target) == (to_queue, target):
                self.unbind(name, binding)

    def route(self, exchange: str, key: str) -> list[Queue]:
        """Every queue that a message is routed to, once each."""
        names, seen = {} if exchange else {key: None}, [exchange] if exchange else []
        for source in seen:
            for binding in self.exchanges[source].route(key):
                if binding.to_queue:
                    names[binding.target] = None
                elif binding.target not in seen:
                    seen.append(binding.target)
        return [self.queues[name] for name in names if name in self.queues]

    def dead_letter(self, queue: Queue, message: Message, reason: str) -> None:
        exchange = queue.arguments.get("x-dead-letter-exchange")
        # If no dead-letter exchange is named or declared, the message is dropped.
        if not queue.deleted and exchange is not None and (not exchange or exchange in self.exchanges):
            key = queue.arguments.get("x-dead-letter-routing-key", message.key)
            dead = message.died(queue.name, reason, exchange, key)
            for target in self.route(exchange, key):
                if not dead.cycles(target.name):
                    target.enqueue(dead)
