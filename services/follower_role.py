"""A role made of workers in threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import psycopg
import structlog

from services.cancellation import cancel
from services.commands.watchdog import NotConsuming, Watchdog
from services.settings import Settings
from services.store.connect import Backoff, connect
from services.store.unavailable import AWAY

# Statements of one transaction that may each take as long as the time-out before a worker counts as hanging.
STATEMENTS_OF_A_TRANSACTION = 4


class RoleEnded(Exception):
    """A role ended without being stopped."""


class Threaded(Protocol):
    """A worker that runs in a thread with its own connection: a reader of the log, the scheduler or the dispatcher."""

    name: str
    # Counts everything that it does.
    beats: int

    @property
    def unready(self) -> list[str]:
        """The names of the workers that should be running and have no connection."""

    def run(self, database_url: str, statement_timeout: float) -> None:
        """Work until `stop`."""

    def stop(self) -> None:
        """Ask the worker to end after its current transaction."""


class OnBroker(Protocol):
    """A connection to the broker that the workers of a role use."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...


class FollowerRole:
    """Runs workers, each in a thread with its own connection."""

    def __init__(self, settings: Settings, make: Callable[[], Sequence[Threaded]], *outside: OnBroker) -> None:
        self._settings = settings
        self.make = make
        self._outside = outside
        self.followers: Sequence[Threaded] = ()
        self._stopped = threading.Event()

    async def run(self) -> None:
        for each in self._outside:
            await each.start()
        await asyncio.to_thread(self._enlist)
        url, timeout = self._settings.database_url.get_secret_value(), self._settings.statement_timeout
        threads = [
            threading.Thread(target=follower.run, args=(url, timeout), name=follower.name, daemon=True)
            for follower in self.followers
        ]
        for thread in threads:
            thread.start()
        watching = [asyncio.create_task(self._watch(follower)) for follower in self.followers]
        try:
            while any(thread.is_alive() for thread in threads):
                await asyncio.sleep(0.05)
                ended = [thread.name for thread in threads if not thread.is_alive()]
                if ended and not self._stopped.is_set():
                    raise RoleEnded(f"{', '.join(ended)} ended by itself")
                for watch in watching:
                    if watch.done():
                        await watch
        finally:
            await cancel(*watching)
            for each in self._outside:
                await each.close()

    async def _watch(self, worker: Threaded) -> None:
        """Raise `RoleEnded` when a worker hangs although the database is available."""
        last = -1

        def lacking() -> str:
            nonlocal last
            before, last = last, worker.beats
            return f"{worker.name} has done nothing" if before == last and not self._stopped.is_set() else ""

        while True:
            try:
                # Longer than any transaction: its statements end by themselves, and so does the wait for confirms.
                await Watchdog(max(self._settings.consumer_timeout, self._longest), lacking).watch()
            except NotConsuming as error:
                if await asyncio.to_thread(self._available):
                    raise RoleEnded(f"{error}, although the database is available") from None

    @property
    def _longest(self) -> float:
        return STATEMENTS_OF_A_TRANSACTION * self._settings.statement_timeout

    def _available(self) -> bool:
        try:
            connect(self._settings.database_url.get_secret_value(), "watchdog").close()
        except psycopg.Error:
            return False
        return True

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
