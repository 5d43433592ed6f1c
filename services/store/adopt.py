"""Adopting a store that was restored from a backup: what each follower does next, and a new epoch of the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

import projections
from projections import ReadModel, follower_name
from services.store import append, identity, log, webhooks
from services.store.connect import connect
from services.store.operations import Operation, acting

_FOLLOWERS = """
SELECT name, position, mark, log_mark(position), split_part(mark, ' ', 5) FROM followers ORDER BY name FOR UPDATE"""
# The last event that was in the log when the follower handled the one of its mark. Events are recorded in the order of
# their positions, except for the duration of a transaction.
_COMMON = """
SELECT notification_id FROM stored_events
WHERE notification_id <= %s AND recorded_at <= to_timestamp(%s::float8) - interval '1 minute'
ORDER BY notification_id DESC LIMIT 1"""
_MOVE = "UPDATE followers SET position = %s, halted_at = NULL, error = NULL, held = held + 1 WHERE name = %s"
_NOT_WAITING = "DELETE FROM held_events WHERE follower = %s AND position > %s"
_NOT_HELD = """
DELETE FROM held_entities AS e WHERE follower = %s
AND NOT EXISTS (SELECT FROM held_events AS h WHERE h.follower = e.follower AND h.entity = e.entity)"""
_NEW_EPOCH = "UPDATE log_identity SET epoch = epoch + 1, place = %s, adopted_at = now()"
# The follower that queues events for webhooks.
_WEBHOOKS = "webhooks"
# The trigger makes the marks anew.
_MARK = "UPDATE followers SET position = position"


@dataclass(frozen=True, slots=True)
class Move:
    """Where a follower is, and where it continues: there, unless the event at its position is another than before."""

    follower: str
    position: int
    to: int
    # The read model whose rows contain events that the log does not have.
    rebuilds: str | None

    @property
    def strays(self) -> bool:
        return self.to != self.position


@dataclass(frozen=True, slots=True)
class Adoption:
    """What an adoption does. Positions beyond `common` may stand for other events in what was read before."""

    id: str
    epoch: int
    copied: bool
    head: int
    common: int
    moves: Sequence[Move]

    @property
    def needed(self) -> bool:
        return self.copied or any(move.strays for move in self.moves)


def adopt(database_url: str, *, force: bool, actor: str | None = None) -> Adoption:
    """Return what an adoption does, and with `force` do it; one transaction, in which nobody appends or follows.

    It is recorded as an act of the actor, if one is given.
    """
    with connect(database_url, "adopt") as conn:
        if not force:
            append.lock(conn)
            plan = _plan(conn)
            conn.rollback()
            return plan
        operation = None if actor is None else Operation(None, actor, "database.adopt", "database/log")
        with acting(conn, operation) as act:
            plan = _adopted(conn)
            moved = [f"{move.follower} from {move.position} to {move.to}" for move in plan.moves if move.strays]
            act.target = f"database/{plan.id}"
            act.details |= {"epoch": plan.epoch + 1, "copied": plan.copied, "common": plan.common, "moved": moved}
        return plan


def _adopted(conn: psycopg.Connection[Any]) -> Adoption:
    append.lock(conn)
    plan = _plan(conn)
    conn.execute(_NEW_EPOCH, (identity.here(conn),))
    for move in plan.moves:
        if move.strays:
            conn.execute(_MOVE, (move.to, move.follower))
            conn.execute(_NOT_WAITING, (move.follower, move.to))
            conn.execute(_NOT_HELD, (move.follower,))
            if move.follower == _WEBHOOKS:
                webhooks.forget_after(conn, move.to)
        if move.rebuilds is not None:
            _rebuild(conn, projections.BY_NAME[move.rebuilds], move.follower)
    conn.execute(_MARK)
    return plan


def _plan(conn: psycopg.Connection[Any]) -> Adoption:
    known, head = identity.identity(conn), log.head(conn)
    serving = {
        follower_name(model, suffix): model.NAME
        for model in projections.READ_MODELS
        for suffix in projections.tables(conn, model)
        if suffix is not None
    }
    moves = []
    for name, position, mark, actual, recorded_at in conn.execute(_FOLLOWERS).fetchall():
        to = position
        if position > head or _event(mark) != _event(actual):
            to = _common(conn, position, recorded_at)
        moves.append(Move(name, position, to, serving.get(name) if to != position else None))
    common = min((move.to for move in moves if move.strays), default=head)
    return Adoption(known.id, known.epoch, identity.copied(conn), head, common, moves)


def _event(mark: str | None) -> list[str]:
    # Without the id and the epoch of the log: the same event in another epoch is no reason to move.
    return [] if mark is None else mark.split(" ")[2:]


def _common(conn: psycopg.Connection[Any], position: int, recorded_at: str | None) -> int:
    if not recorded_at:
        return 0
    row = conn.execute(_COMMON, (position, recorded_at)).fetchone()
    return int(row[0]) if row is not None else 0


def _rebuild(conn: psycopg.Connection[Any], model: ReadModel, follower: str) -> None:
    building = projections.tables(conn, model)[1]
    if building is not None and follower == follower_name(model, building):
        projections.begin_again(conn, model, building)
    else:
        projections.begin_build(conn, model)
