"""A rebuild whose new tables are compared with the serving ones before they replace them.

Its tables are not announced, so nobody else fills them or switches to them; if it is killed, the next sweep drops them.
Both are compared in a snapshot in which they are at the same position: the follower of the serving tables is stopped
for the moment in which the new ones handle what is left and the snapshot is taken, and for no longer.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psycopg

import projections
from projections import ReadModel, follower_name, marks_of
from projections.support import comparison
from projections.support.comparison import Difference
from services.errors import OperatorError
from services.processors import rebuild
from services.processors.read_models import ServingFollower
from services.processors.rebuild import SWITCH_TIMEOUT_MS, BuildingFollower, Progress
from services.store import standing
from services.store.connect import Session, connect
from services.store.reader import Step

# How long serving tables that are behind the new ones may make no progress, in seconds.
PATIENCE = 30.0
_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"

# Called with the table, and how many of how many rows were compared.
Comparing = Callable[[str, int, int], None]


class NotComparable(OperatorError):
    """The serving tables have no state that the new ones could be compared with."""


@dataclass(slots=True)
class Compared:
    """Rows of one table: how many the serving one has, and how they differ; `columns` counts what differs in rows."""

    rows: int
    kinds: Counter[str] = field(default_factory=Counter)
    columns: Counter[str] = field(default_factory=Counter)

    @property
    def same(self) -> int:
        """Return how many rows of the serving table the new one has alike."""
        return self.rows - self.kinds["missing"] - self.kinds["different"]


@dataclass(slots=True)
class Comparison:
    """What was found in each table, the position at which both were, and whether the new tables serve now."""

    position: int
    tables: dict[str, Compared] = field(default_factory=dict)
    switched: bool = False

    @property
    def differs(self) -> bool:
        """Tell whether any row differs."""
        return any(each.kinds.total() for each in self.tables.values())

    def counts(self) -> dict[str, Any]:
        """Return what was found in each table as JSON has it."""
        return {
            stem: {
                "same": each.same,
                **{kind: each.kinds[kind] for kind in ("missing", "extra", "different")},
                "columns": dict(each.columns),
            }
            for stem, each in self.tables.items()
        }


def shown(found: Difference) -> dict[str, Any]:
    """Return a difference as JSON has it."""
    columns = {column: {"serving": one, "new": other} for column, (one, other) in found.columns.items()}
    return {"table": found.table, "key": dict(found.key), "kind": found.kind, "columns": columns}


def rebuild_compared(
    database_url: str,
    name: str,
    take: Callable[[Difference], None],
    *,
    switch: bool = False,
    progress: Progress | None = None,
    comparing: Comparing = lambda *_: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Comparison | None:
    """Rebuild a read model, give each difference to `take`, and switch if there is none, or with `switch` anyway.

    Otherwise the new tables are dropped. None when `stopped` ended it. Raises `NotComparable`, and what `rebuild`
    raises.
    """
    model = rebuild.model_of(name)
    with rebuild.session(database_url, name) as conn:
        suffix = _begin(conn, model)
        try:
            follower = BuildingFollower(model, suffix)
            follower.announced = False
            for _ in rebuild.steps(conn, follower, progress, stopped):
                if follower.indexed:
                    break
                rebuild.pause(conn)
            if stopped():
                return None
            found = _compare(database_url, conn, model, follower, take, comparing)
            if switch or not found.differs:
                with conn.transaction():
                    projections.announce(conn, model, suffix)
                follower.announced = True
                for _ in rebuild.steps(conn, follower, progress, stopped):
                    rebuild.pause(conn)
                found.switched = projections.tables(conn, model)[0] == suffix
            return found
        finally:
            _clear(database_url, model, suffix)


def _begin(conn: psycopg.Connection[Any], model: ReadModel) -> str:
    with conn.transaction():
        serving, building = projections.tables(conn, model, lock=True)
        if projections.version_of(serving) != model.VERSION:
            raise NotComparable(f"the serving tables of {model.NAME} are of another version: {serving}")
        if building is not None:
            detail = f"tables of {model.NAME} are being built already: finish that by `foldwork projections rebuild`"
            raise NotComparable(detail)
        return projections.begin_build(conn, model, announced=False)


def _clear(database_url: str, model: ReadModel, suffix: str) -> None:
    """Drop the new tables, unless they serve; what was interrupted may have left its own connection unusable."""
    with connect(database_url, f"rebuild-{model.NAME}", autocommit=True) as conn, conn.transaction():
        serving, building = projections.tables(conn, model, lock=True)
        if serving != suffix:
            if building == suffix:
                projections.announce(conn, model, None)
            projections.forsake(conn, model, suffix)


def _compare(
    database_url: str,
    conn: Session,
    model: ReadModel,
    follower: BuildingFollower,
    take: Callable[[Difference], None],
    comparing: Comparing,
) -> Comparison:
    serving, new = projections.tables(conn, model)[0], follower.name.removeprefix(f"{model.NAME}_")
    with _snapshot(database_url, conn, model, follower, follower_name(model, serving)) as (reader, position):
        found = Comparison(position)
        for stem in model.VIEWS:
            rows = comparison.count(reader, stem, serving)
            table = found.tables[stem] = Compared(rows)
            comparing(stem, 0, rows)
            told = partial(_tell, comparing, stem, rows)
            for each in comparison.differences(reader, stem, serving, new, marks_of(model), told):
                table.kinds[each.kind] += 1
                table.columns.update(list(each.columns))
                take(each)
            comparing(stem, rows, rows)
    return found


def _tell(comparing: Comparing, stem: str, rows: int, done: int) -> None:
    comparing(stem, min(done, rows), rows)


@contextmanager
def _snapshot(
    database_url: str, conn: Session, model: ReadModel, follower: BuildingFollower, serving: str
) -> Iterator[tuple[Session, int]]:
    """Give a session in whose snapshot both tables are at the same position, and the position."""
    with connect(database_url, "compare", 0.0) as reader:
        with connect(database_url, "compare", autocommit=True) as guard:
            position = _meet(conn, guard, reader, model, follower, serving)
        yield reader, position
        reader.rollback()


def _meet(
    conn: Session, guard: Session, reader: Session, model: ReadModel, follower: BuildingFollower, serving: str
) -> int:
    # Where no role runs, what was recorded last would stay for ever between them. One process works at a time.
    helper = ServingFollower(model)
    helper.enlist(guard)
    last, reached, since = -1, standing.position(conn, follower.name), time.monotonic()
    while time.monotonic() < since + PATIENCE:
        try:
            with guard.transaction():
                guard.execute(f"SET LOCAL lock_timeout = {SWITCH_TIMEOUT_MS}")
                # Whoever follows for the serving tables writes them in the transaction that locks this row.
                position, _ = standing.locked(guard, [serving]).get(serving, (0, 0))
                reached = follower.follow_to(conn, position)
                if reached == position:
                    reader.execute(_SNAPSHOT)
                    if standing.position(reader, serving) == standing.position(reader, follower.name) == position:
                        return position
                    reader.rollback()
        except psycopg.errors.LockNotAvailable:
            continue
        if position != last:
            last, since = position, time.monotonic()
        if helper.step(guard) is not Step.WORKED:
            rebuild.pause(conn)
    detail = f"the serving tables did not get to position {reached} within {PATIENCE:g} s, where the new ones are"
    raise NotComparable(f"{detail}: see `foldwork projections status`")
