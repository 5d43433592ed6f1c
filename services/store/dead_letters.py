"""Dead letters as rows: how they come in, and the queries on them.

A letter without a tenant is seen by those only who ask for all tenants, on the command line.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from typing import Any, NamedTuple

import psycopg

from projections.statement import Query

STATES = ("parked", "retrying", "retried", "discarded")
# Keys of commands that belong to nothing yet, which are in no order.
UNORDERED = ("", "new")
# Of an arrival, for as long as the broker may deliver it again.
ARRIVAL_DAYS = 7

# Of a text from a message, in characters.
MAX_NAME = 255
# Must never change: the ids of letters are derived from it.
_NAMESPACE = uuid.UUID("5d3d9a0e-6f0b-5b53-8f35-0e8f2f4c7a11")
_NUMBER = re.compile(r"\d+|[0-9a-f]{8,}(?:-[0-9a-f]+)*", re.ASCII | re.IGNORECASE)
_ARRIVED = """
INSERT INTO dead_letter_arrivals (letter) SELECT * FROM unnest(%s::text[]) ON CONFLICT DO NOTHING RETURNING letter"""
# A command that was sent again and died again is the letter that it was, whatever of it was edited.
_AGAIN = """
UPDATE dead_letters AS l SET state = 'parked', count = l.count + 1, last_at = now(), code = %(code)s,
    detail = %(detail)s, pointer = %(pointer)s, fingerprint = %(fingerprint)s, due_at = NULL, sends = 0,
    waits = %(waits)s
FROM (SELECT id, state FROM dead_letters WHERE tenant = %(tenant)s AND message_id = %(message_id)s
      AND sent_sha256 = %(sha256)s ORDER BY arrived LIMIT 1 FOR UPDATE) AS before
WHERE l.id = before.id RETURNING l.tenant, l.key, before.state"""
_PUT = """
INSERT INTO dead_letters AS l (id, tenant, arrived, key, message_id, type, actor, correlation_id, broker_user, headers,
    body, bytes, sha256, code, detail, pointer, fingerprint, waits)
VALUES (%(id)s, %(tenant)s, %(arrived)s, %(key)s, %(message_id)s, %(type)s, %(actor)s, %(correlation_id)s,
    %(broker_user)s, %(headers)s, %(body)s, %(size)s, %(sha256)s, %(code)s, %(detail)s, %(pointer)s, %(fingerprint)s,
    %(waits)s)
ON CONFLICT (id) DO UPDATE SET count = l.count + 1, last_at = now(), state = 'parked', code = excluded.code,
    detail = excluded.detail, pointer = excluded.pointer, fingerprint = excluded.fingerprint, due_at = NULL,
    sends = 0, waits = excluded.waits"""
# What waits behind a failure of its key is not sent.
STOP_KEY = """
UPDATE dead_letters SET state = 'parked', due_at = NULL
WHERE tenant = %s AND key = %s AND state = 'retrying' AND sends = 0 AND key <> ALL (%s)"""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A dead letter as it comes in. `letter` is its own id, `id` that of the message; `size` the bytes of its body.

    One that `waits` is a command that is sent by itself once no earlier letter of its key is left.
    """

    letter: str
    arrived: str
    id: str
    tenant: str | None
    key: str
    message_id: str | None
    type: str | None
    actor: str | None
    correlation_id: str | None
    broker_user: str | None
    headers: bytes
    body: bytes
    size: int
    sha256: bytes
    code: str
    detail: str
    pointer: str
    fingerprint: str
    waits: bool


_PLACES = [field.name for field in fields(Arrival)]


def fingerprint(code: str, kind: str, pointer: str) -> str:
    """Return what letters of one cause share: the reason, the command, and the place without numbers and ids."""
    place = "/".join("*" if _NUMBER.fullmatch(part) else part for part in pointer.split("/"))
    return hashlib.sha256("\0".join((code, kind, place)).encode("utf-8", "backslashreplace")).hexdigest()[:16]


def stored_text(value: Any, most: int = MAX_NAME) -> str:
    """Return a value of a message as text that the database takes."""
    text = "" if value is None else str(value)[:most]
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def letter_id(tenant: str, message_id: str, kind: str, key: str, sha256: bytes) -> str:
    """Return the id of the letter made of a message, the texts of which are as they are stored."""
    return str(uuid.uuid5(_NAMESPACE, "\0".join((tenant, message_id, kind, key, sha256.hex()))))


def store(conn: psycopg.Connection[Any], arrivals: Sequence[Arrival]) -> int:
    """Store letters in the caller's transaction, and return how many had not been stored before."""
    by_letter = {each.letter: each for each in arrivals}
    rows = conn.execute(_ARRIVED, (sorted(by_letter),)).fetchall()
    # In one order, so that two processes do not wait for each other.
    new = sorted((by_letter[letter] for (letter,) in rows), key=lambda each: (each.id, each.arrived))
    for each in new:
        given = dict(zip(_PLACES, astuple(each), strict=True))
        again = conn.execute(_AGAIN, given).fetchone()
        if again is None:
            conn.execute(_PUT, given)
        elif again[2] == "retrying":
            conn.execute(STOP_KEY, (again[0], again[1], list(UNORDERED)))
    return len(new)


# Queries.

_SUMMARY = (
    "id", "tenant", "arrived", "key", "message_id", "type", "actor", "broker_user", "bytes", "code", "detail",
    "pointer", "fingerprint", "first_at", "last_at", "count", "state", "acted_by", "acted_at", "note", "retries",
    "outcome", "outcome_code", "outcome_detail", "outcome_pointer", "decided_at",
)  # fmt: skip
_WHOLE = (
    *_SUMMARY, "correlation_id", "headers", "body", "sha256", "edited", "out_of_order", "sent_sha256",
    "sent_fingerprint",
)  # fmt: skip


class Filter(NamedTuple):
    """Which letters are asked for. `tenant` None is all tenants, and what has none."""

    tenant: str | None
    code: str | None = None
    fingerprint: str | None = None
    type: str | None = None
    key: str | None = None
    since: datetime | None = None
    state: str | None = None

    def where(self) -> tuple[str, list[Any]]:
        """Return the condition, and its parameters."""
        named = {"tenant": self.tenant, "code": self.code, "fingerprint": self.fingerprint, "type": self.type}
        named |= {"key": self.key, "state": self.state}
        given = {name: value for name, value in named.items() if value is not None}
        conditions = [f"{name} = %s" for name in given]
        values: list[Any] = list(given.values())
        if self.since is not None:
            conditions.append("last_at >= %s")
            values.append(self.since)
        return " AND ".join(conditions) or "true", values


def summary(row: Sequence[Any]) -> dict[str, Any]:
    """Return a row of `page` by the names of its columns."""
    return dict(zip(_SUMMARY, row, strict=True))


def whole(row: Sequence[Any]) -> dict[str, Any]:
    """Return a row of `one` by the names of its columns."""
    return dict(zip(_WHOLE, row, strict=True))


def page(wanted: Filter, after: str, limit: int) -> Query:
    """The letters after one, in the order in which they came: rows for `summary`."""
    condition, values = wanted.where()
    return Query(
        f"SELECT {', '.join(_SUMMARY)} FROM dead_letters WHERE {condition} AND arrived > %s"  # noqa: S608
        " ORDER BY arrived, id LIMIT %s",
        (*values, after, limit),
    )


def groups(wanted: Filter, limit: int) -> Query:
    """(fingerprint, code, type, pointer, detail, letters, messages, first at, last at) of groups, the latest first."""
    condition, values = wanted.where()
    return Query(
        "SELECT fingerprint, min(code), min(type), min(pointer), min(detail), count(*), sum(count)::bigint,"  # noqa: S608
        f" min(first_at), max(last_at) FROM dead_letters WHERE {condition}"
        " GROUP BY fingerprint ORDER BY max(last_at) DESC, fingerprint LIMIT %s",
        (*values, limit),
    )


def one(tenant: str | None, letter_id: str, *, lock: bool = False) -> Query:
    """A letter: a row for `whole`; locked for the caller's transaction, if wanted."""
    condition, values = Filter(tenant).where()
    return Query(
        f"SELECT {', '.join(_WHOLE)} FROM dead_letters WHERE {condition} AND id = %s"  # noqa: S608
        + (" FOR UPDATE" if lock else ""),
        (*values, letter_id),
    )


def receipt(tenant: str, command_id: str) -> Query:
    """(state, code, detail, pointer, last at) of the latest letter under the id of a command."""
    return Query(
        "SELECT state, code, detail, pointer, last_at FROM dead_letters"
        " WHERE tenant = %s AND message_id = %s ORDER BY last_at DESC LIMIT 1",
        (tenant, command_id),
    )


# (code, letters) of all that are parked, the most frequent first.
PARKED = Query("SELECT code, count(*) FROM dead_letters WHERE state = 'parked' GROUP BY code ORDER BY 2 DESC, 1", ())


def named(row: Mapping[str, Any]) -> str:
    """Return how an error names a letter."""
    return f"the dead letter {row['id']}"
