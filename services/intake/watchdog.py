"""The watchdog of the commands role: what should consume and does not ends, for its supervisor to start it anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class NotConsuming(Exception):
    """The broker is there, and no command has been taken for too long."""


class Watchdog:
    """Watches whether commands are consumed; an outage of the broker is no reason to end.

    `fine` tells whether they are consumed, or need not be; `timeout` is in seconds.
    """

    def __init__(self, timeout: float, fine: Callable[[], bool]) -> None:
        self._timeout = timeout
        self._fine = fine
        self.last_error = ""

    async def watch(self) -> None:
        """Return never; raises `NotConsuming`."""
        loop, pause = asyncio.get_running_loop(), min(1.0, self._timeout / 10)
        missed, last = 0.0, loop.time()
        while True:
            await asyncio.sleep(pause)
            # A process that was stopped for a while has not looked, so that time does not count.
            passed, last = min(loop.time() - last, 2 * pause), loop.time()
            if self._fine():
                missed, self.last_error = 0.0, ""
                continue
            missed += passed
            if missed > self._timeout:
                why = f": {self.last_error}" if self.last_error else ""
                raise NotConsuming(f"the broker is there, but for {self._timeout:g} s no commands were consumed{why}")
