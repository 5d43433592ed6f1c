"""The parts that the endpoints of a process share: connections, caches and limits, opened and closed together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from projections import activities
from projections.task import table as tasks
from services.broker.command_queue import CommandQueue
from services.broker.sender import CommandSender
from services.dead_letters import Rules
from services.encryption import Keyring
from services.health.metrics import Metrics
from services.health.readiness import Broker
from services.http.core.authenticator import Authenticator
from services.http.core.bulk_runner import BulkRunner
from services.http.core.bulk_sender import BulkSender
from services.http.core.bulk_watch import BulkWatch
from services.http.core.checkpoints import Checkpoints
from services.http.core.jobs import Sender
from services.http.core.kept import Kept
from services.http.core.live import Live
from services.http.core.loader import Loader
from services.http.core.members import MemberCache
from services.http.core.positions import Positions
from services.http.core.rates import Rates
from services.http.core.shares import (
    AT_WORK,
    MAX_ANONYMOUS,
    MAX_LONG_ACTS,
    MAX_LONG_ACTS_OF_TENANT,
    Budget,
    InFlight,
    Lists,
    Turns,
)
from services.settings import Settings
from services.store.connect import Backoff
from services.store.pool import Pool


@dataclass(slots=True)
class Service:
    """The parts, by name."""

    settings: Settings
    keys: Keyring
    pool: Pool
    # Connections of their own for keys and probes, which no other question delays.
    checks: Pool
    lists: Lists
    # Answers that are sent while they are read, for as long as it takes.
    exports: Lists
    in_flight: InFlight
    # Of callers without a key, who only log in; they take no place of the others'.
    anonymous: InFlight
    # Of streams of events, which last; and what they are given.
    streams: InFlight
    # Of acts that wait for others than the database.
    long_acts: InFlight
    live: Live
    rates: Rates
    # Commands of bulks that are at work for a tenant.
    at_work: Turns
    bodies: Budget
    answers: Budget
    sender: Sender
    authenticator: Authenticator
    positions: Positions
    members: MemberCache
    loaders: Mapping[str, Loader]
    bulks: BulkSender
    # Those that are previewed first, and who looks at them.
    bulk_runner: BulkRunner
    bulk_watch: BulkWatch
    metrics: Metrics
    # Who asks the broker for the queue of commands, and figures that are kept for a moment.
    queue: Broker
    figures: Kept
    clock: Callable[[], datetime]
    # What was folded of the past.
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    _log: Any = field(default_factory=lambda: structlog.get_logger("http"))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open everything without waiting for it, since the process must start while a server is down, and close it."""
        for pool in self._pools:
            pool.start()
        self.bulks.start()
        self.bulk_runner.start()
        connecting = asyncio.create_task(self._connect(), name="connect-sender")
        try:
            yield
        finally:
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            await self.live.close()
            await self.bulk_watch.close()
            await asyncio.gather(self.bulks.close(), self.bulk_runner.close())
            await self.positions.close()
            await self.sender.close()
            for pool in self._pools:
                await pool.close()

    def end_streams(self) -> None:
        """End the answers that last, since the process stops."""
        self.live.end()
        self.bulk_watch.end()

    @property
    def _pools(self) -> tuple[Pool, ...]:
        return self.pool, self.checks, self.lists.pool, self.exports.pool

    async def _connect(self) -> None:
        """Try until the first connection stands; from there on the sender reconnects by itself."""
        backoff = Backoff("broker", self._log)
        while True:
            try:
                await self.sender.start()
            except Exception as error:
                backoff.lost(error)
                # A start that failed half-way must not leave its connection behind.
                with suppress(Exception):
                    await self.sender.close()
                await asyncio.sleep(backoff.next_wait())
            else:
                backoff.reached()
                return


def make_service(
    settings: Settings,
    sender: Sender | None = None,
    clock: Callable[[], datetime] | None = None,
    queue: Broker | None = None,
    size: int = 4,
) -> Service:
    """Put the parts together; nothing is opened yet."""
    url = settings.database_url.get_secret_value()
    pool = Pool(url, min(settings.statement_timeout, settings.read_timeout), size)
    checks = Pool(url, settings.check_timeout, size=2)
    in_flight = InFlight(settings.http_in_flight, settings.http_in_flight_per_tenant, settings.http_in_flight_per_key)
    metrics = Metrics()
    metrics.in_flight.set_function(lambda: in_flight.count)
    # Streams leave half of the connections to requests, and a tenant's, or a key's, leave half of that to others.
    most = max(1, settings.http_connections // 2)
    streams = InFlight(most, max(1, most // 2), max(1, most // 2), "streams")
    metrics.streams.set_function(lambda: streams.count)
    if sender is None:
        sender = CommandSender(settings.amqp_url.get_secret_value(), "http")
    at_work = Turns(AT_WORK)
    return Service(
        settings=settings,
        keys=Keyring(settings.secret_key),
        pool=pool,
        checks=checks,
        lists=Lists(Pool(url, settings.list_timeout, size=3)),
        exports=Lists(Pool(url, settings.list_timeout, size=2), of_tenant=1),
        in_flight=in_flight,
        anonymous=InFlight(MAX_ANONYMOUS, MAX_ANONYMOUS, MAX_ANONYMOUS),
        streams=streams,
        long_acts=InFlight(MAX_LONG_ACTS, MAX_LONG_ACTS_OF_TENANT, MAX_LONG_ACTS_OF_TENANT, "long acts"),
        live=Live(url, settings.statement_timeout, settings.follower_poll),
        rates=Rates.of(settings.http_commands_per_second, settings.http_bytes_per_second),
        at_work=at_work,
        bodies=Budget(settings.http_memory),
        answers=Budget(settings.http_memory),
        sender=sender,
        authenticator=Authenticator(checks),
        positions=Positions(pool),
        members=MemberCache(pool),
        loaders={model.NAME: Loader(pool, model.LISTING) for model in (activities, tasks)},
        bulks=BulkSender(pool, sender),
        bulk_runner=BulkRunner(pool, sender, at_work=at_work, rules=Rules(settings.may_send, settings.command_limit)),
        bulk_watch=BulkWatch(pool),
        metrics=metrics,
        queue=queue if queue is not None else CommandQueue(settings.amqp_url.get_secret_value()),
        figures=Kept(),
        clock=clock if clock is not None else _now,
    )


def _now() -> datetime:
    return datetime.now(UTC)
