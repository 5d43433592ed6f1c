"""A client that speaks single AMQP frames over a socket; it hides nothing, so that tests may break the protocol."""

import asyncio
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from pamqp import base, body, commands, frame, header, heartbeat

from tests.eventually import PATIENCE

EVERY_CAPABILITY = {"authentication_failure_close": True, "consumer_cancel_notify": True, "basic.nack": True}


class Wire:
    """One TCP connection; `open` goes through the handshake, `send` and `receive` move frames one by one."""

    def __init__(self, url: str, *, capabilities: dict[str, Any] | None = None) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 5672
        self.user, self.password = unquote(parts.username or "guest"), unquote(parts.password or "guest")
        self.vhost = unquote(parts.path[1:]) or "/"
        self.capabilities = EVERY_CAPABILITY if capabilities is None else capabilities

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.transport.abort()

    def send(
        self,
        *frames: base.Frame | body.ContentBody | header.ContentHeader | heartbeat.Heartbeat | bytes,
        channel: int = 0,
    ) -> None:
        for one in frames:
            self.writer.write(one if isinstance(one, bytes) else frame.marshal(one, channel))

    async def receive(self) -> tuple[int, Any]:
        """The next frame and its channel, heartbeats left out; EOFError when the server hung up."""
        while True:
            try:
                head = await asyncio.wait_for(self.reader.readexactly(7), PATIENCE)
                rest = await self.reader.readexactly(struct.unpack(">I", head[3:])[0] + 1)
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                raise EOFError from error
            if head[0] == 3 and len(rest) == 1:
                return struct.unpack(">H", head[1:3])[0], body.ContentBody(b"")
            _, channel, received = frame.unmarshal(head + rest)
            if not isinstance(received, heartbeat.Heartbeat):
                return channel, received

    async def expect(self, kind: type) -> Any:
        _, received = await self.receive()
        assert isinstance(received, kind), describe(received)
        return received

    async def start(self, *, mechanism: str = "PLAIN", response: str | None = None) -> commands.Connection.Start:
        self.send(b"AMQP\x00\x00\x09\x01")
        started = await self.expect(commands.Connection.Start)
        answer = f"\0{self.user}\0{self.password}" if response is None else response
        self.send(commands.Connection.StartOk({"capabilities": self.capabilities}, mechanism, answer, "en_US"))
        return started

    async def open(
        self, *, channel_max: int = 2047, frame_max: int = 131072, beat: int = 0, channels: tuple[int, ...] = ()
    ) -> "Wire":
        await self.start()
        await self.expect(commands.Connection.Tune)
        self.send(commands.Connection.TuneOk(channel_max, frame_max, beat), commands.Connection.Open(self.vhost))
        await self.expect(commands.Connection.OpenOk)
        for number in channels:
            self.send(commands.Channel.Open(), channel=number)
            await self.expect(commands.Channel.OpenOk)
        return self

    async def hung_up(self) -> bool:
        """Whether the server closes the socket without a further frame."""
        try:
            await self.receive()
        except EOFError:
            return True
        return False

    async def closed(self) -> tuple[int, str, int, int]:
        """What the server's next connection.close says, answered with close-ok."""
        reason = await self.expect(commands.Connection.Close)
        self.send(commands.Connection.CloseOk())
        assert await self.hung_up()
        return reason.reply_code, reason.reply_text.split(" ")[0], reason.class_id, reason.method_id


def content(properties: commands.Basic.Properties | None, payload: bytes, size: int = 4096) -> Iterator[Any]:
    """Header and body frames of one message."""
    yield header.ContentHeader(0, len(payload), properties)
    for start in range(0, len(payload), size):
        yield body.ContentBody(payload[start : start + size])


def describe(received: Any) -> str:
    fields = {name: getattr(received, name) for name in getattr(received, "__slots__", ())}
    return f"{received.name} {fields}"
