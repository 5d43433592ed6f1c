"""What an episode leaves, as plain data: the checkers read nothing else."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

import projections
from services.processors.rebuild import rebuild
from services.store import codec
from tests.faults.history import Call


class Event(NamedTuple):
    """A row of the log."""

    position: int
    stream: str
    version: int
    name: str
    id: str
    command: str
    data: Any = None

    @property
    def tenant(self) -> str:
        return self.stream.partition("/")[0]


class Decision(NamedTuple):
    """A row of the ledger."""

    code: str | None
    first: int | None
    last: int | None


class Received(NamedTuple):
    """A message that a subscriber took."""

    at: float
    id: str
    tenant: str
    subject: str
    version: int
    position: int
    command: str


class Letter(NamedTuple):
    """A dead letter."""

    tenant: str | None
    id: str | None
    code: str | None


class Saved(NamedTuple):
    """A follower's saved position, with the end of the log in the same snapshot."""

    at: float
    follower: str
    position: int
    head: int


class Ready(NamedTuple):
    """What `/readyz` said; a `status` of None stands for no answer."""

    at: float
    status: str | None
    causes: tuple[str, ...] = ()


class Ended(NamedTuple):
    """The end of a process that was sent SIGTERM."""

    role: str
    code: int | None
    seconds: float
    grace: float
    complaint: str | None = None


@dataclass(slots=True)
class Injected:
    """A fault; `recovery` is the seconds from when the clock starts until the system worked again, None for never."""

    name: str
    began: float
    goal: float | None
    recovery: float | None = None
    ended: float = 0.0
    skipped: str | None = None
    outage: bool = True
    # When the clock started.
    waited: float = 0.0
    # What the fault measured, by what it is.
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Evidence:
    """Everything that the checkers look at."""

    calls: list[Call] = field(default_factory=list)
    log: list[Event] = field(default_factory=list)
    ledger: dict[tuple[str, str], Decision] = field(default_factory=dict)
    letters: list[Letter] = field(default_factory=list)
    queued: int = 0
    received: dict[str, list[Received]] = field(default_factory=dict)
    tail: list[tuple[int, str, int]] = field(default_factory=list)
    saved: list[Saved] = field(default_factory=list)
    # The followers of the serving tables and the relay at the end: how far each is.
    final: dict[str, int] = field(default_factory=dict)
    # Rows of a view that are there too often (positive) or too rarely (negative), compared with a rebuild.
    differences: dict[str, Counter[str]] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    bounds: dict[str, int] = field(default_factory=dict)
    ended: list[Ended] = field(default_factory=list)
    readiness: list[Ready] = field(default_factory=list)
    faults: list[Injected] = field(default_factory=list)
    # What `foldwork verify` found.
    verified: list[str] = field(default_factory=list)


def take_store(evidence: Evidence, database_url: str) -> None:
    """Read the log, the ledger and the followers."""
    with psycopg.connect(database_url) as conn:
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for position, stream, version, name, state in conn.execute(
            "SELECT notification_id, originator_id, originator_version, topic, state FROM stored_events ORDER BY 1"
        ):
            meta = codec.raw(state, name).meta
            data = codec.decode(name, state) if name in codec.DECODERS else None
            evidence.log.append(Event(position, stream, version, name, meta.id, meta.command, data))
        for tenant, command, *rest in conn.execute(
            "SELECT tenant, command_id, code, first_position, last_position FROM ledger"
        ):
            evidence.ledger[tenant, command] = Decision(*rest)
        evidence.final = dict(conn.execute("SELECT name, position FROM followers").fetchall())


def stored_letters(database_url: str) -> list[Letter]:
    """Return the dead letters that were taken out of the broker; what names a foreign tenant belongs to none there."""
    with psycopg.connect(database_url) as conn:
        rows = conn.execute("SELECT headers, message_id, code FROM dead_letters").fetchall()
    return [Letter(json.loads(headers).get("tenant"), message_id, code) for headers, message_id, code in rows]


def take_views(evidence: Evidence, server_url: str, database_url: str) -> None:
    """Copy the database, rebuild every read model in the copy, and compare row by row; nobody may be connected."""
    name = f"{urlsplit(database_url).path[1:]}_rebuilt"
    copy = urlunsplit(urlsplit(database_url)._replace(path=f"/{name}"))
    with psycopg.connect(server_url, autocommit=True) as conn:
        source = urlsplit(database_url).path[1:]
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            (source,),
        )
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        conn.execute(statement.format(sql.Identifier(name), sql.Identifier(source)))
    try:
        for model in projections.READ_MODELS:
            rebuild(copy, model.NAME)
        with psycopg.connect(database_url) as served, psycopg.connect(copy) as rebuilt:
            for model in projections.READ_MODELS:
                for view in model.VIEWS:
                    if _digest(served, view) == _digest(rebuilt, view):
                        evidence.differences[view] = Counter()
                        continue
                    difference = _rows(served, view)
                    difference.subtract(_rows(rebuilt, view))
                    evidence.differences[view] = Counter({row: n for row, n in difference.items() if n})
    finally:
        with psycopg.connect(server_url, autocommit=True) as conn:
            conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _digest(conn: psycopg.Connection[Any], view: str) -> tuple[Any, ...] | None:
    """Return how many rows there are, and a sum over their contents that does not depend on their order."""
    query = sql.SQL("SELECT count(*), sum(hashtextextended(v::text, 0)) FROM {} AS v").format(sql.Identifier(view))
    return conn.execute(query).fetchone()


def _rows(conn: psycopg.Connection[Any], view: str) -> Counter[str]:
    query = sql.SQL("SELECT v::text FROM {} AS v").format(sql.Identifier(view))
    return Counter(row for (row,) in conn.execute(query))


def commands_of(log: list[Event]) -> Mapping[tuple[str, str], list[Event]]:
    """Return the events of each command, in order."""
    found: dict[tuple[str, str], list[Event]] = {}
    for event in log:
        found.setdefault((event.tenant, event.command), []).append(event)
    return found
