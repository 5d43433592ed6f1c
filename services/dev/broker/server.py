"""The development broker, AMQP 0-9-1 on loopback, and its connections."""

import asyncio
import ipaddress
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import structlog
from pamqp import base, commands, header

from services.dev.broker.channel import Channel
from services.dev.broker.frames import BODY, HEARTBEAT, METHOD, Fault, decode, encode, login, method, split
from services.dev.broker.journal import Journal
from services.dev.broker.vhost import Storage, VirtualHost, dispatch

Methods = commands.Connection
GREETING = header.ProtocolHeader().marshal()
TUNE = Methods.Tune(channel_max=2047, frame_max=131072, heartbeat=60)
CAPABILITIES = ("publisher_confirms", "exchange_exchange_bindings", "direct_reply_to", "consumer_cancel_notify",
                "authentication_failure_close", "connection.blocked", "per_consumer_qos", "basic.nack")  # fmt: skip
BATCH, PATIENCE, GRACE = 65536, 5.0, 1.0  # bytes; seconds for an answer to connection.close, and when stopping
log = structlog.get_logger(__name__)


class Connection(asyncio.Protocol):
    user, told_of_cancels, told_of_blocks, blocked, writable, _size = "", False, False, False, True, 0
    frame_max, channel_max = TUNE.frame_max, TUNE.channel_max
    _open = _closing = _hung_up = False
    _expected: type[base.Frame] | None = None  # as long as the handshake waits for the protocol header
    _timer: asyncio.TimerHandle | None = None

    def __init__(self, broker: "DevelopmentBroker") -> None:
        self.broker, self.vhost = broker, VirtualHost("", broker.storage)
        self.loop = asyncio.get_running_loop()
        self.channels: dict[int, Channel] = {}
        self.confirming: set[Channel] = set()
        self.lost: asyncio.Future[None] = self.loop.create_future()
        self._in, self._out, self._heard = bytearray(), list[bytes](), self.loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.broker.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.release()
        self.broker.connections.discard(self)
        self.lost.set_result(None)

    def pause_writing(self) -> None:
        self.writable = False  # until there is room, messages stay in their queues

    def resume_writing(self) -> None:
        self.writable = not self._closing
        dispatch(consumer.queue for channel in self.channels.values() for consumer in channel.consumers.values())

    def send(self, frame: base.Frame, number: int = 0, content: bytes = b"") -> None:
        """Collects output into one write, up to a size at which the transport must be able to apply back-pressure."""
        if self._hung_up:
            return
        data = method(frame, number) + content
        if not self._out:
            self.loop.call_soon(self.flush)
        self._out.append(data)
        self._size += len(data)
        if self._size > BATCH:
            self.flush()

    def flush(self) -> None:
        while self.confirming:
            self.confirming.pop().confirm()
        if self._out:
            self.transport.write(b"".join(self._out))
            self._out, self._size = [], 0

    def data_received(self, data: bytes) -> None:
        if self._hung_up:
            return
        self._heard = self.loop.time()
        self._in += data
        self._read()

    def _read(self) -> None:
        if self._expected is None and len(self._in) >= len(GREETING):
            self._expected = Methods.StartOk
            if self._in.startswith(GREETING):
                self.send(Methods.Start(0, 9, self.broker.properties, "PLAIN AMQPLAIN", "en_US"))
            else:
                self.transport.write(GREETING)
                self._hang_up()
            del self._in[: len(GREETING)]
        try:
            for frame in split(self._in, self.frame_max) if self._expected else ():
                self._receive(*frame)
                if self.blocked:
                    break
        except Fault as fault:
            self._in.clear()  # without its length, the next frame cannot be found any more
            self.fail(fault)
        self.flush()

    def hold(self, reason: str | None) -> None:
        """Reads no more, as RabbitMQ from a connection that publishes during an alarm; or reads again."""
        if self.blocked == (reason is not None):
            return
        self.blocked, self._heard = reason is not None, self.loop.time()
        if self.told_of_blocks:
            self.send(Methods.Unblocked() if reason is None else Methods.Blocked(reason))
        if reason is not None:
            self.transport.pause_reading()
            return
        self.transport.resume_reading()
        self._read()

    def _receive(self, kind: int, number: int, payload: bytes) -> None:
        channel, index = self.channels.get(number), int.from_bytes(payload[:4]) if kind == METHOD else 0
        if channel is not None and channel.content is not None:
            index = commands.Basic.Publish.index
        try:
            if self._closing:
                if index == Methods.CloseOk.index:
                    self._hang_up()
                elif index == Methods.Close.index:
                    self.send(Methods.CloseOk())
            elif kind > BODY:
                if kind != HEARTBEAT or number or payload:
                    raise Fault(505 if kind == HEARTBEAT and number else 501, f"type {kind}: unknown_frame")
            elif kind != METHOD and channel is None:
                raise Fault(505, "expected method frame, got non method frame instead")
            elif self._open and number:
                self._on_channel(channel, kind, number, index, payload)
            else:
                self._on_connection(decode(payload), number)
        except Fault as fault:
            self.fail(fault, number if fault.soft else 0, index if self._open else 0)

    def _on_channel(self, channel: Channel | None, kind: int, number: int, index: int, payload: bytes) -> None:
        if channel is None:
            if index != commands.Channel.Open.index:
                raise Fault(504, "expected 'channel.open'")
            if len(self.channels) >= self.channel_max:
                raise Fault(530, f"number of channels opened has reached the channel_max ({self.channel_max})")
            self.channels[number] = Channel(self, number)
            self.send(commands.Channel.OpenOk(), number)
        elif index == commands.Channel.Close.index:
            channel.confirm()
            if not channel.closing:
                dispatch(self.channels.pop(number).release())
            self.send(commands.Channel.CloseOk(), number)
        elif not channel.closing:
            channel.receive(kind, payload)
        elif index == commands.Channel.CloseOk.index:
            del self.channels[number]

    def _on_connection(self, frame: base.Frame, number: int) -> None:
        if self._open:
            if isinstance(frame, Methods.UpdateSecret):
                self.send(Methods.UpdateSecretOk())  # any will do, as for the users that RabbitMQ keeps itself
                return
            if not isinstance(frame, Methods.Close):
                raise Fault(504, "unexpected method in connection state running")
            self.release()
            self.send(Methods.CloseOk())
            self._hang_up()
        elif self._expected is None or not isinstance(frame, self._expected) or number:
            raise Fault(503, "unexpected method in the handshake")
        elif isinstance(frame, Methods.StartOk):
            able: Any = (frame.client_properties or {}).get("capabilities") or {}
            self.told_of_cancels = bool(able.get("consumer_cancel_notify"))
            self.told_of_blocks = bool(able.get("connection.blocked"))
            user, password = login(frame)
            if self.broker.users.get(user) != password:
                code = 403 if able.get("authentication_failure_close") else 503
                raise Fault(code, f"Login was refused using authentication mechanism {frame.mechanism}")
            self.user, self._expected = user, Methods.TuneOk
            self.send(TUNE)
        elif isinstance(frame, Methods.TuneOk):
            if not (4096 <= frame.frame_max <= TUNE.frame_max and 1 <= frame.channel_max <= TUNE.channel_max):
                raise Fault(530, "negotiated values are out of range")
            self.frame_max, self.channel_max, self._expected = frame.frame_max, frame.channel_max, Methods.Open
            if frame.heartbeat:
                self._timer = self.loop.call_later(frame.heartbeat / 2, self._beat, frame.heartbeat)
        elif isinstance(frame, Methods.Open):
            name, self._open = frame.virtual_host, True
            self.vhost = self.broker.vhosts.setdefault(name, VirtualHost(name, self.broker.storage))
            self.send(Methods.OpenOk())

    def _hang_up(self) -> None:
        """Shuts down sending, and reads until the client closes: closing with unread data discards what was sent."""
        self.flush()
        self._closing = self._hung_up = True
        if not self.transport.is_closing():
            self.transport.write_eof()
        self._abort_in_time()

    def _abort_in_time(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(PATIENCE, self.transport.abort)

    def _beat(self, interval: int) -> None:
        if self.loop.time() - self._heard > 2 * interval and not self.blocked:
            self.transport.abort()
        self.transport.write(encode(HEARTBEAT, 0, b""))
        self._timer = self.loop.call_later(interval / 2, self._beat, interval)

    def fail(self, fault: Fault, number: int = 0, index: int = 0) -> None:
        """Closes the channel, or without a number the connection, with the reason."""
        log.debug("fault", text=fault.text, channel=number)
        self.flush()
        told = (fault.code, fault.text, *divmod(index, 65536))
        if number and self._open:
            dispatch(self.channels[number].release())
            self.send(commands.Channel.Close(*told), number)
        elif not self._open and fault.code != 403:
            self._hang_up()  # as RabbitMQ does, who tells only those who gave the wrong password
        elif not self._closing:
            self.release()
            self.send(Methods.Close(*told))
            self._abort_in_time()

    def release(self) -> None:
        self._closing, self.writable = True, False
        self.confirming.clear()
        if self._timer is not None:
            self._timer.cancel()
        # Dispatch the queues only now, so that none of these channels can receive the messages again.
        dispatch([queue for channel in self.channels.values() if not channel.closing for queue in channel.release()])
        self.channels.clear()
        for queue in [queue for queue in self.vhost.queues.values() if queue.owner is self]:
            self.vhost.delete_queue(queue)


class DevelopmentBroker:
    """With a file for `messages` it keeps durable queues and their persistent messages; without one, it keeps nothing.

    `max_message_size` is that of RabbitMQ 4: a larger body closes its channel.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 0, *, user: str = "guest", password: str = "guest",  # noqa: S107
        max_message_size: int = 16 * 1024 * 1024, messages: Path | None = None,
    ) -> None:  # fmt: skip
        if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"the development broker listens on loopback addresses only, not on {host}")
        self.host, self.port, self.users, self.max_message_size = host, port, {user: password}, max_message_size
        able = dict.fromkeys(CAPABILITIES, True)
        kept = "all is lost when it stops" if messages is None else "persistent messages of durable queues are kept"
        about = f"For development and tests only: on loopback, without access control; {kept}."
        self.properties: dict[str, Any] = {"product": "Foldwork development broker", "version": "1",
                                           "information": about, "capabilities": able}  # fmt: skip
        self.vhosts: dict[str, VirtualHost] = {}
        self.storage = Storage() if messages is None else Journal(messages, self.vhosts)
        self.connections: set[Connection] = set()
        self.alarm: str | None = None  # why connections that publish are held, as in RabbitMQ's memory or disk alarm
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        user, password = (quote(part, safe="") for part in next(iter(self.users.items())))
        return f"amqp://{user}:{password}@{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/"

    async def start(self) -> None:
        self.storage.restore()
        self._server = await asyncio.get_running_loop().create_server(lambda: Connection(self), self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        log.info("development broker started", port=self.port, about=self.properties["information"])

    async def close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for connection in tuple(self.connections):
            connection.fail(Fault(320, "the development broker stops"))
        if self.connections:
            await asyncio.wait([connection.lost for connection in self.connections], timeout=GRACE)
        await self.drop_connections()
        await self._server.wait_closed()
        self._server = None
        await self.storage.close()
        log.info("development broker stopped", port=self.port)

    async def drop_connections(self) -> int:
        """Aborts every TCP connection, as a broken network does, and returns their number."""
        dropped = tuple(self.connections)
        for connection in dropped:
            connection.transport.abort()
        await asyncio.gather(*(connection.lost for connection in dropped))
        return len(dropped)
