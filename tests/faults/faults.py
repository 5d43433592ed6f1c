"""The catalogue of faults.

A fault is a generator that runs in a thread beside the load. It does its harm up to its `yield`; from then on the
clock runs, until a new command is answered, published and visible. What comes after the `yield` happens then, and a
fault that lasts longer than the recovery (somebody frozen) ends there.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg

from services.broker.names import COMMAND_QUEUE
from services.store.append import APPEND_LOCK
from tests.eventually import PATIENCE, eventually
from tests.faults.load import Load
from tests.faults.observers import count, delete_queues
from tests.faults.servers import Group, Servers, Unavailable
from tests.faults.system import ROLES, STANDBY, System
from tests.services.processes import environment

# As long as a pause of a virtual machine or a swapping host may well last.
FROZEN = 27.0
_OUTAGE = 4.0
ROLE_BACK, SERVER_BACK, NOTICED = 3.0, 5.0, 30.0


@dataclass(slots=True)
class Stage:
    """What a fault may lay its hands on. `broken` are expectations of the fault itself that did not come true."""

    system: System
    servers: Servers
    load: Load
    database: str
    chance: random.Random
    loop: asyncio.AbstractEventLoop
    scale: float = 1.0
    broken: list[str] = field(default_factory=list)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the loop of the load, and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)

    def begin(self, work: Coroutine[Any, Any, Any]) -> None:
        """Let something be done beside, until the end of the episode."""
        self.loop.call_soon_threadsafe(self.load.begin, work)

    def queued(self) -> int:
        """Return how many commands wait."""
        return int(self.run(count(self.servers.amqp_url, COMMAND_QUEUE)))

    def demand(self, condition: bool, text: str) -> None:
        """Note an expectation that did not come true."""
        if not condition:
            self.broken.append(text)

    def session(self) -> psycopg.Connection[Any]:
        """Return a connection to the episode's database."""
        return self.servers.postgres.session(self.database)


Doing = Callable[[Stage], Iterator[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault by its name. `goal` is the longest time to recover on an idle machine, in seconds.

    `standby` are roles that need a second process. `mixed` ones follow one another on one system. `outage` is false for
    what must not delay good commands at all.
    """

    name: str
    do: Doing
    goal: float | None
    standby: tuple[str, ...] = ()
    durable: bool = False
    mixed: bool = True
    outage: bool = True
    times: int = 3


FAULTS: dict[str, Fault] = {}


def fault(name: str, goal: float | None = None, **rest: Any) -> Callable[[Doing], Doing]:
    """Register a fault."""

    def register(do: Doing) -> Doing:
        FAULTS[name] = Fault(name, do, goal, **rest)
        return do

    return register


# Processes.


def _role(role: str) -> None:
    @fault(f"kill-{role}", ROLE_BACK, times=5)
    def kill(stage: Stage) -> Iterator[None]:
        time.sleep(stage.chance.random())
        stage.system.signal(role, signal.SIGKILL)
        yield

    @fault(f"terminate-{role}", ROLE_BACK)
    def terminate(stage: Stage) -> Iterator[None]:
        stage.system.terminate(role)
        yield

    @fault(f"freeze-{role}", NOTICED, standby=(role,) if role != "http" else (), mixed=role != "http", times=1)
    def freeze(stage: Stage) -> Iterator[None]:
        if role == "http":
            raise Unavailable("one HTTP process of several is taken out by whoever balances the load")
        yield from _frozen(stage, role)


for _each in ROLES:
    _role(_each)


def _frozen(stage: Stage, name: str) -> Iterator[None]:
    stage.system.signal(name, signal.SIGSTOP)
    began = time.monotonic()
    try:
        yield
        time.sleep(max(0.0, FROZEN * stage.scale - (time.monotonic() - began)))
    finally:
        stage.system.signal(name, signal.SIGCONT)
    time.sleep(1)


def _is_held(conn: psycopg.Connection[Any]) -> bool:
    """Tell whether the append lock is held by a session that waits for its client, a moment from now."""
    time.sleep(0.1)
    found = conn.execute(
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE locktype = 'advisory' AND granted AND objid = %s"
        " AND datname = current_database() AND state LIKE 'idle%%'",
        (APPEND_LOCK,),
    ).fetchone()
    return found is not None and found[0] > 0


@fault("freeze-commands-in-transaction", NOTICED, standby=("commands",), times=1)
def freeze_in_transaction(stage: Stage) -> Iterator[None]:
    with stage.session() as conn:
        for turn in range(2000):
            name = ("commands", f"commands{STANDBY}")[turn % 2]
            stage.system.signal(name, signal.SIGSTOP)
            time.sleep(0.05)
            # What was on its way when it was stopped may still end the transaction.
            if all(_is_held(conn) for _ in range(3)):
                break
            stage.system.signal(name, signal.SIGCONT)
            time.sleep(0.05 * stage.chance.random())
        else:
            raise Unavailable("the worker was never caught inside a transaction")
    yield from _frozen(stage, name)


@fault("kill-one-of-two", ROLE_BACK, standby=("commands", "projections", "relay", "policies"), times=4)
def kill_one_of_two(stage: Stage) -> Iterator[None]:
    role = stage.chance.choice(("commands", "projections", "relay", "policies"))
    stage.system.signal(f"{role}{stage.chance.choice(('', STANDBY))}", signal.SIGKILL)
    yield


def _crash_point(role: str, point: str) -> None:
    @fault(f"crash-{point}", ROLE_BACK)
    def crash(stage: Stage) -> Iterator[None]:
        stage.demand(stage.system.crash_at(role, point, PATIENCE), f"{role} never came to {point}")
        yield


for _each, _point in (
    ("commands", "after-decide"), ("commands", "after-commit"), ("commands", "before-ack"), ("relay", "after-publish"),
):  # fmt: skip
    _crash_point(_each, _point)


@fault("rebuild-killed", mixed=False)
def rebuild_killed(stage: Stage) -> Iterator[None]:
    command = [
        sys.executable,
        "-m",
        "services.cli",
        "projections",
        "rebuild",
        stage.chance.choice(("tasks", "history")),
    ]
    env = {**environment(), "FOLDWORK_DATABASE_URL": stage.servers.database_through(stage.database)}
    for end in (False, False, True):
        running = Group(command, stage.servers.folder / "rebuild.log", env)
        if end:
            stage.demand(running.wait(PATIENCE) == 0, f"the rebuild failed: {running.log.read_text('utf-8')[-500:]}")
        else:
            time.sleep(1.5 + 2 * stage.chance.random())
        running.kill()
    yield


# The broker.


@fault("broker-killed", SERVER_BACK, durable=True)
def broker_killed(stage: Stage) -> Iterator[None]:
    stage.servers.broker.process().kill()
    time.sleep(_OUTAGE * stage.chance.random())
    stage.servers.broker.start()
    yield


@fault("broker-restarted", SERVER_BACK, durable=True)
def broker_restarted(stage: Stage) -> Iterator[None]:
    stage.servers.broker.process().end()
    stage.servers.broker.start()
    yield


@fault("broker-frozen", SERVER_BACK, times=1)
def broker_frozen(stage: Stage) -> Iterator[None]:
    stage.servers.broker.process().signal(signal.SIGSTOP)
    try:
        time.sleep(30 * stage.scale)
    finally:
        stage.servers.broker.process().signal(signal.SIGCONT)
    yield


@fault("broker-cut", SERVER_BACK)
def broker_cut(stage: Stage) -> Iterator[None]:
    stage.servers.broker_proxy.down()
    time.sleep(_OUTAGE * stage.chance.random())
    stage.servers.broker_proxy.up()
    yield


@fault("queue-deleted", SERVER_BACK)
def queue_deleted(stage: Stage) -> Iterator[None]:
    stage.run(delete_queues(stage.servers.amqp_url, COMMAND_QUEUE))
    yield


@fault("broker-alarm", SERVER_BACK)
def broker_alarm(stage: Stage) -> Iterator[None]:
    stage.begin(stage.load.burst(int(3000 * stage.scale)))
    time.sleep(0.2)
    try:
        stage.servers.broker.alarm(True)
        deadline = time.monotonic() + 20
        while (left := stage.queued()) and time.monotonic() < deadline:
            time.sleep(0.2)
        stage.demand(not left, f"{left} commands still wait 20 s after the alarm")
    finally:
        stage.servers.broker.alarm(False)
    yield


def _half_open(where: str, to_server: bool, to_client: bool) -> None:
    name = {(True, True): "", (True, False): "-to-server", (False, True): "-to-client"}[to_server, to_client]

    @fault(f"{where}-half-open{name}", NOTICED, times=1)
    def half_open(stage: Stage) -> Iterator[None]:
        proxy = stage.servers.broker_proxy if where == "broker" else stage.servers.database_proxy
        proxy.silence(to_server=to_server, to_client=to_client)
        yield


for _each in ("broker", "database"):
    for _directions in ((True, True), (True, False), (False, True)):
        _half_open(_each, *_directions)


# The database.


def _database_gone(name: str, number: int) -> None:
    @fault(name, SERVER_BACK)
    def gone(stage: Stage) -> Iterator[None]:
        stage.servers.postgres.stop(number)
        time.sleep(_OUTAGE * stage.chance.random())
        stage.servers.start_postgres()
        yield


_database_gone("database-killed", signal.SIGKILL)
_database_gone("database-stopped-at-once", signal.SIGQUIT)


@fault("database-cut", SERVER_BACK)
def database_cut(stage: Stage) -> Iterator[None]:
    stage.servers.database_proxy.down()
    time.sleep(_OUTAGE * stage.chance.random())
    stage.servers.database_proxy.up()
    yield


@fault("commit-unanswered", ROLE_BACK, times=10)
def commit_unanswered(stage: Stage) -> Iterator[None]:
    proxy = stage.servers.database_proxy
    proxy.forget_after = b"COMMIT"
    eventually(lambda: proxy.forget_after is None)
    yield


@fault("listener-killed", ROLE_BACK)
def listener_killed(stage: Stage) -> Iterator[None]:
    with stage.session() as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name IN ('foldwork-projections', 'foldwork-relay', 'foldwork-read-models')"
        )
    yield


@fault("backend-frozen", NOTICED, times=1)
def backend_frozen(stage: Stage) -> Iterator[None]:
    with stage.session() as conn:
        for _ in range(1000):
            found = conn.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'foldwork-commands' ORDER BY query_start DESC NULLS LAST LIMIT 1"
            ).fetchone()
            if found is not None:
                os.kill(found[0], signal.SIGSTOP)
                holding = conn.execute("SELECT 1 FROM pg_locks WHERE pid = %s AND granted", found).fetchone()
                if holding is None:
                    break
                # Whatever holds a lock of the log stops everybody until the server itself goes on.
                os.kill(found[0], signal.SIGCONT)
            time.sleep(0.02)
        else:
            raise Unavailable("the backend always held a lock")
    began = time.monotonic()
    try:
        yield
        time.sleep(max(0.0, FROZEN * stage.scale - (time.monotonic() - began)))
    finally:
        os.kill(found[0], signal.SIGCONT)


@fault("vacuum-and-slow-transaction", ROLE_BACK, outage=False)
def vacuum(stage: Stage) -> Iterator[None]:
    with stage.session() as slow, stage.session() as conn, slow.transaction():
        slow.execute("SELECT count(*) FROM stored_events")
        conn.execute("VACUUM (FREEZE) stored_events")
        conn.execute("VACUUM (FREEZE) ledger")
        time.sleep(3)
    yield


@fault("connections-exhausted", SERVER_BACK)
def connections_exhausted(stage: Stage) -> Iterator[None]:
    taken: list[psycopg.Connection[Any]] = []
    try:
        stage.servers.database_proxy.cut()
        while True:
            try:
                taken.append(stage.session())
            except psycopg.OperationalError:
                break
        stage.servers.database_proxy.cut()
        time.sleep(_OUTAGE)
    finally:
        for conn in taken:
            conn.close()
    yield


@fault("database-read-only", SERVER_BACK)
def read_only(stage: Stage) -> Iterator[None]:
    with stage.session() as conn:
        conn.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        conn.execute("SELECT pg_reload_conf()")
        try:
            time.sleep(2 * _OUTAGE)
        finally:
            conn.execute("SET default_transaction_read_only = off")
            conn.execute("ALTER SYSTEM RESET default_transaction_read_only")
            conn.execute("SELECT pg_reload_conf()")
    yield
