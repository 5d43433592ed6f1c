"""How many commands, and bytes of requests that give them, a tenant may send: a token bucket for each.

What is sent is counted when it is known, so a bucket may be overdrawn; who has overdrawn one waits until it is not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from services.http.core.errors import too_many

# Seconds at the full rate that an unused bucket holds.
BURST = 10.0
# Tenants that are remembered, before those whose buckets are full again are left out.
MAX_TENANTS = 10_000


@dataclass(slots=True)
class Rate:
    """A bucket for each tenant, which is filled at a rate per second."""

    what: str
    rate: float
    clock: Callable[[], float] = time.monotonic
    # When each bucket will be full again.
    _full_at: dict[str, float] = field(default_factory=dict)

    @property
    def tenants(self) -> int:
        """Return how many tenants are remembered."""
        return len(self._full_at)

    def demand(self, tenant: str) -> None:
        """Refuse a tenant that has overdrawn its bucket, and say how long; raises `ApiError`."""
        over = self._full_at.get(tenant, 0.0) - self.clock() - BURST
        if over > 0:
            detail = f"this tenant sends more than {self.rate:g} {self.what} per second"
            raise too_many(detail, math.ceil(over))

    def spend(self, tenant: str, amount: float) -> None:
        """Count what a tenant sends."""
        now = self.clock()
        if len(self._full_at) >= MAX_TENANTS and tenant not in self._full_at:
            self._full_at = {each: full_at for each, full_at in self._full_at.items() if full_at > now}
        self._full_at[tenant] = max(self._full_at.get(tenant, 0.0), now) + amount / self.rate


@dataclass(slots=True)
class Rates:
    """What a tenant may send."""

    commands: Rate
    bytes: Rate

    @classmethod
    def of(cls, commands: float, size: float) -> Rates:
        """Return buckets with these rates."""
        return cls(Rate("commands", commands), Rate("bytes of requests", size))

    def demand(self, tenant: str) -> None:
        """Refuse a tenant that has sent too much; raises `ApiError`."""
        self.commands.demand(tenant)
        self.bytes.demand(tenant)
