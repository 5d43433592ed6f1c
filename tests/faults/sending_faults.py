"""The faults that consist in what is sent, and how much of it."""

from __future__ import annotations

import time
from collections.abc import Iterator

from domain import COMMANDS
from tests.eventually import eventually
from tests.faults.faults import ROLE_BACK, Stage, fault
from tests.faults.load import TENANTS
from tests.faults.servers import Unavailable
from tests.widest import built, places, widest


@fault("contention", ROLE_BACK, outage=False)
def contention(stage: Stage) -> Iterator[None]:
    stage.run(stage.load.contend(50))
    yield


@fault("bad-messages", ROLE_BACK, outage=False)
def bad_messages(stage: Stage) -> Iterator[None]:
    before, stage.load.bad_share = stage.load.bad_share, 0.3
    time.sleep(15 * stage.scale)
    stage.load.bad_share = before
    yield


@fault("widest-commands", ROLE_BACK, outage=False, times=1)
def widest_commands(stage: Stage) -> Iterator[None]:
    name = "task.create"
    for number, place in enumerate(places(COMMANDS[name])):
        if place.path[0] != "id":
            own = f"widest-{stage.chance.randrange(10**9)}-{number}"
            data = built(COMMANDS[name], place.path, widest(place, number), {"id": own})
            stage.run(stage.load.give("widest", "amqp", TENANTS[number % 2], own, name, data))
    yield


@fault("overload", mixed=False, times=1)
def overload(stage: Stage) -> Iterator[None]:
    before = stage.load.rate
    stage.load.rate = 5 * before
    for _ in range(int(60 * stage.scale)):
        stage.begin(stage.load.burst(int(4 * before)))
        time.sleep(1)
    stage.load.rate = before
    yield


@fault("backlog", mixed=False, times=1)
def backlog(stage: Stage) -> Iterator[None]:
    size = int(20_000 * stage.scale)
    with stage.system.away("commands"):
        stage.begin(stage.load.burst(size, size))
        eventually(lambda: stage.queued() >= size)
    yield


@fault("store-restored", mixed=False)
def store_restored(stage: Stage) -> Iterator[None]:
    raise Unavailable("not part of these runs yet")
    yield
