"""Instants as they are stored and shown, and the periods between them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple, Protocol


def stamp(moment: datetime) -> str:
    """Return an instant as it is stored and shown: UTC with milliseconds."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds")[:23] + "Z"


def elapsed(since: str, until: str) -> float:
    """Return the seconds between two stamps, never below zero: clocks of two workers may differ."""
    return max(0.0, round((datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds(), 3))


class Timed(Protocol):
    """What has a life in time."""

    created_at: str
    started_at: str | None
    ended_at: str | None


class Seconds(NamedTuple):
    """The three periods as they stand at one instant: at work, since the start, since the creation."""

    working: float
    live: float
    pipeline: float


def seconds(timed: Timed, work: Iterable[tuple[float, str | None]], now: str) -> Seconds:
    """Return the periods at the stamp `now`; `work` holds closed sums with the beginning of an open period."""
    until = timed.ended_at if timed.ended_at is not None else now
    working = sum(closed + (elapsed(since, now) if since is not None else 0.0) for closed, since in work)
    live = elapsed(timed.started_at, until) if timed.started_at is not None else 0.0
    return Seconds(round(working, 3), live, elapsed(timed.created_at, until))
