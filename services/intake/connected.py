"""What aio-pika and aiormq leave open: whether a connection stands, and how a channel is closed without losing it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from aio_pika.abc import AbstractChannel, AbstractConnection

_closings: set[asyncio.Task[None]] = set()


class _Closable(Protocol):
    def close(self) -> Awaitable[None]: ...


def connected(connection: AbstractConnection | None) -> bool:
    """Tell whether the connection can be used now: aio-pika's own `is_closed` turns true only when we close it."""
    transport = connection.transport if connection is not None else None
    return transport is not None and not transport.connection.is_closed and transport.connection.is_opened


async def close_channel(channel: _Closable) -> None:
    """Close a channel of aio-pika or aiormq; a cancellation or a time-out ends the wait, and not the closing.

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
