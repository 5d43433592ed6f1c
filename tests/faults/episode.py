"""An episode: a new system, a load, faults one after another, and in the end the evidence and every checker."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from psycopg import sql

from services import keys
from services.broker.names import COMMAND_QUEUE, DEAD_QUEUE
from services.settings import Settings
from services.store.log import BATCH_BYTES
from services.store.migrate import upgrade
from tests.eventually import PATIENCE
from tests.faults import checkers, verify
from tests.faults.clients import Amqp, Http
from tests.faults.evidence import Evidence, Injected, Letter, stored_letters, take_store, take_views
from tests.faults.faults import Fault, Stage
from tests.faults.history import BAD, OK, READ, Call, History
from tests.faults.load import TENANTS, Load, unresolved
from tests.faults.observers import Probe, Subscriber, Tailer, count, delete_queues, letters_of
from tests.faults.processes import Unavailable
from tests.faults.servers import Servers
from tests.faults.system import ROLES, STANDBY, System

_CANARY_PERIOD = 0.1
# What every role has in memory by itself, and how much larger than its buffers what is decoded from them may be.
_RESIDENT, _DECODED = 160 << 20, 8
_BUFFERS = dict.fromkeys(ROLES, BATCH_BYTES) | {"commands": int(Settings.model_fields["prefetch_bytes"].default)}
BOUNDS = {role: _RESIDENT + _DECODED * buffer for role, buffer in _BUFFERS.items()}


@dataclass(slots=True)
class Plan:
    """What an episode is: which faults in turn, and what is sent meanwhile. `scale` shortens what faults take."""

    name: str
    faults: Iterable[Fault]
    seed: int
    rate: float = 100.0
    processes: int = 10
    # The seconds between two faults, and those from the begin of one to that of the next at least.
    pause: float = 2.0
    every: float = 0.0
    scale: float = 1.0
    # Roles with a second process.
    standby: frozenset[str] = frozenset()


@dataclass(slots=True)
class Outcome:
    """What came of an episode."""

    name: str
    seed: int
    seconds: float
    folder: str
    sent: int
    confirmed: int
    answered: int
    events: int
    bad: int
    unknown: int
    resolved: int
    faults: list[Injected]
    violations: dict[str, list[str]]
    memory: dict[str, int]
    restarts: dict[str, int] = field(default_factory=dict)

    @property
    def broken(self) -> list[str]:
        """Return all violations."""
        return [text for found in self.violations.values() for text in found]


async def run(plan: Plan, servers: Servers, folder: Path) -> Outcome:
    """Run an episode; its history and the logs of its processes stay in the folder."""
    await asyncio.to_thread(folder.mkdir, parents=True)
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        episode = _Episode(plan, servers, folder)
        stack.push_async_callback(episode.end)
        await episode.begin()
        before = time.monotonic()
        for fault in plan.faults:
            await asyncio.sleep(max(plan.pause, before + plan.every - time.monotonic()))
            before = time.monotonic()
            await episode.inject(fault)
            if episode.lost:
                break
        evidence = await episode.evidence()
    violations = {"expectations": episode.broken, **checkers.check(evidence)}
    unknown, resolved = unresolved(evidence.calls)
    return Outcome(
        plan.name, plan.seed, round(time.monotonic() - began, 1), str(folder), len(evidence.calls),
        sum(call.confirmed or call.known is not None for call in evidence.calls),
        sum(call.known is not None for call in evidence.calls), len(evidence.log), episode.load.bad_tried,
        unknown, resolved, evidence.faults, violations, evidence.memory,
        dict(Counter(name for name, _ in episode.system.restarts)),
    )  # fmt: skip


class _Episode:
    def __init__(self, plan: Plan, servers: Servers, folder: Path) -> None:
        self.plan, self.servers, self.folder = plan, servers, folder
        self.database = f"faults_{plan.seed % 10**6}_{int(time.time() * 1000) % 10**9}"
        self.broken: list[str] = []
        self.lost = False
        self._faults: list[Injected] = []
        # What a restored store does not have: commands, and idempotency keys.
        self._taken_back: set[tuple[str, str]] = set()
        self._letters: list[Letter] = []
        self._canaries = 0
        through = servers.database_through(self.database)
        self.system = System(folder, through, servers.amqp_through)
        self.history = History(folder / "history.jsonl")
        self._amqp = Amqp(servers.amqp_url, self.history)
        self._subscribers = [Subscriber(servers.amqp_url, each, folder / f"{each}.jsonl") for each in TENANTS]
        self._stack = AsyncExitStack()

    async def begin(self) -> None:
        """Start everything; returns when the system works."""
        tokens = await asyncio.to_thread(self._prepare)
        await delete_queues(
            self.servers.amqp_url, COMMAND_QUEUE, DEAD_QUEUE, *(each.queue for each in self._subscribers)
        )
        self._http = Http(self.system.http_port, tokens, self.history)
        self.load = Load(self.plan.seed, self.history, self._amqp, self._http, self.plan.rate, self.plan.processes)
        self.system.start(*ROLES, *(f"{role}{STANDBY}" for role in self.plan.standby))
        self._tailer = Tailer(lambda: self.servers.postgres.database(self.database))
        self._stack.callback(self._tailer.close)
        for each in self._subscribers:
            await each.start()
            self._stack.push_async_callback(each.close)
        await self._amqp.start()
        self._stack.push_async_callback(self._amqp.close)
        self._stack.push_async_callback(self._http.close)
        await self.load.set_up()
        if await self._recovered() is None:
            raise RuntimeError(f"the system never worked: see {self.folder}")
        self._probe = Probe(self.system.http_port)
        self._stack.push_async_callback(self._probe.close)
        self.load.start()

    def _prepare(self) -> dict[str, str]:
        with self.servers.postgres.session() as conn:
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.database)))
        # Not a copy of a template: the service takes a copy for a restored store.
        upgrade(self.servers.postgres.database(self.database))
        with self.servers.postgres.session(self.database) as conn:
            return {tenant: keys.create(conn, tenant)[1] for tenant in TENANTS}

    async def inject(self, fault: Fault) -> None:
        """Inject a fault, and measure how long it takes until the system works again."""
        injected = Injected(fault.name, time.time(), fault.goal, outage=fault.outage)
        self._faults.append(injected)
        if fault.durable and not self.servers.broker.durable:
            injected.skipped = "this broker keeps nothing"
            return
        self.history.note("fault", name=fault.name)
        chance = random.Random(f"{self.plan.seed}/{fault.name}/{len(self._faults)}")
        loop = asyncio.get_running_loop()
        stage = Stage(
            self.system, self.servers, self.load, self.database, chance, loop,
            self._quiet, self._recovered, self._restored, self.plan.scale, figures=injected.figures,
        )  # fmt: skip
        doing: Iterator[None] = fault.do(stage)
        try:
            await asyncio.to_thread(next, doing)
        except Unavailable as reason:
            injected.skipped = str(reason)
            return
        except Exception as error:
            # What the fault itself cannot do says that something is wrong, too; the rest of the evidence is gathered.
            self.broken.insert(0, f"{fault.name} failed: {error!r}")
            self.lost = True
            return
        injected.waited = time.time()
        injected.recovery = await self._recovered(fault.patience)
        self.history.note("recovered", name=fault.name, seconds=injected.recovery)
        await asyncio.to_thread(next, doing, None)
        self.broken += [f"{fault.name}: {text}" for text in stage.broken]
        if injected.recovery is None or await self._recovered() is None:
            injected.recovery, self.lost = None, True
        injected.ended = time.time()

    async def _quiet(self) -> None:
        """Return when no subscriber has received anything for a second."""
        before = -1
        while (now := sum(len(each.received) for each in self._subscribers)) != before:
            before = now
            await asyncio.sleep(1)

    async def _restored(self, head: int, kept: Collection[tuple[str, str]], letters: Sequence[Letter]) -> None:
        """Take back what a restored store does not have: it ends at `head`, and has decided the commands `kept`.

        `letters` are the dead letters that the store had before.
        """
        self._letters += letters
        for call in self.history.calls:
            if call.known is not None and call.kind != BAD and call.name != READ and call.command not in kept:
                self._taken_back.add(call.command)
                if call.key is not None:
                    self._taken_back.add((call.tenant, call.key))
        for each in self._subscribers:
            each.received[:] = [message for message in each.received if message.position <= head]
        await asyncio.to_thread(self._tailer.rewind, head)

    def _stands(self, call: Call) -> bool:
        return call.command not in self._taken_back and (call.tenant, call.key) not in self._taken_back

    async def _recovered(self, limit: float = PATIENCE) -> float | None:
        """Return the seconds until a command that is sent from now on is answered, published and visible."""
        began, done = time.monotonic(), asyncio.Event()
        while time.monotonic() < began + limit:
            self._canaries += 1
            self.load.begin(self._canary(f"canary-{self._canaries}", done, began + limit))
            try:
                await asyncio.wait_for(done.wait(), _CANARY_PERIOD)
            except TimeoutError:
                continue
            return round(time.monotonic() - began, 3)
        return None

    async def _canary(self, own: str, done: asyncio.Event, until: float) -> None:
        tenant = TENANTS[self._canaries % len(TENANTS)]
        subscriber = self._subscribers[self._canaries % len(TENANTS)]
        answer = await self.load.give("canary", "amqp", tenant, own, "task.create", {"id": own})
        if answer.kind != OK:
            return
        while not done.is_set() and time.monotonic() < until:
            seen = own in subscriber.commands
            if seen and await self._http.status(tenant, f"/v1/tasks/{own}", answer.position, 5.0) == 200:
                done.set()
            await asyncio.sleep(0.02)

    async def evidence(self) -> Evidence:
        """End the load, let everything settle, stop the roles, and gather what is left."""
        await self.load.stop(PATIENCE)
        deadline = time.monotonic() + PATIENCE / 2
        while not await self._settled() and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        calls = [call for call in self.history.calls if self._stands(call)]
        evidence = Evidence(calls=calls, faults=self._faults, bounds=BOUNDS)
        await self._probe.close()
        evidence.readiness = self._probe.found
        evidence.queued = await count(self.servers.amqp_url, COMMAND_QUEUE)
        await asyncio.to_thread(self.system.stop)
        self._tailer.close()
        database = self.servers.postgres.database(self.database)
        in_store = await asyncio.to_thread(stored_letters, database)
        evidence.letters = [*self._letters, *in_store, *await letters_of(self.servers.amqp_url)]
        evidence.received = {each.queue.partition(".")[2]: each.received for each in self._subscribers}
        evidence.tail, evidence.saved = self._tailer.tail, self._tailer.saved
        evidence.memory, evidence.ended = self.system.memory, self.system.ended
        postgres = self.servers.postgres
        await asyncio.to_thread(take_store, evidence, postgres.database(self.database))
        evidence.verified = await asyncio.to_thread(verify.verified, postgres.database(self.database))
        await asyncio.to_thread(take_views, evidence, postgres.url, postgres.database(self.database))
        return evidence

    async def _settled(self) -> bool:
        """Tell whether every follower is at the end of the log, and every subscriber has all."""
        if await count(self.servers.amqp_url, COMMAND_QUEUE):
            return False
        latest = {saved.follower: saved for saved in self._tailer.saved[-50:]}
        head = self._tailer.last
        if any(saved.position < head or saved.head != head for saved in latest.values()):
            return False
        subscribed = tuple(f"{tenant}/" for tenant in TENANTS)
        last = next(
            (position for position, stream, _ in reversed(self._tailer.tail) if stream.startswith(subscribed)), 0
        )
        return last in {message.position for each in self._subscribers for message in each.received[-500:]}

    async def end(self) -> None:
        """End whatever still runs, and remove the database."""
        if hasattr(self, "load"):
            await self.load.abort()
        await asyncio.to_thread(self.system.kill)
        await self._stack.aclose()
        self.history.close()
        await asyncio.to_thread(self._drop)

    def _drop(self) -> None:
        with self.servers.postgres.session() as conn:
            conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(self.database)))
