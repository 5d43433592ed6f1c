"""The catalogue of faults.

A fault is a generator that runs in a thread beside the load. It does its harm up to its `yield`; from then on the
clock runs, until a new command is answered, published and visible. What comes after the `yield` happens then, and a
fault that lasts longer than the recovery (somebody frozen) ends there.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from services.broker.names import COMMAND_QUEUE
from services.store.append import APPEND_LOCK
from tests.eventually import PATIENCE, eventually
from tests.faults.evidence import Letter
from tests.faults.load import Load
from tests.faults.observers import count
from tests.faults.processes import Group, Unavailable
from tests.faults.servers import Servers
from tests.faults.system import ROLES, STANDBY, System
from tests.services.processes import environment, has_ended

# As long as a pause of a virtual machine or a swapping host may well last.
FROZEN = 27.0
_OUTAGE = 4.0
ROLE_BACK, SERVER_BACK, NOTICED = 3.0, 5.0, 30.0
# A role that starts without a supervisor imports for seconds.
COLD = 10.0


@dataclass(slots=True)
class Stage:
    """What a fault may lay its hands on.

    `broken` are expectations of the fault itself that did not come true, `figures` what it measured. `quiet` returns
    when subscribers receive nothing more, `works` when the system works, and `restored` takes back what is not in a
    store that was restored.
    """

    system: System
    servers: Servers
    load: Load
    database: str
    chance: random.Random
    loop: asyncio.AbstractEventLoop
    quiet: Callable[[], Coroutine[Any, Any, None]]
    works: Callable[[], Coroutine[Any, Any, float | None]]
    restored: Callable[[int, Collection[tuple[str, str]], Sequence[Letter]], Coroutine[Any, Any, None]]
    scale: float = 1.0
    broken: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the loop of the load, and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)

    def begin(self, work: Coroutine[Any, Any, Any]) -> None:
        """Let something be done beside, until the end of the episode."""
        self.loop.call_soon_threadsafe(self.load.begin, work)

    def queued(self) -> int:
        """Return how many commands wait."""
        return int(self.run(count(self.servers.amqp_url, COMMAND_QUEUE)))

    def decided(self) -> int:
        """Return how many commands are decided."""
        with self.session() as conn:
            row = conn.execute("SELECT count(*) FROM ledger").fetchone()
        return int(row[0]) if row is not None else 0

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
    what must not delay good commands at all. `patience` is how long is waited for the recovery.
    """

    name: str
    do: Doing
    goal: float | None
    standby: tuple[str, ...] = ()
    durable: bool = False
    mixed: bool = True
    outage: bool = True
    times: int = 3
    patience: float = PATIENCE


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


@fault("kill-all", times=5)
def kill_all(stage: Stage) -> Iterator[None]:
    """Kill every role within a second, each at a moment of its own; all start at once, on whatever cores there are."""
    moments = sorted((stage.chance.random(), role) for role in ROLES)
    before = 0.0
    for moment, role in moments:
        time.sleep(moment - before)
        stage.system.signal(role, signal.SIGKILL)
        before = moment
    yield


@fault("kill-supervisor", COLD, times=5)
def kill_supervisor(stage: Stage) -> Iterator[None]:
    """Kill the supervisor of a role alone: the process under it has to stop, and the role begins anew."""
    worker = stage.system.kill_supervisor(stage.chance.choice(ROLES))
    yield
    if worker is not None:
        eventually(lambda: has_ended(worker))


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


def _rebuild(stage: Stage, model: str, log: str = "rebuild.log") -> Group:
    command = [sys.executable, "-m", "services.cli", "projections", "rebuild", model]
    env = {**environment(), "FOLDWORK_DATABASE_URL": stage.servers.database_through(stage.database)}
    return Group(command, stage.servers.folder / log, env)


@fault("rebuild-twice", mixed=False)
def rebuild_twice(stage: Stage) -> Iterator[None]:
    both = [_rebuild(stage, "history", f"rebuild-{number}.log") for number in range(2)]
    codes = [running.wait(PATIENCE) for running in both]
    # One that begins after the other has ended does it once more.
    stage.demand(0 in codes and None not in codes, f"two rebuilds at once ended with {codes}")
    stage.demand(not any("Traceback" in running.said for running in both), "one of two rebuilds had a traceback")
    yield


@fault("rebuild-killed", mixed=False)
def rebuild_killed(stage: Stage) -> Iterator[None]:
    model = stage.chance.choice(("tasks", "history"))
    for end in (False, False, True):
        running = _rebuild(stage, model)
        if end:
            stage.demand(running.wait(PATIENCE) == 0, f"the rebuild failed: {running.log.read_text('utf-8')[-500:]}")
        else:
            time.sleep(1.5 + 2 * stage.chance.random())
        running.kill()
    yield
