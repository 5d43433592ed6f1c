"""Followers that keep the read models, and the rebuild of one beside the tables that serve; a switch loses nothing.

New tables fill under a suffix of their own with a follower of their own, so whoever is killed goes on where it was.
They take over only when they are as far as the old ones, in one transaction; the old ones are dropped after it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

import projections
from projections import ReadModel, follower_name
from services.errors import OperatorError
from services.processors.projector import Projector
from services.store import held, log, standing
from services.store.connect import connect
from services.store.failures import passes, systemic, timed_out, told
from services.store.follower import Follower
from services.store.follower_group import FollowerGroup
from services.store.held import Held, HeldEntity
from services.store.log import LogRow
from services.store.reader import Reader, Step

BUILD_BATCH = 5000
# Documents kept in memory: an activity's is about 4 kB, and every role stays below 150 MB.
_KEPT, _KEPT_BUILDING = 2048, 12_000
# How long a switch waits for those who read the old tables, in milliseconds; it is tried again.
_SWITCH_WAIT = 2000
# The name of those that go together, for threads and connections.
_TOGETHER = "read-models"

Progress = Callable[[int, int, float, float], None]


class RebuildHalted(OperatorError):
    """The new tables cannot be filled, or would hold back more than the old ones do, which go on serving."""

    def __init__(self, name: str, position: int | None, error: str | None) -> None:
        super().__init__(f"{name} halted at position {position}: {error}")
        self.position = position


class UnknownReadModel(OperatorError):
    """There is no read model of this name."""


class ServingFollower(Follower):
    """Keeps the tables that serve, whichever they are: after a switch it goes on with the new ones.

    Tables of another version than the code's are left alone, since their columns are not the code's.
    """

    def __init__(self, model: ReadModel, *, batch: int = 500) -> None:
        super().__init__(follower_name(model, projections.suffix(model)), self._project, batch=batch)
        self._model = model
        self._projector: Projector | None = None

    def _project(self, conn: psycopg.Connection[Any], rows: Sequence[LogRow]) -> None:
        assert self._projector is not None  # noqa: S101
        self._projector(conn, rows)

    def forget(self) -> None:
        """Drop the documents that are kept in memory."""
        if self._projector is not None:
            self._projector.forget()

    @property
    def able(self) -> bool:
        """Tell whether the serving tables are of the code's version."""
        return self._projector is not None

    def enlist(self, conn: psycopg.Connection[Any]) -> None:
        """Find the serving tables; their row is made with them, and one made here would outlive them."""
        suffix, _ = projections.tables(conn, self._model)
        name = follower_name(self._model, suffix)
        if projections.version_of(suffix) != self._model.VERSION:
            self._projector = None
        elif self._projector is None or name != self.name:
            self.name = name
            self._projector = Projector(self._model, suffix, _KEPT)
            self.held = Held(name, self._projector.entity_of)

    def step(self, conn: psycopg.Connection[Any]) -> Step:
        """Handle the next batch; without a row to lock, look whether other tables serve now."""
        step = super().step(conn) if self._projector is not None else Step.ELSEWHERE
        if step is not Step.ELSEWHERE:
            return step
        before = self._projector
        self.enlist(conn)
        return super().step(conn) if self._projector is not before and self._projector is not None else step


class BuildingFollower(Follower):
    """Fills new tables and lets them serve when they have caught up; then it ends.

    `refused` says why they may not serve yet: they would hold back what the tables that serve have.
    """

    def __init__(self, model: ReadModel, suffix: str, *, batch: int = BUILD_BATCH) -> None:
        self._projector = Projector(model, suffix, _KEPT_BUILDING)
        super().__init__(
            follower_name(model, suffix), self._projector, batch=batch, entity_of=self._projector.entity_of
        )
        self._model = model
        self._suffix = suffix
        self._indexed = False
        self.refused: HeldEntity | None = None

    def enlist(self, conn: psycopg.Connection[Any]) -> None:
        """End when the tables are not being built any more; their row was made with them."""
        if projections.tables(conn, self._model)[1] != self._suffix:
            self.stop()

    def forget(self) -> None:
        """Drop the documents that are kept in memory."""
        self._projector.forget()

    def step(self, conn: psycopg.Connection[Any]) -> Step:
        """Handle the next batch, or switch when there is none."""
        step = super().step(conn)
        # After a short batch too it goes on at once, to the indexes and to the switch.
        self._more = self.refused is None
        if step is Step.ELSEWHERE:
            self.enlist(conn)
        if step is not Step.IDLE:
            return step
        if not self._indexed:
            self._index(conn)
            return Step.WORKED
        if self.refused is not None and self._loses(conn, projections.tables(conn, self._model)[0]):
            return step
        if self._switch(conn):
            self.stop()
            sweep(conn, self._model)
        return step

    def _index(self, conn: psycopg.Connection[Any]) -> None:
        try:
            _index(conn, self._model, self._suffix)
        except Exception as error:
            if passes(error) or systemic(error) or timed_out(error):
                raise
            # With its indexes there, a table refuses the rows that cannot be in them, and only they are held back.
            self._log.warning("filling the tables again, under their indexes", error=told(error))
            with conn.transaction():
                projections.begin_again(conn, self._model, self._suffix)
            self.forget()
        self._indexed = True

    def _switch(self, conn: psycopg.Connection[Any]) -> bool:
        """Let the new tables serve, not one event behind the old ones; False when that has to wait."""
        try:
            with conn.transaction():
                conn.execute(f"SET LOCAL lock_timeout = {_SWITCH_WAIT}")
                serving, building = projections.tables(conn, self._model, lock=True)
                if building != self._suffix:
                    return False
                old = follower_name(self._model, serving)
                # Both rows are locked, so neither set of tables moves while the new one takes the last steps.
                found = standing.locked(conn, [old, self.name])
                position, generation = found[self.name]
                self.held.refresh(conn, generation)
                self._follow_to(conn, position, found.get(old, (0, 0))[0])
                if self._loses(conn, serving):
                    return False
                standing.remove(conn, old)
                projections.serve(conn, self._model, self._suffix)
        except (psycopg.errors.LockNotAvailable, _NotTaken):
            return False
        return True

    def _follow_to(self, conn: psycopg.Connection[Any], position: int, last: int) -> None:
        while position < last:
            rows = log.read(conn, position, min(BUILD_BATCH, last - position))
            try:
                self.take(conn, rows)
            except Exception as error:
                self.forget()
                if passes(error):
                    raise
                # The next step comes upon the same event, and finds it.
                raise _NotTaken from error
            position = rows[-1].position
            standing.move(conn, self.name, position)

    def _loses(self, conn: psycopg.Connection[Any], serving: str) -> bool:
        """Tell whether the new tables hold back an entity that those which serve do not."""
        # Tables of another version are filled by nobody any more, so that whatever replaces them is better.
        if projections.version_of(serving) != self._model.VERSION:
            return False
        status = held.status(conn)
        kept = {each.entity for each in status.get(follower_name(self._model, serving), ())}
        refused = next((each for each in status.get(self.name, ()) if each.entity not in kept), None)
        if refused is not None and self.refused is None:
            self._log.error("new tables may not serve", entity=refused.entity, position=refused.position)
        self.refused = refused
        return refused is not None


class _NotTaken(Exception):
    """An event of the last steps before a switch could not be handled."""


def followers(database_url: str, *, batch: int = 500) -> list[Follower]:
    """Return a follower for each read model, and one for each that is being built."""
    found: list[Follower] = []
    with connect(database_url, "projections", autocommit=True) as conn:
        for model in projections.READ_MODELS:
            found.append(ServingFollower(model, batch=batch))
            found[-1].enlist(conn)
            _, building = projections.tables(conn, model)
            if building is not None and projections.version_of(building) == model.VERSION:
                found.append(BuildingFollower(model, building))
            sweep(conn, model)
    return found


def readers(database_url: str, *, batch: int = 500) -> list[Reader]:
    """Return what follows, each in a thread: those that fill serving tables together, one that builds alone."""
    found = followers(database_url, batch=batch)
    level = [each for each in found if isinstance(each, ServingFollower)]
    return [FollowerGroup(_TOGETHER, level, batch=batch), *(each for each in found if each not in level)]


def rebuild(
    database_url: str, name: str, progress: Progress | None = None, *, stopped: Callable[[], bool] = lambda: False
) -> bool:
    """Build a read model anew beside the serving tables and switch; a rebuild that was killed goes on where it was.

    `progress(position, head, events a second, seconds left)` is called after each batch. Returns False when `stopped`
    ended it before the switch; raises `RebuildHalted` when an event cannot be folded.
    """
    model = projections.BY_NAME.get(name)
    if model is None:
        raise UnknownReadModel(f"there is no read model {name}; the read models are {', '.join(projections.BY_NAME)}")
    with (
        connect(database_url, f"rebuild-{name}", 300.0, autocommit=True) as conn,
        _without_collections(),
    ):
        with conn.transaction():
            suffix = projections.begin_build(conn, model)
        conn.execute("SET synchronous_commit = off")  # a batch that a crash takes back is folded again
        conn.execute(f"LISTEN {log.CHANNEL}")
        follower = BuildingFollower(model, suffix)
        first, began = standing.position(conn, follower.name), time.monotonic()
        while not follower.stopped.is_set() and not stopped():
            step = follower.step(conn)
            if step is Step.HALTED:
                raise RebuildHalted(follower.name, *standing.halted(conn, follower.name))
            if follower.refused is not None:
                refused = follower.refused
                error = f"{refused.entity} would be held back: {refused.error}"
                raise RebuildHalted(follower.name, refused.position, error)
            if follower.stopped.is_set():
                break
            if progress is not None:
                _report(conn, follower.name, first, began, progress)
            if step is not Step.WORKED:
                # Another process fills the same tables, or readers of the old ones delayed the switch.
                for _ in conn.notifies(timeout=0.2, stop_after=1):
                    pass
        return projections.tables(conn, model)[0] == suffix


@contextmanager
def _without_collections() -> Iterator[None]:
    # Documents and events hold no cycles, and looking for some among so many takes a third of a rebuild's time.
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _report(conn: psycopg.Connection[Any], name: str, first: int, began: float, progress: Progress) -> None:
    position, head = standing.position(conn, name), log.head(conn)
    rate = (position - first) / max(time.monotonic() - began, 1e-6)
    progress(position, head, rate, (head - position) / rate if rate > 0 else float("inf"))


def sweep(conn: psycopg.Connection[Any], model: ReadModel) -> None:
    """Drop a read model's tables that neither serve nor are being built; what is still read is left for next time."""
    try:
        with conn.transaction():
            conn.execute(f"SET LOCAL lock_timeout = {_SWITCH_WAIT}")
            for suffix in projections.suffixes(conn, model) - set(projections.tables(conn, model, lock=True)):
                projections.drop(conn, model, suffix)
    except psycopg.errors.LockNotAvailable:
        return


def _index(conn: psycopg.Connection[Any], model: ReadModel, suffix: str) -> None:
    with conn.transaction():
        conn.execute("SET LOCAL statement_timeout = 0")
        conn.execute("SET LOCAL maintenance_work_mem = '128MB'")
        projections.create_indexes(conn, model, suffix)
    # The planner knows nothing of tables that were filled a moment ago, and would meet its first readers unprepared.
    projections.analyze(conn, model, suffix)
