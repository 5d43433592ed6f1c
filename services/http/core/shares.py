"""What one tenant, and one key, may take of a process: requests at the same time, memory, and connections for lists."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from services.http.core.authenticator import Caller
from services.http.core.errors import too_many, unavailable
from services.store.pool import Params, Pool, Rows
from services.store.unavailable import StoreUnavailable

# Commands of a tenant's bulks that are decided at the same time, so that those of others are not far behind them.
AT_WORK = 200
# Acts that wait for others than the database, such as receivers of webhooks, and those of a tenant.
MAX_LONG_ACTS, MAX_LONG_ACTS_OF_TENANT = 8, 2
# Requests of callers without a key that are served at the same time, and what the body of each may cost.
MAX_ANONYMOUS = 32
ANONYMOUS_BYTES, ANONYMOUS_SECONDS = 4096, 5.0


@dataclass(slots=True)
class InFlight:
    """Counts the requests of known callers that are being served; the most of all, of a tenant, and of a key."""

    most: int
    of_tenant: int
    of_key: int
    what: str = "requests"
    count: int = 0
    _tenants: Counter[str] = field(default_factory=Counter)
    _keys: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def request(self, caller: Caller) -> Iterator[None]:
        """Count a request while the block runs; raises `ApiError` if there are too many."""
        tenant, key = caller.tenant, caller.key_id
        if self.count >= self.most:
            raise unavailable(f"too many {self.what} are under way", "overloaded")
        if self._tenants[tenant] >= self.of_tenant or self._keys[key] >= self.of_key:
            whose = "of this key" if self._tenants[tenant] < self.of_tenant else "of this tenant"
            raise too_many(f"too many {self.what} {whose} are under way")
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


@dataclass(slots=True)
class Budget:
    """Bytes that requests hold in memory at the same time: the most of all, and half of that of one tenant.

    A request is served, however much it takes, where nobody else holds anything.
    """

    most: int
    held: int = 0
    _tenants: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def holding(self, tenant: str) -> Iterator[Holding]:
        """Give what a request of a tenant holds while the block runs."""
        own = Holding(self, tenant)
        try:
            yield own
        finally:
            own.hold(0)

    def demand(self, tenant: str, own: int, more: int) -> None:
        """Refuse more bytes than there are left to a request that has some of its own; raises `ApiError`."""
        theirs = self._tenants[tenant]
        if theirs > own and theirs + more > self.most // 2:
            raise too_many("the requests of this tenant that are under way take too much memory")
        if self.held > own and self.held + more > self.most:
            raise unavailable("the requests under way take too much memory", "overloaded")

    def add(self, tenant: str, more: int) -> None:
        """Count bytes that a tenant's request has more, or less, than before."""
        self.held += more
        self._tenants[tenant] += more
        if not self._tenants[tenant]:
            del self._tenants[tenant]


@dataclass(slots=True)
class Holding:
    """The bytes that one request holds."""

    _budget: Budget
    _tenant: str
    size: int = 0

    def demand(self, more: int) -> None:
        """Refuse what cannot be held; raises `ApiError`."""
        self._budget.demand(self._tenant, self.size, more)

    def hold(self, size: int) -> None:
        """Hold so many bytes in all; raises `ApiError`, and then holds what it held."""
        more = size - self.size
        if more > 0:
            self.demand(more)
        if more:
            self._budget.add(self._tenant, more)
            self.size = size

    def take(self, more: int) -> None:
        """Hold so many bytes more; raises `ApiError`."""
        self.hold(self.size + more)


@dataclass(slots=True)
class Turns:
    """Lets few of a tenant's things be done at the same time; the others wait in the order in which they came."""

    most: int
    _turns: dict[str, asyncio.Semaphore] = field(default_factory=dict)
    _asking: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def turn(self, tenant: str, seconds: float) -> AsyncIterator[None]:
        """Wait for a turn, and have it while the block runs; raises `TimeoutError` if it does not come in time."""
        turn = self._turns.setdefault(tenant, asyncio.Semaphore(self.most))
        self._asking[tenant] += 1
        try:
            async with asyncio.timeout(seconds):
                await turn.acquire()
            try:
                yield
            finally:
                turn.release()
        finally:
            _uncount(self._asking, tenant)
            if tenant not in self._asking:
                del self._turns[tenant]


class Lists:
    """Reads lists on connections of their own, with their own time-out, and few of a tenant at the same time.

    So nobody's lists keep single reads and key checks waiting, and one tenant's do not keep others' waiting.
    """

    def __init__(self, pool: Pool, of_tenant: int = 2) -> None:
        self.pool = pool
        self._turns = Turns(of_tenant)

    async def fetch(self, tenant: str, sql: str, params: Params = ()) -> Rows:
        """Return all rows; raises `StoreUnavailable` if they are not there in time."""
        seconds = self.pool.statement_timeout
        try:
            async with self._turns.turn(tenant, seconds):
                # The server ends the statement in time. It keeps its turn until then: if nobody waited for it any more,
                # it would still run.
                return await self.pool.fetch(sql, params, 2 * seconds)
        except TimeoutError:
            raise StoreUnavailable("too many lists of the tenant are being read") from None
