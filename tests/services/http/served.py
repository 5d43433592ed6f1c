"""The HTTP process of a test behind a real socket, in a thread, for clients that know nothing of its event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from tests.eventually import PATIENCE, eventually, eventually_async
from tests.services.http.api import Api, opened


@dataclass(slots=True)
class Served:
    """Where the process listens, and the API that it belongs to."""

    url: str
    api: Api


@contextmanager
def served(database_url: str, **given: Any) -> Iterator[Served]:
    """Serve the HTTP process on a free port of this machine."""
    found: list[Served] = []
    servers: list[uvicorn.Server] = []

    async def main() -> None:
        async with opened(database_url, **given) as api:
            server = uvicorn.Server(uvicorn.Config(api.app, "127.0.0.1", 0, lifespan="off", log_level="error"))
            servers.append(server)
            serving = asyncio.create_task(server.serve())
            await eventually_async(lambda: server.started or serving.done())
            if server.started:
                port = server.servers[0].sockets[0].getsockname()[1]
                found.append(Served(f"http://127.0.0.1:{port}", api))
            await serving

    thread = threading.Thread(target=asyncio.run, args=(main(),), name="served")
    thread.start()
    try:
        eventually(lambda: found or not thread.is_alive())
        yield found[0]
    finally:
        for server in servers:
            server.should_exit = True
        thread.join(PATIENCE)
