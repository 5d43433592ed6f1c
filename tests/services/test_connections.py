"""Connections to PostgreSQL: whatever the URL, the role and the database set, it works, or is refused in one line."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import httpx
import psycopg
import pytest
from psycopg import sql

from services import keys
from services.store import connect as connecting
from services.store import migrate
from services.store.connect import connect, connect_async, demand_sessions
from services.store.diagnosis import UnsuitableDatabase, explain
from services.store.event_store import EventStore
from services.store.pool import Pool
from tests.databases import Databases
from tests.eventually import PATIENCE, eventually
from tests.services.harness import TENANT, Client, rows
from tests.services.pooler import pooled
from tests.services.processes import free_port, nursery

ROOT = Path(__file__).parents[2]
# As a role or a database may have them.
ODD = {
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "extra_float_digits": "-5",
    "bytea_output": "escape",
    "standard_conforming_strings": "off",
    "array_nulls": "off",
    "default_transaction_isolation": "serializable",
    "client_encoding": "LATIN1",
}


def with_options(url: str, options: str) -> str:
    """Return a URL with libpq's `options`."""
    parts = urlsplit(url)
    added = f"options={quote(options, safe='')}"
    return urlunsplit(parts._replace(query=f"{parts.query}&{added}" if parts.query else added))


def shown(conn: psycopg.Connection, *names: str) -> list[str]:
    return [conn.execute(sql.SQL("SHOW {}").format(sql.Identifier(name))).fetchone()[0] for name in names]  # type: ignore[index]


@contextmanager
def oddly_set(url: str) -> Iterator[str]:
    name = urlsplit(url).path.removeprefix("/")
    with psycopg.connect(url, autocommit=True) as conn:
        for setting, value in ODD.items():
            statement = sql.SQL("ALTER DATABASE {} SET {} = {}")
            value_said = sql.SQL(value) if setting == "DateStyle" else sql.Literal(value)
            conn.execute(statement.format(sql.Identifier(name), sql.Identifier(setting), value_said))
    yield url


@contextmanager
def in_a_schema(url: str) -> Iterator[str]:
    with psycopg.connect(url) as conn:
        conn.execute('CREATE SCHEMA "Work Orders"')
        # Another application's table of the same name, in the schema that comes after.
        conn.execute("CREATE TABLE public.migrations (version text)")
    yield with_options(url, '-c search_path="Work\\ Orders",public -c work_mem=8MB')
    with psycopg.connect(url) as conn:
        found = conn.execute("SELECT DISTINCT schemaname FROM pg_tables WHERE tablename LIKE '%tasks%'").fetchall()
        assert found == [("Work Orders",)]


@contextmanager
def behind_a_pooler(url: str) -> Iterator[str]:
    with pooled(url) as through:
        yield through


@contextmanager
def in_latin1(url: str) -> Iterator[str]:
    parts = urlsplit(url)
    yield urlunsplit(parts._replace(query=f"{parts.query}&client_encoding=LATIN1".strip("&")))


@pytest.mark.parametrize("kind", [oddly_set, in_a_schema, behind_a_pooler, in_latin1])
async def test_all_roles_do_the_job(kind: Callable, fresh_database: Callable[[], str], amqp_url: str) -> None:
    with ExitStack() as stack:
        url = stack.enter_context(kind(fresh_database()))
        assert migrate.upgrade(url)
        assert migrate.standing(url) == migrate.Standing([], [])
        with connect(url, "test") as conn:
            _, token = keys.create(conn, TENANT)
        port = free_port()
        env = {"database_url": url, "amqp_url": amqp_url, "http_port": str(port)}
        process = stack.enter_context(nursery().start("all", env=env))
        eventually(lambda: process.said("consuming commands"))
        async with Client(amqp_url) as client:
            title = "Grüße, 世界 😀 \\ 'x'"
            reply = await client.ask("task.create", {"id": "a", "title": title, "end": "2031-02-03T04:05:06Z"})
        assert reply.accepted, reply
        http = stack.enter_context(
            httpx.Client(
                base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE
            )
        )
        answer = await asyncio.to_thread(http.get, "/v1/tasks/a", params={"min_position": reply.position})
        assert answer.status_code == 200, answer.text
        assert (answer.json()["title"], answer.json()["end"][:19]) == (title, "2031-02-03T04:05:06")
        assert "Traceback" not in process.output


@pytest.mark.parametrize("kind", [oddly_set, in_a_schema, behind_a_pooler, in_latin1])
async def test_every_session_is_the_same(kind: Callable, fresh_database: Callable[[], str]) -> None:
    names = [*connecting.SESSION, "client_encoding", "statement_timeout", "lock_timeout"]
    names.append("idle_in_transaction_session_timeout")
    wanted = [*connecting.SESSION.values(), "UTF8", "1500ms", "1350ms", "900ms"]
    with kind(fresh_database()) as url:
        migrate.upgrade(url)
        with connect(url, "test", 1.5) as conn:
            found = shown(conn, *names)
            assert found[0].startswith("ISO")
            assert found[1:] == wanted[1:]
        opened = await connect_async(url, "test", 1.5)
        assert [(await (await opened.execute(f"SHOW {name}")).fetchone())[0] for name in names] == found  # type: ignore[index]
        await opened.close()
        store = EventStore(url, statement_timeout=1.5)
        assert [store.fetch("SELECT current_setting(%s)", (name,))[0][0] for name in names] == found
        store.close()


def test_the_urls_own_options_stay(migrated_url: str) -> None:
    url = with_options(migrated_url, "-c work_mem=7MB --statement-timeout=1234 -clock_timeout=2345")
    parts = urlsplit(url)
    url = urlunsplit(parts._replace(query=f"{parts.query}&connect_timeout=17&application_name=mine"))
    with connect(url, "test", 30) as conn:
        found = shown(conn, "work_mem", "statement_timeout", "lock_timeout", "application_name")
        assert found == ["7MB", "1234ms", "2345ms", "mine"]
        assert conn.info.get_parameters()["connect_timeout"] == "17"
    with connect(migrated_url, "x" * 100, 0) as conn:
        found = shown(conn, "statement_timeout", "lock_timeout", "application_name")
        assert found == ["0", "0", f"foldwork-{'x' * 54}"]
        assert not conn.autocommit


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_only_utf8_will_do(databases: Databases, amqp_url: str, encoding: str) -> None:
    url = databases.create()
    name = urlsplit(url).path.removeprefix("/")
    databases.drop(url)
    with psycopg.connect(databases._server_url, autocommit=True) as server:
        server.execute(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE_PROVIDER libc LOCALE 'C'"
        )
    try:
        with pytest.raises(UnsuitableDatabase, match=f"{encoding}.*UTF8"):
            migrate.upgrade(url)
        assert rows(url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
        for arguments in (["db", "upgrade"], ["commands"], ["http"]):
            env = {"database_url": url, "amqp_url": amqp_url, "http_port": "0"}
            with nursery().start(*arguments, env=env) as process:
                assert process.wait(PATIENCE) == 1
            assert process.output.count("\n") == 1
            assert "UTF8" in process.output
    finally:
        databases.drop(url)


def test_a_pooler_of_transactions_is_refused(migrated_url: str, amqp_url: str) -> None:
    with pooled(migrated_url, transactions=True) as url:
        with pytest.raises(UnsuitableDatabase, match="pool_mode = session"):
            demand_sessions(url)
        with nursery().start("relay", env={"database_url": url, "amqp_url": amqp_url}) as process:
            assert process.wait(PATIENCE) == 1
        assert process.output.count("\n") == 1
        assert "pool_mode = session" in process.output
    with pooled(migrated_url) as url:
        demand_sessions(url)
        with pytest.raises(psycopg.OperationalError) as caught:
            connect(with_options(url, "-c work_mem=8MB"), "test")
        assert "ALTER ROLE" in explain(caught.value)


def test_a_search_path_without_a_schema_is_said(fresh_database: Callable[[], str]) -> None:
    with pytest.raises(psycopg.Error) as caught:
        migrate.upgrade(with_options(fresh_database(), "-c search_path=nowhere"))
    assert "search_path" in explain(caught.value)


async def test_the_http_process_connects_so_too(migrated_url: str) -> None:
    database = Pool(with_options(migrated_url, "-c DateStyle=SQL"), 5.0, size=1)
    database.start()
    try:
        assert (await database.fetch("SELECT current_setting('DateStyle')"))[0][0].startswith("ISO")
    finally:
        await database.close()


def test_a_pipeline_is_sent_whole(migrated_url: str) -> None:
    """The socket takes such a statement in parts, also when it is the last one."""
    with connect(migrated_url, "test", 10.0, autocommit=True) as conn:
        with conn.pipeline():
            conn.execute("SELECT 1")
            large = conn.execute("SELECT length(%s)", ("x" * (32 << 20),))
        assert large.fetchone() == (32 << 20,)


def test_connections_are_made_in_one_place() -> None:
    made = set()
    for path in [*(ROOT / "services").rglob("*.py"), *(ROOT / "projections").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "psycopg.connect",
                "psycopg.Connection.connect",
                "psycopg.AsyncConnection.connect",
                "Session.connect",
                "AsyncSession.connect",
            ):
                made.add(str(path.relative_to(ROOT)))
    # The embedded server makes its database before there is anything to be the same as.
    assert made == {"services/store/connect.py", "services/dev/postgres.py"}
