"""What of a task falls due, and when? One row for each deadline that is current: an end, a wake, an attempt at sending.

The rows are a function of the log but for their marks (`todo`, `wake_at`, `sends`, `outcome`), which belong to those
who act on them: a row begins with fresh marks, and whoever builds the table anew carries the marks over.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import psycopg

from domain.lifecycle import TERMINAL
from domain.recorded import Recorded
from domain.task.state import TaskCreated, changes_of
from projections.support.documents import Key, Table, array, plain_array

NAME = "deadlines"
VERSION = 1
VIEWS: tuple[str, ...] = ("deadlines", "deadline_tasks")
# A hint that new rows are there; never the only reason to look.
CHANNEL = "foldwork_deadlines"
# What is to be done with a row when it is due.
SEND, CALL = "send", "call"
OVERDUE, ATTEMPT = "overdue", "attempt"

_TASKS = """
CREATE TABLE deadline_tasks_{suffix} (
    tenant  text COLLATE "C" NOT NULL,
    task_id text COLLATE "C" NOT NULL,
    doc     text NOT NULL,
    PRIMARY KEY (tenant, task_id)
)"""
TABLES = f"""{_TASKS};
CREATE TABLE deadlines_{{suffix}} (
    tenant      text COLLATE "C" NOT NULL,
    task_id     text COLLATE "C" NOT NULL,
    kind        text COLLATE "C" NOT NULL,
    due         text NOT NULL,
    due_at      timestamptz NOT NULL,
    activity_id text COLLATE "C",
    position    bigint NOT NULL,
    todo        text COLLATE "C" NOT NULL,
    wake_at     timestamptz NOT NULL,
    sends       integer NOT NULL DEFAULT 0,
    outcome     text,
    PRIMARY KEY (tenant, task_id, kind)
)
"""
INDEXES = """
CREATE INDEX IF NOT EXISTS deadlines_{suffix}_wake_idx ON deadlines_{suffix} (todo, wake_at);
CREATE INDEX IF NOT EXISTS deadlines_{suffix}_tenant_idx ON deadlines_{suffix} (todo, tenant, wake_at)
"""
# A switch of tables must not let everything be sent, and called, once more.
CARRY = """
UPDATE deadlines_{suffix} AS new SET todo = old.todo, wake_at = old.wake_at, sends = old.sends, outcome = old.outcome
FROM deadlines_{old} AS old
WHERE (new.tenant, new.task_id, new.kind, new.position) = (old.tenant, old.task_id, old.kind, old.position)
"""
_TABLE = Table.of(_TASKS, key=("tenant", "task_id"))


class Remembered(msgspec.Struct, omit_defaults=True, gc=False):
    """What a task's deadlines are made of; a task that never had one is not remembered at all.

    `since` is the position of the event by which the end counts, so that one that comes back is another deadline.
    `wake` is (kind, time, position) and `attempt` (number, time of the request, position).
    """

    activity_id: str | None = None
    end: str | None = None
    since: int = 0
    overdue: bool = False
    ended: bool = False
    wake: tuple[str, str, int] | None = None
    attempt: tuple[int, str, int] | None = None
    position: int = 0


class Due(NamedTuple):
    """One deadline. `due` is the text by which the domain knows it: a time as it was written, an attempt's number."""

    due: str
    at: str
    position: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Remembered).decode


def due_of(task: Remembered | None) -> dict[str, Due]:
    """Return a task's current deadlines by kind."""
    if task is None or task.ended:
        return {}
    found = {}
    if task.end is not None and not task.overdue:
        found[OVERDUE] = Due(task.end, _instant(task.end), task.since)
    if task.wake is not None:
        kind, at, position = task.wake
        found[kind] = Due(at, _instant(at), position)
    if task.attempt is not None:
        number, requested_at, position = task.attempt
        found[ATTEMPT] = Due(str(number), requested_at, position)
    return found


def _instant(text: str) -> str:
    return datetime.fromisoformat(text).astimezone(UTC).isoformat()


# What a deadline is made of.
EVENTS = frozenset(
    {
        "task.created",
        "task.rescheduled",
        "task.became-overdue",
        "task.completed",
        "task.failed",
        "task.canceled",
        "task.retried",
        "task.reopened",
        "task.wake-set",
        "task.targets-resolved",
        "task.resolution-failed",
        "task.dispatch-requested",
        "task.dispatch-succeeded",
        "task.dispatch-failed",
    }
)


def apply(task: Remembered | None, event: Recorded) -> Remembered | None:
    """Return what is remembered after one more event; one that was applied before changes nothing."""
    if task is not None and event.position <= task.position:
        return task
    changed = changes_of(event.data)
    if task is None:
        if not (changed.get("end") or changed.get("wake") or changed.get("in_flight")):
            return None
        task = Remembered(event.data.activity_id)
    if "end" in changed:
        task.end, task.since = changed["end"], event.position
    if "overdue" in changed or "end" in changed:
        task.overdue = changed.get("overdue", False)
    if "lifecycle" in changed:
        ended = changed["lifecycle"] in TERMINAL
        if task.ended and not ended:
            task.since = event.position
        task.ended = ended
    if "wake" in changed:
        task.wake = None if changed["wake"] is None else (*changed["wake"], event.position)
    if "in_flight" in changed:
        # By the database's clock, which is the one that says what is due.
        requested_at = event.recorded_at.astimezone(UTC).isoformat()
        task.attempt = (changed["attempt"], requested_at, event.position) if changed["in_flight"] else None
    task.position = event.position
    return task


class Deadlines:
    """Folds events into one pair of tables; what did not change is not written."""

    def __init__(self, suffix: str) -> None:
        self._load = _TABLE.load(suffix)
        self._upsert = _TABLE.upsert(suffix)
        self._delete = (
            f"DELETE FROM deadlines_{suffix} AS d"  # noqa: S608
            " USING unnest(%s::text[], %s::text[], %s::text[]) AS k (tenant, task_id, kind)"
            " WHERE d.tenant = k.tenant AND d.task_id = k.task_id AND d.kind = k.kind"
        )
        names = "tenant, task_id, kind, due, due_at, activity_id, position, todo"
        taken = ("due", "due_at", "activity_id", "position", "todo", "wake_at")
        self._insert = (
            f"INSERT INTO deadlines_{suffix} ({names}, wake_at) SELECT {names}, due_at FROM unnest("  # noqa: S608
            "%s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::text[], %s::bigint[], %s::text[]"
            f") AS n ({names}) ON CONFLICT (tenant, task_id, kind) DO UPDATE SET"
            f" {', '.join(f'{name} = EXCLUDED.{name}' for name in taken)}, sends = 0, outcome = NULL"
        )

    def forget(self) -> None:
        """Nothing is kept in memory."""

    def project(self, conn: psycopg.Connection[Any], batch: Sequence[Recorded]) -> None:
        """Fold a batch in the caller's transaction; repeating a batch changes nothing."""
        # Most tasks have no end and no plan: they are looked for when they end, and that is all.
        events = [event for event in batch if event.category == "task" and not _is_idle(event.data)]
        if not events:
            return
        keys: dict[Key, None] = dict.fromkeys((event.tenant, event.entity_id) for event in events)
        tasks: dict[Key, Remembered] = {}
        for tenant, task_id, doc in conn.execute(self._load, [array(part) for part in zip(*keys, strict=True)]):
            tasks[tenant, task_id] = _decode(doc)
        before = {key: (task.position, due_of(task)) for key, task in tasks.items()}
        for event in events:
            key = (event.tenant, event.entity_id)
            task = apply(tasks.get(key), event)
            if task is not None:
                tasks[key] = task
        self._write(conn, {key: before.get(key, (0, {})) for key in tasks}, tasks)

    def _write(
        self,
        conn: psycopg.Connection[Any],
        before: dict[Key, tuple[int, dict[str, Due]]],
        tasks: dict[Key, Remembered],
    ) -> None:
        changed = {key: task for key, task in tasks.items() if task.position != before[key][0]}
        if not changed:
            return
        documents = [(*key, _encode(task).decode()) for key, task in changed.items()]
        conn.execute(self._upsert, _TABLE.arrays(documents))
        gone, new = [], []
        for key, task in changed.items():
            old, now = before[key][1], due_of(task)
            gone += [(*key, kind) for kind in old if kind not in now]
            new += [(key, kind, task, due) for kind, due in now.items() if old.get(kind) != due]
        if gone:
            conn.execute(self._delete, [array(part) for part in zip(*gone, strict=True)])
        if new:
            conn.execute(
                self._insert,
                [
                    array(key[0] for key, *_ in new),
                    array(key[1] for key, *_ in new),
                    array(kind for _, kind, *_ in new),
                    array(due.due for *_, due in new),
                    array(due.at for *_, due in new),
                    array(task.activity_id for _, _, task, _ in new),
                    plain_array(due.position for *_, due in new),
                    array(CALL if kind == ATTEMPT else SEND for _, kind, *_ in new),
                ],
            )
            conn.execute(f"NOTIFY {CHANNEL}")


def _is_idle(data: Any) -> bool:
    return isinstance(data, TaskCreated) and data.end is None


def projection(suffix: str, keep: int = 0) -> Deadlines:
    """Return what folds the log into the tables of this suffix."""
    return Deadlines(suffix)
