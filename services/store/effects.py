"""What came of a command: its events, and of each the deliveries, the dispatch and the commands that it has caused.

`of` is a generator of statements that is given their rows, so that one function serves a synchronous connection and the
pool of the HTTP process. Every statement is bounded, and finds its rows by an index.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
import psycopg

from domain import EVENT_NAMES
from domain.errors import Refusal
from domain.streams import split_stream
from domain.task import DispatchFailed, DispatchRequested, DispatchSucceeded
from projections import deadlines
from projections.statement import Query
from projections.support.query import within
from services.store import dead_letters, ledger, log, webhook_queue
from services.store.log import LogRow

# Events of a page, and their bytes; the commands that are shown of an event, and the events of each of them.
MAX_EVENTS, BYTES, MAX_COMMANDS, MAX_SUMMARIES = 100, 1 << 20, 10, 10
ACCEPTED, REJECTED, PARKED, DISCARDED = "accepted", "rejected", "parked", "discarded"
PENDING, SUCCEEDED, FAILED, UNKNOWN = "pending", "succeeded", "failed", "unknown"
_REQUESTED, _SUCCEEDED, _FAILED = (EVENT_NAMES[kind] for kind in (DispatchRequested, DispatchSucceeded, DispatchFailed))

_CAUSED = """
SELECT p.position, l.command_id, l.code, l.first_position, l.last_position, l.recorded_at
FROM unnest(%s::bigint[]) AS p (position) CROSS JOIN LATERAL (
    SELECT * FROM ledger WHERE tenant = %s AND caused_by = p.position ORDER BY recorded_at LIMIT %s) AS l
ORDER BY p.position, l.recorded_at, l.command_id"""
_SUMMARIES = """
SELECT e.notification_id, e.topic, e.originator_id, e.originator_version
FROM unnest(%s::bigint[], %s::bigint[]) AS r (first, last) JOIN stored_events AS e
    ON e.notification_id BETWEEN r.first AND least(r.last, r.first + %s)"""
# Of each event, what its stream says behind it of the same attempt.
_OUTCOMES = """
SELECT r.position, o.topic, o.state
FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::integer[]) AS r (position, stream, version, attempt)
CROSS JOIN LATERAL (
    SELECT topic, state FROM stored_events
    WHERE originator_id = r.stream AND originator_version > r.version AND topic = ANY(%s::text[])
        AND (convert_from(state, 'UTF8')::json #>> '{data,attempt}')::integer = r.attempt
    ORDER BY originator_version LIMIT 1) AS o"""

Steps = Generator[Query, Sequence[Sequence[Any]], "Effects | None"]


@dataclass(frozen=True, slots=True)
class Cause:
    """The event that a command answers, and the command that recorded it."""

    position: int
    type: str
    stream: str
    command_id: str


@dataclass(frozen=True, slots=True)
class Summary:
    """An event of a command that was caused."""

    position: int
    type: str
    stream: str
    version: int


@dataclass(frozen=True, slots=True)
class Caused:
    """A command that an event has caused; `events` are its first ones."""

    command_id: str
    outcome: str
    code: str | None
    recorded_at: datetime
    events: Sequence[Summary]


@dataclass(frozen=True, slots=True)
class Dispatch:
    """The attempt at a dispatch that an event has asked for.

    `state`: `pending` until its outcome is reported, then `succeeded` or `failed`; `unknown` if there is no outcome and
    none is waited for. `next_at`: when a pending one is tried or reported next. `reference` is the provider's; `code`
    and `message` are why it failed, `final` tells that no attempt follows.
    """

    attempt: int
    channel: str
    state: str
    next_at: datetime | None = None
    reference: str | None = None
    code: str | None = None
    message: str | None = None
    final: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """The delivery of an event to a webhook."""

    webhook: str
    state: str
    attempts: int
    tried_at: datetime | None
    next_at: datetime | None
    status: int | None


@dataclass(slots=True)
class Effect:
    """An event of the command, and what came of it; `deliveries` is None if they were not asked for."""

    position: int
    event_id: str
    type: str
    stream: str
    version: int
    deliveries: list[Delivery] | None
    dispatch: Dispatch | None = None
    commands: list[Caused] = field(default_factory=list)


@dataclass(slots=True)
class Effects:
    """What came of a command. `actor` and `occurred_at` are those of its events, None without any.

    `repeats` is the command whose idempotency key it had, and whose events these are. `follow` is the position after
    which there are more events.
    """

    command_id: str
    outcome: str
    recorded_at: datetime
    error: Refusal | None = None
    actor: str | None = None
    occurred_at: datetime | None = None
    repeats: str | None = None
    caused_by: Cause | None = None
    events: list[Effect] = field(default_factory=list)
    follow: int | None = None


def of(tenant: str, command_id: str, after: int, limit: int, *, deliveries: bool) -> Steps:
    """Give statements, and return what came of a command: of `limit` events behind a position.

    None: no such command was decided, or its receipt is not kept any more.
    """
    if "\0" in command_id:
        return None
    rows = yield ledger.receipt(tenant, command_id)
    if not rows:
        rows = yield dead_letters.receipt(tenant, command_id)
        if not rows:
            return None
        state, code, detail, pointer, last_at = rows[0]
        outcome = DISCARDED if state == DISCARDED else PARKED
        return Effects(command_id, outcome, last_at, Refusal(code, detail, pointer))
    code, detail, pointer, first, last, recorded_at, caused_by = rows[0]
    found = Effects(command_id, ACCEPTED if code is None else REJECTED, recorded_at)
    if code is not None:
        found.error = Refusal(code, detail or "", pointer or "")
    if caused_by is not None:
        found.caused_by = _cause(tenant, (yield log.events_between(caused_by, caused_by)))
    if first is None:
        return found
    start = max(first, after + 1)
    if start > last:
        return found
    end = min(last, start + limit - 1)
    events = [LogRow(*row[:6]) for row in (yield within(log.events_between(start, end), BYTES, "state"))]
    if not events:
        return found
    for event in events:
        found.events.append(_effect(event, [] if deliveries else None))
    meta = events[0].meta
    found.actor, found.occurred_at = meta.actor, meta.at
    found.repeats = meta.command if meta.command != command_id else None
    found.follow = events[-1].position if events[-1].position < last else None
    yield from _deliveries(tenant, found.events)
    yield from _commands(tenant, found.events)
    yield from _dispatches(tenant, events, found.events)
    return found


def read(conn: psycopg.Connection[Any], steps: Steps) -> Effects | None:
    """Return what came of a command, as `of` does."""
    try:
        asked = next(steps)
        while True:
            asked = steps.send(conn.execute(*asked).fetchall())
    except StopIteration as done:
        found: Effects | None = done.value
        return found


def _cause(tenant: str, rows: Sequence[Sequence[Any]]) -> Cause | None:
    """Return the event that a command says to answer, if the tenant has it."""
    for event in (LogRow(*row) for row in rows):
        of_tenant, category, entity_id = split_stream(event.stream)
        if of_tenant == tenant and event.is_published:
            return Cause(event.position, event.name, f"{category}-{entity_id}", event.meta.command)
    return None


def _effect(event: LogRow, deliveries: list[Delivery] | None) -> Effect:
    return Effect(event.position, event.meta.id, event.name, _stream(event.stream), event.version, deliveries)


def _stream(stream: str) -> str:
    return stream.partition("/")[2]


_Part = Generator[Query, Sequence[Sequence[Any]], None]


def _deliveries(tenant: str, effects: Sequence[Effect]) -> _Part:
    of_position = {each.position: each.deliveries for each in effects}
    if effects[0].deliveries is None:
        return
    for position, *rest in (yield webhook_queue.of_events(tenant, effects[0].position, effects[-1].position)):
        at = of_position[position]
        if at is not None:
            at.append(Delivery(*rest))


def _commands(tenant: str, effects: Sequence[Effect]) -> _Part:
    """Add the commands that the events have caused."""
    asked = Query(_CAUSED, ([each.position for each in effects], tenant, MAX_COMMANDS))
    caused = yield asked
    summaries: dict[int, Sequence[Any]] = {}
    ranges = [(row[3], row[4]) for row in caused if row[3] is not None]
    if ranges:
        firsts, lasts = map(list, zip(*ranges, strict=True))
        summaries = {row[0]: row for row in (yield Query(_SUMMARIES, (firsts, lasts, MAX_SUMMARIES - 1)))}
    by_position = {each.position: each for each in effects}
    for position, command_id, code, first, last, recorded_at in caused:
        own = [] if first is None else [summaries[at] for at in range(first, last + 1) if at in summaries]
        shown = [Summary(at, name, _stream(stream), version) for at, name, stream, version in own]
        outcome = ACCEPTED if code is None else REJECTED
        by_position[position].commands.append(Caused(command_id, outcome, code, recorded_at, shown))


def _dispatches(tenant: str, events: Sequence[LogRow], effects: Sequence[Effect]) -> _Part:
    """Add what came of the attempts that events ask for. One without an outcome waits for one, if a deadline does."""
    asked = [(event, effect) for event, effect in zip(events, effects, strict=True) if event.name == _REQUESTED]
    if not asked:
        return
    told = {event.position: _data(event.state) for event, _ in asked}
    of = [(event.position, event.stream, event.version, told[event.position]["attempt"]) for event, _ in asked]
    positions, streams, versions, attempts = map(list, zip(*of, strict=True))
    rows = yield Query(_OUTCOMES, (positions, streams, versions, attempts, [_SUCCEEDED, _FAILED]))
    outcomes = {position: (name, _data(state)) for position, name, state in rows}
    ids = [split_stream(stream)[2] for stream in streams]
    waiting: dict[int, datetime] = {row[0]: row[1] for row in (yield deadlines.attempts(tenant, ids))}
    for event, effect in asked:
        own = told[event.position]["attempt"], told[event.position]["channel"]
        if event.position in outcomes:
            name, data = outcomes[event.position]
            state = SUCCEEDED if name == _SUCCEEDED else FAILED
            more = {key: data[key] for key in ("reference", "code", "message", "final") if key in data}
            effect.dispatch = Dispatch(*own, state, **more)
        elif event.position in waiting:
            effect.dispatch = Dispatch(*own, PENDING, waiting[event.position])
        else:
            effect.dispatch = Dispatch(*own, UNKNOWN)


def _data(state: bytes) -> Mapping[str, Any]:
    found: Mapping[str, Any] = msgspec.json.decode(state)["data"]
    return found
