"""The database's shape, as numbered SQL files; only `foldwork db upgrade` makes tables; roles refuse others."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

import psycopg
from psycopg import sql

import projections

_LOCK = 4_012_001


class SchemaMismatch(Exception):
    """The database is not of the shape that this version needs."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    number: int
    name: str
    statements: str


def migrations() -> list[Migration]:
    """Return the migrations in order."""
    found = [entry for entry in files("services.store").joinpath("migrations").iterdir() if entry.name.endswith(".sql")]
    return [
        Migration(int(entry.name[:4]), entry.name.removesuffix(".sql"), entry.read_text("utf-8"))
        for entry in sorted(found, key=lambda entry: entry.name)
    ]


def upgrade(database_url: str) -> list[str]:
    """Apply what is missing, in one transaction, and return the names; safe to run twice and at once."""
    with psycopg.connect(database_url) as conn:
        conn.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        conn.execute(
            "CREATE TABLE IF NOT EXISTS migrations ("
            "number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        applied = _applied(conn)
        done = []
        for migration in migrations():
            if migration.number not in applied:
                conn.execute(sql.SQL(migration.statements))
                conn.execute(
                    "INSERT INTO migrations (number, name) VALUES (%s, %s)", (migration.number, migration.name)
                )
                done.append(migration.name)
        for model in projections.READ_MODELS:
            if conn.execute("SELECT 1 FROM read_models WHERE name = %s", (model.NAME,)).fetchone() is None:
                projections.create(conn, model, projections.suffix(model))
                projections.serve(conn, model, projections.suffix(model))
                done.append(f"read model {model.NAME}")
            elif projections.needs_build(conn, model):
                building = projections.begin_build(conn, model)
                done.append(f"read model {model.NAME}, to be built as {building}")
        return done


def pending(database_url: str) -> list[str]:
    """Return the names of the migrations that the database lacks."""
    with psycopg.connect(database_url) as conn:
        applied = _applied(conn) if _exists(conn) else set()
    return [migration.name for migration in migrations() if migration.number not in applied]


def demand_current(conn: psycopg.Connection) -> None:
    """Raise `SchemaMismatch` unless the database has exactly this version's migrations."""
    known = {migration.number for migration in migrations()}
    applied = _applied(conn) if _exists(conn) else set()
    if known - applied:
        raise SchemaMismatch(f"the database lacks {len(known - applied)} migrations: run `foldwork db upgrade`")
    if applied - known:
        raise SchemaMismatch("the database is newer than this version of Foldwork: upgrade Foldwork")


def _exists(conn: psycopg.Connection) -> bool:
    row = conn.execute("SELECT to_regclass('migrations') IS NOT NULL").fetchone()
    return row is not None and bool(row[0])


def _applied(conn: psycopg.Connection) -> set[int]:
    return {number for (number,) in conn.execute("SELECT number FROM migrations").fetchall()}
