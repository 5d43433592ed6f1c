"""A connection that ends while it is being opened is an outage like any other."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import aiormq
import pytest
from pamqp import commands, frame

from services.broker.command_queue import BrokerAway, CommandQueue
from services.broker.connection import connect, connect_robust

uvloop = pytest.importorskip("uvloop")
# On uvloop the end of the stream is often seen before anything is read; then aiormq raises another error.
TIMES = 10


@contextmanager
def ending(said: bytes | None) -> Iterator[str]:
    """Serve what ends every connection after a few bytes, at once if they are None, and give its URL."""
    server = socket.create_server(("127.0.0.1", 0))

    def end_all() -> None:
        with suppress(OSError):
            while True:
                peer, _ = server.accept()
                with peer:
                    if said is not None:
                        peer.recv(8)
                        peer.sendall(said)

    thread = threading.Thread(target=end_all)
    thread.start()
    try:
        yield f"amqp://guest:guest@127.0.0.1:{server.getsockname()[1]}/"
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


BEGUN = frame.marshal(commands.Connection.Start(mechanisms="PLAIN"), 0)
ENDS = pytest.mark.parametrize("said", [None, b"", BEGUN[:5], BEGUN])
LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])


@LOOPS
@ENDS
@pytest.mark.parametrize("opens", [connect, connect_robust])
def test_an_end_while_opening_is_an_error_of_the_connection(
    opens: Callable[[str, str], Awaitable[Any]], said: bytes | None, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def several(url: str) -> None:
        for _ in range(TIMES):
            with pytest.raises((ConnectionError, aiormq.AMQPError)):
                await opens(url, "test")

    with ending(said) as url, asyncio.Runner(loop_factory=loop) as runner:
        runner.run(several(url))


@LOOPS
@ENDS
def test_readiness_takes_it_for_an_outage(said: bytes | None, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def several(url: str) -> None:
        for _ in range(TIMES):
            with pytest.raises(BrokerAway):
                await CommandQueue(url).counts()

    with ending(said) as url, asyncio.Runner(loop_factory=loop) as runner:
        runner.run(several(url))
