"""The watchdog of the commands role: what should consume or record and does not ends, and is started anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class NotConsuming(Exception):
    """The broker and the database are there, and no command has been taken or recorded for too long."""


class Watchdog:
    """Watches whether commands are consumed and recorded; an outage of the broker or database is no reason to end.

    `lacking` says what has not happened since it was asked before, or nothing; `timeout` is in seconds.
    """

    def __init__(self, timeout: float, lacking: Callable[[], str]) -> None:
        self._timeout = timeout
        self._lacking = lacking
        self.last_error = ""

    async def watch(self) -> None:
        """Return never; raises `NotConsuming`."""
        loop, pause = asyncio.get_running_loop(), min(1.0, self._timeout / 10)
        missed, last = 0.0, loop.time()
        while True:
            await asyncio.sleep(pause)
            # A process that was stopped for a while has not looked, so that time does not count.
            passed, last = min(loop.time() - last, 2 * pause), loop.time()
            lacking = self._lacking()
            if not lacking:
                missed, self.last_error = 0.0, ""
                continue
            missed += passed
            if missed > self._timeout:
                why = f": {self.last_error}" if self.last_error else ""
                raise NotConsuming(f"for {self._timeout:g} s {lacking}{why}")
