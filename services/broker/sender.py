"""Sends commands and waits for their answers; a command is sent once the broker has confirmed it."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import aio_pika
import structlog
from aio_pika.abc import AbstractIncomingMessage, AbstractRobustChannel, AbstractRobustConnection, DeliveryMode
from aio_pika.exceptions import DeliveryError

from services.broker import names, topology
from services.broker.connection import BLOCKED, connect_robust, connected
from services.broker.frames.reader import Frames, Message, Taker
from services.commands import wire
from services.commands.wire import Reply
from services.errors import OperatorError
from services.settings import broker_user

_DIRECT_REPLY = "amq.rabbitmq.reply-to"
# How long a command that is under way when the broker blocks the connection may still be confirmed.
_BLOCKED_SECONDS, _CLOSE_SECONDS = 0.5, 2.0
# After so long nothing more is concluded from a command without an answer, if no other was sent since.
_TELLING_SECONDS = 60.0


class NotSent(OperatorError):
    """The broker did not accept the command."""


class Unconfirmed(NotSent):
    """The broker may have accepted the command without a confirm; resend it only under the same id or key."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A command to be sent. `body` is the JSON of its data."""

    name: str
    body: bytes
    tenant: str
    routing_key: str = "new"
    actor: str = "system"
    command_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    idempotency_key: str | None = None
    expected_version: int | None = None
    traceparent: str | None = None
    dry_run: bool = False
    correlation_id: str | None = None
    # Of a command that is sent again: the broker user that sent it first, empty if that is not known.
    sent_by: str | None = None
    # It must not overtake an earlier command of its routing key.
    ordered: bool = False
    # The position of the event that it answers.
    caused_by: int | None = None

    @property
    def type(self) -> str:
        """Return the type of its message."""
        return f"{wire.DRY_RUN}{self.name}" if self.dry_run else self.name

    def headers(self) -> dict[str, Any]:
        """Return the AMQP headers that are set."""
        return {
            key: value
            for key, value in (
                ("tenant", self.tenant),
                ("actor", self.actor),
                ("idempotency-key", self.idempotency_key),
                ("expected-version", self.expected_version),
                ("ordered", self.ordered or None),
                ("caused-by", self.caused_by),
                ("traceparent", self.traceparent),
                (wire.SENT_BY, self.sent_by),
            )
            if value is not None
        }

    def properties(self) -> Any:
        """Return the AMQP properties in the form that `wire.parse` reads."""
        return SimpleNamespace(
            message_id=self.command_id,
            message_type=self.type,
            headers=self.headers(),
            reply_to=None,
            user_id=None,
            correlation_id=self.correlation_id,
        )


class CommandSender:
    """One connection that publishes commands and receives answers by direct reply-to; it reconnects by itself."""

    def __init__(self, amqp_url: str, name: str = "sender") -> None:
        self._url = amqp_url
        self._name = name
        # The broker verifies it, and Foldwork's own user may send for every tenant.
        self._user = broker_user(amqp_url)
        self._connection: AbstractRobustConnection | None = None
        self._channel: AbstractRobustChannel | None = None
        self._exchange: aio_pika.abc.AbstractExchange | None = None
        self._waiting: dict[str, asyncio.Future[Reply]] = {}
        self._frames = Frames(on_blocked=self._hasten)
        # The time-outs of the commands that are not confirmed yet.
        self._unconfirmed: set[asyncio.Timeout] = set()
        # Of the commands that had no answer in time since the last answer: when the first was sent, the last given up.
        self._unanswered: tuple[float, float] | None = None
        self._log = structlog.get_logger("sender")

    async def start(self) -> None:
        """Connect and consume answers; raises if the broker cannot be reached."""
        self._connection = await connect_robust(self._url, self._name, self._frames)
        self._channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
        queue = await self._channel.declare_queue(_DIRECT_REPLY, passive=True)
        # Answers are taken from the frames; aio-pika consumes again under the same tag on every new channel.
        tag = f"answers-{uuid.uuid4().hex}"
        self._frames.takers[tag.encode()] = Taker(self._answered)
        await queue.consume(_not_taken, no_ack=True, consumer_tag=tag)
        # On this channel: if the broker closes it because an exchange was deleted, aio-pika declares it again.
        await topology.declare(self._channel)
        self._exchange = await self._channel.get_exchange(names.COMMAND_EXCHANGE, ensure=False)

    async def close(self) -> None:
        """Close the connection, and cancel those who wait for an answer."""
        for future in self._waiting.values():
            future.cancel()
        if self._connection is not None:
            # A broker in an alarm does not answer.
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._connection.close()

    @property
    def blocked(self) -> str | None:
        """Return why the broker reads nothing from this connection, as it does during an alarm."""
        return self._frames.blocked

    def _hasten(self) -> None:
        """Let the commands under way end soon: the broker reads no more, and may have taken any of them."""
        soon = asyncio.get_running_loop().time() + _BLOCKED_SECONDS
        for timeout in self._unconfirmed:
            with suppress(RuntimeError):  # it ends already
                timeout.reschedule(min(soon, timeout.when() or soon))

    @property
    def ready(self) -> bool:
        """Tell whether commands can be sent now."""
        # The connection is open for a moment before the exchange is declared.
        return self._exchange is not None and connected(self._connection)

    @property
    def unanswered(self) -> float | None:
        """Return for how many seconds no command has been answered, although some were sent; None if that is not so."""
        if self._unanswered is None:
            return None
        now, (since, last) = time.monotonic(), self._unanswered
        return now - since if now - last < _TELLING_SECONDS else None

    def _give_up(self, sent: float) -> None:
        self._unanswered = (self._unanswered or (sent, 0.0))[0], time.monotonic()

    async def send(self, outgoing: Outgoing, timeout: float, *, wait: bool = True) -> Reply | None:
        """Publish, and wait for the answer; None when it did not come within `timeout` seconds, or without `wait`.

        Raises `NotSent` when the broker did not accept the command, `Unconfirmed` when it did not confirm in time.
        """
        loop = asyncio.get_running_loop()
        correlation = uuid.uuid4().hex
        future: asyncio.Future[Reply] = loop.create_future()
        self._waiting[correlation] = future
        deadline = loop.time() + timeout
        sent = time.monotonic()
        try:
            await self._publish(outgoing, correlation, deadline)
            if not wait:
                return None
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    return await future
            self._give_up(sent)
            return None
        except Unconfirmed:
            self._give_up(sent)
            raise
        finally:
            self._waiting.pop(correlation, None)

    async def _publish(self, outgoing: Outgoing, correlation: str, deadline: float) -> None:
        if self._channel is None or self._exchange is None or not self.ready:
            raise NotSent("the broker cannot be reached")
        if self.blocked is not None:
            raise NotSent(f"{BLOCKED}: {self.blocked}")
        try:
            # A channel that is open again has no consumer of answers at first. A broker closes it for a command that is
            # sent then, and aio-pika does not restore a channel that is closed while it is being restored.
            async with asyncio.timeout_at(deadline):
                await self._channel.ready()
        except TimeoutError:
            raise NotSent("the channel to the broker is not open again yet") from None
        message = aio_pika.Message(
            outgoing.body,
            message_id=outgoing.command_id,
            type=outgoing.type,
            reply_to=_DIRECT_REPLY,
            correlation_id=correlation,
            content_type="application/json",
            delivery_mode=DeliveryMode.PERSISTENT,
            headers=outgoing.headers(),
            user_id=self._user,
        )
        # aio-pika's own timeout does not apply while it reconnects.
        within = asyncio.timeout_at(deadline)
        try:
            async with within:
                self._unconfirmed.add(within)
                await self._exchange.publish(message, outgoing.routing_key, mandatory=True)
        except DeliveryError as error:
            raise NotSent("the broker has no queue for commands, or refuses more of them") from error
        except Exception as error:
            # A confirm that is lost with its connection may end in a bare Exception.
            why = f"{BLOCKED}: {self.blocked}" if self.blocked is not None else str(error) or type(error).__name__
            raise Unconfirmed(f"the broker did not confirm: {why}") from error
        finally:
            self._unconfirmed.discard(within)

    def _answered(self, message: Message) -> None:
        self._unanswered = None
        future = self._waiting.get(message.properties.correlation_id or "")
        if future is None or future.done():
            return
        try:
            future.set_result(wire.decode_reply(message.body))
        except Exception as error:
            self._log.warning("cannot decode an answer", error=str(error))


async def _not_taken(_: AbstractIncomingMessage) -> None:
    raise RuntimeError("an answer was not taken from the frames")
