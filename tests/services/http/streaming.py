"""Readers of live events over real sockets, served as the HTTP role serves them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from services.server import Config, Connections, Server, bind
from tests.eventually import PATIENCE, eventually_async
from tests.services.http.api import Api, opened

PATH = "/v1/events/stream"


@dataclass(slots=True)
class Block:
    """A block of a stream, and whether it was only a comment."""

    id: int | None
    data: bytes | None
    comment: bool

    @property
    def event(self) -> dict[str, Any]:
        assert self.data is not None
        found: dict[str, Any] = json.loads(self.data)
        assert found["position"] == self.id
        return found


class Reader:
    """A client that keeps the last id as the HTML standard says, comments being lines of their own."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()
        self.last: int | None = None

    async def block(self, timeout: float = PATIENCE) -> Block | None:
        """Return the next block or comment, None at the end of the stream."""
        return await asyncio.wait_for(self._block(), timeout)

    async def _block(self) -> Block | None:
        found: dict[str, str] = {}
        async for line in self._lines:
            if line == ":":
                return Block(None, None, comment=True)
            if line:
                name, _, value = line.partition(": ")
                assert name not in found
                found[name] = value
                continue
            if "id" in found:
                self.last = int(found["id"])
            data = found["data"].encode() if "data" in found else None
            return Block(int(found["id"]) if "id" in found else None, data, comment=False)
        return None

    async def begin(self) -> int:
        """Return the position that the stream begins after."""
        block = await self.block()
        assert block is not None
        assert block.data is None
        assert block.id is not None
        return block.id

    async def event(self, timeout: float = PATIENCE) -> dict[str, Any]:
        """Return the next event."""
        while True:
            block = await self.block(timeout)
            assert block is not None, "the stream has ended"
            if block.data is not None:
                return block.event

    async def events(self, count: int) -> list[dict[str, Any]]:
        return [await self.event() for _ in range(count)]

    async def until(self, position: int) -> list[dict[str, Any]]:
        """Return the events up to a position; that it is reached is said by a later id, or when nothing is sent."""
        found = []
        while self.last is None or self.last < position:
            block = await self.block()
            assert block is not None, "the stream has ended"
            if block.data is not None:
                found.append(block.event)
        return found

    async def ended(self) -> bool:
        """Read to the end."""
        while await self.block() is not None:
            pass
        return True


@dataclass(slots=True)
class Streaming:
    """A process that is served, and a client of it."""

    api: Api
    server: Server
    port: int
    client: httpx.AsyncClient

    @asynccontextmanager
    async def read(self, query: str = "", token: str | None = None, last: int | None = None) -> AsyncIterator[Reader]:
        """Read a stream, which was answered with 200."""
        given = self.api.by(token)
        if last is not None:
            given["Last-Event-ID"] = str(last)
        async with self.client.stream("GET", f"{PATH}?{query}" if query else PATH, headers=given) as response:
            if response.status_code != 200:
                raise AssertionError((await response.aread()).decode())
            yield Reader(response)


@asynccontextmanager
async def streaming(database_url: str, **given: Any) -> AsyncIterator[Streaming]:
    """Serve the HTTP process of a test with the product's own server."""
    async with opened(database_url, streams=True, **given) as api:
        listening = bind("127.0.0.1", 0)
        port = listening.getsockname()[1]
        server = Server(Config(api.app, Connections(1000, 1000), lifespan="off", timeout_graceful_shutdown=5))
        serving = asyncio.create_task(server.serve([listening]))
        await eventually_async(lambda: server.started)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        try:
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, limits=limits
            ) as client:
                yield Streaming(api, server, port, client)
        finally:
            api.app.end_streams()
            server.should_exit = True
            await serving
