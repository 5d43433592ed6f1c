"""Throughput: a filled queue is drained, by the worker alone (committed) or by every role (visible and published)."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass, field

import psycopg

from bench import load
from bench.contenders import PUBLISHED_QUEUE, Contender
from bench.processes import Failed, processes, until
from bench.sampler import Sample, Sampler, Subscriber, rate, warm
from bench.servers import Servers
from bench.wire import Wire, chunked


@dataclass(frozen=True, slots=True)
class Drained:
    """What one run gave, a second; `sender` is how fast the queue was filled, in messages."""

    committed: float
    sender: float
    visible: float = 0.0
    published: float = 0.0
    memory: dict[str, float] = field(default_factory=dict)


def tell(text: str) -> None:
    """Say how far the bench is."""
    print(text, file=sys.stderr, flush=True)


def drain(servers: Servers, contender: Contender, activities: int, *, whole: bool) -> Drained:
    """Run a contender on a fresh database and return its figures; raises `Failed`, and then there are none."""
    database_url = servers.create_database()
    try:
        contender.prepare(database_url)
        return drain_on(servers, database_url, contender, activities, whole=whole)
    finally:
        servers.drop_database(database_url)


def drain_on(
    servers: Servers,
    database_url: str,
    contender: Contender,
    activities: int,
    *,
    whole: bool,
    block: int = 0,
    present: int = 0,
) -> Drained:
    """Run a contender on a database that holds `present` activities already."""
    opening = contender.opening() if not present else []
    with ExitStack() as stack:
        wire = stack.enter_context(Wire(servers.amqp_url))
        stack.callback(contender.empty, wire)
        contender.declare(wire)
        wire.declare_queue(PUBLISHED_QUEUE)
        wire.bind(PUBLISHED_QUEUE, contender.events_exchange)
        conn = stack.enter_context(psycopg.connect(database_url, autocommit=True))
        before = _number(conn, contender.COMMITTED)
        own_before = _number(conn, contender.UP_TO, before)
        running = stack.enter_context(processes())
        environment = contender.environment(database_url, servers.amqp_url)
        subscriber = None
        if whole:
            subscriber = Subscriber(servers.amqp_url, PUBLISHED_QUEUE)
            stack.callback(subscriber.close)
            running.start(contender.others(), environment)
            until(lambda: contender.ready(conn), "readiness", running=running)
        messages = [*opening, *contender.messages(block, activities)]
        filled = wire.publish(chunked(messages))
        committed = stack.enter_context(Sampler(database_url, contender.COMMITTED))
        visible = stack.enter_context(Sampler(database_url, contender.VISIBLE))
        running.start(contender.worker(), environment)
        own = load.EVENTS * activities + len(opening)
        whole_log = before + contender.events * activities + len(opening)
        committed.reach(lambda: whole_log, running)
        own_events = _own(conn, contender, committed)
        # Whatever is measured, the clock starts where the warm-up of the commands ends: a role that has waited for
        # the others and then works off all at once is not faster for that.
        start, all_own = warm(own_events), own_before + own
        if subscriber is None:
            until(lambda: wire.count(contender.queue) == 0, "an empty queue", running=running)
            if present:
                # The other roles catch up, so that the next run finds all as this one found it.
                running.start(contender.others(), environment)
                until(lambda: contender.settled(conn), "the other roles", running=running)
            contender.demand_right(conn, wire, present + activities, whole=present > 0)
            events = rate(start, _end(own_events, all_own))
            return Drained(events * load.COMMANDS / load.EVENTS, len(messages) / filled)
        visible.reach(lambda: whole_log, running)
        until(lambda: contender.settled(conn), "the other roles", running=running)
        memory = running.memory()
        stored = contender.demand_right(conn, wire, present + activities, whole=True)
        taken = subscriber.taken(stored - before)
        if not taken.count == taken.distinct == stored - before:
            raise Failed(
                f"{stored - before} events stored, {taken.count} published, {taken.distinct} of them different"
            )
        published = (taken.samples[-1][0], all_own)
        ends = (_end(own_events, all_own), _end(_own(conn, contender, visible), all_own), published)
        rates = [rate(start, end) * load.COMMANDS / load.EVENTS for end in ends]
        return Drained(rates[0], len(messages) / filled, rates[1], rates[2], memory)


def _own(conn: psycopg.Connection, contender: Contender, sampler: Sampler) -> list[Sample]:
    """Return the samples as counts of the commands' own events, whatever other events lie between."""
    samples = sampler.samples
    step = max(1, len(samples) // 400)
    return [(at, _number(conn, contender.UP_TO, position)) for at, position in [*samples[:-1:step], samples[-1]]]


def _end(samples: list[Sample], wanted: int) -> Sample:
    return next(sample for sample in samples if sample[1] >= wanted)


def _number(conn: psycopg.Connection, query: str, *parameters: int) -> int:
    row = conn.execute(query.encode(), parameters).fetchone()
    return int(row[0]) if row is not None else 0
