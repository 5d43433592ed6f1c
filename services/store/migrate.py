"""Migrations of the database schema: numbered SQL files, applied by `foldwork db upgrade` only.

What SQL cannot do is done by a function before the statements of the file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import sql

import projections
from services.errors import OperatorError
from services.store import identity, operations, retired_policy
from services.store.connect import connect, demand_sessions
from services.store.operations import Operation

_LOCK = 4_012_001
_BEFORE: dict[str, Callable[[psycopg.Connection[Any]], None]] = {
    "0005_rollup_with_the_command": retired_policy.catch_up,
}


class SchemaMismatch(OperatorError):
    """The schema of the database does not match this version."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    number: int
    name: str
    statements: str


def migrations() -> list[Migration]:
    found = [entry for entry in files("services.store").joinpath("migrations").iterdir() if entry.name.endswith(".sql")]
    return [
        Migration(int(entry.name[:4]), entry.name.removesuffix(".sql"), entry.read_text("utf-8"))
        for entry in sorted(found, key=lambda entry: entry.name)
    ]


def upgrade(database_url: str, actor: str | None = None) -> list[str]:
    """Apply the missing migrations in one transaction and return their names; safe to run concurrently.

    What was applied is recorded as an act of the actor, if one is given.
    """
    demand_sessions(database_url)
    operation = None if actor is None else Operation(None, actor, "database.upgrade", "database/schema")
    # Without a statement time-out.
    with connect(database_url, "upgrade", 0.0) as conn, operations.acting(conn, operation) as act:
        done = _upgraded(conn)
        # Nothing is recorded in a copy that nobody has adopted.
        act.changed, act.details["applied"] = bool(done) and not identity.copied(conn), done
    return done


def _upgraded(conn: psycopg.Connection[Any]) -> list[str]:
    conn.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    conn.execute(
        "CREATE TABLE IF NOT EXISTS migrations ("
        "number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    applied = _applied(conn)
    done = []
    for migration in migrations():
        if migration.number not in applied:
            if migration.name in _BEFORE:
                _BEFORE[migration.name](conn)
            conn.execute(sql.SQL(migration.statements))
            conn.execute("INSERT INTO migrations (number, name) VALUES (%s, %s)", (migration.number, migration.name))
            done.append(migration.name)
    identity.settle(conn)
    for model in projections.READ_MODELS:
        if conn.execute("SELECT 1 FROM read_models WHERE name = %s", (model.NAME,)).fetchone() is None:
            projections.create(conn, model, projections.suffix(model))
            projections.serve(conn, model, projections.suffix(model))
            done.append(f"read model {model.NAME}")
        elif projections.needs_build(conn, model):
            building = projections.begin_build(conn, model)
            done.append(f"read model {model.NAME}, to be built as {building}")
    return done


@dataclass(frozen=True, slots=True)
class Standing:
    """The pending migrations of a database, and a line for each read model of another version."""

    pending: list[str]
    read_models: list[str]


def standing(database_url: str) -> Standing:
    with connect(database_url, "status") as conn:
        applied = _applied(conn) if _exists(conn) else set()
        pending = [migration.name for migration in migrations() if migration.number not in applied]
        return Standing(pending, outdated(conn))


def demand_current(conn: psycopg.Connection[Any]) -> None:
    """Raise `SchemaMismatch` as `demand_migrated` does, and `LogRestored`."""
    demand_migrated(conn)
    identity.demand_own(conn)


def demand_migrated(conn: psycopg.Connection[Any]) -> None:
    """Raise `SchemaMismatch` unless the database has exactly this version's migrations."""
    known = {migration.number for migration in migrations()}
    applied = _applied(conn) if _exists(conn) else set()
    if known - applied:
        raise SchemaMismatch(f"the database lacks {len(known - applied)} migrations: run `foldwork db upgrade`")
    if applied - known:
        raise SchemaMismatch("the database is newer than this version of Foldwork: upgrade Foldwork")


def outdated(conn: psycopg.Connection[Any]) -> list[str]:
    """Return a line for each read model without tables of the code's version, serving or being built."""
    if not _exists(conn, "read_models"):
        return []
    served = {name: rest for name, *rest in conn.execute("SELECT name, serving, building FROM read_models")}
    lines = []
    for model in projections.READ_MODELS:
        if model.NAME not in served:
            lines.append(f"{model.NAME} has no tables")
            continue
        serving, building = served[model.NAME]
        versions = {projections.version_of(suffix) for suffix in (serving, building) if suffix is not None}
        if model.VERSION not in versions:
            lines.append(f"{model.NAME} is of version {projections.version_of(serving)}, not {model.VERSION}")
    return lines


def _exists(conn: psycopg.Connection[Any], table: str = "migrations") -> bool:
    row = conn.execute("SELECT to_regclass(%s) IS NOT NULL", (table,)).fetchone()
    return row is not None and bool(row[0])


def _applied(conn: psycopg.Connection[Any]) -> set[int]:
    return {number for (number,) in conn.execute("SELECT number FROM migrations").fetchall()}
