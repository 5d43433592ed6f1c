"""Databases for tests: each run makes its own, by names that nobody else uses, and drops only those."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Hashable
from graphlib import TopologicalSorter
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
        # The rows of the catalogs as they were when the shape of a database was compared last.
        self._catalogs: dict[str, tuple[Any, ...]] = {}
        self._scenes: dict[Hashable, dict[str, bytes]] = {}

    def create(self, template: str = "template0") -> str:
        """Make a database, empty unless a template is given, and return its URL."""
        name = f"{self._prefix}_{len(self._made)}"
        self._made.append(name)
        # Nobody may be connected to what is copied.
        for url in [url for url in _sessions if _name(url) == template]:
            _sessions.pop(url).close()
        self._execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}"), name, template)
        # No test takes the server's power away, and each commit would wait some milliseconds for its disk.
        self._execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off"), name)
        return urlunsplit(urlsplit(self._server_url)._replace(path=f"/{name}"))

    def create_migrated(self) -> str:
        """Make a database with all tables: a copy of one that was migrated once."""
        if self._migrated is None:
            # Imported here: the tests of the broker and of the domain do without the store.
            from services.store.migrate import upgrade

            url = self.create()
            upgrade(url)
            with psycopg.connect(url) as session:
                # Otherwise a copy would be taken for a store that was restored from a backup.
                session.execute("UPDATE log_identity SET place = NULL")
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

    def furnish(self, url: str, scene: Hashable, play: Callable[[], None]) -> bool:
        """Fill a database that was lent: `play` does it the first time, and its rows are copied from then on.

        Returns whether `play` was called.
        """
        first = scene not in self._scenes
        if first:
            play()
        session = shared_session(url)
        with session.transaction(), session.cursor() as cursor:
            if first:
                self._scenes[scene] = {table: rows for table in self._fresh if (rows := _copied(cursor, table))}
                return True
            cursor.execute(sql.SQL("; ").join(map(_emptying, self._fresh)))
            found = self._scenes[scene]
            for table in referred_first(cursor, found):
                with cursor.copy(sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(sql.Identifier(table))) as copy:
                    copy.write(found[table])
        return False

    def take_back(self, url: str) -> None:
        """Empty a database that was lent; one whose schema or settings are not what they were is dropped."""
        try:
            # A test may have ended every session of its database.
            reusable = self._emptied(url, shared_session(url))
        except psycopg.Error:
            reusable = False
        if reusable:
            self._idle.append(url)
        else:
            self.drop(url)

    def _emptied(self, url: str, session: psycopg.Connection[Any]) -> bool:
        with session.transaction():
            session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            if session.execute(_CATALOGS).fetchone() != self._catalogs.get(url):
                for (added,) in session.execute(
                    "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> ALL(%s)",
                    (list(self._fresh),),
                ).fetchall():
                    session.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(added)))
                if _shape(session) != self._shape:
                    return False
            session.execute(self._filling(), prepare=False)
        self._catalogs[url] = session.execute(_CATALOGS).fetchone() or ()
        return True

    def _filling(self) -> sql.Composed:
        """Return the statements that leave a database the rows that it had when it was new."""
        statements = list(map(_emptying, self._fresh))
        for table, rows in self._fresh.items():
            for row in rows:
                values = sql.SQL(", ").join(map(sql.Literal, row))
                statements.append(sql.SQL("INSERT INTO {} VALUES ({})").format(sql.Identifier(table), values))
        return sql.SQL("; ").join(statements)

    def drop(self, url: str) -> None:
        """Drop a database that was made here, even if somebody is still connected to it."""
        name = _name(url)
        if not name.startswith(self._prefix):
            raise ValueError(f"{name} was not made by this run")
        if (session := _sessions.pop(url, None)) is not None:
            session.close()
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)"), name)

    def close(self) -> None:
        """Drop whatever is left."""
        for url in list(_sessions):
            _sessions.pop(url).close()
        for name in reversed(self._made):
            self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)"), name)

    def _execute(self, statement: sql.SQL, *names: str) -> None:
        with psycopg.connect(self._server_url, autocommit=True) as session:
            session.execute(statement.format(*(sql.Identifier(name) for name in names)))


# By database. One that was lent before has its plans and catalogs in memory from the second time on.
_sessions: dict[str, psycopg.Connection[Any]] = {}


def shared_session(url: str) -> psycopg.Connection[Any]:
    """Return the session on a database for all that is done in it beside the service, such as emptying it.

    A new one loads the catalogs of hundreds of indexes first, which costs the server more than what it is for.
    """
    session = _sessions.get(url)
    if session is not None:
        try:
            session.execute("SELECT")
        except psycopg.Error:
            # A test has ended it.
            session.close()
            session = None
    if session is None:
        options = "-c lock_timeout=5s -c synchronous_commit=off -c default_transaction_read_only=off"
        session = _sessions[url] = psycopg.connect(url, options=options, autocommit=True)
    return session


_SHAPE = r"""
SELECT 'relation', relname::text, relkind::text || pg_get_userbyid(relowner) || coalesce(relacl::text, '')
    || coalesce(reloptions::text, '')
FROM pg_class WHERE relnamespace = 'public'::regnamespace
UNION ALL SELECT 'column', attrelid::regclass::text || '.' || attname, format_type(atttypid, atttypmod) || attnotnull
FROM pg_attribute WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
UNION ALL SELECT 'view', viewname::text, definition FROM pg_views WHERE schemaname = 'public'
UNION ALL SELECT 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid) || indisvalid FROM pg_index
WHERE indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
UNION ALL SELECT 'constraint', conname::text, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'trigger', tgname::text, pg_get_triggerdef(oid) || tgenabled::text
FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'function', oid::regprocedure::text, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT 'sequence', sequencename::text, coalesce(last_value::text, '') FROM pg_sequences
UNION ALL SELECT 'schema', nspname::text, coalesce(nspacl::text, '') FROM pg_namespace
WHERE nspname NOT LIKE 'pg\_temp%' AND nspname NOT LIKE 'pg\_toast\_temp%'
UNION ALL SELECT 'database', '', coalesce(datacl::text, '') || datconnlimit || datallowconn
FROM pg_database WHERE datname = current_database()
UNION ALL SELECT 'setting', setrole::text, setconfig::text FROM pg_db_role_setting
WHERE setdatabase IN (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY 1, 2, 3
"""


# What changes with every change of a schema, or of a setting; the rows' versions, and no work for each object.
_CATALOGS = r"""
SELECT
    (SELECT sum(hashtext(xmin::text || oid)) FROM pg_class WHERE relnamespace = 'public'::regnamespace),
    (SELECT sum(hashtext(a.xmin::text || attnum)) FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = attrelid
     WHERE relnamespace = 'public'::regnamespace),
    (SELECT sum(hashtext(i.xmin::text || indexrelid)) FROM pg_index AS i JOIN pg_class AS c ON c.oid = indexrelid
     WHERE relnamespace = 'public'::regnamespace),
    (SELECT sum(hashtext(xmin::text || oid)) FROM pg_rewrite),
    (SELECT sum(hashtext(xmin::text || oid)) FROM pg_constraint),
    (SELECT sum(hashtext(xmin::text || oid)) FROM pg_trigger),
    (SELECT sum(hashtext(xmin::text || oid)) FROM pg_proc WHERE pronamespace = 'public'::regnamespace),
    (SELECT string_agg(sequencename || coalesce(last_value, -1), ' ') FROM pg_sequences),
    (SELECT sum(hashtext(xmin::text || oid)) FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'),
    (SELECT xmin::text FROM pg_database WHERE datname = current_database()),
    (SELECT sum(hashtext(xmin::text || setrole)) FROM pg_db_role_setting
     WHERE setdatabase IN (SELECT oid FROM pg_database WHERE datname = current_database()))
"""


def _shape(session: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    """Return all that a test can change in a database beside rows: a change of any of it is not taken back."""
    return session.execute(_SHAPE).fetchall()


def _rows(session: psycopg.Connection[Any]) -> dict[str, list[tuple[Any, ...]]]:
    """Return what stands in each table of a database."""
    names = session.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return {
        table: session.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))).fetchall()
        for (table,) in names
    }


def with_setting(url: str, name: str, value: str) -> str:
    """Return the URL for sessions with another value of a setting."""
    return f"{url}{'&' if urlsplit(url).query else '?'}options=-c{name}%3D{value}"


def _emptying(table: str) -> sql.Composed:
    return sql.SQL("DELETE FROM {}").format(sql.Identifier(table))


def _copied(cursor: psycopg.Cursor[Any], table: str) -> bytes:
    """Return the rows of a table in the binary format of COPY, or nothing when there are none."""
    with cursor.copy(sql.SQL("COPY {} TO STDOUT (FORMAT binary)").format(sql.Identifier(table))) as copy:
        rows = b"".join(map(bytes, copy))
    return rows if cursor.rowcount else b""


def _name(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


def referred_first(cursor: psycopg.Cursor[Any], tables: Collection[str]) -> list[str]:
    """Return tables in an order in which each comes after those that its foreign keys refer to."""
    order: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(sorted(tables), ()))
    found = cursor.execute(
        "SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint WHERE contype = 'f'"
    )
    for table, referred in found.fetchall():
        if table in tables:
            order.add(table, referred)
    return [table for table in order.static_order() if table in tables]
