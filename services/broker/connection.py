"""Connections to the broker, named as its management shows them."""

from __future__ import annotations

from functools import partial
from typing import Any

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractRobustConnection, ConnectionParameter
from aiormq.abc import AbstractChannel

from services.broker.frames.reader import Frames, TakingTransport

# A channel below aio-pika's robust one. A delivery tag is valid on this channel object only.
Channel = AbstractChannel


class _TransportConnection(aio_pika.RobustConnection):
    """A robust connection that passes `transport_factory` on to aiormq; aio-pika's own have no such parameter."""

    PARAMETERS = (
        *aio_pika.RobustConnection.PARAMETERS,
        ConnectionParameter("transport_factory", parser=lambda factory: factory, is_kwarg=True),
    )


async def connect_robust(url: str, name: str, frames: Frames | None = None) -> AbstractRobustConnection:
    """Open a connection that reconnects by itself; raises if the broker cannot be reached now.

    `frames` registers the frames that are taken before aiormq parses them.
    """
    factory: Any = aio_pika.RobustConnection
    if frames is not None:
        factory = partial(_TransportConnection, transport_factory=TakingTransport(frames))
    connection: AbstractRobustConnection = await aio_pika.connect_robust(
        url,
        client_properties={"connection_name": f"foldwork-{name}"},
        timeout=10,
        reconnect_interval=1,
        connection_class=factory,
    )
    return connection


async def connect(url: str, name: str, timeout: float = 10) -> AbstractConnection:
    """Open a connection that does not reconnect."""
    return await aio_pika.connect(url, client_properties={"connection_name": f"foldwork-{name}"}, timeout=timeout)


def connected(connection: AbstractConnection | None) -> bool:
    """Tell whether the connection can be used now; aio-pika's `is_closed` is true only after `close()` was called."""
    transport = connection.transport if connection is not None else None
    return transport is not None and not transport.connection.is_closed and transport.connection.is_opened
