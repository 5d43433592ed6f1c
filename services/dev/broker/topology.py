"""The methods of the exchange and queue classes; a repeated declaration changes nothing."""

import secrets
from collections import deque
from typing import Any

from pamqp import base, commands

from services.dev.broker.frames import Fault, made
from services.dev.broker.vhost import KINDS, Binding, Exchange, Queue, VirtualHost, checked

DIRECT_REPLIES = "amq.rabbitmq.reply-to"


def demand_equal(where: str, wanted: Exchange | Queue, found: Exchange | Queue, *names: str) -> None:
    for name in names:
        if (received := getattr(wanted, name)) != (current := getattr(found, name)):
            raise Fault(406, f"inequivalent arg '{name}' for {where}: received '{received}' but current is '{current}'")


class Topology:
    connection: Any  # of which a channel needs to know little, but who it is
    vhost: VirtualHost
    last_queue = ""

    def named(self, name: str) -> Queue:
        """The queue of that name; an empty name means the last one declared on this channel."""
        if not name and not self.last_queue:
            raise Fault(404, "no previously declared queue")
        return self.vhost.queue(name or self.last_queue, self.connection)

    def exchange_declare(self, frame: commands.Exchange.Declare) -> None:
        exchanges, name, kind = self.vhost.exchanges, frame.exchange, frame.exchange_type
        if frame.passive or not name:
            self.vhost.exchange(name)
            return
        if frame.arguments or kind not in KINDS:
            known = frame.arguments or kind == "headers"
            raise Fault(540 if known else 406, f"invalid exchange type '{kind}' with arguments {frame.arguments}")
        if name not in exchanges and name.startswith("amq."):
            raise Fault(403, f"exchange name '{name}' contains reserved prefix 'amq.*'")
        wanted = Exchange(kind, frame.durable, frame.auto_delete, frame.internal)
        where = self.vhost.place("exchange", name)
        demand_equal(where, wanted, exchanges.setdefault(name, wanted), "type", "durable", "auto_delete", "internal")

    def exchange_delete(self, frame: commands.Exchange.Delete) -> None:
        name, where = frame.exchange, self.vhost.place("exchange", frame.exchange)
        if name.startswith("amq."):
            raise Fault(403, f"deletion of system {where} not allowed")
        if not name or name in self.vhost.exchanges:
            if self.vhost.exchange(name).bindings and frame.if_unused:
                raise Fault(406, f"{where} in use")
            self.vhost.delete_exchange(name)

    def queue_declare(self, frame: commands.Queue.Declare) -> base.Frame:
        queues, name, where = self.vhost.queues, frame.queue, self.vhost.place("queue", frame.queue)
        if name == DIRECT_REPLIES:
            return commands.Queue.DeclareOk(name, 0, 1)  # as if there were one: clients look for it before they consume
        if not frame.passive:
            owner, arguments = self.connection if frame.exclusive else None, checked(frame.arguments or {}, where)
            wanted = Queue(self.vhost, name, frame.durable, frame.auto_delete, owner, arguments)
            if wanted.quorum and (owner or frame.auto_delete or not (frame.durable and name)):
                raise Fault(406, f"invalid property for {where}: quorum queues have a name, are durable and shared")
            if name in queues:
                if self.named(name).owner is not owner:
                    raise Fault(405, f"cannot obtain exclusive access to locked {where}")
                demand_equal(where, wanted, queues[name], "durable", "auto_delete", "arguments")
            elif name.startswith("amq."):
                raise Fault(403, f"queue name '{name}' contains reserved prefix 'amq.*'")
            else:
                wanted.name = name = name or f"amq.gen-{secrets.token_urlsafe(16)}"
                queues[name] = wanted
        queue = self.vhost.queue(name, self.connection)
        self.last_queue = name
        queue.use()
        return made(commands.Queue.DeclareOk, name, len(queue.ready), len(queue.consumers))

    def queue_delete(self, frame: commands.Queue.Delete) -> base.Frame:
        if frame.queue and frame.queue not in self.vhost.queues:
            return commands.Queue.DeleteOk(0)
        queue = self.named(frame.queue)
        where, count = self.vhost.place("queue", queue.name), len(queue.ready)
        if queue.quorum and (frame.if_unused or frame.if_empty):
            raise Fault(540, f"cannot delete {where}: quorum queues do not support if-unused and if-empty")
        if (frame.if_unused and queue.consumers) or (frame.if_empty and count):
            raise Fault(406, f"{where} in use or not empty")
        self.vhost.delete_queue(queue)
        return commands.Queue.DeleteOk(count)

    def queue_purge(self, frame: commands.Queue.Purge) -> base.Frame:
        queue = self.named(frame.queue)
        purged, queue.ready = queue.ready, deque()
        for item in purged:
            self.vhost.storage.gone(item)
        return commands.Queue.PurgeOk(len(purged))

    def queue_bind(self, frame: Any) -> None:
        """Binds and unbinds queues and exchanges, except the default exchange."""
        to_queue, unbind = frame.name.startswith("Queue"), frame.name.endswith("Unbind")
        source, target = (frame.exchange, frame.queue) if to_queue else (frame.source, frame.destination)
        key, target = frame.routing_key or "", target or (self.named("").name if to_queue else "")
        if to_queue and not (key or frame.queue):
            key = target
        for exchange in (source,) if to_queue else (source, target):
            if not unbind or not exchange:
                self.vhost.exchange(exchange)
        if to_queue and (not unbind or target in self.vhost.queues):
            self.named(target)
        binding = Binding(to_queue, target, key, repr(frame.arguments or {}))
        if unbind:
            self.vhost.unbind(source, binding)
        else:
            self.vhost.exchange(source).bindings[binding] = None

    queue_unbind = exchange_bind = exchange_unbind = queue_bind
