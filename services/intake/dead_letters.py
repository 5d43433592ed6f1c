"""Dead letters: a message that is no command is kept with the reason, and only then acknowledged."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any

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


def kept_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the headers as far as they can be sent again: senders put bytes into them that no client can write."""
    kept: dict[str, Any] = _texts(headers)
    try:
        if len(encode.field_table(kept)) <= KEPT_HEADERS:
            return kept
    except Exception as error:
        structlog.get_logger("commands").debug("headers that cannot be kept", error=repr(error))
    return {"tenant": str(kept.get("tenant"))[:63]}


def _texts(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, Mapping):
        return {str(key): _texts(item) for key, item in value.items()}
    return [_texts(item) for item in value] if isinstance(value, list) else value


class DeadLetters:
    """Publishes dead letters on a channel with confirms."""

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel
        self._log = structlog.get_logger("commands")

    async def bury(self, message: Message, reason: Malformed) -> bool:
        """Publish the message with its reason and return whether the broker confirmed it."""
        properties, body = message.properties, message.body
        headers = kept_headers(properties.headers or {})
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
