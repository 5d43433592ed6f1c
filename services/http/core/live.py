"""Live events: one reader of the log in a process hands each event to the streams that want it.

The reader runs while there are streams. An event is read once and encoded once; a stream gets the same bytes as all
others that want it. A stream that is behind reads the log by pages, through the pool, up to where it has joined.
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from services import cloud_events
from services.http.core.interests import Interest, Key, Subject
from services.store.log import LogReplaced, LogRow
from services.store.log_tail import LogTail

# Bytes that may wait for a stream when more are added; a stream that has more reads them from the log.
MAX_WAITING = 256 << 10
_END_SECONDS = 1.0


# A position, and the block of a stream of Server-Sent Events that has it as its id.
Block = tuple[int, bytes]


def block(row: LogRow) -> Block:
    """Return an event as a block."""
    return row.position, b"id: %d\ndata: %b\n\n" % (row.position, cloud_events.cloud_event(row))


@dataclass(slots=True, eq=False)
class Batch:
    """Blocks that were handed on together; `end` is how far the log was read with them."""

    blocks: Sequence[Block]
    size: int
    end: int


@dataclass(slots=True, eq=False)
class Stream:
    """One reader. From `joined` on, all that it wants comes into `waiting`; None says that it has not joined."""

    tenant: str
    interest: Interest
    joined: int | None = None
    over: bool = False
    waiting: deque[Batch] = field(default_factory=deque)
    _size: int = 0
    _woken: asyncio.Future[None] | None = None

    def offer(self, batch: Batch) -> bool:
        """Take a batch; false if too much waits already, and then nothing does any more."""
        if self.waiting and self._size + batch.size > MAX_WAITING:
            self.part()
            return False
        self.waiting.append(batch)
        self._size += batch.size
        self.wake()
        return True

    def take(self) -> Batch | None:
        """Return the next batch, if there is one."""
        if not self.waiting:
            return None
        batch = self.waiting.popleft()
        self._size -= batch.size
        return batch

    def part(self) -> None:
        """Drop what waits; the stream joins again."""
        self.waiting.clear()
        self._size, self.joined = 0, None
        self.wake()

    def end(self) -> None:
        """Have it end."""
        self.over = True
        self.wake()

    def wake(self) -> None:
        """End its pause."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def pause(self, seconds: float) -> None:
        """Wait until something happens to it, at most so long."""
        if self.over:
            return
        loop = asyncio.get_running_loop()
        woken = self._woken = loop.create_future()
        timer = loop.call_later(seconds, self.wake)
        try:
            await woken
        finally:
            timer.cancel()
            self._woken = None


@dataclass(slots=True, eq=False)
class _Group:
    """The streams of a tenant that want the same."""

    interest: Interest
    streams: set[Stream] = field(default_factory=set)


@dataclass(slots=True)
class _Tenant:
    groups: dict[Interest, _Group] = field(default_factory=dict)
    by_key: defaultdict[Key, set[_Group]] = field(default_factory=lambda: defaultdict(set))

    def add(self, stream: Stream) -> None:
        group = self.groups.get(stream.interest)
        if group is None:
            group = self.groups[stream.interest] = _Group(stream.interest)
            for key in stream.interest.keys:
                self.by_key[key].add(group)
        group.streams.add(stream)

    def discard(self, stream: Stream) -> None:
        group = self.groups.get(stream.interest)
        if group is None:
            return
        group.streams.discard(stream)
        if not group.streams:
            del self.groups[stream.interest]
            for key in stream.interest.keys:
                self.by_key[key].discard(group)
                if not self.by_key[key]:
                    del self.by_key[key]

    def wanting(self, row: LogRow) -> Iterator[_Group]:
        """Return the groups that want an event."""
        subject = Subject(row)
        found: set[_Group] = set(self.by_key.get(None, ()))
        for dimension in {key[0] for key in self.by_key if key is not None}:
            for value in subject.values(dimension):
                found |= self.by_key.get((dimension, value), set())
        return (group for group in found if group.interest.admits(subject))


class Live:
    """The streams of a process, and their reader of the log."""

    def __init__(self, database_url: str, statement_timeout: float, poll: float) -> None:
        self._url = database_url
        self._statement_timeout = statement_timeout
        self._poll = poll
        self._streams: set[Stream] = set()
        self._tenants: dict[str, _Tenant] = {}
        self._ending = False
        self._tail: LogTail | None = None
        self._threads: set[threading.Thread] = set()
        self._log = structlog.get_logger("http.streams")
        # How far the reader has handed on the log; None while it has not begun.
        self.position: int | None = None

    @contextmanager
    def stream(self, tenant: str, interest: Interest) -> Iterator[Stream]:
        """Give a stream while the block runs; one that begins when the process stops is over."""
        stream = Stream(tenant, interest, over=self._ending)
        self._streams.add(stream)
        if self._tail is None and not self._ending:
            self._start()
        try:
            yield stream
        finally:
            self._streams.discard(stream)
            self._forget(stream)
            if not self._streams:
                self._stop()

    def join(self, stream: Stream) -> None:
        """Let a stream have what is handed on from now on; before the reader has begun, it is woken when that has."""
        if self.position is not None and stream.joined is None:
            stream.joined = self.position
            self._tenants.setdefault(stream.tenant, _Tenant()).add(stream)

    def end(self) -> None:
        """End all streams, since the process stops."""
        self._ending = True
        for stream in self._streams:
            stream.end()

    async def close(self) -> None:
        """End all streams and the reader."""
        self.end()
        self._stop()
        for thread in tuple(self._threads):
            # It may be handing something on to the event loop, or be connecting for as long as that takes.
            await asyncio.to_thread(thread.join, _END_SECONDS)

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._threads = {thread for thread in self._threads if thread.is_alive()}

        def on_loop(what: Callable[..., None], *args: Any) -> None:
            """Do something in the event loop, unless another reader has begun, and wait for it."""
            done: Future[None] = Future()

            def do() -> None:
                try:
                    if self._tail is tail:
                        what(*args)
                finally:
                    done.set_result(None)

            loop.call_soon_threadsafe(do)
            done.result()

        tail = self._tail = LogTail(
            "streams",
            lambda rows: on_loop(self._hand_on, rows),
            lambda position: on_loop(self._begin, position),
            lambda error: on_loop(self._replaced, error),
            self._poll,
        )
        thread = threading.Thread(
            target=tail.run, args=(self._url, self._statement_timeout), name="streams", daemon=True
        )
        self._threads.add(thread)
        thread.start()

    def _stop(self) -> None:
        if self._tail is not None:
            self._tail.stop()
        self._tail = self.position = None

    def _begin(self, position: int) -> None:
        self.position = position
        for stream in self._streams:
            stream.wake()

    def _replaced(self, error: LogReplaced) -> None:
        """End all streams: their positions are those of another log. The next one starts another reader."""
        self._log.error("the streams end", error=str(error))
        self._stop()
        for stream in self._streams:
            stream.end()

    def _hand_on(self, rows: Sequence[LogRow]) -> None:
        wanted: dict[_Group, list[Block]] = {}
        for row in rows:
            tenant = row.stream.partition("/")[0]
            theirs = self._tenants.get(tenant)
            if theirs is None or not row.is_published:
                continue
            try:
                groups = list(theirs.wanting(row))
                if groups:
                    shown = block(row)
                    for group in groups:
                        wanted.setdefault(group, []).append(shown)
            except Exception:
                # An event that cannot be shown ends its tenant's streams, and nobody else's.
                self._log.exception("an event cannot be shown", position=row.position)
                for group in tuple(theirs.groups.values()):
                    wanted.pop(group, None)
                    for stream in tuple(group.streams):
                        self._forget(stream)
                        stream.end()
        self.position = last = rows[-1].position
        for group, blocks in wanted.items():
            batch = Batch(blocks, sum(len(shown) for _, shown in blocks), last)
            for stream in tuple(group.streams):
                if not stream.offer(batch):
                    self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        theirs = self._tenants.get(stream.tenant)
        if theirs is not None:
            theirs.discard(stream)
            if not theirs.groups:
                del self._tenants[stream.tenant]
