"""Verifies a store while the roles work on it: versions, positions, effects of commands, followers, read models.

Everything is read from one snapshot. Each read model is folded again from the log into temporary tables, up to the
position of its serving tables, and compared with them row by row. Memory is bounded by a batch of events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import psycopg

import projections
from projections import ReadModel, follower_name, marks_of
from projections.support.comparison import differences
from services.processors.projector import Projector
from services.store import checks, identity, log, standing
from services.store.checks import EXAMPLES, Violation
from services.store.connect import connect
from services.store.failures import passes, told
from services.store.log import LogGap, LogRow
from services.store.migrate import demand_migrated

BATCH = 1000
_CACHED = 2048
_SUFFIX = "verified"

# What is wrong with a serving row, by what the row that is folded again is beside it.
_STATES = {"missing": "does not belong there", "extra": "is missing", "different": "has other values"}

Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class Verdict:
    """What was compared, what contradicts, and what could not be checked."""

    log: str
    epoch: int
    events: int
    read_models: dict[str, int] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


class _Fold:
    """One read model: what is folded again, and up to where."""

    def __init__(self, conn: psycopg.Connection[Any], model: ReadModel) -> None:
        self.model = model
        self.serving = projections.tables(conn, model)[0]
        name = follower_name(model, self.serving)
        self.position = standing.position(conn, name)
        self._held = checks.held_positions(conn, name)
        self._projector = Projector(model, _SUFFIX, _CACHED)
        self.problem = ""
        if projections.version_of(self.serving) != model.VERSION:
            self.problem = f"its tables are of version {projections.version_of(self.serving)}, not {model.VERSION}"
        else:
            projections.create_temporary(conn, model, _SUFFIX)

    def take(self, conn: psycopg.Connection[Any], rows: Sequence[LogRow]) -> None:
        wanted = [row for row in rows if row.position <= self.position and row.position not in self._held]
        if self.problem or not wanted:
            return
        try:
            with conn.transaction():
                self._projector(conn, wanted)
        except Exception as error:
            if passes(error):
                raise
            self.problem = f"events {wanted[0].position} to {wanted[-1].position} cannot be folded: {told(error)}"

    def compare(self, conn: psycopg.Connection[Any]) -> Iterator[Violation]:
        for stem in self.model.VIEWS:
            for each in islice(differences(conn, stem, self.serving, _SUFFIX, marks_of(self.model)), EXAMPLES):
                key = "/".join(str(value) for value in each.key.values())
                yield Violation("read-models", f"{stem}: the row {key} {_STATES[each.kind]}{_named(each.columns)}")


def _named(columns: Iterable[str]) -> str:
    names = ", ".join(columns)
    return f": {names}" if names else ""


def verify(database_url: str, progress: Progress = lambda *_: None) -> Verdict:
    """Compare everything; raises what psycopg raises, and `SchemaMismatch`, if it cannot."""
    # Without a statement time-out, since some statements read the whole log.
    with connect(database_url, "verify", 0.0) as conn:
        demand_migrated(conn)
        conn.rollback()
        checks.snapshot(conn)
        verdict = _verdict(conn)
        try:
            _compare(conn, verdict, progress)
        finally:
            # The temporary tables go with it.
            conn.rollback()
    return verdict


def _verdict(conn: psycopg.Connection[Any]) -> Verdict:
    known = identity.identity(conn)
    return Verdict(known.id, known.epoch, log.head(conn))


def _compare(conn: psycopg.Connection[Any], verdict: Verdict, progress: Progress) -> None:
    head, found = verdict.events, verdict.violations
    found += checks.place(conn)
    found += checks.positions(conn)
    done = 0
    for each in checks.versions(conn):
        if isinstance(each, Violation):
            found.append(each)
        else:
            done += each
            progress("versions", min(done, head), head)
    found += checks.followers(conn, head)
    folds = [_Fold(conn, model) for model in projections.READ_MODELS]
    _read(conn, head, folds, verdict, progress)
    found += checks.effects(conn)
    for number, fold in enumerate(folds):
        progress(f"comparing {fold.model.NAME}", number, len(folds))
        if fold.problem:
            verdict.unchecked.append(f"{fold.model.NAME}: {fold.problem}")
        else:
            verdict.read_models[fold.model.NAME] = fold.position
            found += fold.compare(conn)


def _read(
    conn: psycopg.Connection[Any], head: int, folds: Sequence[_Fold], verdict: Verdict, progress: Progress
) -> None:
    position = 0
    while position < head:
        try:
            rows = log.read(conn, position, BATCH)
        except LogGap as error:
            # The positions were reported already; without these events no row can be right.
            verdict.unchecked.append(f"events after position {position}: {told(error)}")
            for fold in folds:
                fold.problem = fold.problem or "the log has a gap"
            return
        checks.note_effects(conn, rows)
        for fold in folds:
            fold.take(conn, rows)
        position = rows[-1].position
        progress("events", position, head)
