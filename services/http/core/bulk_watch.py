"""How far bulks are, for everyone in this process who looks: one task reads each bulk that is watched."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg

from services.http.core.bulk_acts import find
from services.http.core.errors import ApiError
from services.store.pool import Pool
from services.store.unavailable import StoreUnavailable

# Seconds between two looks.
LOOK = 0.5
_Key = tuple[str, str]


@dataclass(slots=True, eq=False)
class Watcher:
    """Somebody who looks at a bulk. `bulk` is how it was last read; None before that."""

    bulk: dict[str, Any] | None = None
    over: bool = False
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def show(self, bulk: dict[str, Any]) -> None:
        """Show it another state of the bulk."""
        self.bulk = bulk
        self._woken.set()

    def end(self) -> None:
        """Have it end."""
        self.over = True
        self._woken.set()

    async def pause(self, seconds: float) -> None:
        """Wait until something changes, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()


@dataclass(slots=True)
class BulkWatch:
    """The watchers of a process, and the one that reads for all of them while there are any."""

    pool: Pool
    _watchers: dict[_Key, set[Watcher]] = field(default_factory=dict)
    _reading: asyncio.Task[None] | None = None
    _ending: bool = False

    @contextmanager
    def watch(self, tenant: str, bulk_id: str) -> Iterator[Watcher]:
        """Give a watcher of a bulk while the block runs; one that begins when the process stops is over."""
        key, watcher = (tenant, bulk_id), Watcher(over=self._ending)
        self._watchers.setdefault(key, set()).add(watcher)
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="bulk-watch")
        try:
            yield watcher
        finally:
            self._watchers[key].discard(watcher)
            if not self._watchers[key]:
                del self._watchers[key]

    def end(self) -> None:
        """End all watchers, since the process stops."""
        self._ending = True
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.end()

    async def close(self) -> None:
        """End all watchers, and stop reading."""
        self.end()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        while self._watchers:
            for key in tuple(self._watchers):
                try:
                    bulk = await find(self.pool, *key)
                except ApiError:
                    # It was deleted with its receipts.
                    bulk = None
                except (StoreUnavailable, psycopg.Error):
                    continue
                for watcher in tuple(self._watchers.get(key, ())):
                    if bulk is None:
                        watcher.end()
                    elif watcher.bulk != bulk:
                        watcher.show(bulk)
            await asyncio.sleep(LOOK)
