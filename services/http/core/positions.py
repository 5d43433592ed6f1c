"""The positions of the read models. One task polls them every few milliseconds while anybody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from services.http.core.errors import ApiError, unavailable
from services.store import standing
from services.store.pool import Pool

_EVERY = 0.005


@dataclass(slots=True)
class _Waiter:
    models: tuple[str, ...]
    position: int
    reached: asyncio.Future[bool]


@dataclass(slots=True)
class Positions:
    """The last known position of each read model's serving tables. Positions only grow.

    Tables switched under way start at a lower position than the ones before only when an operator forces it.
    """

    pool: Pool
    _seen: dict[str, int] = field(default_factory=dict)
    _head: int = 0
    _waiters: list[_Waiter] = field(default_factory=list)
    _task: asyncio.Task[None] | None = None

    async def reached(self, models: Iterable[str], position: int, timeout: float) -> bool:
        """Wait until all these read models have handled the position; tell whether they did in time."""
        waiter = _Waiter(tuple(models), position, asyncio.get_running_loop().create_future())
        if position <= 0 or self._has(waiter):
            return True
        if timeout <= 0:
            return False
        self._waiters.append(waiter)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch(), name="positions")
        try:
            async with asyncio.timeout(timeout):
                return await waiter.reached
        except TimeoutError:
            return False
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    async def demand(self, models: Iterable[str], position: int, timeout: float, asked_by: str) -> int:
        """Wait as `reached` does, and return how far they are; refuse a position that the log has not, or a late view.

        `asked_by` is the parameter or header that names the position.
        """
        models = tuple(models)
        # Without a read model it is the log itself that is asked for.
        if position > self._head and not (models and self._has(_Waiter(models, position, asyncio.Future()))):
            await self.refresh()
            if position > self._head:
                detail = f"the log ends at position {self._head}"
                raise ApiError("position-beyond-head", detail, parameter=asked_by)
        if not await self.reached(models, position, timeout):
            raise unavailable(f"the view has not reached position {position} yet", "view-late")
        return min((self._seen.get(model, position) for model in models), default=self._head)

    async def refresh(self) -> Mapping[str, int]:
        """Ask now, and return what is known of every read model."""
        rows = await self.pool.fetch(*standing.POSITIONS)
        self._seen = {str(name): int(position) for name, position, _ in rows}
        if rows:
            self._head = int(rows[0][2])
        return self._seen

    @property
    def head(self) -> int:
        """Return the end of the log as it was last seen."""
        return self._head

    async def close(self) -> None:
        """End the task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _has(self, waiter: _Waiter) -> bool:
        return all(self._seen.get(model, -1) >= waiter.position for model in waiter.models)

    async def _watch(self) -> None:
        while self._waiters:
            try:
                await self.refresh()
            except Exception as error:
                self._fail(error)
                return
            for waiter in [waiter for waiter in self._waiters if self._has(waiter)]:
                self._waiters.remove(waiter)
                if not waiter.reached.done():
                    waiter.reached.set_result(True)
            if self._waiters:
                await asyncio.sleep(_EVERY)

    def _fail(self, error: Exception) -> None:
        waiting, self._waiters = self._waiters, []
        for waiter in waiting:
            if not waiter.reached.done():
                waiter.reached.set_exception(error)
