"""The small health server of the roles that serve no HTTP of their own; it runs beside the work, never in its way."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from services.broker.command_queue import CommandQueue
from services.health.metrics import Metrics
from services.health.readiness import Broker, Readiness, handlers
from services.settings import Settings
from services.store.pool import Pool


def bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address, port 0 being a free one; raises `OSError` that names the address.

    The server would bind one too, but ends the process without a word where it cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise OSError(error.errno, error.strerror or str(error), f"{host}:{port}") from None
    return made


def probe_app(
    settings: Settings,
    own: Callable[[], Mapping[str, bool]] = dict,
    metrics: Metrics | None = None,
    broker: Broker | None = None,
) -> Starlette:
    """Return the application with /livez, /readyz and /metrics. `own` says what only the role knows of itself."""
    pool = Pool(settings.database_url.get_secret_value(), settings.statement_timeout, size=1)
    figures = metrics if metrics is not None else Metrics()
    queue = broker if broker is not None else CommandQueue(settings.amqp_url.get_secret_value())
    readiness = Readiness(pool, queue, settings.ready_lag, figures, own)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        pool.start()
        try:
            yield
        finally:
            await queue.close()
            await pool.close()

    routes = [Route(path, handler) for path, handler in handlers(readiness, figures).items()]
    return Starlette(routes=routes, lifespan=lifespan)


class _Server(uvicorn.Server):
    """A server that leaves signals to the role whose process it is in."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def probing(settings: Settings, own: Callable[[], Mapping[str, bool]] = dict) -> Iterator[int | None]:
    """Serve on `FOLDWORK_PROBE_PORT`, in a thread, while the block runs; without a port do nothing.

    Gives the port, which matters when the one that was asked for is 0.
    """
    if settings.probe_port is None:
        yield None
        return
    config = uvicorn.Config(
        probe_app(settings, own),
        host=settings.probe_host,
        port=settings.probe_port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    sockets = [bind(settings.probe_host, settings.probe_port)]
    # From here on who asks waits for the thread, instead of being refused.
    sockets[0].listen()
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets)), name="probe", daemon=True)
    thread.start()
    try:
        yield int(sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(5)
