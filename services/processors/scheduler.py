"""The scheduler: it sends a command for each deadline that is due, in turn between tenants, until the row is gone.

One process takes the tenants of a round and sends the commands of their rows; once the broker has confirmed them the
rows are marked. No transaction is open meanwhile. After a crash in between the same id is sent again, which the ledger
recognises; a lost command is sent again later. A command that cannot be sent does not block the others.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import psycopg
import structlog

from projections import deadlines, due
from projections.due import Seen
from services.broker.sender import Outgoing
from services.store.failures import passes, told
from services.store.listener import Listener

NAME = "scheduler"
# Rows per tenant and tenants per round; a short pause after each round leaves capacity to other commands.
MAX_ROWS_OF_TENANT, MAX_TENANTS = 50, 20
REST = 0.02
# Seconds until a command without a visible effect is sent again, doubled each time, up to the longest.
RESEND, LONGEST_RESEND = 30.0, 3600.0
# The longest wait for a dispatch, which may only be waiting for an earlier step.
LONGEST_OF_DISPATCH = 60.0
# Seconds to wait when the tenants that have something due are taken by another process.
_ELSEWHERE = 0.2
# The first half of the advisory lock of a tenant; the other half is a hash of its name.
_LOCK = 4_012_003

# Must never change: the ids of recorded commands are derived from it.
_NAMESPACE = uuid.UUID("0b7e3c52-8a1f-5d0c-9a57-4f3f6f1f2c9e")
# The waits of rows that were sent, and of rows that could not be sent.
_SENT = (RESEND, LONGEST_OF_DISPATCH, LONGEST_RESEND)
_PUT_OFF = (LONGEST_RESEND,) * 3

Send = Callable[[Sequence[Outgoing]], object]
_encode = msgspec.json.Encoder().encode


class DueRow(NamedTuple):
    """A deadline that is due. `outcome` is the report of a dispatch attempt, as JSON."""

    tenant: str
    task_id: str
    kind: str
    due: str
    activity_id: str | None
    position: int
    wake_at: datetime
    outcome: str | None

    @property
    def key(self) -> tuple[str, str, str]:
        return self.tenant, self.task_id, self.kind

    @property
    def seen(self) -> Seen:
        return *self.key, self.position, self.wake_at


def command_for(row: DueRow) -> Outgoing:
    """Return the command of a row; its id stays the same until the row is marked."""
    name, body = "task.wake", _encode({"id": row.task_id, "kind": row.kind, "due": row.due})
    if row.outcome is not None:
        name, body = "task.report-dispatch", row.outcome.encode()
    cause = (*row.key, row.position, row.due, row.wake_at.astimezone(UTC).isoformat())
    return Outgoing(
        name,
        body,
        row.tenant,
        routing_key=row.activity_id if row.activity_id is not None else row.task_id,
        command_id=str(uuid.uuid5(_NAMESPACE, "/".join(map(str, cause)))),
        caused_by=row.position,
    )


class Scheduler(Listener):
    """Runs in a thread with its own connection; several processes may each run one.

    `send` returns when the broker has confirmed the commands; `on_sent` runs before the rows are marked. `on_hint` runs
    after a notification that there may be new deadlines.
    """

    def __init__(
        self,
        send: Send,
        *,
        poll: float = 1.0,
        on_sent: Callable[[], None] = lambda: None,
        on_hint: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(NAME, NAME, deadlines.CHANNEL, structlog.get_logger("scheduler"))
        self._send = send
        self._poll = poll
        self._on_sent = on_sent
        self._on_hint = on_hint
        self._after = ""

    def begin(self, conn: psycopg.Connection[Any]) -> None:
        """Prepare nothing: the rows that are due say what is to be done."""

    def pause(self, conn: psycopg.Connection[Any], seconds: float) -> None:
        if self.notified(conn, seconds):
            self._on_hint()

    def turn(self, conn: psycopg.Connection[Any]) -> float:
        """Send one round of commands that are due, and return the seconds until the next turn."""
        # Not prepared, here and below: a prepared plan for a small table would be kept while the table grows.
        row = conn.execute(due.NEXT, (deadlines.SEND,), prepare=False).fetchone()
        if row is None or row[0] > 0:
            return self._poll if row is None else min(self._poll, row[0])
        with self._taken(conn) as tenants:
            given = (tenants, deadlines.SEND, MAX_ROWS_OF_TENANT)
            found = [DueRow(*each) for each in conn.execute(due.OLDEST, given, prepare=False).fetchall()]
            if found:
                refused = self._send_all(found)
                self._on_sent()
                for waits, rows in ((_SENT, [each for each in found if each not in refused]), (_PUT_OFF, refused)):
                    if rows:
                        conn.execute(*due.postponed([each.seen for each in rows], *waits))
        return REST if found else min(self._poll, _ELSEWHERE)

    def _send_all(self, rows: Sequence[DueRow]) -> list[DueRow]:
        """Send the commands of these rows, and return the rows whose command is refused."""
        try:
            self._send([command_for(each) for each in rows])
        except Exception as error:
            if passes(error):
                raise
            if len(rows) > 1:
                half = len(rows) // 2
                return self._send_all(rows[:half]) + self._send_all(rows[half:])
            row = rows[0]
            self._log.error(
                "command cannot be sent", tenant=row.tenant, task=row.task_id, kind=row.kind, error=told(error)
            )
            return [row]
        return []

    @contextmanager
    def _taken(self, conn: psycopg.Connection[Any]) -> Iterator[list[str]]:
        """Take some of the next tenants in turn while the block works; the next round continues after them."""
        tenants: list[str] = []
        for after in dict.fromkeys((self._after, "")):
            given = (deadlines.SEND, after, deadlines.SEND, tenants, MAX_TENANTS - len(tenants))
            tenants += [name for (name,) in conn.execute(due.TENANTS, given, prepare=False)]
            if len(tenants) == MAX_TENANTS:
                break
        self._after = tenants[-1] if len(tenants) == MAX_TENANTS else ""
        try:
            yield [name for (name,) in conn.execute(due.TAKE, (tenants, _LOCK), prepare=False)]
        finally:
            # A session that has ended holds nothing.
            with suppress(psycopg.Error):
                conn.execute(due.RELEASE, prepare=False)
