"""The one list of read models, and the making and switching of their tables; a switch is one transaction.

Queries read views, so they never see two versions at once. What is built beside the serving tables has a suffix of
its own, and the row of its follower (`<model>_<suffix>`) says how far it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

import psycopg
from psycopg import sql

from domain.recorded import Recorded
from projections import activities, deadlines, directory, history, periods
from projections.task import table as tasks


class Projection(Protocol):
    """Folds the log into one set of tables. `forget` whenever a batch does not follow the one before it."""

    def project(self, conn: psycopg.Connection[Any], batch: Sequence[Recorded]) -> None:
        """Fold a batch in the caller's transaction."""

    def forget(self) -> None:
        """Drop what is kept in memory."""


class ReadModel(Protocol):
    """A module of this package that answers one question.

    `TABLES` and `INDEXES` are statements with `{suffix}` in each name; `VIEWS` the stems of the tables' names; `EVENTS`
    the names of the events that it reads. One whose rows others mark has `MARKS`, the columns of the marks, and
    `CARRY`, which takes them from the tables `{old}` over to those of `{suffix}`. One that only passes events on has
    `AS_STORED`, and gets their data as JSON. One whose documents are made of an activity's and its tasks' events
    together has `BY_ACTIVITY`.
    """

    NAME: str
    VERSION: int
    TABLES: str
    INDEXES: str
    VIEWS: tuple[str, ...]
    EVENTS: frozenset[str]

    def projection(self, suffix: str, keep: int = ...) -> Projection:
        """Return what folds the log into the tables of a suffix, keeping up to `keep` documents in memory."""


READ_MODELS: tuple[ReadModel, ...] = (activities, tasks, history, directory, deadlines, periods)
BY_NAME: dict[str, ReadModel] = {model.NAME: model for model in READ_MODELS}

_SUFFIX = re.compile(r"v[0-9]+(r[0-9]+)?\Z")


def suffix(model: ReadModel) -> str:
    """Return the suffix that a version's first tables have."""
    return f"v{model.VERSION}"


def follower_name(model: ReadModel, of: str) -> str:
    """Return the name of the follower that fills the tables of a suffix."""
    return f"{model.NAME}_{of}"


def marks_of(model: ReadModel) -> tuple[str, ...]:
    """Return the columns that hold marks, which do not follow from the log."""
    marks: tuple[str, ...] = getattr(model, "MARKS", ())
    return marks


def create(conn: psycopg.Connection[Any], model: ReadModel, of: str) -> None:
    """Make the tables of a suffix, with their indexes."""
    _run(conn, model.TABLES, of)
    create_indexes(conn, model, of)


def create_indexes(conn: psycopg.Connection[Any], model: ReadModel, of: str) -> None:
    """Make the indexes that the tables of a suffix lack."""
    _run(conn, model.INDEXES, of)


def create_temporary(conn: psycopg.Connection[Any], model: ReadModel, of: str) -> None:
    """Make temporary tables of a suffix, which only this session sees, and which end with the caller's transaction."""
    conn.execute("SELECT set_config('search_path', 'pg_temp, ' || quote_ident(current_schema()), true)")
    _run(conn, model.TABLES, of)
    conn.execute("SELECT set_config('search_path', quote_ident((current_schemas(false))[2]), true)")


def analyze(conn: psycopg.Connection[Any], model: ReadModel, of: str) -> None:
    """Let the planner know of the rows of a suffix's tables."""
    for stem in model.VIEWS:
        conn.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(f"{stem}_{of}")))


def tables(conn: psycopg.Connection[Any], model: ReadModel, *, lock: bool = False) -> tuple[str, str | None]:
    """Return the suffixes that serve and that are being built; `lock` keeps both until the transaction ends."""
    statement = f"SELECT serving, building FROM read_models WHERE name = %s{' FOR UPDATE' if lock else ''}"  # noqa: S608
    row = conn.execute(statement.encode(), (model.NAME,)).fetchone()
    if row is None:
        raise LookupError(f"read model {model.NAME} has no tables: run `foldwork db upgrade`")
    return row[0], row[1]


def serve(conn: psycopg.Connection[Any], model: ReadModel, of: str) -> None:
    """Let the tables of a suffix answer from the end of the caller's transaction on."""
    row = conn.execute("SELECT serving FROM read_models WHERE name = %s", (model.NAME,)).fetchone()
    for stem in model.VIEWS:
        view, table = sql.Identifier(stem), sql.Identifier(f"{stem}_{of}")
        statement = sql.SQL("VIEW {} AS SELECT * FROM {}").format(view, table)
        try:
            with conn.transaction():
                conn.execute(sql.SQL("CREATE OR REPLACE ") + statement)
        except psycopg.errors.InvalidTableDefinition:
            # Another version may have other columns, which a replacement refuses.
            conn.execute(sql.SQL("DROP VIEW {}").format(view))
            conn.execute(sql.SQL("CREATE ") + statement)
    carry: str | None = getattr(model, "CARRY", None)
    if carry is not None and row is not None and row[0] != of and version_of(row[0]) == model.VERSION:
        # Once the views are replaced nobody can be changing the old rows any more.
        conn.execute(carry.replace("{old}", row[0]).replace("{suffix}", of).encode())
    conn.execute(
        "INSERT INTO read_models (name, serving) VALUES (%s, %s)"
        " ON CONFLICT (name) DO UPDATE SET serving = EXCLUDED.serving, building = NULL",
        (model.NAME, of),
    )
    _enlist(conn, model, of)


def begin_build(
    conn: psycopg.Connection[Any], model: ReadModel, of: str | None = None, *, announced: bool = True
) -> str:
    """Begin to build new tables beside the serving ones and return their suffix; a build that runs already goes on.

    The tables have no indexes but their key yet, since they fill faster without. `of` None means the code's version,
    made anew. A build of another version than the code's is given up. One that is not `announced` is the caller's own:
    nobody else fills the tables, or switches to them.
    """
    serving, building = tables(conn, model, lock=True)
    if building is not None:
        if version_of(building) == model.VERSION:
            return str(building)
        conn.execute("DELETE FROM followers WHERE name = %s", (follower_name(model, building),))
        drop(conn, model, building)
    new = of if of is not None else suffix(model)
    if of is None and version_of(serving) == model.VERSION:
        new = f"{suffix(model)}r{_turn(serving) + 1}"
    drop(conn, model, new)
    _run(conn, model.TABLES, new)
    if announced:
        announce(conn, model, new)
    conn.execute("DELETE FROM followers WHERE name = %s", (follower_name(model, new),))
    _enlist(conn, model, new)
    return new


def announce(conn: psycopg.Connection[Any], model: ReadModel, of: str | None) -> None:
    """Let whoever fills and switches tables know of a build, or that there is none."""
    conn.execute("UPDATE read_models SET building = %s WHERE name = %s", (of, model.NAME))


def begin_again(conn: psycopg.Connection[Any], model: ReadModel, of: str) -> None:
    """Empty the tables that are being built, and let them have their indexes while they are filled from the start."""
    name = follower_name(model, of)
    conn.execute("SELECT FROM followers WHERE name = %s FOR UPDATE", (name,))
    for stem in model.VIEWS:
        conn.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(f"{stem}_{of}")))
    create_indexes(conn, model, of)
    conn.execute("DELETE FROM held_entities WHERE follower = %s", (name,))
    conn.execute("UPDATE followers SET position = 0, held = held + 1 WHERE name = %s", (name,))


def needs_build(conn: psycopg.Connection[Any], model: ReadModel) -> bool:
    """Tell whether the serving tables are of another version than the code's, and nothing is being built for it."""
    row = conn.execute("SELECT serving, building FROM read_models WHERE name = %s", (model.NAME,)).fetchone()
    if row is None:
        return False
    return version_of(row[0]) != model.VERSION and (row[1] is None or version_of(row[1]) != model.VERSION)


def drop(conn: psycopg.Connection[Any], model: ReadModel, of: str) -> None:
    """Drop the tables of a suffix, if they are there; fails when a view still reads them."""
    for stem in model.VIEWS:
        conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(f"{stem}_{of}")))


def forsake(conn: psycopg.Connection[Any], model: ReadModel, of: str) -> None:
    """Drop the tables of a suffix with their follower."""
    conn.execute("DELETE FROM followers WHERE name = %s", (follower_name(model, of),))
    drop(conn, model, of)


def suffixes(conn: psycopg.Connection[Any], model: ReadModel) -> set[str]:
    """Return the suffixes that a read model has tables of."""
    names = [name for (name,) in conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")]
    rests = [name.removeprefix(f"{stem}_") for stem in model.VIEWS for name in names if name.startswith(f"{stem}_")]
    return {rest for rest in rests if _SUFFIX.match(rest)}


def version_of(of: str) -> int:
    """Return the version that a suffix belongs to."""
    return int(of[1:].partition("r")[0])


def _turn(of: str) -> int:
    return int(of.partition("r")[2] or 1)


def _enlist(conn: psycopg.Connection[Any], model: ReadModel, of: str) -> None:
    conn.execute("INSERT INTO followers (name) VALUES (%s) ON CONFLICT DO NOTHING", (follower_name(model, of),))


def _run(conn: psycopg.Connection[Any], statements: str, of: str) -> None:
    conn.execute(statements.replace("{suffix}", of).encode())
