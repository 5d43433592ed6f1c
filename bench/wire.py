"""A bulk AMQP client on one blocking socket, so that neither sender nor subscriber limits a measurement."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import unquote, urlsplit

from pamqp import frame
from pamqp.body import ContentBody
from pamqp.commands import Basic, Channel, Confirm, Connection, Exchange, Queue
from pamqp.header import ContentHeader

F = TypeVar("F")

_FRAME = struct.Struct(">BHI")
_DELIVER = b"\x00\x3c\x00\x3c"
# Unconfirmed messages that may be under way: enough to keep the broker busy, few enough not to drown it.
WINDOW = 4000


class Refused(Exception):
    """The broker said no, or closed the channel."""


class Wire:
    """One connection with one channel. Not thread-safe."""

    def __init__(self, url: str, timeout: float = 30.0) -> None:
        parts = urlsplit(url)
        vhost = unquote(parts.path.removeprefix("/")) or "/"
        self._socket = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 5672), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._confirming, self._sent, self._confirmed = False, 0, 0
        self._early: set[int] = set()
        self._socket.sendall(b"AMQP\x00\x00\x09\x01")
        start = self._expect(Connection.Start)
        self.server: dict[str, Any] = dict(start.server_properties or {})
        login = f"\0{unquote(parts.username or 'guest')}\0{unquote(parts.password or 'guest')}"
        # Named, so that the broker's own list of connections tells whose this is.
        self._send(Connection.StartOk({"connection_name": "foldwork-bench"}, "PLAIN", login), channel=0)
        tune = self._expect(Connection.Tune)
        self._send(Connection.TuneOk(tune.channel_max, tune.frame_max, 0), channel=0)
        self._send(Connection.Open(vhost), channel=0)
        self._expect(Connection.OpenOk)
        self._open_channel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    # Topology.

    def declare_exchange(self, name: str, kind: str = "topic") -> None:
        """Declare a durable exchange."""
        self._call(Exchange.Declare(exchange=name, exchange_type=kind, durable=True), Exchange.DeclareOk)

    def declare_queue(self, name: str, arguments: dict[str, Any] | None = None) -> None:
        """Declare a durable quorum queue."""
        given = {"x-queue-type": "quorum", **(arguments or {})}
        self._call(Queue.Declare(queue=name, durable=True, arguments=given), Queue.DeclareOk)

    def bind(self, queue: str, exchange: str, key: str = "#") -> None:
        """Bind a queue to an exchange."""
        self._call(Queue.Bind(queue=queue, exchange=exchange, routing_key=key), Queue.BindOk)

    def count(self, queue: str) -> int | None:
        """Return how many messages a queue holds ready, or None when it is not there."""
        try:
            found = self._call(Queue.Declare(queue=queue, passive=True), Queue.DeclareOk)
        except Refused:
            self._open_channel()
            return None
        return int(found.message_count or 0)

    def consumers(self, queue: str) -> int:
        """Return how many consumers a queue has."""
        found = self._call(Queue.Declare(queue=queue, passive=True), Queue.DeclareOk)
        return int(found.consumer_count or 0)

    def delete_queue(self, name: str) -> None:
        """Delete a queue with all that it holds."""
        self._call(Queue.Delete(queue=name), Queue.DeleteOk)

    # Publishing.

    def publish(self, chunks: Iterable[tuple[int, bytes]], window: int = WINDOW) -> float:
        """Send encoded messages, wait for every confirm, and return the seconds that it took."""
        self.confirm()
        began = time.perf_counter()
        for count, data in chunks:
            while self._sent + count - self._confirmed > window and self._sent > self._confirmed:
                self._take_confirm()
            self.send(count, data)
        self.settle()
        return time.perf_counter() - began

    def confirm(self) -> None:
        """Ask for confirms, once."""
        if not self._confirming:
            self._call(Confirm.Select(), Confirm.SelectOk)
            self._confirming = True

    def send(self, count: int, data: bytes) -> None:
        """Send encoded messages and take what confirms are there, without waiting for more."""
        self._socket.sendall(data)
        self._sent += count
        while self._buffered() or select.select([self._socket], [], [], 0)[0]:
            self._take_confirm()

    def settle(self) -> None:
        """Wait until everything that was sent is confirmed."""
        while self._confirmed < self._sent:
            self._take_confirm()

    def _take_confirm(self) -> None:
        answer = self._read()
        if not isinstance(answer, Basic.Ack):
            raise Refused(f"a message was not confirmed: {answer!r}")
        tag = int(answer.delivery_tag or 0)
        if answer.multiple:
            self._confirmed = max(self._confirmed, tag)
            self._early = {early for early in self._early if early > tag}
        else:
            self._early.add(tag)
        while self._confirmed + 1 in self._early:
            self._confirmed += 1
            self._early.remove(self._confirmed)

    # Consuming.

    def consume(
        self, queue: str, taken: Callable[[float, int], bool], headers: list[bytes] | None = None, poll: float = 0.05
    ) -> None:
        """Take messages until `taken(now, messages so far)` says no; asked after every read, and while nothing comes.

        Each message's content header, undecoded, is added to `headers`.
        """
        self._call(Basic.Consume(queue=queue, no_ack=True), Basic.ConsumeOk)
        taking, count = True, 0
        while taking:
            if self._buffered() or select.select([self._socket], [], [], poll)[0]:
                if not self._buffered():
                    self._receive()
                count += self._walk(headers)
            taking = taken(time.monotonic(), count)

    def _walk(self, headers: list[bytes] | None) -> int:
        """Go over the frames at hand and return how many deliveries began among them."""
        buffer, at, count = self._buffer, 0, 0
        while len(buffer) - at >= 7:
            kind, _, size = _FRAME.unpack_from(buffer, at)
            if len(buffer) - at < size + 8:
                break
            if kind == 1 and buffer[at + 7 : at + 11] == _DELIVER:
                count += 1
            elif kind == 2 and headers is not None:
                headers.append(bytes(buffer[at : at + size + 8]))
            at += size + 8
        del buffer[:at]
        return count

    # Frames.

    def _open_channel(self) -> None:
        self._confirming, self._sent, self._confirmed = False, 0, 0
        self._call(Channel.Open(), Channel.OpenOk)

    def _call(self, request: Any, answer: type[F]) -> F:
        self._send(request)
        return self._expect(answer)

    def _expect(self, kind: type[F]) -> F:
        found = self._read()
        if isinstance(found, Channel.Close):
            self._send(Channel.CloseOk())
            raise Refused(f"{found.reply_code} {found.reply_text}")
        if isinstance(found, Connection.Close) or not isinstance(found, kind):
            raise Refused(f"instead of {kind.__name__} the broker sent {found!r}")
        return found

    def _send(self, request: Any, channel: int = 1) -> None:
        self._socket.sendall(frame.marshal(request, channel))

    def _read(self) -> Any:
        while not self._buffered():
            self._receive()
        size = _FRAME.unpack_from(self._buffer)[2] + 8
        _, _, found = frame.unmarshal(bytes(self._buffer[:size]))
        del self._buffer[:size]
        return found

    def _buffered(self) -> bool:
        return len(self._buffer) >= 7 and len(self._buffer) >= _FRAME.unpack_from(self._buffer)[2] + 8

    def _receive(self) -> None:
        data = self._socket.recv(1 << 18)
        if not data:
            raise Refused("the broker closed the connection")
        self._buffer += data


def encoded(exchange: str, key: str, properties: Basic.Properties, body: bytes) -> bytes:
    """Return the frames that publish one message on channel 1."""
    return b"".join(
        (
            frame.marshal(Basic.Publish(exchange=exchange, routing_key=key), 1),
            frame.marshal(ContentHeader(body_size=len(body), properties=properties), 1),
            frame.marshal(ContentBody(body), 1),
        )
    )


def chunked(messages: Sequence[bytes], size: int = 100) -> list[tuple[int, bytes]]:
    """Return messages in chunks that one write takes."""
    return [(len(part), b"".join(part)) for part in (messages[at : at + size] for at in range(0, len(messages), size))]


def message_id(header: bytes) -> str | None:
    """Return the message id that an undecoded content header holds."""
    _, _, found = frame.unmarshal(header)
    return found.properties.message_id if isinstance(found, ContentHeader) else None
