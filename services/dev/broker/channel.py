"""A channel with its basic and confirm methods; when it closes, unsettled messages are requeued."""

import re
import secrets
from collections.abc import Generator
from contextlib import suppress
from itertools import takewhile
from typing import Any

from pamqp import base, commands

from services.dev.broker import frames
from services.dev.broker.frames import Fault, Message, Properties, made
from services.dev.broker.topology import DIRECT_REPLIES, Topology
from services.dev.broker.vhost import Consumer, Item, Queue, dispatch

Basic = commands.Basic
DEFINING = (commands.Exchange.frame_id, commands.Queue.frame_id)


class Channel(Topology):
    content: Generator[None, tuple[int, bytes], None] | None = None
    reply_queue: Queue | None = None  # for direct replies: a queue like others, whose name goes out with requests
    closing = confirms = False
    prefetch = published = _confirmed = _tag = 0
    unwritten = _written = 0  # the last publish that waits for the storage, and the last one that it has settled

    def __init__(self, connection: Any, number: int) -> None:
        self.connection, self.vhost, self.number = connection, connection.vhost, number
        self.consumers: dict[str, Consumer] = {}
        self.touched: list[Queue] = []  # the queues to dispatch when the method at hand is answered
        self.refused: set[int] = set()  # publishes that a full queue did not take
        self.unacked: dict[int, Item] = {}  # by delivery tag, in the order of the deliveries

    def send(self, frame: base.Frame, message: Message | None = None) -> None:
        content = b"" if message is None else message.frames(self.number, self.connection.frame_max)
        self.connection.send(frame, self.number, content)

    def deliver(self, item: Item, consumer: Consumer | None, *, no_ack: bool) -> None:
        """Delivers a message to a consumer, or as the answer to basic.get."""
        self._tag += 1
        if not no_ack:
            self.unacked[self._tag], item.consumer, item.delivered = item, consumer, True
            self.vhost.storage.delivered(item)
            if consumer is not None:
                consumer.unacked += 1
        else:
            self.vhost.storage.gone(item)
        message, left = item.message, len(item.queue.ready)
        what = (self._tag, item.returns > 0 or item.restored, message.exchange, message.key)
        if item.queue.quorum and item.returns:
            message = message.changed({"x-delivery-count": item.returns})
        self.send(made(Basic.Deliver, consumer.tag, *what) if consumer else made(Basic.GetOk, *what, left), message)

    def confirm(self) -> None:
        """Sends one acknowledgement for everything published since the previous one that need not wait."""
        last = self.published if self._written >= self.unwritten else self._written
        while last in self.refused:
            last -= 1
        if self.refused:
            self.refused = {tag for tag in self.refused if tag > last}
        waiting, self._confirmed = last - self._confirmed, max(last, self._confirmed)
        if self.confirms and waiting > 0:
            self.send(Basic.Ack(last, multiple=waiting > 1))

    def settle_publishes(self, last: int, *, accepted: bool) -> None:
        """Confirms, or refuses, all publishes up to this one, once the storage has written them or failed."""
        if self.closing:
            return
        self._written = last
        if not accepted:
            self.send(Basic.Nack(last, multiple=True, requeue=False))
            self._confirmed = last
        self.connection.confirming.add(self)
        self.connection.flush()

    def settle(self, tag: int, *, multiple: bool) -> list[Item]:
        if tag not in self.unacked and not (multiple and tag == 0):
            raise Fault(406, f"unknown delivery tag {tag}")
        tags = [tag] if not multiple else list(takewhile(lambda known: not tag or known <= tag, self.unacked))
        settled = [self.unacked.pop(known) for known in tags]
        for item in settled:
            if item.consumer is not None:
                item.consumer.unacked -= 1
        return settled

    def give_back(self, items: list[Item]) -> list[Queue]:
        """Requeues messages; the caller dispatches the queues once all are requeued."""
        queues = list(dict.fromkeys(item.queue for item in items if not item.queue.deleted))
        for queue in queues:
            for message in queue.give_back(item for item in items if item.queue is queue):
                self.vhost.dead_letter(queue, message, "delivery_limit")
        return queues

    def unsubscribe(self, *tags: str) -> list[Queue]:
        """Cancels consumers; the caller dispatches the queues, where the next single active consumer takes over."""
        ended = [consumer for tag in tags if (consumer := self.consumers.pop(tag, None)) is not None]
        for consumer in ended:
            (queue := consumer.queue).consumers.remove(consumer)
            queue.use()
            if queue.auto_delete and not queue.consumers:
                self.vhost.delete_queue(queue)
        return [consumer.queue for consumer in ended]

    def lost(self, consumer: Consumer) -> None:
        del self.consumers[consumer.tag]
        if self.connection.told_of_cancels:
            self.send(Basic.Cancel(consumer.tag, nowait=True))

    def release(self) -> list[Queue]:
        """Requeues everything; the queues are dispatched once the connection has no consumers."""
        self.closing, self.content = True, None
        return self.unsubscribe(*self.consumers) + self.give_back(self.settle(0, multiple=True))

    def receive(self, kind: int, payload: bytes) -> None:
        if self.content is not None:
            with suppress(StopIteration):
                self.content.send((kind, payload))
        elif kind != frames.METHOD:
            raise Fault(505, "expected method frame, got non method frame instead")
        elif isinstance(frame := frames.decode(payload), Basic.Publish):
            self.content = self.take_content(frame)
            next(self.content)
        else:
            self.handle(frame)

    def take_content(self, publish: Basic.Publish) -> Generator[None, tuple[int, bytes], None]:
        kind, payload = yield
        class_id, _, missing = frames.CONTENT.unpack(payload[: frames.CONTENT.size].ljust(frames.CONTENT.size, b"\0"))
        if kind != frames.HEADER or class_id != Basic.frame_id:
            raise Fault(505, "expected content header for class 60, got another frame or class instead")
        if missing > (most := self.connection.broker.max_message_size):
            raise Fault(406, f"message size {missing} is larger than configured max size {most}")
        properties, encoded, body = frames.parse(payload), payload[frames.CONTENT.size :], list[bytes]()
        while missing > 0:
            kind, payload = yield
            if kind != frames.BODY:
                raise Fault(505, "expected content body, got non content body frame instead")
            body.append(payload)
            missing -= len(payload)
        if missing:
            raise Fault(501, "the body is longer than its header said")
        self.content = None
        self.publish(publish, Message(publish.exchange, publish.routing_key or "", properties, encoded, b"".join(body)))

    def handle(self, frame: Any) -> None:
        if isinstance(frame, commands.Channel.Open):
            raise Fault(504, "second 'channel.open' seen")
        if (answer := getattr(self, frame.name.replace(".", "_").lower(), None)) is None:
            raise Fault(540 if frame.name.startswith("Tx.") else 503, f"unimplemented method {frame.name}")
        reply = answer(frame)
        if frame.synchronous and not isinstance(frame, Basic.Get) and not getattr(frame, "nowait", False):
            self.send(reply or commands.INDEX_MAPPING[frame.index + (11 if frame.name == "Exchange.Unbind" else 1)]())
        if frame.index >> 16 in DEFINING:
            self.vhost.storage.changed()
        touched, self.touched = self.touched, []
        dispatch(touched)

    def channel_flow(self, frame: commands.Channel.Flow) -> base.Frame:
        if frame.active:
            return commands.Channel.FlowOk(active=True)
        raise Fault(540, "active=false")

    def confirm_select(self, _: commands.Confirm.Select) -> None:
        if not self.confirms:
            self.confirms, self.published, self._confirmed, self._written, self.unwritten = True, 0, 0, 0, 0

    def publish(self, frame: Basic.Publish, message: Message) -> None:
        exchange, key = message.exchange, message.key
        if frame.immediate:
            raise Fault(540, "immediate=true")
        if exchange and self.vhost.exchange(exchange).internal:
            raise Fault(403, f"cannot publish to internal {self.vhost.place('exchange', exchange)}")
        if not exchange and re.fullmatch(rf"{re.escape(DIRECT_REPLIES)}(\.[^.]+){{2}}", key):
            raise Fault(541, "INTERNAL_ERROR")  # as RabbitMQ, which decodes such a name; here they have one part
        message = self._valid(message, message.properties)
        queues = self.vhost.route(exchange, key)
        # RabbitMQ returns a direct reply as unroutable even when it is delivered.
        if frame.mandatory and (not queues or key.startswith(DIRECT_REPLIES)):
            self.send(made(Basic.Return, 312, "NO_ROUTE", exchange, key), message)
        full = [queue for queue in queues if queue.full]
        for queue in queues:
            if queue not in full:
                queue.enqueue(message, self)
        self.published += 1
        if full and self.confirms:
            self.refused.add(self.published)
            self.send(Basic.Nack(self.published, requeue=False))
        self.connection.confirming.add(self)
        if self.connection.broker.alarm is not None:
            self.connection.hold(self.connection.broker.alarm)

    def _valid(self, message: Message, properties: Properties) -> Message:
        if properties.user_id not in (None, user := self.connection.user):
            raise Fault(406, f"user_id property set to '{properties.user_id}' but authenticated user was '{user}'")
        if re.fullmatch(r"(\+?[0-9]+)?", expiration := properties.expiration or "") is None:
            raise Fault(406, f"invalid expiration '{expiration}'")
        if not {"CC", "BCC"}.isdisjoint(properties.headers or ()):
            raise Fault(540, "CC and BCC headers")
        if properties.reply_to != DIRECT_REPLIES:
            return message
        if self.reply_queue is None or self.reply_queue.deleted:
            raise Fault(406, "fast reply consumer does not exist")
        return message.changed({}, reply_to=self.reply_queue.name)

    def basic_qos(self, frame: Basic.Qos) -> None:
        if frame.prefetch_size or frame.global_:
            raise Fault(540, "a prefetch size or a prefetch count for the whole channel")
        self.prefetch = frame.prefetch_count

    def basic_consume(self, frame: Basic.Consume) -> base.Frame:
        if frame.arguments or frame.no_local:
            raise Fault(540, "no_local and the arguments of consumers")
        tag = frame.consumer_tag = frame.consumer_tag or f"amq.ctag-{secrets.token_urlsafe(16)}"
        if tag in self.consumers:
            raise Fault(530, f"attempt to reuse consumer tag '{tag}'")
        if frame.queue == DIRECT_REPLIES:
            if not frame.no_ack or (self.reply_queue is not None and not self.reply_queue.deleted):
                raise Fault(406, "reply consumer cannot acknowledge, or is already set")
            frame.queue = f"{DIRECT_REPLIES}.{secrets.token_urlsafe(24)}"
            self.reply_queue = self.vhost.queues[frame.queue] = Queue(self.vhost, frame.queue, False, True, None)
        queue = self.named(frame.queue)
        taken = any(other.exclusive for other in queue.consumers)
        if taken or (frame.exclusive and (queue.consumers or queue.single_active)):
            raise Fault(403, f"{self.vhost.place('queue', queue.name)} in exclusive use")
        self.consumers[tag] = Consumer(self, queue, tag, frame.no_ack, frame.exclusive, self.prefetch)
        queue.consumers.append(self.consumers[tag])
        self.touched = [queue]
        return Basic.ConsumeOk(tag)

    def basic_cancel(self, frame: Basic.Cancel) -> base.Frame:
        self.touched = self.unsubscribe(frame.consumer_tag or "")
        return Basic.CancelOk(frame.consumer_tag)

    def basic_get(self, frame: Basic.Get) -> None:
        queue = self.named(frame.queue)
        if queue.quorum and queue.single_active:
            raise Fault(405, f"{self.vhost.place('queue', queue.name)} is for its single active consumer alone")
        queue.use()
        queue.expire()
        if queue.ready:
            self.deliver(queue.ready.popleft(), None, no_ack=frame.no_ack)
        else:
            self.send(Basic.GetEmpty())

    def basic_ack(self, frame: Basic.Ack) -> None:
        settled = self.settle(frame.delivery_tag or 0, multiple=frame.multiple)
        for item in settled:
            self.vhost.storage.gone(item)
        self.touched = [item.queue for item in settled]

    def basic_nack(self, frame: Basic.Nack | Basic.Reject) -> None:
        settled = self.settle(frame.delivery_tag or 0, multiple=getattr(frame, "multiple", False))
        self.touched = self.give_back(settled) if frame.requeue else [item.queue for item in settled]
        for item in () if frame.requeue else settled:
            self.vhost.dead_letter(item.queue, item.message, "rejected")
            self.vhost.storage.gone(item)

    basic_reject = basic_nack

    def basic_recover(self, frame: Basic.Recover | Basic.RecoverAsync) -> None:
        if not frame.requeue:
            raise Fault(540, "requeue=false")
        self.touched = self.give_back(self.settle(0, multiple=True))

    basic_recoverasync = basic_recover
