"""The watchdog of the commands role: ends a process that should consume or record and does not, so that it restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class NotConsuming(Exception):
    """Broker and database are available, and no command has been consumed or recorded for too long."""


class Watchdog:
    """Watches that commands are consumed and recorded; an outage of broker or database does not count.

    `lacking` says what has not happened since it was asked before, or nothing; `timeout` is in seconds.
    """

    def __init__(self, timeout: float, lacking: Callable[[], str]) -> None:
        self._timeout = timeout
        self._lacking = lacking
        self.last_error = ""

    async def watch(self) -> None:
        """Watch until cancelled; raises `NotConsuming`."""
        loop, pause = asyncio.get_running_loop(), min(1.0, self._timeout / 10)
        missed, last = 0.0, loop.time()
        while True:
            await asyncio.sleep(pause)
            # Time in which the process was suspended does not count.
            passed, last = min(loop.time() - last, 2 * pause), loop.time()
            lacking = self._lacking()
            if not lacking:
                missed, self.last_error = 0.0, ""
                continue
            missed += passed
            if missed > self._timeout:
                why = f": {self.last_error}" if self.last_error else ""
                raise NotConsuming(f"for {self._timeout:g} s {lacking}{why}")
