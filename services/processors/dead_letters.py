"""Dead letters become rows, and those that an operator wants sent again are sent.

The collector empties the broker's queue: letters are acknowledged after they are committed, and one that comes again is
recognised. The resender sends the letters that are due, and notes their outcomes. Several processes may each run both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import structlog

from domain.decider import SYSTEM
from services import dead_letters
from services.broker.dead_queue import DeadQueue, Taken
from services.broker.sender import Outgoing
from services.dead_letters import UNCHANGED, MaySend, NotDone, Rules
from services.processors import arrivals
from services.store import dead_letter_acts as acts
from services.store import dead_letter_order as order
from services.store import dead_letters as letters
from services.store.dead_letters import Arrival
from services.store.failures import passes, told
from services.store.listener import Listener

COLLECTOR, RESENDER = "dead-letters", "dead-letters-retry"
# Seconds that the collector waits for a letter, and between two looks for outcomes while there are any to come.
_TAKE, _LOOK = 0.5, 0.2
# Letters that are sent by one write.
_MOST = 50
_PRUNE_SECONDS = 600.0
_TURN = "those before it are decided"

Send = Callable[[Sequence[Outgoing]], object]


class Collector(Listener):
    """Runs in a thread with its own connection; `on_stored` runs before letters are acknowledged."""

    def __init__(
        self, queue: DeadQueue, user: str, may_send: MaySend, *, on_stored: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(COLLECTOR, COLLECTOR, acts.CHANNEL, structlog.get_logger(COLLECTOR))
        self._queue = queue
        self._user = user
        self._may_send = may_send
        self._on_stored = on_stored
        # Taken and not yet stored, for the time after an outage of the database.
        self._batch: list[Taken] = []

    def begin(self, conn: psycopg.Connection[Any]) -> None:
        """Prepare nothing."""

    def turn(self, conn: psycopg.Connection[Any]) -> float:
        """Store a batch, acknowledge it, and return no pause: taking the next one waits."""
        self._batch = self._batch or self._queue.take(_TAKE)
        if self._batch:
            found = [arrivals.arrival(each.message, self._user, self._may_send) for each in self._batch]
            new = self._store(conn, found)
            self._on_stored()
            self._queue.settle(self._batch)
            self._batch = []
            self._log.info("dead letters stored", letters=len(found), new=new)
        return 0.0

    def _store(self, conn: psycopg.Connection[Any], given: Sequence[Arrival]) -> int:
        """Store letters; of one that the database refuses only what it is about, so that it stops no other."""
        try:
            with conn.transaction():
                return letters.store(conn, given)
        except Exception as error:
            if passes(error):
                raise
            if len(given) > 1:
                half = len(given) // 2
                return self._store(conn, given[:half]) + self._store(conn, given[half:])
            self._log.error("dead letter cannot be stored whole", letter=given[0].id, error=told(error))
            with conn.transaction():
                return letters.store(conn, [arrivals.bare(given[0], type(error).__name__)])

    def pause(self, conn: psycopg.Connection[Any], seconds: float) -> None:
        # What is announced is for the resender, and would be kept.
        self.notified(conn, 0)

    @property
    def unready(self) -> list[str]:
        """Its name while it has no connection to the database, or the queue is not consumed."""
        lost = not self.connected or not self._queue.consuming
        return [self.name] if lost and not self.stopped.is_set() else []


class Resender(Listener):
    """Runs in a thread with its own connection.

    `send` returns when the broker has confirmed the commands. A letter is taken for some seconds, and no transaction is
    open meanwhile: after a crash it is sent again under the same id, which the ledger recognises.
    """

    def __init__(self, send: Send, rules: Rules, *, days: int, poll: float = 1.0) -> None:
        super().__init__(RESENDER, RESENDER, acts.CHANNEL, structlog.get_logger(RESENDER))
        self._send = send
        self._rules = rules
        self._days = days
        self._poll = poll
        self._prune_at = 0.0

    def begin(self, conn: psycopg.Connection[Any]) -> None:
        """Prepare nothing: the rows say what is to be done."""

    def pause(self, conn: psycopg.Connection[Any], seconds: float) -> None:
        self.notified(conn, seconds)

    def turn(self, conn: psycopg.Connection[Any]) -> float:
        """Note outcomes, send what is due, and return the seconds until the next look."""
        self._prune(conn)
        if acts.retrying(conn):
            for each in acts.settle(conn):
                self._log.info("dead letter decided", letter=each.id, tenant=each.tenant, outcome=each.outcome)
        self._release(conn)
        if not acts.retrying(conn):
            return self._poll
        due = acts.take(conn, _MOST)
        if due:
            # A refused one goes alone, so that it does not keep the others from being sent.
            done = self._send_all(conn, [(each, command) for each in due if (command := self._command(conn, each))])
            acts.sent(conn, done)
        return _LOOK

    def _release(self, conn: psycopg.Connection[Any]) -> None:
        """Have ordered commands sent whose turn it is; one that cannot be sent waits for somebody's decision."""
        for each in order.whose_turn(conn, _MOST):
            try:
                with conn.transaction():
                    dead_letters.retry(conn, each.tenant, each.id, SYSTEM, self._rules, note=_TURN)
            except NotDone as error:
                if error.code not in ("not-parked", "older-letter"):
                    self._log.warning(
                        "dead letter cannot be sent", letter=each.id, tenant=each.tenant, error=str(error)
                    )
                    order.stay(conn, each.id)

    def _command(self, conn: psycopg.Connection[Any], due: acts.Due) -> Outgoing | None:
        """Return the command of a letter; one that cannot be sent any more is parked again."""
        try:
            row = dead_letters.read(conn, due.tenant, due.id)
            return dead_letters.renewed(row, UNCHANGED, self._rules)[0]
        except NotDone as error:
            self._log.warning("dead letter cannot be sent", letter=due.id, tenant=due.tenant, error=str(error))
            acts.park_again(conn, due.id, due.tenant, due.key)
            return None

    def _send_all(self, conn: psycopg.Connection[Any], given: Sequence[tuple[acts.Due, Outgoing]]) -> list[str]:
        """Send commands, and return the ids of the letters that the broker has taken."""
        if not given:
            return []
        try:
            self._send([command for _, command in given])
        except Exception as error:
            if passes(error):
                raise
            if len(given) > 1:
                half = len(given) // 2
                return self._send_all(conn, given[:half]) + self._send_all(conn, given[half:])
            due = given[0][0]
            self._log.error("dead letter cannot be sent", letter=due.id, tenant=due.tenant, error=told(error))
            acts.park_again(conn, due.id, due.tenant, due.key)
            return []
        return [due.id for due, _ in given]

    def _prune(self, conn: psycopg.Connection[Any]) -> None:
        if time.monotonic() < self._prune_at:
            return
        gone = acts.prune(conn, self._days)
        if gone:
            self._log.info("dead letters pruned", letters=gone)
        # More may be left than one statement deletes.
        self._prune_at = time.monotonic() + (0.0 if gone else _PRUNE_SECONDS)
