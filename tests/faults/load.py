"""The load: two tenants do the same work under the same ids, with repetitions, conflicts, bad messages and trespasses.

A process gives one command after another. An attempt without an answer is followed by another one under the same id,
until the answer is known, as a careful client does. What is sent depends on the seed alone, not what comes of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Awaitable, Iterable
from typing import Any

from pamqp.commands import Basic

from bench.wire import encoded
from services.broker.names import COMMAND_EXCHANGE
from services.commands.wire import routing_key
from tests.faults.clients import Amqp, Http
from tests.faults.history import (
    BAD,
    FAIL,
    FOREIGN,
    GOOD,
    INFO,
    OK,
    OTHER_DATA,
    OTHER_DATA_OF_KEY,
    READ,
    REPEAT,
    UNANSWERED,
    Answer,
    Call,
    History,
)  # fmt: skip
from tests.services.commands.test_dead_letters import BAD as BAD_BODIES

TENANTS = ("acme", "beta")
# One whose events nobody subscribes to.
CROWD = "crowd"
MEMBERS = 12
WORKFLOWS = {"normal": "wait_all", "fast": "fail_fast"}
_ANSWER = 10.0
_MANY = {"large over again": (b'{"id": "' + b"a" * (10 << 20) + b'"}', "too-large")}
BAD_INPUTS = {what: (body, code) for what, (body, code, _) in BAD_BODIES.items()} | _MANY


class Load:
    """Everything that an episode sends. `rate` is commands a second of all processes together."""

    def __init__(self, seed: int, history: History, amqp: Amqp, http: Http, rate: float, processes: int) -> None:
        self.rate = rate
        # Of the processes' messages so many are bad; a fault may raise it.
        self.bad_share = 0.01
        self.bad_tried = 0
        self._seed = seed
        self._history = history
        self._amqp = amqp
        self._http = http
        self._processes = processes
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._giving_up = asyncio.Event()
        self._numbers = 0

    async def set_up(self) -> None:
        """Register what the commands refer to."""
        for tenant in TENANTS:
            commands: list[tuple[str, dict[str, Any]]] = [
                ("directory.register", {"kind": "member", "id": f"m{number}", "fields": {"name": f"Member {number}"}})
                for number in range(MEMBERS)
            ]
            for name, failure in WORKFLOWS.items():
                steps = [{"name": "First"}, {"name": "Second"}, {"name": "Third"}]
                data = {"id": name, "name": f"Workflow {name}", "steps": steps, "failure": failure}
                commands.append(("workflow.define", data))
            commands.append(("task.create", {"id": f"only-{tenant}"}))
            commands.append(("task.create", {"id": "contended", "assignees": ["m0"]}))
            for number, (name, data) in enumerate(commands):
                answer = await self.give("set-up", "amqp", tenant, f"set-up-{number}", name, data)
                if answer.kind != OK:
                    raise RuntimeError(f"{name} {data} was answered {answer}")

    def start(self) -> None:
        """Let the processes begin."""
        for number in range(self._processes):
            for tenant in TENANTS:
                self._tasks.append(asyncio.create_task(self._process(number, tenant), name=f"{tenant}-{number}"))

    def begin(self, work: Awaitable[Any]) -> None:
        """Do something beside, which ends with the load."""

        async def done() -> None:
            await work

        self._tasks.append(asyncio.create_task(done()))

    async def stop(self, patience: float) -> None:
        """Begin nothing more, and wait until every call is answered, so long at most."""
        self._stopping.set()
        done, late = await asyncio.wait(self._tasks, timeout=patience)
        self._giving_up.set()
        if late:
            finished, stuck = await asyncio.wait(late, timeout=2 * _ANSWER)
            done |= finished
            for task in stuck:
                task.cancel()
        for task in done:
            task.result()

    async def abort(self) -> None:
        """Cancel whatever is still under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def give(
        self, process: str, via: str, tenant: str, command_id: str, name: str, data: Any, kind: str = GOOD, **rest: Any
    ) -> Answer:
        """Give a command until its answer is known."""
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        payload = hashlib.sha256(name.encode() + body).hexdigest()[:16]
        call = self._history.call(process, via, tenant, command_id, name, kind=kind, payload=payload, **rest)
        key = routing_key(name, data) if isinstance(data, dict) else "k"
        pause = 0.1
        while True:
            self._history.invoke(call)
            client = self._http if via == "http" else self._amqp
            answer = await client.give(call, body, key, _ANSWER)
            if answer.kind != INFO or self._giving_up.is_set():
                return answer
            await asyncio.sleep(pause)
            pause = min(2 * pause, 2.0)

    async def burst(self, count: int, in_flight: int = 500, **data: Any) -> None:
        """Give many creations at once, whatever the rate of the processes is."""
        places = asyncio.Semaphore(in_flight)
        self._numbers += 1
        burst = self._numbers

        async def one(number: int) -> None:
            async with places:
                own = f"burst{burst}-{number}"
                await self.give("burst", "amqp", TENANTS[number % 2], own, "task.create", {"id": own, **data})

        await asyncio.gather(*(one(number) for number in range(count)))

    async def flood(self, count: int) -> list[bytes]:
        """Note many creations of one more tenant, and return them encoded for publishing with confirms."""
        self._numbers += 1
        messages = []
        for number in range(count):
            own = f"flood{self._numbers}-{number}"
            call = self._history.call("flood", "amqp", CROWD, own, "task.create", kind=UNANSWERED, payload="")
            call.confirmed = True
            properties = Basic.Properties(
                delivery_mode=2, message_type=call.name, message_id=own, headers={"tenant": CROWD}
            )
            messages.append(encoded(COMMAND_EXCHANGE, own, properties, json.dumps({"id": own}).encode()))
        return messages

    async def occupy(self, own: str, members: int) -> None:
        """Let new members each start the first of two tasks."""

        async def one(number: int) -> None:
            member, tenant = f"{own}-{number}", TENANTS[number % 2]
            given: list[tuple[str, dict[str, Any]]] = [
                ("directory.register", {"kind": "member", "id": member, "fields": {"name": "Member"}}),
                *(("task.create", {"id": f"{member}-{task}", "assignees": [member]}) for task in (1, 2)),
                ("task.process", {"id": f"{member}-1"}),
            ]
            for step, (name, data) in enumerate(given):
                answer = await self.give(member, "amqp", tenant, f"{member}-occupy-{step}", name, data)
                if answer.kind != OK:
                    raise RuntimeError(f"{name} {data} was answered {answer}")

        await asyncio.gather(*(one(number) for number in range(members)))

    async def change_over(self, own: str, members: int) -> None:
        """Let these members complete the first task and start the second, and demand that both is done."""

        async def one(member: str, tenant: str, task: int, name: str) -> None:
            answer = await self.give(member, "amqp", tenant, f"{member}-{name}", name, {"id": f"{member}-{task}"})
            if answer.kind != OK:
                raise RuntimeError(f"{name} of {member} was answered {answer}")

        await asyncio.gather(
            *(
                one(f"{own}-{number}", TENANTS[number % 2], task, name)
                for number in range(members)
                for task, name in ((1, "task.complete"), (2, "task.process"))
            )
        )

    async def contend(self, writers: int) -> None:
        """Let so many writers change one task of a tenant at the same time."""
        self._numbers += 1
        names = [f"writer{self._numbers}-{number}" for number in range(writers)]
        given = (
            self.give(own, "http" if number % 5 == 0 else "amqp", TENANTS[0], own, "task.save",
                      {"id": "contended", "data": {own: number}})
            for number, own in enumerate(names)
        )  # fmt: skip
        await asyncio.gather(*given)

    async def _process(self, number: int, tenant: str) -> None:
        chance = random.Random(f"{self._seed}/{tenant}/{number}")
        process, turn = f"{tenant}-{number}", 0
        await asyncio.sleep(chance.random())
        while not self._stopping.is_set():
            turn += 1
            for step, (name, data, key) in enumerate(_activity(chance, f"p{number}-{turn}")):
                own = f"c{number}-{turn}-{step}"
                via = "http" if chance.random() < 0.2 else "amqp"
                answer = await self.give(process, via, tenant, own, name, data, key=key)
                await self._misbehave(chance, process, tenant, own, name, data, key, answer)
                await asyncio.sleep(chance.expovariate(self.rate / (2 * self._processes)))
                if self._stopping.is_set():
                    return

    async def _misbehave(
        self, chance: random.Random, process: str, tenant: str, own: str, name: str, data: dict[str, Any],
        key: str | None, answer: Answer,
    ) -> None:  # fmt: skip
        dice, other = chance.random(), {**data, "id": f"{data['id']}x"}
        if dice < 0.05:
            await self.give(process, "amqp", tenant, own, name, data, REPEAT, key=key)
        elif dice < 0.07:
            await self.give(process, "amqp", tenant, own, name, other, OTHER_DATA)
        elif dice < 0.10 and key is not None and answer.kind == OK:
            await self.give(process, "amqp", tenant, f"{own}-again", name, other, OTHER_DATA_OF_KEY, key=key)
        elif dice < 0.12:
            foreign = {"id": f"only-{next(each for each in TENANTS if each != tenant)}"}
            await self.give(process, "amqp", tenant, f"{own}-foreign", "task.cancel", foreign, FOREIGN)
        elif dice < 0.14:
            stranger = next(each for each in TENANTS if each != tenant)
            call = self._history.call(process, "http", tenant, f"{own}-read", READ, kind=FOREIGN, payload="")
            self._history.invoke(call)
            await self._http.read(call, f"/v1/tasks/only-{stranger}", _ANSWER)
        if chance.random() < self.bad_share:
            what = chance.choice(sorted(BAD_INPUTS))
            body, code = BAD_INPUTS[what]
            self.bad_tried += 1
            await self.give(process, "amqp", tenant, f"{own}-bad", "task.create", body, BAD, expected=code)


def _activity(chance: random.Random, own: str) -> Iterable[tuple[str, dict[str, Any], str | None]]:
    """Give the commands of one activity: (name, data, idempotency key)."""
    workflow = chance.choice(sorted(WORKFLOWS))
    members = [f"m{chance.randrange(MEMBERS)}" for _ in range(3)]
    tasks = [{"id": f"{own}-{step}", "assignees": [member]} for step, member in enumerate(members)]
    yield "activity.create", {"id": own, "workflow_id": workflow, "tasks": tasks}, f"key-{own}"
    for step in range(3):
        task = {"id": f"{own}-{step}"}
        yield "task.process", task, None
        if chance.random() < 0.2:
            yield "task.save", {**task, "data": {"note": "x" * chance.randrange(200)}}, None
        if chance.random() < 0.15:
            yield "task.error", {**task, "comment": "broken"}, None
            if workflow == "normal":
                yield "task.retry", task, None
        yield "task.complete", {**task, "data": {"step": step}}, None
    if chance.random() < 0.05:
        yield "activity.cancel", {"id": own}, None


def unresolved(calls: Iterable[Call]) -> tuple[int, int]:
    """Return how many calls had an attempt without an answer, and how many of these were answered in the end."""
    unknown = [call for call in calls if any(answer.kind == INFO for answer in call.answers)]
    return len(unknown), sum(call.known is not None and call.known.kind in (OK, FAIL) for call in unknown)
