"""How the items of a bulk of dead letters are previewed, sent again and discarded.

A letter is sent again by the policies role, as any other. It is handed over in a transaction that leaves the bulk's
name in its note, so whoever goes on with the bulk knows which letters were. Those of one key are handed over together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import psycopg

from domain.errors import Refusal
from services import dead_letters
from services.broker.sender import Outgoing
from services.dead_letters import Edit, NotDone, Rules
from services.http.core.bulk_action import Action
from services.http.core.bulk_outcomes import Item, Outcome, columns
from services.http.core.bulk_states import (
    ACCEPTED,
    ANNOUNCED,
    CHANGED,
    KEY_STOPPED,
    NO_ANSWER,
    NOT_FOUND,
    READY,
    REFUSED,
    RETRY,
    SKIP,
    SKIPPED,
    UNKNOWN,
)
from services.store import bulk_actions, bulk_letters
from services.store.connect import connect
from services.store.dead_letters import UNORDERED
from services.store.pool import Pool

_MOVED = Refusal("version-conflict", "it came again, or was sent again, since it was previewed")
_BEHIND = Refusal("older-letter", "a dead letter before it with the same key was not accepted")
_GONE = Refusal("unknown-or-undecided", "somebody else acted on the dead letter after it was sent")
_UNSENT = Refusal("not-retryable", "the command could not be sent; the log of the policies role says why")
# Why an item is skipped whose letter is not as the preview needs it; any other refusal is shown by the preview.
_REASONS = {"not-parked": CHANGED, NOT_FOUND: NOT_FOUND}

Conn = psycopg.Connection[Any]


def of_letter(item: Item, row: Sequence[Any] | None, bulk_id: str) -> Outcome | None:
    """Return the outcome of an item whose letter was handed over, from its row; None as long as there is none."""
    if row is None or not bulk_letters.is_of(row, bulk_id):
        return Outcome(item.number, UNKNOWN, NO_ANSWER, _GONE)
    _, _, state, again, sent, outcome, *of_outcome, code, detail, pointer, first, last = row
    if state == "retrying":
        return None
    if state == "parked":
        if again:
            return Outcome(item.number, REFUSED, error=Refusal(code, detail, pointer))
        return Outcome(item.number, REFUSED, error=_UNSENT) if sent else _skipped(item, KEY_STOPPED, _BEHIND)
    if outcome == "accepted":
        return Outcome(item.number, ACCEPTED, first=first, last=last)
    code, detail, pointer = of_outcome
    return Outcome(item.number, REFUSED, error=Refusal(code or "", detail or "", pointer or ""))


def _skipped(item: Item, reason: str, error: Refusal) -> Outcome:
    return Outcome(item.number, SKIPPED, reason, error)


def _edit(job: Action) -> Edit:
    return Edit(merge=msgspec.json.decode(job.data).get("merge"))


@dataclass(frozen=True, slots=True)
class LetterRuns:
    """Works on the items of a bulk of letters, with a connection of its own each time. Blocking."""

    pool: Pool
    rules: Rules

    def _connected(self) -> Conn:
        return connect(self.pool.url, "bulks", self.pool.statement_timeout, autocommit=True)

    def prepare(self, job: Action, items: Sequence[Item]) -> tuple[dict[Item, Outgoing], list[Outcome]]:
        """Return the dry runs of letters that would be sent again, and the previews of the others."""
        commands: dict[Item, Outgoing] = {}
        outcomes = []
        with self._connected() as conn:
            for item in items:
                try:
                    row = dead_letters.parked(conn, job.tenant, item.entity_id)
                    if job.command == RETRY:
                        command, _ = dead_letters.renewed(row, _edit(job), self.rules, dry_run=True)
                        commands[item] = replace(command, correlation_id=None)
                    else:
                        outcomes.append(Outcome(item.number, READY, would=()))
                except NotDone as error:
                    outcomes.append(_skipped(item, _REASONS.get(error.code, ANNOUNCED), error.refusal))
        return commands, outcomes

    def hand_over(self, job: Action, items: Sequence[Item]) -> tuple[list[Item], list[Outcome]]:
        """Have letters sent again, or discard them, as long as the bulk is in the job's state.

        Return those that are sent again, and the outcomes of the others, which are stored already.
        """
        groups: dict[Any, list[Item]] = {}
        for item in items:
            in_order = job.command == RETRY and item.routing_key not in UNORDERED
            groups.setdefault(item.routing_key if in_order else item.number, []).append(item)
        sent: list[Item] = []
        outcomes: list[Outcome] = []
        with self._connected() as conn:
            keys = [key for key in groups if isinstance(key, str)]
            failed = {key for (key,) in conn.execute(*bulk_letters.failed(job.tenant, job.id, keys)).fetchall()}
            for key, group in groups.items():
                with conn.transaction():
                    if not conn.execute(*bulk_letters.in_state(job.tenant, job.id, job.state)).fetchall():
                        break
                    own = self._group(conn, job, group, stopped=key in failed)
                    found = [outcome for outcome in own if outcome is not None]
                    if found:
                        conn.execute(bulk_actions.NOTE, {**job.values, **columns(found)})
                outcomes += found
                sent += [item for item, outcome in zip(group, own, strict=True) if outcome is None]
        return sent, outcomes

    def _group(self, conn: Conn, job: Action, group: Sequence[Item], *, stopped: bool) -> list[Outcome | None]:
        """Act on letters of one key, the oldest first, and return their outcomes; None is still to come."""
        outcomes = []
        for item in group:
            outcome = self._act(conn, job, item, stopped=stopped)
            stopped = stopped or (outcome is not None and (outcome.state == REFUSED or outcome.reason == KEY_STOPPED))
            outcomes.append(outcome)
        return outcomes

    def _act(self, conn: Conn, job: Action, item: Item, *, stopped: bool) -> Outcome | None:
        try:
            row = dead_letters.read(conn, job.tenant, item.entity_id, lock=True)
            if job.command == RETRY and row["note"] == bulk_letters.note(job.id):
                # Whoever worked on the bulk before has handed it over.
                (of_it,) = conn.execute(*bulk_letters.outcomes(job.tenant, [item.entity_id])).fetchall()
                return of_letter(item, of_it, job.id)
            if stopped:
                return _skipped(item, KEY_STOPPED, _BEHIND)
            dead_letters.parked(conn, job.tenant, item.entity_id)
            if job.on_change == SKIP and row["count"] + row["retries"] != item.version:
                return _skipped(item, CHANGED, _MOVED)
            if job.command == RETRY:
                dead_letters.retry(
                    conn, job.tenant, item.entity_id, job.actor, self.rules, edit=_edit(job),
                    note=bulk_letters.note(job.id),
                )  # fmt: skip
                return None
            reason = msgspec.json.decode(job.data)["reason"]
            dead_letters.discard(conn, job.tenant, item.entity_id, job.actor, reason)
            return Outcome(item.number, ACCEPTED)
        except NotDone as error:
            if error.code == "older-letter":
                return _skipped(item, KEY_STOPPED, error.refusal)
            if error.code in _REASONS:
                return _skipped(item, _REASONS[error.code], error.refusal)
            return Outcome(item.number, REFUSED, error=error.refusal)
