"""Growth: the same work on a log of ten thousand events and on one of a million, and the memory of each role there."""

from __future__ import annotations

from dataclasses import dataclass

from bench.contenders import Ours
from bench.drain import Drained, drain_on
from bench.grow import System, copy_of
from bench.servers import Servers
from bench.web import web


@dataclass(frozen=True, slots=True)
class Costs:
    """What one round on one system gave, a second; `memory` by role, in MB."""

    append: float
    visible: float
    get: float
    page: float
    memory: dict[str, float]


def costs(servers: Servers, system: System, activities: int, seconds: float, *, keep: bool) -> Costs:
    """Run all on a system, or on a copy of it when it is so small that the runs themselves would make it grow."""
    used = system if keep else copy_of(servers, system)
    try:
        whole = _drained(servers, used, activities, whole=True)
        alone = _drained(servers, used, activities, whole=False)
        asked = web(servers, used, seconds)
        memory = {**whole.memory, "http": asked.memory}
        return Costs(alone.committed, whole.visible, asked.get, asked.page, memory)
    finally:
        if not keep:
            servers.drop_database(used.url)


def _drained(servers: Servers, system: System, activities: int, *, whole: bool) -> Drained:
    block = system.next_block()
    drained = drain_on(servers, system.url, Ours(), activities, whole=whole, block=block, present=system.activities)
    system.activities += activities
    return drained
