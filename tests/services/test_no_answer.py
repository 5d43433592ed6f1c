"""A database that keeps its connections and answers nothing, as a frozen server does: nobody waits for it for ever."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from services.dev.postgres import EmbeddedPostgres
from services.store import migrate
from services.store.append import Append
from services.store.connect import NoAnswer, connect, connect_async, without_time_limit
from services.store.diagnosis import explain
from services.store.event_store import EventStore
from services.store.follower import Follower
from services.store.follower_group import FollowerGroup
from services.store.pool import Pool
from services.store.unavailable import SessionLost, StoreUnavailable
from tests.databases import with_setting
from tests.eventually import eventually, eventually_async
from tests.services.following import NAME, SEEN, add, connections, following, noting, seen
from tests.services.proxy import Proxy, database_proxy
from tests.services.test_event_store import event

# The client waits a quarter longer than this.
TIMEOUT = 0.4


@pytest.fixture
def proxy(migrated_url: str) -> Iterator[tuple[Proxy, str]]:
    with database_proxy(migrated_url) as opened:
        yield opened


def test_a_statement_is_not_waited_for_much_longer_than_the_server_may_take(migrated_url: str) -> None:
    with connect(migrated_url, "test", TIMEOUT, autocommit=True) as conn:
        # The server ends a slow statement itself, and the session stays.
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute("SELECT pg_sleep(5)")
        with conn.transaction(), without_time_limit(conn):
            conn.execute("SELECT pg_sleep(1)")
        assert conn.answer_within == pytest.approx(0.5)
        assert conn.execute("SHOW statement_timeout").fetchone() == ("400ms",)
    with connect(with_setting(migrated_url, "statement_timeout", "2min"), "test", TIMEOUT) as conn:
        assert conn.answer_within == pytest.approx(150)
    with connect(migrated_url, "test", 0) as conn:
        assert conn.answer_within is None


def plainly(conn: psycopg.Connection[Any]) -> None:
    conn.execute("SELECT 1")


def in_a_transaction(conn: psycopg.Connection[Any]) -> None:
    with conn.transaction(), conn.transaction():
        conn.execute("SELECT 1")


def in_a_pipeline(conn: psycopg.Connection[Any]) -> None:
    with conn.pipeline():
        conn.execute("SELECT 1")
        conn.execute("SELECT 2").fetchall()


@pytest.mark.parametrize("how", [plainly, in_a_transaction, in_a_pipeline])
def test_a_connection_without_an_answer_is_closed(proxy: tuple[Proxy, str], how: Callable) -> None:
    conn = connect(proxy[1], "test", TIMEOUT, autocommit=True)
    how(conn)
    proxy[0].silence()
    began = time.monotonic()
    with pytest.raises(NoAnswer) as raised, conn:
        how(conn)
    assert time.monotonic() - began < 3 * TIMEOUT
    assert conn.closed
    assert explain(raised.value) == "the database did not answer within 0.5 s, the connection was closed"


async def test_so_is_one_of_asyncio(proxy: tuple[Proxy, str]) -> None:
    conn = await connect_async(proxy[1], "test", TIMEOUT)
    proxy[0].silence()
    with pytest.raises(NoAnswer):
        await conn.execute("SELECT 1")
    assert conn.closed


def test_the_store_of_a_worker_connects_again(proxy: tuple[Proxy, str]) -> None:
    with closing(EventStore(proxy[1], statement_timeout=TIMEOUT)) as store:
        proxy[0].silence()
        for attempt in (store.head, lambda: store.append(Append(events=[event("a")]))):
            with pytest.raises(SessionLost):
                attempt()
            assert eventually(lambda: recorded(store))
            proxy[0].silence()


def recorded(store: EventStore) -> bool:
    try:
        return store.append(Append(events=[event(f"b{time.monotonic_ns()}")]))[0] > 0
    except StoreUnavailable:
        return False


async def test_the_pool_of_the_http_process_connects_again(proxy: tuple[Proxy, str]) -> None:
    pool = Pool(proxy[1], TIMEOUT, size=1)
    pool.start()
    try:
        assert await pool.fetch("SELECT 1") == [(1,)]
        proxy[0].silence()
        lost = await asyncio.gather(*(pool.fetch("SELECT 2") for _ in range(4)), return_exceptions=True)
        assert all(isinstance(each, StoreUnavailable) for each in lost)

        async def answers() -> bool:
            try:
                return await pool.fetch("SELECT 3") == [(3,)]
            except StoreUnavailable:
                return False

        await eventually_async(answers)
    finally:
        await pool.close()


@pytest.mark.usefixtures("seen_table")
@pytest.mark.parametrize("kind", ["alone", "group"])
def test_a_follower_connects_again(proxy: tuple[Proxy, str], migrated_url: str, kind: str) -> None:
    follower = Follower(NAME, noting(), poll=0.1)
    reader = follower if kind == "alone" else FollowerGroup(NAME, [follower], poll=0.1)
    if kind == "group":
        with connect(migrated_url, "test") as conn:
            follower.enlist(conn)
    with following(proxy[1], reader, statement_timeout=TIMEOUT):
        add(migrated_url, 3)
        eventually(lambda: seen(migrated_url) == [1, 2, 3])
        proxy[0].silence()
        add(migrated_url, 2)
        eventually(lambda: seen(migrated_url) == [1, 2, 3, 4, 5])


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    def send(number: int) -> None:
        for pid in pids:
            # A worker of the server may just have ended.
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    send(signal.SIGSTOP)
    try:
        yield
    finally:
        send(signal.SIGCONT)


def test_a_frozen_backend_or_server_is_left_and_found_again(tmp_path: Path) -> None:
    """A backend that wakes up late finds its client gone, and what it had not committed is not there."""
    server = EmbeddedPostgres(tmp_path, fast=True)
    try:
        url = server.start()
        migrate.upgrade(url)
        with connect(url, "test") as conn:
            conn.execute(SEEN)
        reader = Follower(NAME, noting(), poll=0.1)
        with following(url, reader, statement_timeout=TIMEOUT):
            add(url, 1)
            eventually(lambda: seen(url) == [1])
            with frozen([pid for (pid,) in connections(url)]):
                add(url, 1)
                eventually(lambda: seen(url) == [1, 2])
            (backend,) = eventually(lambda: len(found := connections(url)) == 1 and found)
            postmaster = psutil.Process(backend[0]).parent()
            assert postmaster is not None
            everyone = [postmaster.pid, *(child.pid for child in postmaster.children())]
            with frozen(everyone):
                eventually(lambda: reader.unready == [NAME])
            eventually(lambda: not reader.unready)
            add(url, 1)
            eventually(lambda: seen(url) == [1, 2, 3])
    finally:
        server.remove()
