"""Watching from outside: a thread that reads one number again and again, and a process that takes published events."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from types import TracebackType
from typing import Self

import psycopg

from bench.processes import Failed, Processes
from bench.wire import Wire, message_id

PERIOD = 0.02
# Nothing moved for so long: it will not any more.
STALLED = 30.0
# What comes this long after the last message that was expected is one too many.
_LINGER = 0.3
# A tenth of each run is warm-up and is not counted.
WARM_UP = 0.1

Sample = tuple[float, int]


class Sampler:
    """Reads a number every so often and keeps when it changed; it never goes down."""

    def __init__(self, database_url: str, query: str, period: float = PERIOD) -> None:
        self.samples: list[Sample] = []
        self._url, self._query, self._period = database_url, query.encode(), period
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    @property
    def last(self) -> int:
        """Return the number as it was read last."""
        if self._error is not None:
            raise Failed(f"the sampler failed: {self._error}")
        return self.samples[-1][1] if self.samples else -1

    def reach(self, wanted: Callable[[], int], running: Processes) -> None:
        """Wait until the number is what is wanted; raises `Failed` when it stands still."""
        seen, moved = self.last, time.monotonic()
        while self.last < wanted():
            running.demand_running()
            if self.last != seen:
                seen, moved = self.last, time.monotonic()
            if time.monotonic() - moved > STALLED:
                raise Failed(f"stands still at {seen} of {wanted()}")
            time.sleep(PERIOD)

    def _run(self) -> None:
        try:
            with psycopg.connect(self._url, autocommit=True) as conn:
                while not self._stopped.wait(self._period):
                    row = conn.execute(self._query, prepare=True).fetchone()
                    value = int(row[0]) if row is not None else 0
                    if not self.samples or value != self.samples[-1][1]:
                        self.samples.append((time.monotonic(), value))
        except BaseException as error:
            self._error = error


def warm(samples: Sequence[Sample]) -> Sample:
    """Return the sample at which the warm-up is over."""
    first, last = samples[0][1], samples[-1][1]
    return next(sample for sample in samples[1:] if sample[1] >= first + WARM_UP * (last - first))


def rate(start: Sample, end: Sample) -> float:
    """Return the growth a second between two samples."""
    if end[0] - start[0] < 5 * PERIOD:
        raise Failed("the run was over within a few samples; it needs more activities")
    return (end[1] - start[1]) / (end[0] - start[0])


@dataclass(frozen=True, slots=True)
class Taken:
    """What a subscriber got: how many messages by when, and how many different ones."""

    samples: list[Sample]
    count: int
    distinct: int


class Subscriber:
    """A process that takes everything from a queue as fast as it comes."""

    def __init__(self, amqp_url: str, queue: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_take, args=(amqp_url, queue, other), daemon=True)
        self._process.start()
        if not self._pipe.poll(30) or self._pipe.recv() != "ready":
            raise Failed("the subscriber did not start")

    def taken(self, expected: int) -> Taken:
        """Wait until so many messages came, or no more do, and return what it got."""
        self._pipe.send(expected)
        if not self._pipe.poll(STALLED + 30):
            raise Failed("the subscriber does not answer")
        taken: Taken = self._pipe.recv()
        self.close()
        return taken

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()


def _take(amqp_url: str, queue: str, pipe: Pipe) -> None:
    samples: list[Sample] = []
    headers: list[bytes] = []
    expected: int | None = None

    def go_on(now: float, count: int) -> bool:
        nonlocal expected
        if not samples or (count != samples[-1][1] and now - samples[-1][0] > PERIOD / 4):
            samples.append((now, count))
        if expected is None and pipe.poll():
            expected = pipe.recv()
        latest.append((now, count)) if not latest or latest[-1][1] != count else None
        del latest[:-1]
        if expected is None:
            return True
        return now - latest[-1][0] < (_LINGER if count >= expected else STALLED)

    latest: list[Sample] = []
    with Wire(amqp_url) as wire:
        pipe.send("ready")
        wire.consume(queue, go_on, headers)
    if latest and samples[-1][1] != latest[-1][1]:
        samples.append(latest[-1])
    pipe.send(Taken(samples, latest[-1][1] if latest else 0, len({message_id(header) for header in headers})))
