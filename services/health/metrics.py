"""The figures of one process for Prometheus, in a registry of its own; labels are routes, never paths or ids."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan
from typing import NamedTuple

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import Scope

from services.broker.command_queue import Counts

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Following(NamedTuple):
    """What is known of a follower."""

    lag: int
    lag_seconds: float
    halted_at: int | None
    held: int


class Metrics:
    """Requests by route and status, their durations, how many are under way, and the facts of readiness."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.in_flight = Gauge("foldwork_http_in_flight", "Requests under way", registry=self.registry)
        self.streams = Gauge("foldwork_http_streams", "Streams of events under way", registry=self.registry)
        self._lag = self._gauge(
            "foldwork_follower_lag_events", "Events that a follower has still to handle", "follower"
        )
        self._behind = self._gauge("foldwork_follower_lag_seconds", "Age of a follower's next event", "follower")
        self._halted = self._gauge("foldwork_follower_halted", "1 while a follower is halted", "follower")
        self._held = self._gauge(
            "foldwork_follower_held_back",
            "Entities that a follower holds back, each by an event that it cannot take",
            "follower",
        )
        self._up = self._gauge("foldwork_up", "0 while a part that this process needs is not ready", "part")
        self._degraded = self._gauge("foldwork_degraded", "1 while a part is degraded", "part")
        self._overdue = self._gauge("foldwork_overdue_seconds", "Time since the oldest of them was due", "what")
        self._waiting = self._gauge("foldwork_commands_waiting", "Commands that wait in the broker for a consumer")
        self._consumers = self._gauge("foldwork_command_consumers", "Consumers of commands")
        self._dead = self._gauge("foldwork_dead_letters_waiting", "Dead letters in the broker")
        self._parked = self._gauge("foldwork_dead_letters_parked", "Dead letters that nobody has decided on", "code")
        self._webhooks_pending = self._gauge("foldwork_webhooks_pending", "Events that wait for active webhooks")
        self._webhooks_oldest = self._gauge(
            "foldwork_webhooks_oldest_pending_seconds", "Age of the oldest of these events"
        )
        self._webhooks_parked = self._gauge("foldwork_webhooks_parked", "Deliveries that were given up")
        self._webhooks_disabled = self._gauge("foldwork_webhooks_disabled", "Webhooks that the service has disabled")
        self._requests = Counter(
            "foldwork_http_requests", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self._duration = Histogram(
            "foldwork_http_request_seconds",
            "Time from request to answer",
            ["method", "route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        # `labels()` takes longer than counting, so what it gives is kept.
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def served(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one request."""
        route: str = getattr(scope.get("route"), "path", "unmatched")
        method: str = scope["method"]
        known = self._known.get((method, route, status))
        if known is None:
            # Anyone may invent a method.
            name = method if method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS") else "other"
            known = (self._requests.labels(name, route, str(status)), self._duration.labels(name, route))
            if name == method:
                self._known[method, route, status] = known
        known[0].inc()
        known[1].observe(seconds)

    def parts(self, statuses: Mapping[str, str]) -> None:
        """Take over the status of every part but the followers; one that could not be asked is not shown."""
        self._up.clear()
        self._degraded.clear()
        for name, status in statuses.items():
            self._up.labels(name).set(status != "not ready")
            self._degraded.labels(name).set(status == "degraded")

    def followers(self, followers: Mapping[str, Following]) -> None:
        """Take over what is known of every follower; one that is gone is not shown any more."""
        for gauge in (self._lag, self._behind, self._halted, self._held):
            gauge.clear()
        for name, each in followers.items():
            self._lag.labels(name).set(each.lag)
            self._behind.labels(name).set(each.lag_seconds)
            self._halted.labels(name).set(each.halted_at is not None)
            self._held.labels(name).set(each.held)

    def deadlines(self, overdue: Mapping[str, float]) -> None:
        """Take over for how long the oldest of each sort has been due; what is not known is not shown."""
        self._overdue.clear()
        for what, seconds in overdue.items():
            self._overdue.labels(what).set(seconds)

    def queues(self, counts: Counts | None) -> None:
        """Take over what the broker has counted; without an answer of it the figures are not numbers."""
        waiting, consumers, dead = (nan,) * 3 if counts is None else (counts.waiting, counts.consumers, counts.dead)
        self._waiting.set(waiting)
        self._consumers.set(consumers)
        self._dead.set(dead)

    def parked(self, letters: Mapping[str, int]) -> None:
        """Take over how many dead letters are parked for each reason."""
        self._parked.clear()
        for code, count in letters.items():
            self._parked.labels(code).set(count)

    def webhooks(self, pending: float, oldest: float, parked: float, disabled: float) -> None:
        """Take over what webhooks have still to deliver."""
        self._webhooks_pending.set(pending)
        self._webhooks_oldest.set(max(oldest, 0.0))
        self._webhooks_parked.set(parked)
        self._webhooks_disabled.set(disabled)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def text(self) -> bytes:
        """Return all figures in Prometheus' text form, those of the other roles of this process included."""
        return generate_latest(self.registry) + generate_latest(REGISTRY)
