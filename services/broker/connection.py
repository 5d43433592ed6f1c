"""Connections to the broker, named as its management shows them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractRobustConnection, ConnectionParameter
from aiormq.abc import AbstractChannel as UnderlayChannel

from services.broker.frames.reader import Frames, TakingTransport

# A channel below aio-pika's robust one. A delivery tag is valid on this channel object only.
Channel = UnderlayChannel

# A broker that is silent for three and a half times this long is lost, and it takes a client for lost after twice as
# long. RabbitMQ advises against less than 5.
HEARTBEAT_SECONDS = 7

# What a role says while a broker in an alarm reads nothing from a connection that publishes; the reason follows.
BLOCKED = "connection blocked by the broker"

_closings: set[asyncio.Task[None]] = set()


class _TransportConnection(aio_pika.RobustConnection):
    """A robust connection that passes `transport_factory` on to aiormq; aio-pika's own have no such parameter."""

    PARAMETERS = (
        *aio_pika.RobustConnection.PARAMETERS,
        ConnectionParameter("transport_factory", parser=lambda factory: factory, is_kwarg=True),
    )


async def connect_robust(url: str, name: str, frames: Frames | None = None) -> AbstractRobustConnection:
    """Open a connection that reconnects by itself; raises an `OSError` or `AMQPError` if it cannot be opened now.

    `frames` registers the frames that are taken before aiormq parses them.
    """
    factory: Any = aio_pika.RobustConnection
    if frames is not None:
        factory = partial(_TransportConnection, transport_factory=TakingTransport(frames))
    opening = aio_pika.connect_robust(
        with_heartbeat(url),
        client_properties={"connection_name": f"foldwork-{name}"},
        timeout=10,
        reconnect_interval=1,
        connection_class=factory,
    )
    connection: AbstractRobustConnection = await _opened(opening)
    return connection


async def connect(url: str, name: str, timeout: float = 10) -> AbstractConnection:
    """Open a connection that does not reconnect; raises an `OSError` or `AMQPError` if it cannot be opened."""
    properties: Any = {"connection_name": f"foldwork-{name}"}
    opening = aio_pika.connect(with_heartbeat(url), client_properties=properties, timeout=timeout)
    connection: AbstractConnection = await _opened(opening)
    return connection


async def _opened(opening: Awaitable[Any]) -> Any:
    try:
        return await opening
    except (StopAsyncIteration, EOFError) as error:
        # What aiormq raises when the stream ends while the connection is being opened.
        raise ConnectionResetError("the broker ended the connection before it was open") from error


def with_heartbeat(url: str) -> str:
    """Return the URL with Foldwork's heartbeat, unless it sets its own."""
    parts = urlsplit(url)
    if "heartbeat" in parse_qs(parts.query):
        return url
    return parts._replace(query=f"{parts.query}&heartbeat={HEARTBEAT_SECONDS}".lstrip("&")).geturl()


def connected(connection: AbstractConnection | None) -> bool:
    """Tell whether the connection can be used now; aio-pika's `is_closed` is true only after `close()` was called."""
    transport = connection.transport if connection is not None else None
    return transport is not None and not transport.connection.is_closed and transport.connection.is_opened


class _Closable(Protocol):
    def close(self) -> Awaitable[None]: ...


async def close_channel(channel: _Closable) -> None:
    """Close a channel of aio-pika or aiormq; a cancellation or a timeout ends the wait, and not the closing.

    aiormq answers a cancelled `close` by a second `channel.close`, and a broker ends the connection for a method on a
    channel that it has closed already.
    """
    closing = asyncio.create_task(_close(channel), name="close-channel")
    _closings.add(closing)
    closing.add_done_callback(_closings.discard)
    await asyncio.shield(closing)


async def _close(channel: _Closable) -> None:
    with suppress(Exception):
        await channel.close()


@asynccontextmanager
async def temporary_channel(connection: AbstractConnection) -> AsyncIterator[AbstractChannel]:
    """Open a channel for one use; unlike aio-pika's own context this may be cancelled or timed out at any moment."""
    channel = await connection.channel()
    try:
        yield channel
    finally:
        await close_channel(channel)
