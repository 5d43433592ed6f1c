"""Systems of any size: a real run makes the first block, and SQL copies it under other ids as often as is wanted."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import psycopg

import projections
from bench import load
from bench.contenders import Ours
from bench.drain import drain_on
from bench.servers import Servers
from services.processors.rebuild import rebuild

# About 10,000 events.
BLOCK = 833

_EVENTS = """
INSERT INTO stored_events (originator_id, originator_version, topic, state, notification_id)
SELECT replace(originator_id, %(mark)s, %(new)s), originator_version, topic,
       convert_to(replace(convert_from(state, 'UTF8'), %(mark)s, %(new)s), 'UTF8'), notification_id + %(offset)s
FROM stored_events WHERE notification_id > 1 AND notification_id <= %(size)s + 1 ORDER BY notification_id"""
_LEDGER = """
INSERT INTO ledger (tenant, command_id, fingerprint, first_position, last_position)
SELECT tenant, replace(command_id, %(mark)s, %(new)s), fingerprint,
       first_position + %(offset)s, last_position + %(offset)s
FROM ledger WHERE first_position > 1 AND last_position <= %(size)s + 1 ORDER BY first_position"""


@dataclass
class System:
    """A database with so many finished activities and everything that Foldwork keeps of them."""

    url: str
    activities: int
    # How large a block it was made of, how often, and the number of the next.
    size: int
    copies: int = 1
    blocks: int = 1
    # Seconds that each read model took to be built.
    rebuilt: dict[str, float] = field(default_factory=dict)

    def next_block(self) -> int:
        """Return the number of a block that is not there yet."""
        self.blocks += 1
        return self.blocks - 1


def first_block(servers: Servers, activities: int = BLOCK) -> System:
    """Make a system by a run of every role."""
    database_url = servers.create_database()
    ours = Ours()
    ours.prepare(database_url)
    drain_on(servers, database_url, ours, activities, whole=True)
    _tidy(database_url)
    return System(database_url, activities, activities)


def copy_of(servers: Servers, system: System) -> System:
    """Return the same system once more."""
    return System(servers.create_database(system.url), system.activities, system.size, system.copies, system.blocks)


def grown(servers: Servers, first: System, blocks: int) -> System:
    """Return a system of so many times the first block's size, its read models built by the service's own rebuild."""
    system = copy_of(servers, first)
    size = (load.EVENTS + load.CHANGES) * first.activities
    with psycopg.connect(system.url) as conn:
        for block in range(1, blocks):
            names = {
                "mark": f"{load.MARK:08x}-",
                "new": f"{load.MARK + block:08x}-",
                "offset": block * size,
                "size": size,
            }
            for statement in (_EVENTS, _LEDGER):
                conn.execute(statement, names)
            conn.commit()
        conn.execute(
            "UPDATE followers SET position = (SELECT max(notification_id) FROM stored_events) WHERE name = 'relay'"
        )
    _tidy(system.url)
    system.activities, system.copies, system.blocks = first.activities * blocks, blocks, blocks
    system.rebuilt = rebuilt(system.url)
    _tidy(system.url)
    return system


def rebuilt(database_url: str) -> dict[str, float]:
    """Build every read model anew and return the seconds that each took until it served."""
    seconds = {}
    for model in projections.READ_MODELS:
        began = time.perf_counter()
        rebuild(database_url, model.NAME)
        seconds[model.NAME] = time.perf_counter() - began
    return seconds


def _tidy(database_url: str) -> None:
    """Do what autovacuum would do a little later, in the middle of a measurement."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("VACUUM (ANALYZE)")
        conn.execute("CHECKPOINT")
