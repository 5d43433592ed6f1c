"""Whether a connection to the broker stands: `is_closed` of aio-pika's own turns true only when we close it."""

from __future__ import annotations

from aio_pika.abc import AbstractConnection


def connected(connection: AbstractConnection | None) -> bool:
    """Tell whether the connection can be used now."""
    transport = connection.transport if connection is not None else None
    return transport is not None and not transport.connection.is_closed and transport.connection.is_opened
