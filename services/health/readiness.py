"""Liveness, readiness and metrics of a process.

Liveness does not depend on a server: restarting a process while the database is away helps nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import nan
from typing import Protocol

import msgspec
import psycopg
import structlog
from starlette.requests import Request
from starlette.responses import Response

from projections import deadlines, due
from services.broker.command_queue import BrokerAway, Counts
from services.health.metrics import CONTENT_TYPE, Following, Metrics
from services.health.parts import DEGRADED, NOT_READY, READY, Judge, Part, ready, wrong
from services.settings import Settings
from services.store import dead_letters, standing, webhook_queue
from services.store.diagnosis import explain
from services.store.pool import Pool, Rows
from services.store.unavailable import StoreUnavailable

_TIMEOUT = 2.0
# A probe every few milliseconds must not become load.
_FRESH = 0.5
_DEADLINES = {"commands of deadlines": deadlines.SEND, "dispatch attempts": deadlines.CALL}
_NOTHING: Part = {"entities": 0}
# Seconds between two counts of parked letters, of which there may be many, and the most reasons that are shown.
_COUNT_SECONDS, _REASONS = 10.0, 50
_log = structlog.get_logger("readiness")


class Broker(Protocol):
    """Counts the consumers and the messages of the queues."""

    async def counts(self) -> Counts:
        """Return the counts; raises `BrokerAway`."""

    async def close(self) -> None:
        """Let go of the connection."""


# The causes why each part that only this process knows is not ready; none means that it is.
Own = Callable[[], Mapping[str, Sequence[str]]]
# For how many seconds nothing that the process sent has been answered, None if that is not so.
Unanswered = Callable[[], float | None]


@dataclass(slots=True)
class Readiness:
    """Asks every part at once, each for two seconds at most. `own` gives what only this process knows of itself."""

    pool: Pool
    broker: Broker
    judge: Judge
    metrics: Metrics
    own: Own = dict
    unanswered: Unanswered | None = None
    _last: tuple[float, bool, Part] | None = None
    _counted_at: float = float("-inf")
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _since: dict[str, datetime] = field(default_factory=dict)

    async def check(self) -> tuple[bool, Part]:
        """Return whether the process is ready, and every part's state by name."""
        async with self._asking:
            if self._last is None or time.monotonic() - self._last[0] > _FRESH:
                self._last = (time.monotonic(), *await self._ask())
            return self._last[1], self._last[2]

    async def _ask(self) -> tuple[bool, Part]:
        stored, counted = await asyncio.gather(
            _in_time("database", self._stored()), _in_time("broker", self._counted())
        )
        counts, head = counted.pop("counts", None), stored.pop("head", None)
        # What was known before must not look like what is now.
        self.metrics.queues(counts)
        if head is None:
            self.metrics.followers({})
            self.metrics.deadlines({})
            self.metrics.parked({})
            self.metrics.webhooks(nan, nan, nan, nan)
        parts: Part = {**stored, **counted}
        if counts is not None and head is not None:
            parts["commands"] = self.judge.commands(counts, head)
        for name, causes in self.own().items():
            parts[name] = wrong(NOT_READY, "; ".join(causes)) if causes else ready()
        if self.unanswered is not None:
            parts["answers"] = self.judge.answers(self.unanswered())
        followers: dict[str, Part] = parts.get("followers", {})
        single = {name: part for name, part in parts.items() if name != "followers"}
        self.metrics.parts({name: part["status"] for name, part in single.items()})
        named = {**single, **followers}
        for name, part in named.items():
            if part["status"] == READY:
                self._since.pop(name, None)
            else:
                part.setdefault("since", self._since.setdefault(name, _now()))
        missing = [name for name, part in named.items() if part["status"] == NOT_READY]
        degraded = [name for name, part in named.items() if part["status"] == DEGRADED]
        status = NOT_READY if missing else DEGRADED if degraded else READY
        return not missing, {"status": status, "not_ready": missing, "degraded": degraded, **parts}

    async def _stored(self) -> Part:
        try:
            read_only = (await self.pool.fetch(*standing.READ_ONLY, _TIMEOUT))[0][0]
            rows = await self.pool.fetch(*standing.FOLLOWERS, _TIMEOUT)
            unfollowed = await self.pool.fetch(*standing.UNFOLLOWED, _TIMEOUT)
            held = await self.pool.fetch(*standing.HELD, _TIMEOUT) if any(row[5] for row in rows) else []
            sessions = await self.pool.fetch(*standing.SESSIONS, _TIMEOUT)
            webhooks = await self.pool.fetch(*webhook_queue.FIGURES, _TIMEOUT)
            overdue = {}
            for what, todo in _DEADLINES.items():
                left = await self.pool.fetch(due.NEXT, (todo,), _TIMEOUT)
                overdue[what] = max(0.0, -left[0][0]) if left else 0.0
            if time.monotonic() > self._counted_at + _COUNT_SECONDS:
                self.metrics.parked(dict((await self.pool.fetch(*dead_letters.PARKED, _TIMEOUT))[:_REASONS]))
                self._counted_at = time.monotonic()
        except StoreUnavailable as error:
            return {"database": wrong(NOT_READY, str(error))}
        except psycopg.Error as error:
            return {"database": wrong(NOT_READY, explain(error))}
        database = wrong(NOT_READY, "it is read-only: a standby, or set so") if read_only else ready()
        head = rows[0][4] if rows else 0
        self.metrics.deadlines(overdue)
        self.metrics.webhooks(*webhooks[0])
        return {
            "database": database,
            "followers": self._followers(rows, [name for (name,) in unfollowed], held),
            "sessions": self.judge.sessions(sessions),
            "deadlines": self.judge.deadlines(overdue),
            "head": head,
        }

    def _followers(self, rows: Rows, unfollowed: Sequence[str], held: Rows) -> dict[str, Part]:
        parts: dict[str, Part] = {name: wrong(NOT_READY, "nothing fills this read model") for name in unfollowed}
        waiting = {name: _held_back(*rest) for name, *rest in held}
        figures = {}
        for name, position, halted_at, counts, head, _, behind, moved in rows:
            if counts:
                part = self.judge.follower(name, position, head, halted_at, behind, moved)
            else:
                part = ready(position=position, lag=max(0, head - position), serving=False)
            if name in waiting:
                part["held_back"] = waiting[name]
                if part["status"] == READY and counts:
                    part |= wrong(DEGRADED, "it holds entities back", since=waiting[name]["since"])
            parts[name] = part
            figures[name] = Following(
                part["lag"], part.get("lag_seconds", 0.0), halted_at, waiting.get(name, _NOTHING)["entities"]
            )
        self.metrics.followers(figures)
        return parts

    async def _counted(self) -> Part:
        try:
            counts = await self.broker.counts()
        except BrokerAway as error:
            cause = str(error)
            return {"broker": wrong(NOT_READY, cause), "consumers": wrong(NOT_READY, "the broker cannot be asked")}
        found: Part = {"broker": ready(), "counts": counts}
        found["consumers"] = (
            ready(count=counts.consumers) if counts.consumers else wrong(NOT_READY, "nobody consumes commands", count=0)
        )
        return found


def make_readiness(
    settings: Settings, pool: Pool, broker: Broker, metrics: Metrics, own: Own, unanswered: Unanswered | None = None
) -> Readiness:
    silent = max(settings.degraded_after, 3 * settings.follower_poll)
    judge = Judge(settings.degraded_after, settings.unready_after, silent, settings.ready_lag)
    return Readiness(pool, broker, judge, metrics, own, unanswered)


def _held_back(entities: int, since: datetime, position: int, error: str) -> Part:
    return {"entities": entities, "since": since, "position": position, "error": error}


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


async def _in_time(name: str, asked: Awaitable[Part]) -> Part:
    try:
        async with asyncio.timeout(_TIMEOUT):
            return await asked
    except TimeoutError:
        return {name: wrong(NOT_READY, "no answer in time")}
    except Exception as error:
        # Whoever asks must get an answer, whatever a client library raises.
        _log.exception("a part cannot be judged", part=name)
        return {name: wrong(NOT_READY, f"it cannot be asked: {type(error).__name__}")}


Plain = Callable[[Request], Awaitable[Response]]


def handlers(readiness: Readiness, metrics: Metrics) -> dict[str, Plain]:
    """Return the handlers of the three paths, the same for every role."""

    async def livez(_: Request) -> Response:
        return Response(b'{"status":"live"}', media_type="application/json")

    async def readyz(_: Request) -> Response:
        fine, parts = await readiness.check()
        body = msgspec.json.encode(parts)
        return Response(body, 200 if fine else 503, None if fine else {"Retry-After": "1"}, "application/json")

    async def figures(_: Request) -> Response:
        await readiness.check()
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    return {"/livez": livez, "/readyz": readyz, "/metrics": figures}
