"""A typed subscriber for consumers of events, in FastStream: a handler gets an event as the domain's own class."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Generic, TypeVar

from faststream import AckPolicy
from faststream.rabbit import Channel, ExchangeType, QueueType, RabbitBroker, RabbitExchange, RabbitMessage, RabbitQueue
from pydantic import BaseModel

from domain import EVENT_NAMES
from services.broker.names import EVENT_EXCHANGE

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
    fails comes again.
    """

    def __init__(self, broker: RabbitBroker, queue: str, pattern: str = "#") -> None:
        """Bind the queue to the events whose key, `<tenant>.<type>`, fits the topic pattern."""
        self._handled: set[str] = set()
        self._subscriber = broker.subscriber(
            RabbitQueue(queue, queue_type=QueueType.QUORUM, durable=True, routing_key=pattern),
            # Foldwork declares it; a consumer's user need not be allowed to.
            RabbitExchange(EVENT_EXCHANGE, type=ExchangeType.TOPIC, durable=True, declare=False),
            decoder=_decode,
            # Of more than one, each would be a task of its own, and a later event could overtake an earlier one.
            channel=Channel(prefetch_count=1),
            ack_policy=AckPolicy.NACK_ON_ERROR,
        )
        self._subscriber(filter=self._is_not_handled)(_ignore)

    def on(self, kind: type) -> Callable[[Handler], Any]:
        """Register the handler of one class of events, as a decorator."""
        name = EVENT_NAMES[kind]
        self._handled.add(name)
        return self._subscriber(filter=lambda message: _type(message) == name)

    def _is_not_handled(self, message: RabbitMessage) -> bool:
        return _type(message) not in self._handled


def _type(message: RabbitMessage) -> str | None:
    return message.raw_message.type


async def _decode(message: RabbitMessage) -> Any:
    # FastStream parses bodies of `application/json` alone by itself.
    return json.loads(message.body)


async def _ignore(event: dict[str, Any]) -> None:
    return
