"""The figures of one process for Prometheus, in a registry of its own; labels are routes, never paths or ids."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import Scope

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Requests by route and status, their durations, how many are under way, and how far followers lie behind."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.in_flight = Gauge("foldwork_http_in_flight", "Requests under way", registry=self.registry)
        self.lag = Gauge(
            "foldwork_follower_lag_events",
            "Events between the head of the log and a follower",
            ["follower"],
            registry=self.registry,
        )
        self.halted = Gauge(
            "foldwork_follower_halted", "1 while a follower is halted by an event", ["follower"], registry=self.registry
        )
        self.held = Gauge(
            "foldwork_follower_held_back",
            "Entities that a follower holds back, each by an event that it cannot take",
            ["follower"],
            registry=self.registry,
        )
        self.up = Gauge(
            "foldwork_up", "1 while a part that this process needs is there", ["part"], registry=self.registry
        )
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

    def followers(self, head: int, followers: Mapping[str, tuple[int, int | None, int]]) -> None:
        """Take over every follower's position, where it is halted, and how many entities it holds back."""
        for name, (position, halted_at, held) in followers.items():
            self.lag.labels(name).set(max(0, head - position))
            self.halted.labels(name).set(halted_at is not None)
            self.held.labels(name).set(held)

    def text(self) -> bytes:
        """Return all figures in Prometheus' text form, those of the other roles of this process included."""
        return generate_latest(self.registry) + generate_latest(REGISTRY)
