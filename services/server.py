"""The HTTP server of a process: uvicorn, with limits that hold before anything is known of a caller.

Everything here is counted per connection, since a request's key is checked later: the bytes of a head and the seconds
until it is complete, the seconds in which an answer has to be taken, and the connections themselves.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

# Bytes that may arrive without a head, a part of a body or a trailer being complete.
HEAD_LIMIT = 64 << 10
# Seconds from the connection, or from the first byte of another request, until the head is complete.
HEAD_TIMEOUT = 10.0
# Seconds in which a client takes so many bytes of an answer, or what is left of it.
SEND_TIMEOUT = 20.0
SEND_LEAST = 64 << 10
# The parser copies what it has of an incomplete header with each part that it is given, so it gets few of them.
_PART = 16 << 10
# Descriptors that a process needs beside its connections.
_OTHER_FILES = 200


class Connections:
    """The connections of a server, and those of them that wait for a request, the longest first."""

    def __init__(self, most: int, per_address: int) -> None:
        self._most = most
        self._per_address = per_address
        self._of: Counter[str] = Counter()
        self._waiting: dict[LimitedProtocol, None] = {}
        self._count = 0

    def opened(self, connection: LimitedProtocol) -> bool:
        """Count a connection. Returns false if there are too many, and all of them are at work."""
        address = connection.address
        self._count += 1
        self._of[address] += 1
        if self._of[address] > self._per_address and not self._close_one(address):
            return False
        return self._count <= self._most or self._close_one(None)

    def closed(self, connection: LimitedProtocol) -> None:
        """No longer count a connection."""
        self._waiting.pop(connection, None)
        self._count -= 1
        self._of[connection.address] -= 1
        if not self._of[connection.address]:
            del self._of[connection.address]

    def waits(self, connection: LimitedProtocol) -> None:
        """Note that a connection waits for a request from now on."""
        self._waiting[connection] = None

    def works(self, connection: LimitedProtocol) -> None:
        """Note that a request has arrived on a connection."""
        self._waiting.pop(connection, None)

    def _close_one(self, address: str | None) -> bool:
        """Close what has waited longest for a request, of one address or of all; false if nothing waits."""
        for connection in self._waiting:
            if address is None or connection.address == address:
                del self._waiting[connection]
                # At once, since a polite end waits for the other side.
                connection.transport.abort()
                return True
        return False


class Config(uvicorn.Config):
    """What uvicorn is told; `connections` is shared by the connections of the server."""

    def __init__(self, app: Any, connections: Connections, **given: Any) -> None:
        own = {"http": LimitedProtocol, "ws": "none", "log_config": None, "access_log": False, "server_header": False}
        super().__init__(app, **{**own, **given})
        self.connections = connections


class Server(uvicorn.Server):
    """A server that does not handle signals; the process does."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class LimitedProtocol(HttpToolsProtocol):
    """One connection."""

    config: Config
    address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._at = self.config.connections
        self._undelivered = self._left = 0
        self._in_head = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self.address = self.client[0] if self.client else ""
        if self._at.opened(self):
            self._wait()
        else:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "there are too many connections", retry=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._at.closed(self)
        self._stop_waiting()
        if self._send_timer is not None:
            self._send_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), _PART):
            if self.transport.is_closing():
                return
            part = data[start : start + _PART]
            self._undelivered += len(part)
            super().data_received(part)
            if self._undelivered > HEAD_LIMIT:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a head has at most {HEAD_LIMIT} bytes")
                return
        if self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            self._wait()

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # What follows a body in parts is not a header of the request, and must not stand for one.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._undelivered = 0
        self._stop_waiting()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._undelivered = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._undelivered = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._at.waits(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._left = self.transport.get_write_buffer_size()
        self._send_timer = self.loop.call_later(SEND_TIMEOUT, self._demand_taken)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _demand_taken(self) -> None:
        """End a connection whose client has taken too little of what waits to be sent since the last time."""
        before, self._left = self._left, self.transport.get_write_buffer_size()
        if before - self._left < SEND_LEAST:
            self.transport.abort()
        else:
            self._send_timer = self.loop.call_later(SEND_TIMEOUT, self._demand_taken)

    def _wait(self) -> None:
        self._at.waits(self)
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT, self._late)

    def _stop_waiting(self) -> None:
        self._at.works(self)
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _late(self) -> None:
        if self._in_head:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"a head is complete within {HEAD_TIMEOUT:g} seconds")
        else:
            self.transport.close()

    def _refuse(self, status: HTTPStatus, detail: str, *, retry: bool = False) -> None:
        """Answer with problem details, and close the connection."""
        body = msgspec.json.encode(
            {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
        )
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(
                STATUS_LINE[status.value]
                + b"content-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n" % len(body)
                + (b"retry-after: 1\r\n" if retry else b"")
                + b"\r\n"
                + body
            )
        self.transport.close()


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address, port 0 being a free one; raises `OSError` that names the address.

    The server would bind one too, but ends the process without a word where it cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # Accepted sockets inherit it: the system ends what takes no data, also where that is too little for the
            # transport to report.
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SEND_TIMEOUT * 1000))
    except OSError as error:
        made.close()
        raise OSError(error.errno, error.strerror or str(error), f"{host}:{port}") from None
    return made


def allow_files(connections: int) -> int:
    """Raise the limit of open files as far as these connections need; return how many connections it allows."""
    wanted = connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(1, min(connections, most - _OTHER_FILES))
