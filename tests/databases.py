"""Databases for tests: each run makes its own, by names that nobody else uses, and drops only those."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql


class Databases:
    """The databases that one test process makes on a server, all of which `close` drops."""

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._prefix = f"foldwork_test_{uuid.uuid4().hex[:12]}"
        self._made: list[str] = []
        self._migrated: str | None = None
        self._idle: list[str] = []
        self._fresh: dict[str, list[tuple[Any, ...]]] = {}
        self._shape: list[tuple[Any, ...]] = []

    def create(self, template: str = "template0") -> str:
        """Make a database, empty unless a template is given, and return its URL."""
        name = f"{self._prefix}_{len(self._made)}"
        self._made.append(name)
        self._execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}"), name, template)
        return urlunsplit(urlsplit(self._server_url)._replace(path=f"/{name}"))

    def create_migrated(self) -> str:
        """Make a database with all tables: a copy of one that was migrated once."""
        if self._migrated is None:
            # Imported here: the tests of the broker and of the domain do without the store.
            from services.store.migrate import upgrade

            url = self.create()
            upgrade(url)
            self._migrated = _name(url)
        return self.create(self._migrated)

    def lend(self) -> str:
        """Give a database with all tables and no rows, which `take_back` makes empty for the next who asks.

        That takes milliseconds where making a database and dropping it costs a second of a disk.
        """
        if self._idle:
            return self._idle.pop()
        url = self.create_migrated()
        if not self._fresh:
            with psycopg.connect(url) as session:
                self._fresh, self._shape = _rows(session), _shape(session)
        return url

    def take_back(self, url: str) -> None:
        """Empty a database that was lent; one whose tables are not what they were is dropped."""
        with psycopg.connect(url) as session:
            reusable = _shape(session) == self._shape
            if reusable:
                session.execute("SET LOCAL synchronous_commit = off")
                for table in self._fresh:
                    name = sql.Identifier(table)
                    session.execute(sql.SQL("DELETE FROM {}").format(name))
                    for row in self._fresh[table]:
                        values = sql.SQL(", ").join(map(sql.Literal, row))
                        session.execute(sql.SQL("INSERT INTO {} VALUES ({})").format(name, values))
        if reusable:
            self._idle.append(url)
        else:
            self.drop(url)

    def drop(self, url: str) -> None:
        """Drop a database that was made here, even if somebody is still connected to it."""
        name = _name(url)
        if not name.startswith(self._prefix):
            raise ValueError(f"{name} was not made by this run")
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)"), name)

    def close(self) -> None:
        """Drop whatever is left."""
        for name in reversed(self._made):
            self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)"), name)

    def _execute(self, statement: sql.SQL, *names: str) -> None:
        with psycopg.connect(self._server_url, autocommit=True) as session:
            session.execute(statement.format(*(sql.Identifier(name) for name in names)))


def _shape(session: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """Return the tables, views and indexes of a database."""
    return session.execute(
        "SELECT relkind, relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1, 2"
    ).fetchall()


def _rows(session: psycopg.Connection[Any]) -> dict[str, list[tuple[Any, ...]]]:
    """Return what stands in each table of a database."""
    names = session.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return {
        table: session.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))).fetchall()
        for (table,) in names
    }


def _name(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")
