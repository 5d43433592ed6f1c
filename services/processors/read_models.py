"""Followers that maintain the serving tables of the read models, together in one group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

import projections
from projections import ReadModel, follower_name
from services.processors.projector import Projector
from services.processors.rebuild import BuildingFollower
from services.store.connect import connect
from services.store.follower import Follower
from services.store.follower_group import FollowerGroup
from services.store.held import Held
from services.store.log import BATCH_BYTES, LogRow
from services.store.reader import Reader, Step

# Documents cached for each read model: an activity's document has about 4 kB, and every role stays below 150 MB.
_CACHED = 2048
# The name of the group's thread and connection.
_GROUP = "read-models"


class ServingFollower(Follower):
    """Maintains the serving tables, and after a switch the new ones.

    Tables of another version than the code's are not touched, because their columns differ.
    """

    def __init__(self, model: ReadModel, *, batch: int = 500, batch_bytes: int = BATCH_BYTES) -> None:
        name = follower_name(model, projections.suffix(model))
        super().__init__(name, self._project, batch=batch, batch_bytes=batch_bytes)
        self._model = model
        self._projector: Projector | None = None

    def _project(self, conn: psycopg.Connection[Any], rows: Sequence[LogRow]) -> None:
        assert self._projector is not None  # noqa: S101
        self._projector(conn, rows)

    def forget(self) -> None:
        if self._projector is not None:
            self._projector.forget()

    @property
    def able(self) -> bool:
        """Whether the serving tables have the version of the code."""
        return self._projector is not None

    def enlist(self, conn: psycopg.Connection[Any]) -> None:
        """Find the serving tables. The follower's row is created and deleted with them, so none is inserted here."""
        self.take_over(projections.tables(conn, self._model)[0])

    def take_over(self, suffix: str) -> None:
        """Maintain the tables of this suffix from now on."""
        name = follower_name(self._model, suffix)
        if projections.version_of(suffix) != self._model.VERSION:
            self._projector = None
        elif self._projector is None or name != self.name:
            self.name = name
            self._projector = Projector(self._model, suffix, _CACHED)
            self.held = Held(name, self._projector.entity_of)

    def step(self, conn: psycopg.Connection[Any]) -> Step:
        """Handle the next batch; if the row is gone or locked, check for a switch to other tables."""
        step = super().step(conn) if self._projector is not None else Step.ELSEWHERE
        if step is not Step.ELSEWHERE:
            return step
        before = self._projector
        self.enlist(conn)
        return super().step(conn) if self._projector is not before and self._projector is not None else step


def followers(database_url: str, *, batch: int = 500, batch_bytes: int = BATCH_BYTES) -> list[Follower]:
    """Return a follower for each read model, and one for each that is being rebuilt."""
    found: list[Follower] = []
    with connect(database_url, "projections", autocommit=True) as conn:
        for model in projections.READ_MODELS:
            serving, building = projections.tables(conn, model)
            follower = ServingFollower(model, batch=batch, batch_bytes=batch_bytes)
            follower.take_over(serving)
            found.append(follower)
            if building is not None and projections.version_of(building) == model.VERSION:
                found.append(BuildingFollower(model, building, batch_bytes=batch_bytes))
    return found


def readers(database_url: str, *, batch: int = 500, batch_bytes: int = BATCH_BYTES) -> list[Reader]:
    """Return what runs in a thread each: the group of the serving tables, and the followers of rebuilds."""
    found = followers(database_url, batch=batch, batch_bytes=batch_bytes)
    serving = [each for each in found if isinstance(each, ServingFollower)]
    group = FollowerGroup(_GROUP, serving, batch=batch, batch_bytes=batch_bytes)
    return [group, *(each for each in found if each not in serving)]
