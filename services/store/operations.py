"""The record of what operators do: one event for an act, or two for one that takes time, in the log.

Every act is done in `acting` or `acting_for_long`, whoever asks for it. An act that is a transaction is recorded in it,
so neither is there without the other; one that is refused or fails changes nothing, and is recorded by itself. The
events of a tenant are one stream, which the audit reads backwards; acts that concern no single tenant have a stream of
their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg
import uuid_utils

from domain.errors import RefusalError
from domain.operations import CATEGORY, NO_TENANT, STREAM_ID, OperationRecorded, Outcome
from domain.streams import stream_of
from services.store import append, codec, identity
from services.store.append import NewEvent
from services.store.connect import connect
from services.store.failures import told

# Characters of an actor, a target and a reason, and bytes of the details as JSON. What is longer is cut.
MAX_ACTOR, MAX_TARGET, MAX_REASON, MAX_DETAILS = 100, 200, 500, 8192
# Values in the details, of which more are left out, and characters of a name: so many fit.
_MAX_VALUES, _MAX_NAME = 32, 32
_ACT = re.compile(r"[a-z][a-z-]{0,30}\.[a-z][a-z-]{0,30}\Z")

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class By:
    """Who does it: the actor of an API key, with the key's id, or a user of the command line."""

    actor: str
    key_id: str | None = None

    def operation(self, tenant: str | None, act: str, target: str, **details: Any) -> Operation:
        """Return an act of theirs."""
        return Operation(tenant, self.actor, act, target, details=details, key_id=self.key_id)


@dataclass(frozen=True, slots=True)
class Operation:
    """An act of an operator.

    `tenant` is None for what concerns no single tenant. `actor` is the actor of the API key `key_id`, or `cli:<user>`.
    `act` is `<kind>.<verb>` and `target` `<kind>/<id>`, such as `key.revoke` and `key/0123456789abcdef`. `reason` says
    why it failed. `details` are values of JSON, and must not hold secrets.
    """

    tenant: str | None
    actor: str
    act: str
    target: str
    outcome: Outcome = "succeeded"
    details: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    key_id: str | None = None


@dataclass(slots=True)
class Act:
    """An act that is being done: what it is on and what belongs to it may become known meanwhile.

    What has not `changed` anything is not recorded. `position` is that of the record.
    """

    target: str
    details: dict[str, Any]
    changed: bool = True
    position: int | None = None


def record(conn: psycopg.Connection[Any], operation: Operation, cause: str | None = None) -> int:
    """Append the event of an act in the caller's transaction, and return its position.

    It takes the append lock, which stops all other appends until the transaction ends: call it last. `cause` is the id
    of the event of its start. Raises `LogRestored` when the store is a copy that nobody has adopted.
    """
    return _record(conn, operation, cause)[0]


@contextmanager
def acting(conn: psycopg.Connection[Any], operation: Operation | None) -> Iterator[Act]:
    """Do an act that is one transaction, the block, and record it in the same transaction.

    The connection is in no transaction. If the block raises, everything is rolled back, and the act is recorded as
    failed with the error as reason. Without an operation it is nobody's act, and not recorded.
    """
    act = Act("", {}) if operation is None else Act(operation.target, dict(operation.details))
    try:
        with conn.transaction():
            yield act
            if operation is not None and act.changed:
                act.position = record(conn, _told(operation, act, "succeeded"))
    except Exception as error:
        if operation is not None:
            _record_failure(conn, _told(operation, act, "failed", error))
        raise


@contextmanager
def acting_for_long(database_url: str, operation: Operation) -> Iterator[Act]:
    """Do an act that is no single transaction: record its start, and after the block its outcome.

    An act whose process was killed has a start without an outcome.
    """
    act = Act(operation.target, dict(operation.details))
    with connect(database_url, "operations", autocommit=True) as conn, conn.transaction():
        _, cause = _record(conn, _told(operation, act, "started"), None)
    try:
        yield act
    except BaseException as error:
        with suppress(psycopg.Error), connect(database_url, "operations", autocommit=True) as conn:
            _record_failure(conn, _told(operation, act, "failed", error), cause)
        raise
    with connect(database_url, "operations", autocommit=True) as conn, conn.transaction():
        _record(conn, _told(operation, act, "succeeded"), cause)


def _told(operation: Operation, act: Act, outcome: Outcome, error: BaseException | None = None) -> Operation:
    reason = None if error is None else _reason(error)
    return replace(operation, outcome=outcome, target=act.target, details=act.details, reason=reason)


def _reason(error: BaseException) -> str:
    """Return why an act failed, without the values that a database quotes, which may be confidential."""
    if isinstance(error, RefusalError):
        return str(error)
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return f"{type(error).__name__}: {error.diag.message_primary}"
    return told(error)


def _record_failure(conn: psycopg.Connection[Any], operation: Operation, cause: str | None = None) -> None:
    """Record that an act failed, unless the database is what it failed at."""
    with suppress(psycopg.Error, identity.LogRestored), conn.transaction():
        record(conn, operation, cause)


def _record(conn: psycopg.Connection[Any], operation: Operation, cause: str | None) -> tuple[int, str]:
    if _ACT.match(operation.act) is None:
        raise ValueError(f"{operation.act!r} is no <kind>.<verb>")
    identity.demand_own(conn)
    append.lock(conn)
    event_id = str(uuid_utils.uuid7())
    stream = stream_of(operation.tenant or NO_TENANT, CATEGORY, STREAM_ID)
    event = OperationRecorded(
        operation.act,
        _text(operation.target, MAX_TARGET),
        operation.outcome,
        None if operation.reason is None else _text(operation.reason, MAX_REASON),
        operation.key_id,
        _bounded(operation.details),
    )
    whole = cause or event_id
    actor = _text(operation.actor, MAX_ACTOR)
    metadata = codec.Metadata(event_id, event_id, whole, whole, actor, datetime.now(UTC))
    version = append.version_of(conn, stream) + 1
    (position,) = append.append_in(conn, [NewEvent(stream, version, codec.name_of(event), event, metadata)])
    return position, event_id


def _text(text: str, most: int) -> str:
    """Return a text that can be stored and printed, cut to so many characters."""
    plain = "".join(character if character.isprintable() else " " for character in text[: most + 1])
    return plain if len(plain) <= most else f"{plain[: most - 1]}…"


def _bounded(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return details whose JSON has at most `MAX_DETAILS` bytes; what is too long of it is cut, as text."""
    made = {_text(str(name), _MAX_NAME): _plain(value) for name, value in list(details.items())[:_MAX_VALUES]}
    if len(_encode(made)) <= MAX_DETAILS:
        return made
    share = (MAX_DETAILS - 2) // len(made)
    for name, value in made.items():
        # Of the share: the name, and the quotes, the colon and the comma around it.
        left = share - len(_encode(name)) - 2
        if len(_encode(value)) > left:
            made[name] = _cut(value if isinstance(value, str) else _encode(value).decode(), left)
    return made


def _cut(text: str, most: int) -> str:
    """Return the beginning of a text whose JSON has at most so many bytes, with a mark of the cut."""
    kept = text[:most]
    while kept and len(_encode(f"{kept}…")) > most:
        kept = kept[: len(kept) * 3 // 4]
    return f"{kept}…"


def _plain(value: Any) -> Any:
    """Return a value of JSON without what cannot be stored or printed."""
    if isinstance(value, str):
        return "".join(character if character.isprintable() or character == "\n" else " " for character in value)
    if isinstance(value, Mapping):
        return {_text(str(name), _MAX_NAME): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return _plain(str(value))
