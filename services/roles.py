"""The roles of Foldwork: each runs in its own process or together with others, and stops within a grace period."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, Protocol

import structlog

from services import supervisor
from services.broker.dead_queue import DeadQueue
from services.broker.publisher import Publisher
from services.cancellation import cancel
from services.commands.consumer import CommandConsumer
from services.commands.watchdog import NotConsuming
from services.crash import AFTER_PUBLISH, CrashPoints
from services.follower_role import FollowerRole, RoleEnded
from services.health.probe import probing
from services.health.watch import Watch
from services.processors import read_models
from services.processors.rebuilder import Rebuilder
from services.processors.relay import relay_handle
from services.server import Config, Connections, Server, allow_files, bind
from services.settings import Settings
from services.store.connect import Backoff, connect, demand_sessions
from services.store.diagnosis import UnsuitableDatabase
from services.store.follower import Follower
from services.store.migrate import demand_current, outdated
from services.store.unavailable import AWAY

ROLES = ("http", "commands", "projections", "relay", "policies")
RELAY = "relay"
# Seconds between two beats of a process.
BEAT = 1.0


class Role(Protocol):
    """One role: `run` works until `stop`, then finishes the work in progress."""

    async def run(self) -> None: ...

    async def stop(self) -> None: ...

    @property
    def unready(self) -> list[str]: ...


class HttpRole:
    """The HTTP API, on a socket that it is given, or binds."""

    def __init__(self, settings: Settings, listening: socket.socket | None = None) -> None:
        # A third of all that there is to import, which the other roles start without.
        from services.http.core.app import create_app

        most = allow_files(settings.http_connections)
        self._app = create_app(settings)
        config = Config(
            self._app,
            Connections(most, min(most, settings.http_connections_per_address)),
            timeout_graceful_shutdown=max(1, int(settings.shutdown_grace) - 1),
        )
        self._server = Server(config)
        # Bound early, so that a port in use is reported before anything starts.
        self._socket = listening or bind_http(settings)

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    async def run(self) -> None:
        await self._server.serve([self._socket])

    async def stop(self) -> None:
        """Accept no more requests, and finish those in progress; streams end, and their clients connect again."""
        self._app.end_streams()
        self._server.should_exit = True

    @property
    def unready(self) -> list[str]:
        """`http` until the server has started; /readyz reports the database and the broker."""
        return [] if self._server.started else ["http"]


def bind_http(settings: Settings) -> socket.socket:
    return bind(settings.http_host, settings.http_port)


def make_role(name: str, settings: Settings, listening: socket.socket | None = None) -> Role:
    url, amqp = settings.database_url.get_secret_value(), settings.amqp_url.get_secret_value()
    batch, size, poll = settings.follower_batch, settings.follower_batch_bytes, settings.follower_poll
    if name == "http":
        return HttpRole(settings, listening)
    if name == "commands":
        return CommandConsumer(settings)
    if name == "projections":
        return FollowerRole(settings, lambda: [*read_models.readers(url, batch=batch, batch_bytes=size), Rebuilder()])
    publisher = Publisher(amqp, name)
    if name == "relay":
        crash = CrashPoints(settings)
        handle = relay_handle(publisher, lambda: crash.reach(AFTER_PUBLISH))
        relay = Follower(RELAY, handle, batch=batch, batch_bytes=size, poll=poll, act_outside=True)
        return FollowerRole(settings, lambda: [relay], publisher)
    if name == "policies":
        from services.processors import policies

        queue = DeadQueue(amqp, settings.command_limit)
        return FollowerRole(settings, lambda: policies.workers(settings, publisher, queue), publisher, queue)
    raise ValueError(f"unknown role {name}; the roles are {', '.join(ROLES)}")


class Roles:
    """Several roles in one process, started and stopped together."""

    def __init__(self, settings: Settings, names: Sequence[str], listening: socket.socket | None = None) -> None:
        self.settings = settings
        self.roles: Mapping[str, Role] = {name: make_role(name, settings, listening) for name in names}
        self._log = structlog.get_logger("foldwork")
        self._stopping = asyncio.Event()
        self._beaten = time.monotonic()
        self._watch = Watch()

    def own_state(self) -> dict[str, list[str]]:
        """The causes why each role is not ready, for the probe, whose thread goes on when this one does not."""
        late = time.monotonic() - self._beaten
        stuck = [f"its event loop has been stuck for {late:.0f} s"] if late > self.settings.unready_after else []
        return {name: [*stuck, *self._idle(name, role), *role.unready] for name, role in self.roles.items()}

    def _idle(self, name: str, role: Role) -> list[str]:
        """Say that commands were received and are not recorded."""
        if not isinstance(role, CommandConsumer):
            return []
        age = self._watch.age("recorded", name, (role.store.turns, role.buffer.held > 0))
        idle = role.buffer.held > 0 and age >= self.settings.unready_after
        return [f"received commands have not been recorded for {age:.0f} s"] if idle else []

    async def _beat(self) -> None:
        """Note that the loop runs, and show other processes that the session of commands does, as others' polls do."""
        asked: set[asyncio.Task[bool]] = set()
        while True:
            self._beaten = time.monotonic()
            if not asked:
                asked = {
                    asyncio.create_task(role.store.reached())
                    for role in self.roles.values()
                    if isinstance(role, CommandConsumer)
                }
            _, asked = await asyncio.wait(asked, timeout=BEAT) if asked else (None, asked)
            await asyncio.sleep(BEAT)

    async def until_ready(self) -> None:
        while any(role.unready for role in self.roles.values()):
            await asyncio.sleep(0.02)

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        """Run until `stop`; a role that ends unexpectedly ends the process, so that a supervisor restarts it."""
        tasks = {asyncio.create_task(role.run(), name=name): role for name, role in self.roles.items()}
        stop, beat = asyncio.create_task(self._stopping.wait()), asyncio.create_task(self._beat())
        self._log.info("started", roles=list(self.roles))
        await asyncio.wait([*tasks, stop], return_when=asyncio.FIRST_COMPLETED)
        self._log.info("stopping")
        ended = [task for task in tasks if task.done()] if not self._stopping.is_set() else []
        for task in ended:
            self._log.error("a role ended by itself", role=task.get_name(), error=repr(task.exception()))
        stop.cancel()
        await cancel(beat)
        await asyncio.gather(*(role.stop() for role in tasks.values()), return_exceptions=True)
        done, late = await asyncio.wait(tasks, timeout=self.settings.shutdown_grace)
        for task in late:
            self._log.warning("role not stopped within the grace period", role=task.get_name())
        await cancel(*late)
        self._log.info("stopped")
        for task in done:
            try:
                task.result()
            except NotConsuming as error:
                raise RoleEnded(str(error)) from None
        if ended:
            raise RoleEnded(f"{', '.join(task.get_name() for task in ended)} ended by itself")


def until_migrated(settings: Settings) -> None:
    """Wait for the database; raises `SchemaMismatch` or `UnsuitableDatabase` when the roles cannot work with it.

    Read models of another version are only logged: other read models and commands work without them.
    """
    log = structlog.get_logger("foldwork")
    backoff = Backoff("database", log)
    waiting = threading.Event()
    url = settings.database_url.get_secret_value()
    while True:
        try:
            demand_sessions(url)
            with connect(url, "start", settings.statement_timeout) as conn:
                demand_current(conn)
                behind = outdated(conn)
            if behind:
                log.warning("read models are outdated: run `foldwork db upgrade`", read_models=behind)
            return
        except UnsuitableDatabase:
            raise
        except AWAY as error:
            backoff.lost(error)
            waiting.wait(backoff.next_wait())


def supervise(settings: Settings, names: Sequence[str]) -> None:
    """Import what roles need, and run them in a child until SIGTERM or SIGINT; see `supervisor.fork`."""
    if "http" in names:
        from services.http.core import app  # noqa: F401
    if "policies" in names:
        from services.processors import policies  # noqa: F401
    # Everything else is made by each child for itself: numbers that it gives out begin with the time, for example.
    listening = bind_http(settings) if "http" in names else None
    supervisor.fork(settings.shutdown_grace, listening)
    serve(settings, names, listening)


def serve(settings: Settings, names: Sequence[str], listening: socket.socket | None = None) -> None:
    """Run roles until SIGTERM or SIGINT."""
    until_migrated(settings)

    async def main() -> None:
        roles = Roles(settings, names, listening)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, roles.stop)
        with ExitStack() as stack:
            stack.enter_context(probing(settings, roles.own_state))
            # What was imported and made by now stays, and would be searched by every full collection.
            gc.collect()
            gc.freeze()
            gc.enable()
            await roles.run()

    run(main())


def run(main: Any) -> None:
    """Run a coroutine, on uvloop if it is installed."""
    factory: Any = None
    with suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)
