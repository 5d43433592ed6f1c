"""The queries and views of the followers of the log, and of the rebuilds of read models."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from projections import BY_NAME
from services.http.core.models import From, Json, View
from services.http.core.parameters import Query
from services.http.native.models import Count


class HowToRebuild(Query):
    """How a read model is rebuilt."""

    diff: bool = Field(False, description="Compare the new tables with the serving ones, and switch if no row differs")


class HeldBack(View):
    """An entity that is held back: an event of it could not be handled, and later ones wait behind that."""

    entity: str = Field(examples=["task-t1"], description="its stream; `*` is everything of the tenant")
    position: Count = Field(description="of the event that could not be handled")
    error: str
    since: datetime
    attempts: Count
    retry_at: datetime
    waiting: Count = Field(description="events that wait, counted up to 1000")


class Build(View):
    """New tables that are filled beside those that serve."""

    position: Count
    lag: Count = Field(description="events")


class Progress(View):
    """How far a rebuild is."""

    phase: Literal["filling", "comparing"]
    what: str = Field(examples=["tasks"], description="the read model, or its table")
    done: Count = Field(description="events, or rows of the table")
    total: Count


class TableDifferences(View):
    """Rows of a table, of all tenants, by whether the new table has them alike."""

    same: Count
    missing: Count
    extra: Count
    different: Count
    columns: dict[str, Count] = Field(description="rows in which a column differs")


class Difference(View):
    """A row that is missing in the new table, extra there, or different."""

    table: str
    key: dict[str, Any]
    kind: Literal["missing", "extra", "different"]
    columns: dict[str, Any] = Field(
        description="of each column that differs the value that serves, and the new one; long ones are cut"
    )


class RebuildResult(View):
    """What a rebuild came to."""

    switched: bool = Field(description="whether the new tables serve")
    held_back: Count = Field(description="entities of all tenants that the tables which serve hold back")
    position: int | None = Field(description="where both were when they were compared")
    tables: Annotated[dict[str, TableDifferences], From("tables", lambda tables, _: tables)] = Field(
        description="what the comparison counted"
    )
    examples: list[Difference] = Field(max_length=20, description="rows of the tenant that asked, for it alone")


class Rebuild(View):
    """The last rebuild that was asked for over HTTP."""

    state: Literal["waiting", "running", "done", "failed"]
    diff: bool
    asked_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    actor: str
    progress: Progress | None
    error: str | None = Field(description="why it failed")
    result: RebuildResult | None


class Projection(View):
    """A follower of the log, such as a read model"""

    name: str = Field(examples=["tasks"])
    kind: Literal["read-model", "follower"]
    position: Count
    head: Count = Field(description="the last position of the log")
    lag: Count = Field(description="events")
    lag_seconds: float = Field(ge=0, description="the age of the next event; 0 without one")
    halted_at: int | None = Field(description="the position at which it halted")
    error: str | None = Field(description="the kind of the error that it halted with")
    held_back: list[HeldBack] = Field(description="entities of the tenant")
    build: Build | None
    rebuild: Rebuild | None

    example: ClassVar[Json] = {
        "name": "tasks", "kind": "read-model", "position": 42, "head": 42, "lag": 0, "lag_seconds": 0.0,
        "halted_at": None, "error": None, "held_back": [], "build": None, "rebuild": None,
    }  # fmt: skip


class Projections(View):
    """Read models first"""

    data: list[Projection]


class Retried(View):
    """What is tried again"""

    name: str = Field(examples=[next(iter(BY_NAME))])
    entities: Count = Field(description="held-back entities of the tenant")
