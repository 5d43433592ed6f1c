"""What one tenant, and one key, may take of a process: requests at the same time, and connections for lists."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from services.http.core.authenticator import Caller
from services.http.core.errors import too_many, unavailable
from services.store.pool import Params, Pool, Rows
from services.store.unavailable import StoreUnavailable

# Connections on which the lists of one tenant are read at the same time.
_LISTS_OF_TENANT = 2
# Requests of callers without a key that are served at the same time, and what the body of each may cost.
MAX_ANONYMOUS = 32
ANONYMOUS_BYTES, ANONYMOUS_SECONDS = 4096, 5.0


@dataclass(slots=True)
class InFlight:
    """Counts the requests of known callers that are being served; the most of all, of a tenant, and of a key."""

    most: int
    of_tenant: int
    of_key: int
    count: int = 0
    _tenants: Counter[str] = field(default_factory=Counter)
    _keys: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def request(self, caller: Caller) -> Iterator[None]:
        """Count a request while the block runs; raises `ApiError` if there are too many."""
        tenant, key = caller.tenant, caller.key_id
        if self.count >= self.most:
            raise unavailable("too many requests are under way", "overloaded")
        if self._tenants[tenant] >= self.of_tenant or self._keys[key] >= self.of_key:
            whose = "of this key" if self._tenants[tenant] < self.of_tenant else "of this tenant"
            raise too_many(f"too many requests {whose} are under way")
        self.count += 1
        self._tenants[tenant] += 1
        self._keys[key] += 1
        try:
            yield
        finally:
            self.count -= 1
            _uncount(self._tenants, tenant)
            _uncount(self._keys, key)


def _uncount(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]


async def _acquired(turn: asyncio.Semaphore, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await turn.acquire()
    except TimeoutError:
        raise StoreUnavailable("too many lists of the tenant are being read") from None


@dataclass(slots=True)
class Lists:
    """Reads lists on connections of their own, with a shorter time-out, at most two of a tenant at the same time.

    So nobody's lists keep single reads and key checks waiting, and one tenant's do not keep others' waiting.
    """

    pool: Pool
    _turns: dict[str, asyncio.Semaphore] = field(default_factory=dict)
    _asking: Counter[str] = field(default_factory=Counter)

    async def fetch(self, tenant: str, sql: str, params: Params = ()) -> Rows:
        """Return all rows; raises `StoreUnavailable` if they are not there in time."""
        turn = self._turns.setdefault(tenant, asyncio.Semaphore(_LISTS_OF_TENANT))
        self._asking[tenant] += 1
        try:
            await _acquired(turn, self.pool.statement_timeout)
            try:
                # The server ends the statement in time. It keeps its turn until then: if nobody waited for it any more,
                # it would still run.
                return await self.pool.fetch(sql, params, 2 * self.pool.statement_timeout)
            finally:
                turn.release()
        finally:
            _uncount(self._asking, tenant)
            if tenant not in self._asking:
                del self._turns[tenant]
