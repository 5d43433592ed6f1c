"""TCP proxies before the database and the broker, which can cut connections, refuse them and drop data."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

from tests.eventually import PATIENCE


class Proxy:
    """A TCP proxy in a thread of its own, before a server on TCP or on a unix socket; it can cut, refuse and forget."""

    def __init__(self, target: str | tuple[str, int]) -> None:
        self.target = target
        self.loop = asyncio.new_event_loop()
        self._open: set[asyncio.StreamWriter] = set()
        # Each end of a connection, with both.
        self._pairs: dict[asyncio.StreamWriter, tuple[asyncio.StreamWriter, ...]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.refusing = False
        # Connections on which nothing gets through any more, in either direction, though none of their ends is closed.
        self._silent: set[asyncio.StreamWriter] = set()
        # What ends a connection as soon as the server answers it: the client never learns what came of it.
        self.forget_after: bytes | None = None
        self.connections = 0
        # What was passed on to the server last.
        self.passed = b""
        self._thread = threading.Thread(target=self.loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._accept, "127.0.0.1", 0), self.loop
        ).result(PATIENCE)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        self.connections += 1
        try:
            if isinstance(self.target, str):
                far_reader, far_writer = await asyncio.open_unix_connection(self.target)
            else:
                far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, far_writer)
        if self.refusing:
            # It was let in right before, and was not among those that were cut.
            self._abort(*pair)
            return
        self._open.update(pair)
        self._pairs.update({writer: pair, far_writer: pair})
        forgetting = [False]
        for source, sink, outward in ((reader, far_writer, True), (far_reader, writer, False)):
            task = self.loop.create_task(self._pump(source, sink, pair, forgetting, outward))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        pair: tuple[asyncio.StreamWriter, ...],
        forgetting: list[bool],
        outward: bool,
    ) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while data := await self._read(source, outward):
                if outward and self.forget_after is not None and self.forget_after in data:
                    self.forget_after, forgetting[0] = None, True
                elif not outward and forgetting[0]:
                    break
                await self.forward(data, outward)
                if outward:
                    self.passed = data
                if sink not in self._silent:
                    sink.write(data)
                    await sink.drain()
        # Of a host that is lost, nobody hears the end of its connection either.
        if sink not in self._silent:
            self._abort(*pair)

    async def forward(self, data: bytes, outward: bool) -> None:
        """Return when the data may go on; `outward` is to the server."""

    async def _read(self, source: asyncio.StreamReader, outward: bool) -> bytes:
        """Return what is passed on next; `outward` is to the server."""
        return await source.read(1 << 16)

    def _abort(self, *writers: asyncio.StreamWriter) -> None:
        for writer in writers:
            writer.transport.abort()
            self._open.discard(writer)
            self._pairs.pop(writer, None)

    def cut(self) -> None:
        """End every connection at once, as a broken network does."""

        async def cut() -> None:
            self._abort(*tuple(self._open))

        asyncio.run_coroutine_threadsafe(cut(), self.loop).result(PATIENCE)

    def silence(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """Let nothing through on the connections that are open, as if the other host were lost; new ones work."""

        async def silence() -> None:
            for writer in self._open:
                is_client = writer.get_extra_info("sockname")[1:2] == (self.port,)
                if to_client if is_client else to_server:
                    self._silent.add(writer)

        asyncio.run_coroutine_threadsafe(silence(), self.loop).result(PATIENCE)

    def end_silence(self) -> None:
        """End the connections on which nothing gets through, as if the host that was lost were found to be gone."""

        async def end() -> None:
            for writer in tuple(self._silent):
                self._abort(*self._pairs.get(writer, (writer,)))
            self._silent.clear()

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(PATIENCE)

    def down(self) -> None:
        """Cut all, and let nobody in."""
        self.refusing = True
        self.cut()

    def up(self) -> None:
        """Let everybody in again."""
        self.refusing = False

    def close(self) -> None:
        """End the proxy."""

        async def end() -> None:
            self._server.close()
            self._abort(*tuple(self._open))
            await asyncio.gather(*self._tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(PATIENCE)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.close()


P = TypeVar("P", bound=Proxy)


@contextmanager
def database_proxy(database_url: str) -> Iterator[tuple[Proxy, str]]:
    """Give a proxy before PostgreSQL, and the URL that leads through it."""
    parts = urlsplit(database_url)
    query = parse_qs(parts.query)
    folder = query.get("host", [""])[0]
    if folder.startswith("/"):
        proxy = Proxy(f"{folder}/.s.PGSQL.{query.get('port', [parts.port or 5432])[0]}")
    else:
        proxy = Proxy((parts.hostname or "127.0.0.1", parts.port or 5432))
    user = quote(parts.username or query.get("user", ["postgres"])[0])
    secret = f":{parts.password}" if parts.password else ""
    # A connection that is cut while it asks for encryption would be one more round trip to tell apart.
    url = f"postgresql://{user}{secret}@127.0.0.1:{proxy.port}{parts.path}?sslmode=disable&gssencmode=disable"
    try:
        yield proxy, url
    finally:
        proxy.close()


@contextmanager
def broker_proxy(amqp_url: str, kind: type[P] = Proxy) -> Iterator[tuple[P, str]]:  # type: ignore[assignment]
    """Give a proxy before the broker, and the URL that leads through it."""
    parts = urlsplit(amqp_url)
    proxy = kind((parts.hostname or "127.0.0.1", parts.port or 5672))
    login, at, _ = parts.netloc.rpartition("@")
    try:
        yield proxy, urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{proxy.port}"))
    finally:
        proxy.close()
