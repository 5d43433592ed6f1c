"""A role made of workers in threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from services.settings import Settings
from services.store.connect import Backoff
from services.store.unavailable import AWAY


class RoleEnded(Exception):
    """A role ended without being stopped."""


class Threaded(Protocol):
    """A worker that runs in a thread with its own connection: a reader of the log, the scheduler or the dispatcher."""

    name: str

    @property
    def unready(self) -> list[str]:
        """The names of the workers that should be running and have no connection."""

    def run(self, database_url: str, statement_timeout: float) -> None:
        """Work until `stop`."""

    def stop(self) -> None:
        """Ask the worker to end after its current transaction."""


class Publishing(Protocol):
    """The connection to the broker that the workers of a role share."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...


class FollowerRole:
    """Runs workers, each in a thread with its own connection."""

    def __init__(
        self, settings: Settings, make: Callable[[], Sequence[Threaded]], publisher: Publishing | None = None
    ) -> None:
        self._settings = settings
        self.make = make
        self._publisher = publisher
        self.followers: Sequence[Threaded] = ()
        self._stopped = threading.Event()

    async def run(self) -> None:
        if self._publisher is not None:
            await self._publisher.start()
        await asyncio.to_thread(self._enlist)
        url, timeout = self._settings.database_url.get_secret_value(), self._settings.statement_timeout
        threads = [
            threading.Thread(target=follower.run, args=(url, timeout), name=follower.name, daemon=True)
            for follower in self.followers
        ]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                await asyncio.sleep(0.05)
                ended = [thread.name for thread in threads if not thread.is_alive()]
                if ended and not self._stopped.is_set():
                    raise RoleEnded(f"{', '.join(ended)} ended by itself")
        finally:
            if self._publisher is not None:
                await self._publisher.close()

    def _enlist(self) -> None:
        backoff = Backoff("database", structlog.get_logger("followers"))
        while not self._stopped.is_set():
            try:
                self.followers = self.make()
                if self._stopped.is_set():
                    # `stop` was called before the workers existed.
                    self._stop_all()
                return
            except AWAY as error:
                backoff.lost(error)
                self._stopped.wait(backoff.next_wait())

    async def stop(self) -> None:
        self._stopped.set()
        self._stop_all()

    def _stop_all(self) -> None:
        for follower in self.followers:
            follower.stop()

    @property
    def unready(self) -> list[str]:
        if not self.followers:
            return ["followers"]
        return [name for each in self.followers for name in each.unready]
