"""What a connection may cost before a key was checked, over real sockets."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from services import server
from services.server import Config, Connections, LimitedProtocol, Server, allow_files, bind
from tests.eventually import PATIENCE, eventually_async

LARGE = 32 << 20
IN_CHUNKS = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


class Running:
    """A server, and what its application was asked."""

    def __init__(self, port: int, own: Server) -> None:
        self.port = port
        self.asked: list[dict[str, Any]] = []
        self.server = own

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def get(self, path: str = "/") -> bytes:
        reader, writer = await self.connect()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        return answer


@asynccontextmanager
async def started(most: int = 50, per_address: int = 50) -> AsyncIterator[Running]:
    running: Running

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = bytearray()
        if scope["path"] != "/early":
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                body += message.get("body", b"")
                more = message.get("more_body", False)
        running.asked.append({**scope, "body": bytes(body), "headers": list(scope["headers"])})
        answer = b"x" * (LARGE if scope["path"] == "/large" else 2)
        length = (b"content-length", b"%d" % len(answer))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": answer})

    listening = bind("127.0.0.1", 0)
    own = Server(Config(app, Connections(most, per_address), lifespan="off", timeout_graceful_shutdown=1))
    running = Running(listening.getsockname()[1], own)
    serving = asyncio.create_task(own.serve([listening]))
    await eventually_async(lambda: own.started)
    try:
        yield running
    finally:
        own.should_exit = True
        await serving


async def is_ended(reader: asyncio.StreamReader) -> bool:
    """Wait for the end of a connection on which nothing is sent."""
    try:
        return await asyncio.wait_for(reader.read(1), PATIENCE) == b""
    except ConnectionError:
        return True


async def is_closed_while_sending(writer: asyncio.StreamWriter, piece: bytes) -> bool:
    """Send 32 MB, more than the system keeps for a connection, unless the other side ends it."""
    try:
        for _ in range((32 << 20) // len(piece)):
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        return True
    return False


@pytest.mark.parametrize(
    "endless",
    [
        pytest.param((b"GET /", b"a" * 8192), id="address"),
        pytest.param((b"GET / HTTP/1.1\r\nX: ", b"a" * 8192), id="header"),
        pytest.param((b"GET / HTTP/1.1\r\n", b"X-Y: 1\r\n" * 1024), id="headers"),
        pytest.param((b"", b"\r\n" * 4096), id="empty lines"),
        pytest.param((b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"a" * 8192), id="trailer"),
        pytest.param(
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"a" * 8192), id="extension of a chunk"
        ),
    ],
)
async def test_what_never_ends_is_ended_at_a_limit(endless: tuple[bytes, bytes]) -> None:
    first, piece = endless
    async with started() as running:
        _, writer = await running.connect()
        writer.write(first)
        assert await is_closed_while_sending(writer, piece)
        assert b"200 OK" in await running.get()
        assert [one["path"] for one in running.asked] == ["/"]


async def test_too_long_a_head_is_answered() -> None:
    async with started() as running:
        reader, writer = await running.connect()
        writer.write(b"GET / HTTP/1.1\r\nX: " + b"a" * (server.HEAD_LIMIT + 20_000))
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 431 ")
        assert b"application/problem+json" in head
        assert b"at most 65536 bytes" in await reader.read()
        assert not running.asked
        writer.close()


async def test_a_head_just_below_the_limit_and_any_body_are_taken() -> None:
    async with started() as running:
        reader, writer = await running.connect()
        body = b"b" * (3 << 20)
        value = b"a" * (server.HEAD_LIMIT - 20_000)
        for _ in range(2):
            writer.write(b"POST /early HTTP/1.1\r\nX: %b\r\nContent-Length: %d\r\n\r\n%b" % (value, len(body), body))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            await reader.readexactly(2)
        writer.write(b"POST / HTTP/1.1\r\nX: %b\r\nContent-Length: %d\r\n\r\n%b" % (value, len(body), body))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert running.asked[-1]["body"] == body
        assert (b"x", value) in running.asked[-1]["headers"]
        writer.close()


async def test_a_trailer_is_no_header() -> None:
    async with started() as running:
        reader, writer = await running.connect()
        writer.write(b"POST / HTTP/1.1\r\nAuthorization: Bearer mine\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"2\r\nhi\r\n0\r\nAuthorization: Bearer theirs\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        (asked,) = running.asked
        assert asked["body"] == b"hi"
        assert [value for name, value in asked["headers"] if name == b"authorization"] == [b"Bearer mine"]
        writer.close()


async def test_a_head_that_does_not_come_is_waited_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_TIMEOUT", 0.2)
    async with started() as running:
        silent, _ = await running.connect()
        slow, writer = await running.connect()
        writer.write(b"GET / HTTP/1.1\r\nHos")
        assert await asyncio.wait_for(silent.read(), PATIENCE) == b""
        assert (await asyncio.wait_for(slow.read(), PATIENCE)).startswith(b"HTTP/1.1 408 ")
        # The second head of a connection has as long as the first.
        again, writer = await running.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHos")
        answer = await asyncio.wait_for(again.read(), PATIENCE)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert len(running.asked) == 1


async def test_an_answer_that_nobody_takes_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SEND_TIMEOUT", 0.3)
    async with started() as running:
        _, writer = await running.connect()
        writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        await eventually_async(lambda: bool(running.asked))
        await eventually_async(lambda: not running.server.server_state.connections)
        writer.close()
        # Who reads gets it whole.
        answer = await running.get("/large")
        assert len(answer) > LARGE


def test_a_client_that_takes_an_answer_slowly_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    due: list[Callable[[], None]] = []
    left, ended = 10 * server.SEND_LEAST, False

    class Transport:
        def get_write_buffer_size(self) -> int:
            return left

        def abort(self) -> None:
            nonlocal ended
            ended = True

    connection = LimitedProtocol.__new__(LimitedProtocol)
    connection.transport = Transport()  # type: ignore[assignment]
    connection.flow = FlowControl(connection.transport)
    connection.loop = SimpleNamespace(call_later=lambda _, call: due.append(call))  # type: ignore[assignment]
    connection.pause_writing()
    for _ in range(5):
        left -= server.SEND_LEAST
        due.pop()()
        assert not ended
    left -= server.SEND_LEAST - 1
    due.pop()()
    assert ended
    assert not due


async def test_a_full_server_lets_go_of_who_waits_first() -> None:
    async with started(most=3) as running:
        held = [await running.connect() for _ in range(3)]
        await eventually_async(lambda: len(running.server.server_state.connections) == 3)
        for number in range(5):
            assert b"200 OK" in await running.get(), number
        oldest, _ = held[0]
        assert await is_ended(oldest)


async def test_a_server_full_of_work_says_so() -> None:
    async with started(most=2) as running:
        busy = [await running.connect() for _ in range(2)]
        for _, writer in busy:
            writer.write(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n1")
        await eventually_async(
            lambda: sum(each.cycle is not None for each in running.server.server_state.connections) == 2
        )
        refused = await running.get()
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in refused
        for reader, writer in busy:
            writer.write(b"2")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            writer.close()
        await eventually_async(lambda: not running.server.server_state.connections)
        assert b"200 OK" in await running.get()


async def test_one_address_has_its_own_limit() -> None:
    async with started(most=10, per_address=2) as running:
        held = [await running.connect() for _ in range(2)]
        await eventually_async(lambda: len(running.server.server_state.connections) == 2)
        assert b"200 OK" in await running.get()
        assert await is_ended(held[0][0])
        # The other one is still there.
        reader, writer = held[1]
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.close()


def test_the_limit_of_open_files_is_raised_as_far_as_it_goes() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, before[1]))
        assert allow_files(500) == 500
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (700, before[1])
        assert allow_files(100) == 100
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (700, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no TCP_USER_TIMEOUT")
def test_accepted_connections_have_a_time_out_of_the_system() -> None:
    with bind("127.0.0.1", 0) as listening:
        listening.listen()
        with socket.create_connection(listening.getsockname()):
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == server.SEND_TIMEOUT * 1000
