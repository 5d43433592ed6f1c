"""Rebuild: a read model filled anew from a log of the same length, by Foldwork's command and by a ProjectionRunner."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any
from uuid import UUID

import psycopg

from bench import load
from bench.contenders import Naive
from bench.grow import System, rebuilt
from bench.naive import names
from bench.naive.domain import Activity, Task, Work
from bench.processes import Failed, processes
from bench.sampler import Sampler, rate, warm
from bench.servers import Servers

_BATCH = 200


def ours(system: System) -> dict[str, float]:
    """Return the events a second of each read model's rebuild, and of all after one another under `all`."""
    with psycopg.connect(system.url) as conn:
        before = _contents(conn)
        row = conn.execute("SELECT max(notification_id) FROM stored_events").fetchone()
    events = int(row[0]) if row is not None else 0
    seconds = rebuilt(system.url)
    with psycopg.connect(system.url) as conn:
        after = _contents(conn)
    if before != after or after[1] != system.activities:
        raise Failed(f"the rebuild gave {after} where {before} was")
    speeds = {name: events / took for name, took in seconds.items()}
    return {**speeds, "all": events / sum(seconds.values())}


def _contents(conn: psycopg.Connection) -> tuple[str, int, int, int]:
    row = conn.execute(
        "SELECT (SELECT md5(string_agg(doc, '' ORDER BY tenant, id)) FROM activities),"
        " (SELECT count(*) FROM activities WHERE status = 'completed'),"
        " (SELECT count(*) FROM tasks WHERE status = 'completed'), (SELECT count(*) FROM history)"
    ).fetchone()
    assert row is not None
    return row[0], row[1], row[2], row[3]


def naive(servers: Servers, activities: int) -> float:
    """Return the events a second that the naive peer's runner catches up with."""
    contender = Naive()
    database_url = servers.create_database()
    with ExitStack() as stack:
        stack.callback(servers.drop_database, database_url)
        contender.prepare(database_url)
        _fill(database_url, activities)
        conn = stack.enter_context(psycopg.connect(database_url, autocommit=True))
        running = stack.enter_context(processes())
        visible = stack.enter_context(Sampler(database_url, contender.VISIBLE))
        # The sampler has to see the beginning.
        time.sleep(0.2)
        running.start(contender.others(), contender.environment(database_url, ""))
        visible.reach(lambda: load.EVENTS * activities, running)
        row = conn.execute("SELECT count(*) FROM activities WHERE status = 'completed'").fetchone()
        if row is None or row[0] != activities:
            raise Failed(f"{row and row[0]} of {activities} activities are completed")
        return rate(warm(visible.samples), visible.samples[-1])


def _fill(database_url: str, activities: int) -> None:
    """Record the events of finished activities by the application's own store, many in a transaction."""
    with Work(env=names.environment(database_url, "")) as work:
        for first in range(0, activities, _BATCH):
            recorded = []
            for index in range(first, min(first + _BATCH, activities)):
                recorded += _finished(index)
            work.events.put(recorded)


def _finished(index: int) -> list[Any]:
    activity_id = UUID(load.activity_id(0, index))
    fields = {"customerName": f"Customer {index}", "createdFrom": "WEB"}
    tasks = [
        Task(UUID(load.task_id(0, index, number)), activity_id, number, fields, "2025-10-31", "2025-11-01")
        for number in range(1, load.TASKS + 1)
    ]
    activity = Activity(activity_id, load.WORKFLOW, f"Delivery {index}", [task.id for task in tasks])
    for task in tasks:
        task.process()
        task.complete({"signature": "JD"})
    return [event for aggregate in (activity, *tasks) for event in aggregate.collect_events()]
