"""A tenant with a million tasks and an activity of ten thousand events, for the measurement of the console.

The worker itself decides a block of commands; SQL copies what it recorded under other ids; the service's own rebuild
makes the read models. So all is as the service would have written it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import psycopg

from bench.drain import tell
from bench.grow import rebuilt
from services.broker.sender import Outgoing
from services.commands import wire
from services.commands.worker import Worker
from services.store.event_store import EventStore
from services.store.migrate import upgrade

TENANT, WORKFLOW, BUSY = "bench", "delivery", "busy"
# Tasks of a block, by how they are made; and the members that it has.
STANDALONE, ACTIVITIES, STEPS, MEMBERS = 600, 100, 4, 10
BLOCK = STANDALONE + ACTIVITIES * STEPS
# What every id of block 0 contains.
MARK = "b00000"
# The activity with so many events, of itself and its tasks.
LONG, LONG_STEPS, EVENTS = "long", 10, 10_000

_COPY = """
INSERT INTO stored_events (originator_id, originator_version, topic, state, notification_id)
SELECT replace(originator_id, %(mark)s, %(new)s), originator_version, topic,
       convert_to(replace(convert_from(state, 'UTF8'), %(mark)s, %(new)s), 'UTF8'), notification_id + %(offset)s
FROM stored_events WHERE notification_id > %(first)s AND notification_id <= %(last)s ORDER BY notification_id"""
_COPY_LEDGER = """
INSERT INTO ledger (tenant, command_id, fingerprint, first_position, last_position)
SELECT tenant, replace(command_id, %(mark)s, %(new)s), fingerprint,
       first_position + %(offset)s, last_position + %(offset)s
FROM ledger WHERE first_position > %(first)s AND last_position <= %(last)s ORDER BY first_position"""
_Command = tuple[str, dict[str, Any]]


def fill(database_url: str, tasks: int) -> None:
    """Fill an empty database."""
    upgrade(database_url)
    decided = _Decided(database_url)
    decided.run(_opening())
    first = _head(database_url)
    decided.run(_block())
    last, blocks = _head(database_url), -(-tasks // BLOCK)
    tell(f"a block of {BLOCK} tasks has {last - first} events; copying it {blocks - 1} times")
    with psycopg.connect(database_url) as conn:
        for block in range(1, blocks):
            offset = block * (last - first)
            given = {"mark": MARK, "new": f"b{block:05}", "offset": offset, "first": first, "last": last}
            conn.execute(_COPY, given)
            conn.execute(_COPY_LEDGER, given)
            conn.commit()
    decided.run(_long())
    decided.close()
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("UPDATE followers SET position = (SELECT max(notification_id) FROM stored_events)"
                     " WHERE name IN ('relay', 'webhooks')")  # fmt: skip
        conn.execute("VACUUM (ANALYZE) stored_events")
    for name, seconds in rebuilt(database_url).items():
        tell(f"{name}: built in {seconds:.0f} s")
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("VACUUM (ANALYZE)")
        conn.execute("CHECKPOINT")


class _Decided:
    """The worker, without a broker; its ids contain the mark, so that those of copies are different."""

    def __init__(self, database_url: str) -> None:
        self._store = EventStore(database_url)
        self._numbers = itertools.count(1)
        self._now = datetime.now(UTC) - timedelta(days=20)
        self._worker = Worker(self._store, self._clock, self._new_id, lambda: next(self._numbers))

    def _clock(self) -> datetime:
        self._now += timedelta(seconds=1)
        return self._now

    def _new_id(self) -> str:
        return f"{MARK}-event-{next(self._numbers)}"

    def run(self, commands: Iterator[_Command]) -> None:
        for batch in _batched(commands, 100):
            waiting = [self._incoming(name, data) for name, data in batch]
            while waiting:
                outcomes = self._worker.run(waiting)
                for outcome in outcomes:
                    assert outcome.failure is None, outcome.failure
                    assert outcome.refusal is None, (outcome.incoming.command, outcome.refusal)
                waiting = waiting[len(outcomes) :]

    def _incoming(self, name: str, data: dict[str, Any]) -> wire.Incoming:
        sent = Outgoing(name, json.dumps(data).encode(), TENANT, command_id=f"{MARK}-command-{next(self._numbers)}")
        properties = SimpleNamespace(
            message_id=sent.command_id,
            message_type=sent.type,
            headers=sent.headers(),
            reply_to=None,
            user_id=None,
            correlation_id=None,
        )
        return wire.parse(properties, sent.body, 1 << 20)

    def close(self) -> None:
        self._store.close()


def _batched(commands: Iterator[_Command], size: int) -> Iterator[list[_Command]]:
    while batch := list(itertools.islice(commands, size)):
        yield batch


def _head(database_url: str) -> int:
    with psycopg.connect(database_url) as conn:
        row = conn.execute("SELECT max(notification_id) FROM stored_events").fetchone()
    assert row is not None
    return int(row[0])


def _opening() -> Iterator[_Command]:
    for own, count in ((WORKFLOW, STEPS), (LONG, LONG_STEPS)):
        steps = [{"name": f"Step {number}"} for number in range(1, count + 1)]
        yield "workflow.define", {"id": own, "name": f"Deliveries in {count} steps", "steps": steps}
    yield "directory.register", {"kind": "hub", "id": "north", "fields": {"name": "North"}}
    yield "directory.register", {"kind": "member", "id": BUSY, "fields": {"name": "Busy", "email": "b@example.com"}}


def _block() -> Iterator[_Command]:
    """Give the commands of a block: members, tasks, activities with theirs, and what becomes of them."""
    people = [f"{MARK}-m{number}" for number in range(MEMBERS)]
    for who in people:
        fields = {"name": f"Person {who}", "email": f"{who}@example.com"}
        yield "directory.register", {"kind": "member", "id": who, "fields": fields}
    tasks = []
    for number in range(STANDALONE):
        task = f"{MARK}-s{number}"
        tasks.append(task)
        yield "task.create", {"id": task, "title": f"Visit {task}", **_given(number, people)}
    for number in range(ACTIVITIES):
        own = f"{MARK}-a{number}"
        children = [{"id": f"{own}-t{step}", **_given(number + step, people)} for step in range(STEPS)]
        tasks += [str(child["id"]) for child in children]
        given = {"id": own, "workflow_id": WORKFLOW, "title": f"Delivery {own}", "tasks": children}
        yield "activity.create", {**given, "fields": {"customer": f"Customer {number}"}}
    for number, task in enumerate(tasks):
        if number % 6:
            continue
        yield "task.process", {"id": task}
        if number % 60 == 6:
            yield "task.error", {"id": task, "comment": "The gate was closed."}
        elif number % 60:
            yield "task.complete", {"id": task, "data": {"signature": "JD", "photo": f"proof/{task}.jpg"}}


def _given(number: int, people: list[str]) -> dict[str, Any]:
    assignees = [] if number % 9 == 0 else [BUSY] if number % 40 == 1 else [people[number % len(people)]]
    fields = {"customerName": f"Customer {number}", "customerAddress": f"Jl. Jenderal Sudirman No. {number}, Jakarta"}
    ends = f"21{number % 100:02}-11-01T08:55:00Z"
    return {"assignees": assignees, "fields": fields, **({"end": ends} if number % 2 else {})}


def _long() -> Iterator[_Command]:
    """Give the commands of an activity whose tasks are started, paused and changed again and again."""
    children = [f"{LONG}-t{number}" for number in range(LONG_STEPS)]
    for child in children:
        # Who starts a task pauses the one before.
        yield "directory.register", {"kind": "member", "id": child, "fields": {"email": f"{child}@example.com"}}
    tasks = [{"id": child, "assignees": [child]} for child in children]
    yield "activity.create", {"id": LONG, "workflow_id": LONG, "title": "A long one", "tasks": tasks}
    for number in range(EVENTS // LONG_STEPS):
        for child in children:
            if number % 3 == 2:
                yield "task.change", {"id": child, "fields": {"note": f"Change {number}", "floor": number % 9}}
            else:
                yield ("task.process", "task.pause")[number % 3], {"id": child}
