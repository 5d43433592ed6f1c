"""Liveness, readiness and metrics of a process.

Liveness does not depend on a server: restarting a process while the database is away helps nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import msgspec
import psycopg
from starlette.requests import Request
from starlette.responses import Response

from services.broker.command_queue import BrokerAway
from services.health.metrics import CONTENT_TYPE, Metrics
from services.store import standing
from services.store.diagnosis import explain
from services.store.pool import Pool
from services.store.unavailable import StoreUnavailable

_TIMEOUT = 2.0
# A probe every few milliseconds must not become load.
_FRESH = 0.5
# A follower whose next event is older than this, and which has not moved for as long, is not ready.
_STANDS_STILL = 30


class Broker(Protocol):
    """Counts the consumers of the command queue."""

    async def consumers(self) -> int:
        """Return how many consume; raises `BrokerAway`."""

    async def close(self) -> None:
        """Let go of the connection."""


Part = dict[str, Any]


@dataclass(slots=True)
class Readiness:
    """Asks every part at once, each for two seconds at most. `own` gives what only this process knows of itself."""

    pool: Pool
    broker: Broker
    ready_lag: int
    metrics: Metrics
    own: Callable[[], Mapping[str, bool]] = dict
    _last: tuple[float, bool, Part] | None = None
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def check(self) -> tuple[bool, Part]:
        """Return whether the process is ready, and every part's state by name."""
        async with self._asking:
            if self._last is None or time.monotonic() - self._last[0] > _FRESH:
                self._last = (time.monotonic(), *await self._ask())
            return self._last[1], self._last[2]

    async def _ask(self) -> tuple[bool, Part]:
        stored, broker = await asyncio.gather(
            _in_time("database", self._stored()), _in_time("broker", self._consumers())
        )
        parts: Part = {**stored, **broker}
        parts |= {name: {"ready": fine} for name, fine in self.own().items()}
        followers: dict[str, Part] = parts.get("followers", {})
        missing = [name for name, part in parts.items() if name != "followers" and not part["ready"]]
        missing += [name for name, part in followers.items() if not part["ready"]]
        degraded = [name for name, part in followers.items() if "held_back" in part]
        for name, part in parts.items():
            if name != "followers":
                self.metrics.up.labels(name).set(part["ready"])
        status = "not ready" if missing else "degraded" if degraded else "ready"
        return not missing, {"status": status, "not_ready": missing, "degraded": degraded, **parts}

    async def _stored(self) -> Part:
        try:
            rows = await self.pool.fetch(*standing.followers(_STANDS_STILL), _TIMEOUT)
            unfollowed = await self.pool.fetch(*standing.UNFOLLOWED, _TIMEOUT)
            held = await self.pool.fetch(*standing.HELD, _TIMEOUT) if any(row[5] for row in rows) else []
        except StoreUnavailable as error:
            return {"database": {"ready": False, "detail": str(error)}}
        except psycopg.Error as error:
            return {"database": {"ready": False, "detail": explain(error)}}
        followers: dict[str, Part] = {
            name: {"ready": False, "detail": "nothing fills this read model"} for (name,) in unfollowed
        }
        waiting = {name: _held_back(*rest) for name, *rest in held}
        figures = {}
        for name, position, halted_at, counts, head, _, still in rows:
            lag = max(0, head - position)
            figures[name] = (position, halted_at, waiting[name]["entities"] if name in waiting else 0)
            fine = not counts or (halted_at is None and lag <= self.ready_lag and still is None)
            followers[name] = {"ready": fine, "position": position, "lag": lag, "halted_at": halted_at}
            if name in waiting:
                followers[name]["held_back"] = waiting[name]
            if still is not None and halted_at is None:
                followers[name]["stands_still_since"] = still
            if not counts:
                followers[name]["serving"] = False
        self.metrics.followers(rows[0][4] if rows else 0, figures)
        return {"database": {"ready": True}, "followers": followers}

    async def _consumers(self) -> Part:
        try:
            count = await self.broker.consumers()
        except BrokerAway as error:
            return {"broker": {"ready": False, "detail": str(error)}, "consumers": {"ready": False}}
        return {"broker": {"ready": True}, "consumers": {"ready": count > 0, "count": count}}


def _held_back(entities: int, since: datetime, position: int, error: str) -> Part:
    return {"entities": entities, "since": since, "position": position, "error": error}


async def _in_time(name: str, asked: Awaitable[Part]) -> Part:
    try:
        async with asyncio.timeout(_TIMEOUT):
            return await asked
    except TimeoutError:
        return {name: {"ready": False, "detail": "no answer in time"}}


Plain = Callable[[Request], Awaitable[Response]]


def handlers(readiness: Readiness, metrics: Metrics) -> dict[str, Plain]:
    """Return the handlers of the three paths, the same for every role."""

    async def livez(_: Request) -> Response:
        return Response(b'{"status":"live"}', media_type="application/json")

    async def readyz(_: Request) -> Response:
        ready, parts = await readiness.check()
        body = msgspec.json.encode(parts)
        return Response(body, 200 if ready else 503, None if ready else {"Retry-After": "1"}, "application/json")

    async def figures(_: Request) -> Response:
        await readiness.check()
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    return {"/livez": livez, "/readyz": readyz, "/metrics": figures}
