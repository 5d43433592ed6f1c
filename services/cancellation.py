"""Ending asyncio tasks of which the code is not all ours."""

from __future__ import annotations

import asyncio
from typing import Any

# Long enough for a task to clean up before it is cancelled again, in seconds.
AGAIN_SECONDS = 2.0


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait for their end, whatever they end with.

    A task that goes on is cancelled again: aiormq replaces a cancellation by the error of a channel that closes at
    that moment, and a loop that catches errors would then never end.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        ended, pending = await asyncio.wait(pending, timeout=AGAIN_SECONDS)
        for task in ended:
            # An error that nobody looks at is logged by asyncio.
            task.cancelled() or task.exception()
