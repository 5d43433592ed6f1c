"""The small health server of the roles that serve no HTTP of their own; it runs beside the work, never in its way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from starlette.applications import Starlette
from starlette.routing import Route

from services.broker.command_queue import CommandQueue
from services.health.metrics import Metrics
from services.health.readiness import Broker, Own, handlers, make_readiness
from services.server import Config, Connections, Server, bind
from services.settings import Settings
from services.store.pool import Pool

# More than any system of probes opens at once.
_CONNECTIONS = 100


def probe_app(
    settings: Settings,
    own: Own = dict,
    metrics: Metrics | None = None,
    broker: Broker | None = None,
) -> Starlette:
    """Return the application with /livez, /readyz and /metrics. `own` says what only the process knows of itself."""
    pool = Pool(settings.database_url.get_secret_value(), settings.statement_timeout, size=1)
    figures = metrics if metrics is not None else Metrics()
    queue = broker if broker is not None else CommandQueue(settings.amqp_url.get_secret_value())
    readiness = make_readiness(settings, pool, queue, figures, own)

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


@contextmanager
def probing(settings: Settings, own: Own = dict) -> Iterator[int | None]:
    """Serve on `FOLDWORK_PROBE_PORT`, in a thread, while the block runs; without a port do nothing.

    Gives the port, which matters when the one that was asked for is 0.
    """
    if settings.probe_port is None:
        yield None
        return
    app, connections = probe_app(settings, own), Connections(_CONNECTIONS, _CONNECTIONS)
    server = Server(Config(app, connections, timeout_graceful_shutdown=1))
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
