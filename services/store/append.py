"""What one append records, and its statements: everything that was read is compared before anything is written.

Appends are serialised by an advisory lock (a table lock would wait for VACUUM), and positions are assigned under that
lock without gaps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
import psycopg

from domain.decider import ANYBODY
from services.store import codec, log
from services.store.connect import end_in_time
from services.store.identity import Memory, ask_mark

# An arbitrary constant; every appender to a database must use the same one.
APPEND_LOCK = 4_012_000

TenantUniqueKey = tuple[str, str, str]
CommandKey = tuple[str, str]
# The holder of a unique key of the kind `ANYBODY` when at least one unique key of the kind asked about exists.
HELD = "held"

_LOCK = "SELECT pg_advisory_xact_lock(%s)"
_VERSIONS = """
SELECT wanted.stream, coalesce((SELECT originator_version FROM stored_events WHERE originator_id = wanted.stream
                                ORDER BY originator_version DESC LIMIT 1), 0)
FROM unnest(%b::text[]) AS wanted(stream)"""
# Unique keys are the rows of `claims`: a table that was renamed would stop workers of the version before an upgrade.
UNIQUE_KEYS = """
SELECT tenant, kind, key, holder FROM claims
JOIN unnest(%b::text[], %b::text[], %b::text[]) AS wanted(tenant, kind, key) USING (tenant, kind, key)"""
ANY_UNIQUE_KEY = """
SELECT wanted.tenant, wanted.kind FROM unnest(%b::text[], %b::text[]) AS wanted(tenant, kind)
WHERE EXISTS (SELECT FROM claims WHERE claims.tenant = wanted.tenant AND claims.kind = wanted.kind)"""
LEDGER = """
SELECT tenant, command_id, fingerprint, code, detail, pointer, first_position, last_position FROM ledger
JOIN unnest(%b::text[], %b::text[]) AS wanted(tenant, command_id) USING (tenant, command_id)"""
_INSERT_EVENTS = """
INSERT INTO stored_events (originator_id, originator_version, topic, state, notification_id)
SELECT * FROM unnest(%b::text[], %b::bigint[], %b::text[], %b::bytea[], %b::bigint[])"""
_INSERT_LEDGER = """
INSERT INTO ledger (tenant, command_id, fingerprint, code, detail, pointer, first_position, last_position, caused_by)
SELECT * FROM unnest(%b::text[], %b::text[], %b::bytea[], %b::text[], %b::text[], %b::text[],
                     %b::bigint[], %b::bigint[], %b::bigint[])"""
_TAKE_UNIQUE_KEYS = """
INSERT INTO claims (tenant, kind, key, holder) SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[])
ON CONFLICT (tenant, kind, key) DO UPDATE SET holder = excluded.holder"""
_DROP_UNIQUE_KEYS = """
DELETE FROM claims USING unnest(%b::text[], %b::text[], %b::text[]) AS released(tenant, kind, key)
WHERE (claims.tenant, claims.kind, claims.key) = (released.tenant, released.kind, released.key)"""
_DROP_ATTEMPTS = """
DELETE FROM attempts USING unnest(%b::text[], %b::text[]) AS done(tenant, message_id)
WHERE (attempts.tenant, attempts.message_id) = (done.tenant, done.message_id)"""


class NewEvent(msgspec.Struct, frozen=True):
    """An event to be recorded as `version` of its stream; `state` is its stored form, encoded once."""

    stream: str
    version: int
    name: str
    event: Any
    metadata: codec.Metadata
    state: bytes = b""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "state", codec.encode(self.metadata, self.event))


class LedgerRow(msgspec.Struct, frozen=True):
    """The decision on a command: the code of a refusal, or the positions of its events (None if it recorded none).

    `caused_by` is the position of the event that the command answers, if it says so.
    """

    tenant: str
    command_id: str
    fingerprint: bytes
    code: str | None = None
    detail: str | None = None
    pointer: str | None = None
    first_position: int | None = None
    last_position: int | None = None
    caused_by: int | None = None


@dataclass(slots=True)
class Append:
    """One transaction: new events, what the decisions read, the unique keys that they take or release, and ledger rows.

    Positions are unknown until the lock is held, so a ledger row numbers the batch's own events -1, -2 and so on, and
    `@head` in the holder of a unique key stands for the head of the log before them. `given_up` are unique keys
    released without being read, because a stream that was read names their holder: another command of the same
    transaction may take them although they are not free in the table.
    """

    events: list[NewEvent] = field(default_factory=list)
    streams_read: dict[str, int] = field(default_factory=dict)
    unique_keys_read: dict[TenantUniqueKey, str | None] = field(default_factory=dict)
    unique_keys: dict[TenantUniqueKey, str | None] = field(default_factory=dict)
    given_up: set[TenantUniqueKey] = field(default_factory=set)
    ledger: list[LedgerRow] = field(default_factory=list)
    attempts_done: list[CommandKey] = field(default_factory=list)
    # Of the events, once they are recorded.
    positions: list[int] = field(default_factory=list)


class ConcurrencyConflict(Exception):
    """Something that a decision read has changed; nothing was recorded, and these decisions must be made again."""

    def __init__(self, streams: set[str], unique_keys: set[TenantUniqueKey], commands: set[CommandKey]) -> None:
        super().__init__(
            f"{len(streams)} streams, {len(unique_keys)} unique keys and {len(commands)} commands have changed"
        )
        self.streams = streams
        self.unique_keys = unique_keys
        self.commands = commands


def append_in(conn: psycopg.Connection[Any], events: Sequence[NewEvent]) -> list[int]:
    """Append in the caller's transaction and return the positions.

    Raises `psycopg.errors.UniqueViolation` when a version of a stream exists already.
    """
    lock(conn)
    return insert_events(conn, [(each.stream, each.version, each.name, each.state) for each in events], log.head(conn))


def lock(conn: psycopg.Connection[Any]) -> None:
    """Take the append lock until the end of the transaction."""
    conn.execute(_LOCK, (APPEND_LOCK,), prepare=True)


def version_of(conn: psycopg.Connection[Any], stream: str) -> int:
    """Return the version of a stream, 0 for an empty one."""
    row = conn.execute(_VERSIONS, ([stream],), prepare=True, binary=True).fetchone()
    return int(cast("tuple[str, int]", row)[1])


def insert_events(conn: psycopg.Connection[Any], rows: Sequence[tuple[Any, ...]], head: int) -> list[int]:
    """Insert (stream, version, name, state) behind the head of the log, notify its readers, and return the positions.

    The caller holds the append lock.
    """
    if not rows:
        return []
    positions = list(range(head + 1, head + 1 + len(rows)))
    conn.execute(_INSERT_EVENTS, (*columns(rows, 4), positions), prepare=True)
    conn.execute(f"NOTIFY {log.CHANNEL}")
    return positions


def verify_reads(conn: psycopg.Connection[Any], append: Append, memory: Memory) -> int:
    """Compare everything that was read, under the lock, and return the log's head.

    Raises `LogRestored`, and `ConcurrencyConflict`.
    """
    seen = memory.last
    with conn.pipeline():
        end_in_time(conn)
        mark = ask_mark(conn, seen[0])
        versions = conn.execute(_VERSIONS, (list(append.streams_read),), prepare=True, binary=True)
        wanted = {**append.unique_keys_read, **append.unique_keys}
        unique_keys = conn.execute(UNIQUE_KEYS, columns(wanted, 3), prepare=True)
        commands = [(row.tenant, row.command_id) for row in append.ledger]
        ledger = conn.execute(LEDGER, columns(commands, 2), prepare=True)
        last = conn.execute(log.HEAD, prepare=True)
        kinds = kinds_asked(append.unique_keys_read)
        existing = conn.execute(ANY_UNIQUE_KEY, columns(kinds, 2)) if kinds else None
    # Read after the pipeline has ended, else the server would wait for its end, and not count as idle.
    found = mark.fetchone()
    changed = {stream for stream, version in versions.fetchall() if version != append.streams_read[stream]}
    holders = {(t, k, key): holder for t, k, key, holder in unique_keys.fetchall()}
    if existing is not None:
        holders |= {(tenant, ANYBODY, kind): HELD for tenant, kind in existing.fetchall()}
    decided = {(row[0], row[1]) for row in ledger.fetchall()}
    head = int(cast("tuple[int]", last.fetchone())[0])
    memory.compare(conn, seen, found)
    lost = {key for key, holder in append.unique_keys_read.items() if holders.get(key) != holder}
    # A unique key that is taken without being read (on a new id) must be free.
    lost |= {
        key
        for key, holder in append.unique_keys.items()
        if holder and key in holders and key not in append.unique_keys_read and key not in append.given_up
    }
    if changed or lost or decided:
        raise ConcurrencyConflict(changed, lost, decided)
    return head


def record_decisions(conn: psycopg.Connection[Any], append: Append, head: int) -> None:
    """Write the ledger and the unique keys of an append, and drop the attempts that it completes."""
    if append.ledger:
        rows = [
            (
                row.tenant,
                row.command_id,
                row.fingerprint,
                row.code,
                row.detail,
                row.pointer,
                _position(row.first_position, head),
                _position(row.last_position, head),
                row.caused_by,
            )
            for row in append.ledger
        ]
        conn.execute(_INSERT_LEDGER, columns(rows, 9), prepare=True)
    write_unique_keys(
        conn,
        {key: holder.replace("@head", str(head)) if holder else None for key, holder in append.unique_keys.items()},
    )
    if append.attempts_done:
        conn.execute(_DROP_ATTEMPTS, columns(append.attempts_done, 2), prepare=True)


def write_unique_keys(conn: psycopg.Connection[Any], unique_keys: Mapping[TenantUniqueKey, str | None]) -> None:
    """Take unique keys, and release those whose holder is None; the caller's transaction holds the append lock."""
    taken = [(*key, holder) for key, holder in unique_keys.items() if holder]
    if taken:
        conn.execute(_TAKE_UNIQUE_KEYS, columns(taken, 4), prepare=True)
    released = [key for key, holder in unique_keys.items() if not holder]
    if released:
        conn.execute(_DROP_UNIQUE_KEYS, columns(released, 3), prepare=True)


def kinds_asked(unique_keys: Iterable[TenantUniqueKey]) -> list[tuple[str, str]]:
    """Return (tenant, kind) for the unique keys of the kind `ANYBODY`."""
    return [(tenant, asked) for tenant, kind, asked in unique_keys if kind == ANYBODY]


def columns(rows: Iterable[tuple[Any, ...]], width: int) -> tuple[list[Any], ...]:
    """Turn rows into the array parameters of a statement with `unnest`."""
    found = tuple(list(column) for column in zip(*rows, strict=True))
    return found or tuple([] for _ in range(width))


def _position(position: int | None, head: int) -> int | None:
    return head - position if position is not None and position < 0 else position
