"""A typed subscriber for consumers of events, in FastStream: a handler gets an event as the domain's own class."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Any, Generic, TypeVar

import structlog
from aio_pika import DeliveryMode, IncomingMessage, Message
from faststream import AckPolicy, BaseMiddleware
from faststream.exceptions import HandlerException
from faststream.rabbit import (
    Channel,
    ExchangeType,
    QueueType,
    RabbitBroker,
    RabbitExchange,
    RabbitMessage,
    RabbitQueue,
    RabbitRouter,
)
from pamqp.commands import Basic
from pydantic import BaseModel

from domain import EVENT_NAMES
from services.broker.names import EVENT_EXCHANGE

# How often a message is handled in all, and the seconds before the second attempt; then RabbitMQ 4 would drop it, too.
ATTEMPTS, PAUSE = 20, 0.1
# The broker takes a message from a consumer that has not answered for half an hour; all pauses together are shorter.
LONGEST_PAUSE = 30.0
_MAX_REASON = 1000
_log = structlog.get_logger("events")

Data = TypeVar("Data")
Handler = Callable[[Any], Awaitable[None]]


class Event(BaseModel, Generic[Data]):
    """A published event: the attributes of its CloudEvent, and its data."""

    id: str
    type: str
    subject: str
    time: datetime
    tenant: str
    position: int
    streamversion: int
    recordedat: datetime
    commandid: str
    correlationid: str
    causationid: str
    actor: str
    traceparent: str | None = None
    data: Data


class EventSubscriber:
    """A quorum queue of one's own, with a handler for each type of event; other types are acknowledged unread.

    One queue takes all types, one message at a time, so events are handled in their order. A message whose handler
    fails is handled again after a pause. After so many `attempts` it goes to the queue `<queue>.dead`, and the next
    one is handled; None means that no message is given up.
    """

    def __init__(
        self,
        broker: RabbitBroker,
        queue: str,
        pattern: str = "#",
        *,
        attempts: int | None = ATTEMPTS,
        pause: float = PAUSE,
        exchange: str = EVENT_EXCHANGE,
    ) -> None:
        """Bind the queue to the events whose key, `<tenant>.<type>`, fits the topic pattern.

        `exchange` is another topic exchange for a consumer that may not read all events, such as one of a tenant.
        `pause` is the number of seconds before the second attempt; each pause is twice the one before, up to 30 s.
        """
        if (attempts is not None and attempts < 1) or pause <= 0:
            raise ValueError("a message is attempted once at least, and a pause is longer than 0 s")
        self._handled: set[str] = set()
        self._dead = DeadEvents(broker, queue)
        self._attempts = attempts
        self._pause = pause
        # A router, so that what repeats a message is about this subscriber alone.
        router = RabbitRouter(middlewares=[partial(_Repeating, run=self._run)])
        self._subscriber = router.subscriber(
            RabbitQueue(queue, queue_type=QueueType.QUORUM, durable=True, routing_key=pattern),
            # Foldwork declares it, or an operator; a consumer's user need not be allowed to.
            RabbitExchange(exchange, type=ExchangeType.TOPIC, durable=True, declare=False),
            decoder=_decode,
            # Of more than one, each would be a task of its own, and a later event could overtake an earlier one.
            channel=Channel(prefetch_count=1),
            ack_policy=AckPolicy.NACK_ON_ERROR,
        )
        self._subscriber(filter=self._is_not_handled)(_ignore)
        broker.include_router(router)

    def on(self, kind: type) -> Callable[[Handler], Any]:
        """Register the handler of one class of events, as a decorator."""
        name = EVENT_NAMES[kind]
        self._handled.add(name)
        return self._subscriber(filter=lambda message: _type(message) == name)

    def _is_not_handled(self, message: RabbitMessage) -> bool:
        return _type(message) not in self._handled

    async def _run(self, handle: Callable[[Any], Awaitable[Any]], message: RabbitMessage) -> Any:
        """Handle a message until that succeeds or it is given up.

        It is not returned to the broker in between: RabbitMQ may deliver later messages first, and counts returns
        against a limit beyond which it drops a message.
        """
        # Deliveries that ended without an answer, such as those that killed their process.
        count: Any = message.raw_message.headers.get("x-delivery-count", 0)
        failed = int(count)
        error: Exception | None = None
        while self._attempts is None or failed < self._attempts:
            try:
                return await handle(message)
            except HandlerException:
                raise
            except Exception as raised:
                error = raised
            failed += 1
            _log.warning("handler failed", event_id=message.message_id, attempt=failed, error=repr(error))
            if failed != self._attempts:
                await self._rest(failed, error)
        while True:
            try:
                return await self._dead.bury(message.raw_message, failed, error)
            except Exception as raised:
                failed += 1
                _log.exception("event not dead-lettered", event_id=message.message_id)
                await self._rest(failed, raised)

    async def _rest(self, failed: int, error: Exception) -> None:
        """Pause after a failure; raises the error once the subscriber is stopped."""
        left = min(self._pause * 2.0 ** min(failed - 1, 30), LONGEST_PAUSE)
        while left > 0 and self._subscriber.running:
            await asyncio.sleep(min(left, 0.1))
            left -= 0.1
        if not self._subscriber.running:
            raise error


class DeadEvents:
    """The exchange and the queue of the messages that a consumer has given up."""

    def __init__(self, broker: RabbitBroker, queue: str) -> None:
        self._broker = broker
        name = f"{queue}.dead"
        self._queue = RabbitQueue(name, queue_type=QueueType.QUORUM, durable=True)
        # Of its own: a consumer's user need not be allowed to write to the default exchange.
        self._exchange = RabbitExchange(name, type=ExchangeType.FANOUT, durable=True)

    async def bury(self, message: IncomingMessage, attempts: int, error: Exception | None) -> None:
        """Publish a message with the reason, and return when the broker has confirmed it."""
        exchange = await self._broker.declare_exchange(self._exchange)
        await (await self._broker.declare_queue(self._queue)).bind(exchange)
        reason = repr(error) if error is not None else "its deliveries ended without an answer"
        added: dict[str, Any] = {
            "x-foldwork-attempts": attempts,
            "x-foldwork-error": reason.encode("utf-8", "backslashreplace")[:_MAX_REASON].decode("utf-8", "ignore"),
        }
        letter = Message(
            message.body,
            headers={**message.headers, **added},
            content_type=message.content_type,
            content_encoding=message.content_encoding,
            correlation_id=message.correlation_id,
            message_id=message.message_id,
            timestamp=message.timestamp,
            type=message.type,
            app_id=message.app_id,
            delivery_mode=DeliveryMode.PERSISTENT,
        )
        answer = await exchange.publish(letter, message.routing_key or "", mandatory=True)
        if not isinstance(answer, Basic.Ack):
            raise ConnectionError(f"the broker returned the message for {self._queue.name}")
        _log.error("event dead-lettered", event_id=message.message_id, queue=self._queue.name, **added)


class _Repeating(BaseMiddleware[Any, Any]):
    def __init__(self, msg: Any, /, *, context: Any, run: Callable[..., Awaitable[Any]]) -> None:
        super().__init__(msg, context=context)
        self._run = run

    async def consume_scope(self, call_next: Callable[[Any], Awaitable[Any]], msg: Any) -> Any:
        return await self._run(call_next, msg)


def _type(message: RabbitMessage) -> str | None:
    return message.raw_message.type


async def _decode(message: RabbitMessage) -> Any:
    # FastStream parses bodies of `application/json` alone by itself.
    try:
        return json.loads(message.body)
    except ValueError:
        # The handler's type refuses it, which counts as a failed attempt.
        return message.body


async def _ignore(event: dict[str, Any]) -> None:
    return
