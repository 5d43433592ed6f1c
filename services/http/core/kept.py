"""Answers that are kept for a moment, so that those who ask at the same time, or again at once, cost one question."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

_Answer = TypeVar("_Answer")


@dataclass(slots=True)
class Kept:
    """Answers by what they are about. One that failed is not kept."""

    _kept: dict[Hashable, tuple[float, asyncio.Task[Any]]] = field(default_factory=dict)

    # For how long.
    seconds: ClassVar[float] = 2.0

    async def get(self, about: Hashable, ask: Callable[[], Awaitable[_Answer]], times: int = 1) -> _Answer:
        """Return the answer that is kept, or ask; one that costs much is kept so many times as long."""
        now = time.monotonic()
        until, task = self._kept.get(about, (0.0, None))
        if task is None or (task.done() and until <= now):
            self._kept = {key: each for key, each in self._kept.items() if each[0] > now or not each[1].done()}
            task = asyncio.create_task(_asked(ask))
            self._kept[about] = now + times * self.seconds, task
            task.add_done_callback(lambda done: self._drop_failed(about, done))
        # A request that ends early must not take the answer from the others that wait for it.
        found: _Answer = await asyncio.shield(task)
        return found

    def _drop_failed(self, about: Hashable, task: asyncio.Task[Any]) -> None:
        if (task.cancelled() or task.exception() is not None) and self._kept.get(about, (0.0, None))[1] is task:
            del self._kept[about]


async def _asked(ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
    return await ask()
