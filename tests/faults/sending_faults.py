"""The faults that consist in what is sent, and how much of it."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.wire import Wire, chunked
from domain import COMMANDS
from tests.eventually import PATIENCE, eventually
from tests.faults.faults import ROLE_BACK, Stage, fault
from tests.faults.load import TENANTS
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


@fault("large-commands", ROLE_BACK, outage=False)
def large_commands(stage: Stage) -> Iterator[None]:
    """Send 135 MB of commands of about the largest size that is taken."""
    data = {f"note {number}": "x" * 25_000 for number in range(10)}
    stage.run(stage.load.burst(int(540 * stage.scale), in_flight=50, fields=data))
    yield


@fault("overload", mixed=False, times=1, patience=1200.0)
def overload(stage: Stage) -> Iterator[None]:
    """Publish for a minute as fast as the broker confirms, which is several times faster than commands are decided."""
    began, before, batch, published = time.monotonic(), stage.decided(), 5_000, 0
    with Wire(stage.servers.amqp_url, timeout=PATIENCE) as wire:
        while time.monotonic() < began + 60 * stage.scale:
            wire.publish(chunked(stage.run(stage.load.flood(batch))))
            published += batch
        lasted, meanwhile = time.monotonic() - began, stage.decided() - before
    stage.figures |= {"published a second": published / lasted, "decided a second meanwhile": meanwhile / lasted}
    began = time.monotonic()
    yield
    left = stage.decided() - before - meanwhile
    stage.figures["decided a second afterwards"] = left / (time.monotonic() - began)


@fault("backlog", mixed=False, times=1)
def backlog(stage: Stage) -> Iterator[None]:
    size = int(20_000 * stage.scale)
    with stage.system.away("commands"):
        stage.begin(stage.load.burst(size, size))
        eventually(lambda: stage.queued() >= size)
    decided, began = stage.decided(), time.monotonic()
    yield
    stage.figures["decided a second"] = (stage.decided() - decided) / (time.monotonic() - began)


@fault("backlog-of-claims", ROLE_BACK, mixed=False)
def backlog_of_claims(stage: Stage) -> Iterator[None]:
    """Let 150 members complete a task and start another while no worker runs."""
    own = f"claims{stage.chance.randrange(10**9)}"
    stage.run(stage.load.occupy(own, 150))
    with stage.system.away("commands"):
        stage.begin(stage.load.change_over(own, 150))
        eventually(lambda: stage.queued() >= 300)
    yield
