"""Latency: how long after it was published a command is visible in the read model, at a fixed rate of commands."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from bisect import bisect_left
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe

import psycopg

from bench import load
from bench.contenders import PUBLISHED_QUEUE, Contender
from bench.processes import Failed, processes, until
from bench.sampler import WARM_UP, Sampler, Subscriber
from bench.servers import Servers
from bench.wire import Wire, chunked

# The read model is looked at so often; it adds half of it to each figure, of whichever contender.
PERIOD = 0.002


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from publish to visible; `late` is how far the sender itself fell behind its plan at most."""

    p50: float
    p99: float
    late: float


def latency(servers: Servers, contender: Contender, per_second: float, seconds: float) -> Latency:
    """Run every role of a contender under a live sender; raises `Failed`, and then there is no figure."""
    activities = max(2, round(per_second * seconds / load.COMMANDS))
    # A slow sender goes through one activity after another, a fast one has many under way.
    window = min(load.WINDOW, max(1, round(per_second / 20)))
    database_url = servers.create_database()
    with ExitStack() as stack:
        stack.callback(servers.drop_database, database_url)
        contender.prepare(database_url)
        wire = stack.enter_context(Wire(servers.amqp_url))
        stack.callback(contender.empty, wire)
        contender.declare(wire)
        wire.declare_queue(PUBLISHED_QUEUE)
        wire.bind(PUBLISHED_QUEUE, contender.events_exchange)
        conn = stack.enter_context(psycopg.connect(database_url, autocommit=True))
        running = stack.enter_context(processes())
        subscriber = Subscriber(servers.amqp_url, PUBLISHED_QUEUE)
        stack.callback(subscriber.close)
        environment = contender.environment(database_url, servers.amqp_url)
        running.start(contender.others(), environment)
        until(lambda: contender.ready(conn), "readiness", running=running)
        running.start(contender.worker(), environment)
        until(lambda: wire.consumers(contender.queue) > 0, "a consumer", running=running)
        wire.publish(chunked(contender.opening()))
        time.sleep(1.0)
        visible = stack.enter_context(Sampler(database_url, contender.VISIBLE, PERIOD))
        messages = contender.messages(0, activities, window)
        sent, late = _send(servers.amqp_url, messages, per_second)
        total = len(contender.opening()) + contender.events * activities
        visible.reach(lambda: total, running)
        until(lambda: contender.settled(conn), "the other roles", running=running)
        contender.demand_right(conn, wire, activities, whole=True)
        seen = _seen(conn, contender, visible, activities, window)
    waits = [1000 * (at - began) for at, began in zip(seen, sent, strict=True)]
    cuts = statistics.quantiles(waits[int(WARM_UP * len(waits)) :], n=100, method="inclusive")
    return Latency(cuts[49], cuts[98], 1000 * late)


def _seen(
    conn: psycopg.Connection, contender: Contender, visible: Sampler, activities: int, window: int
) -> list[float]:
    """Return when each command was seen in the read model."""
    positions = contender.positions(conn, 0)
    reached = [position for _, position in visible.samples]
    return [
        visible.samples[bisect_left(reached, positions[command.entity, command.version])][0]
        for command in load.commands(0, activities, window)
    ]


def _send(amqp_url: str, messages: list[bytes], per_second: float) -> tuple[list[float], float]:
    """Send from a process of its own and return when each message was sent, and the longest delay of the plan."""
    context = multiprocessing.get_context("spawn")
    pipe, other = context.Pipe()
    sender = context.Process(target=_sender, args=(amqp_url, other), daemon=True)
    sender.start()
    try:
        pipe.send((messages, per_second))
        if not pipe.poll(len(messages) / per_second + 60):
            raise Failed("the sender does not come to an end")
        times, late = pipe.recv()
        return times, late
    finally:
        sender.terminate()
        sender.join()


def _sender(amqp_url: str, pipe: Pipe) -> None:
    messages, per_second = pipe.recv()
    times: list[float] = []
    late = 0.0
    with Wire(amqp_url) as wire:
        wire.confirm()
        start = time.monotonic() + 0.1
        while len(times) < len(messages):
            now = time.monotonic()
            due = min(len(messages), int((now - start) * per_second) + 1) if now >= start else 0
            if due > len(times):
                late = max(late, now - start - len(times) / per_second)
                part = messages[len(times) : due]
                times += [now] * len(part)
                wire.send(len(part), b"".join(part))
            else:
                time.sleep(max(0.0005, min(0.002, start + len(times) / per_second - now)))
        wire.settle()
    pipe.send((times, late))
