"""The rebuild of a read model: new tables are filled beside the serving ones and replace them without losing an event.

The new tables have a suffix and a follower of their own, so a rebuild that was killed continues where it stopped. They
start to serve in one transaction, once they have caught up with the old tables, which are dropped afterwards.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

import projections
from projections import ReadModel, follower_name
from services.errors import OperatorError
from services.processors.projector import Projector
from services.store import held, log, standing
from services.store.connect import Session, connect, without_time_limit
from services.store.failures import passes, systemic, timed_out, told
from services.store.follower import Follower
from services.store.held import HeldEntity
from services.store.reader import Step

BUILD_BATCH = 5000
# Documents cached during a rebuild.
_CACHED = 12_000
# How long a switch waits for readers of the old tables, in milliseconds, before it is retried.
SWITCH_TIMEOUT_MS = 2000

Progress = Callable[[int, int, float, float], None]


class RebuildHalted(OperatorError):
    """The new tables cannot be filled, or would hold back entities that the old ones serve; the old ones stay."""

    def __init__(self, name: str, position: int | None, error: str | None) -> None:
        super().__init__(f"{name} halted at position {position}: {error}")
        self.position = position


class RebuildRunning(OperatorError):
    """Another process rebuilds the read model."""


class UnknownReadModel(OperatorError):
    """There is no read model of this name."""


class BuildingFollower(Follower):
    """Fills new tables, switches to them when they have caught up, and ends.

    `refused` is an entity that the new tables hold back and the serving ones do not; it prevents the switch. Tables
    whose build is not `announced` are filled, and not switched to. Once they have caught up, they are `indexed`.
    """

    def __init__(
        self, model: ReadModel, suffix: str, *, batch: int = BUILD_BATCH, batch_bytes: int = log.BATCH_BYTES
    ) -> None:
        self._projector = Projector(model, suffix, _CACHED)
        super().__init__(
            follower_name(model, suffix),
            self._projector,
            batch=batch,
            batch_bytes=batch_bytes,
            entity_of=self._projector.entity_of,
        )
        self._model = model
        self._suffix = suffix
        self.indexed = False
        self.announced = True
        self.refused: HeldEntity | None = None

    def enlist(self, conn: psycopg.Connection[Any]) -> None:
        """End if the tables are no longer being built."""
        if self.announced and projections.tables(conn, self._model)[1] != self._suffix:
            self.stop()

    def forget(self) -> None:
        self._projector.forget()

    def step(self, conn: psycopg.Connection[Any]) -> Step:
        """Handle the next batch; when there is none, create the indexes and then switch."""
        step = super().step(conn)
        # Do not wait after a short batch: the indexes and the switch come next.
        self._more = self.refused is None
        if step is Step.ELSEWHERE:
            self.enlist(conn)
        if step is not Step.IDLE:
            return step
        if not self.indexed:
            self._index(conn)
            return Step.WORKED
        if not self.announced:
            return step
        if self.refused is not None and self._loses(conn, projections.tables(conn, self._model)[0]):
            return step
        if self.switch(conn):
            self.stop()
            sweep(conn, self._model)
        return step

    def _index(self, conn: psycopg.Connection[Any]) -> None:
        try:
            _index(conn, self._model, self._suffix)
        except Exception as error:
            if passes(error) or systemic(error) or timed_out(error):
                raise
            # With the indexes in place, the table refuses the rows that violate them, and only those are held back.
            self._log.warning("cannot create indexes, filling indexed tables instead", error=told(error))
            with conn.transaction():
                projections.begin_again(conn, self._model, self._suffix)
            self.forget()
        self.indexed = True

    def switch(self, conn: psycopg.Connection[Any]) -> bool:
        """Switch to the new tables once they are at the position of the old ones; False if it must be retried."""
        try:
            with conn.transaction():
                conn.execute(f"SET LOCAL lock_timeout = {SWITCH_TIMEOUT_MS}")
                serving, building = projections.tables(conn, self._model, lock=True)
                if building != self._suffix:
                    # Another process has switched to them, or given them up.
                    self.stop()
                    return False
                old = follower_name(self._model, serving)
                # Both rows are locked, so neither position changes while the new tables handle the last events.
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

    def follow_to(self, conn: psycopg.Connection[Any], last: int) -> int:
        """Handle the events up to a position in one transaction, if it is not there yet; return the position."""
        try:
            with conn.transaction():
                position, generation = standing.locked(conn, [self.name])[self.name]
                self.held.refresh(conn, generation)
                self._follow_to(conn, position, last)
        except _NotTaken:
            pass
        return standing.position(conn, self.name)

    def _follow_to(self, conn: psycopg.Connection[Any], position: int, last: int) -> None:
        while position < last:
            rows = log.read(conn, position, min(BUILD_BATCH, last - position))
            if not rows:
                # The log was restored from a backup, and the old tables have events that it lacks.
                return
            try:
                self.take(conn, rows)
            except Exception as error:
                self.forget()
                if passes(error):
                    raise
                # The next step fails at the same event, and holds back its entity.
                raise _NotTaken from error
            position = rows[-1].position
            self.save(conn, position)

    def _loses(self, conn: psycopg.Connection[Any], serving: str) -> bool:
        """Whether the new tables hold back an entity that the serving ones do not."""
        # Nothing fills tables of another version any more, so any replacement is better.
        if projections.version_of(serving) != self._model.VERSION:
            return False
        status = held.status(conn)
        kept = {each.entity for each in status.get(follower_name(self._model, serving), ())}
        refused = next((each for each in status.get(self.name, ()) if each.entity not in kept), None)
        if refused is not None and self.refused is None:
            self._log.error(
                "new tables hold back an entity",
                entity=refused.entity,
                position=refused.position,
            )
        self.refused = refused
        return refused is not None


class _NotTaken(Exception):
    """An event right before the switch could not be handled."""


def rebuild(
    database_url: str, name: str, progress: Progress | None = None, *, stopped: Callable[[], bool] = lambda: False
) -> bool:
    """Rebuild a read model and switch to the new tables; a rebuild that was killed is continued.

    `progress(position, head, events per second, seconds left)` is called after each batch. Returns False when `stopped`
    ended it before the switch; raises `RebuildHalted` when an event cannot be applied, and `RebuildRunning`.
    """
    model = model_of(name)
    with session(database_url, name) as conn:
        with conn.transaction():
            suffix = projections.begin_build(conn, model)
        follower = BuildingFollower(model, suffix)
        for _ in steps(conn, follower, progress, stopped):
            pause(conn)
        sweep(conn, model)
        return projections.tables(conn, model)[0] == suffix


def model_of(name: str) -> ReadModel:
    """Return the read model of a name; raises `UnknownReadModel`."""
    model = projections.BY_NAME.get(name)
    if model is None:
        raise UnknownReadModel(f"unknown read model {name}; the read models are {', '.join(projections.BY_NAME)}")
    return model


@contextmanager
def session(database_url: str, name: str) -> Iterator[Session]:
    """Open the connection of a rebuild, which others of the read model exclude; raises `RebuildRunning`."""
    with connect(database_url, f"rebuild-{name}", 300.0, autocommit=True) as conn:
        if not standing.begin_rebuild(conn, name):
            raise RebuildRunning(f"another process rebuilds {name}; this one changes nothing")
        conn.execute("SET synchronous_commit = off")  # a batch lost in a crash is applied again
        conn.execute(f"LISTEN {log.CHANNEL}")
        # Documents and events contain no reference cycles; searching for some takes a third of the time of a rebuild.
        was = gc.isenabled()
        gc.disable()
        try:
            yield conn
        finally:
            if was:
                gc.enable()


def steps(
    conn: psycopg.Connection[Any], follower: BuildingFollower, progress: Progress | None, stopped: Callable[[], bool]
) -> Iterator[None]:
    """Let the follower fill its tables until it, or the caller, is stopped; gives whenever it has nothing to do.

    Raises `RebuildHalted`.
    """
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
            return
        if progress is not None:
            _report(conn, follower.name, first, began, progress)
        if step is not Step.WORKED:
            # It is done, or another process fills the same tables, or readers of the old ones delay the switch.
            yield


def pause(conn: psycopg.Connection[Any]) -> None:
    """Wait for the next event, for a moment at most."""
    for _ in conn.notifies(timeout=0.2, stop_after=1):
        pass


def _report(conn: psycopg.Connection[Any], name: str, first: int, began: float, progress: Progress) -> None:
    position, head = standing.position(conn, name), log.head(conn)
    rate = (position - first) / max(time.monotonic() - began, 1e-6)
    progress(position, head, rate, (head - position) / rate if rate > 0 else float("inf"))


def sweep(conn: psycopg.Connection[Any], model: ReadModel) -> None:
    """Drop the tables that neither serve nor are being built; tables that are still being read are left for later."""
    try:
        with conn.transaction():
            conn.execute(f"SET LOCAL lock_timeout = {SWITCH_TIMEOUT_MS}")
            # One that is not announced belongs to the rebuild that is under way.
            if standing.nobody_rebuilds(conn, model.NAME):
                for suffix in projections.suffixes(conn, model) - set(projections.tables(conn, model, lock=True)):
                    projections.forsake(conn, model, suffix)
    except psycopg.errors.LockNotAvailable:
        return


def _index(conn: psycopg.Connection[Any], model: ReadModel, suffix: str) -> None:
    with conn.transaction(), without_time_limit(conn):
        conn.execute("SET LOCAL maintenance_work_mem = '128MB'")
        projections.create_indexes(conn, model, suffix)
    # The planner has no statistics of tables that were just filled.
    projections.analyze(conn, model, suffix)
