"""Dead letters: a message that is no command is kept with the reason, and only then acknowledged."""

from __future__ import annotations

import asyncio
import hashlib

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, DeliveryMode
from pamqp import encode

from services.intake.frames import Message
from services.messages import DEAD_EXCHANGE, Malformed

# Of a body over the limit the hash and this much are kept, in bytes.
KEPT_BODY = 4096
# Headers travel in one frame of 128 KiB: those that fill it leave no room for the reason, so just the tenant is kept.
KEPT_HEADERS = 64 * 1024


class DeadLetters:
    """Publishes dead letters on a channel with confirms."""

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel
        self._log = structlog.get_logger("commands")

    async def bury(self, message: Message, reason: Malformed) -> bool:
        """Publish the message with its reason and return whether the broker confirmed it."""
        properties, body = message.properties, message.body
        headers = dict(properties.headers or {})
        if len(encode.field_table(headers)) > KEPT_HEADERS:
            headers = {"tenant": str(headers.get("tenant"))[:63]}
        headers |= {
            "x-foldwork-code": reason.code,
            "x-foldwork-detail": reason.detail[:1000],
            "x-foldwork-pointer": reason.pointer[:1000],
            "x-foldwork-routing-key": str(message.routing_key or "")[:255],
        }
        if reason.code == "too-large":
            headers |= {"x-foldwork-sha256": hashlib.sha256(body).hexdigest(), "x-foldwork-bytes": len(body)}
            body = body[:KEPT_BODY]
        letter = aio_pika.Message(
            body,
            headers=headers,
            message_id=properties.message_id,
            type=properties.message_type,
            correlation_id=properties.correlation_id,
            content_type=properties.content_type,
            delivery_mode=DeliveryMode.PERSISTENT,
        )
        try:
            async with asyncio.timeout(10):
                exchange = await self._channel.get_exchange(DEAD_EXCHANGE, ensure=False)
                await exchange.publish(letter, "", mandatory=True)
        except Exception as error:  # a confirm that is lost with its channel ends in a bare Exception
            self._log.warning("a dead letter was not confirmed, the message will come again", error=repr(error))
            return False
        return True
