"""A server that is there and cannot work for now: one log line when it begins and one when it ends, and no halt."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql
from structlog.testing import capture_logs

import projections
from services.processors import read_models
from services.store.follower import Follower
from services.store.reader import Reader
from tests.databases import with_setting
from tests.eventually import eventually
from tests.services.following import NAME, add, following, noting, seen
from tests.services.harness import rows


def of_others(conn: psycopg.Connection[Any]) -> None:
    conn.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE 'foldwork-follower-%'"
    )


@contextmanager
def altered(url: str, change: str, back: str) -> Iterator[None]:
    """Change the database, and let everybody connect again; the one who changes it back is connected already."""
    name = sql.Identifier(urlsplit(url).path.removeprefix("/"))
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(sql.SQL("ALTER DATABASE {} {}").format(name, sql.SQL(change)))
        of_others(conn)
        yield
        conn.execute("SET default_transaction_read_only = off")
        conn.execute(sql.SQL("ALTER DATABASE {} {}").format(name, sql.SQL(back)))
        of_others(conn)


@contextmanager
def refusing_writes(url: str, state: str) -> Iterator[None]:
    """Fail every write to the positions as the server does that has no room, or no memory."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(
            "CREATE FUNCTION refused() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '{state}'; END $$"
        )
        conn.execute("CREATE TRIGGER refused BEFORE UPDATE ON followers EXECUTE FUNCTION refused()")
        yield
        conn.execute("DROP FUNCTION refused CASCADE")


OUTAGES: dict[str, Callable[[str], Any]] = {
    # As a standby does, and a server that was promoted no longer.
    "read-only": lambda url: altered(
        url, "SET default_transaction_read_only = on", "RESET default_transaction_read_only"
    ),
    "no connections": lambda url: refusing_writes(url, "53300"),
    "disk full": lambda url: refusing_writes(url, "53100"),
    "out of memory": lambda url: refusing_writes(url, "53200"),
    "I/O error": lambda url: refusing_writes(url, "58030"),
    "stopping": lambda url: refusing_writes(url, "57P01"),
}


@pytest.mark.usefixtures("seen_table")
@pytest.mark.parametrize("how", OUTAGES)
def test_followers_wait_say_so_once_and_go_on(migrated_url: str, how: str) -> None:
    alone = Follower(NAME, noting(), poll=0.05)
    group, *_ = read_models.readers(migrated_url)
    readers: list[Reader] = [alone, group]
    with capture_logs() as said, following(migrated_url, *readers):
        add(migrated_url, 2)
        eventually(lambda: seen(migrated_url) == [1, 2] and not any(each.unready for each in readers))
        said.clear()
        with OUTAGES[how](migrated_url):
            add_regardless(migrated_url)
            eventually(lambda: all(each.unready for each in readers))
            # Long enough for several attempts.
            until = time.monotonic() + 1.0
            eventually(lambda: time.monotonic() > until)
        eventually(lambda: seen(migrated_url) == [1, 2, 3])
        eventually(lambda: positions(migrated_url) == {3})
        eventually(lambda: not any(each.unready for each in readers))
    told = [(line.get("follower"), line["event"]) for line in said]
    assert sorted(set(told)) == sorted(told)
    assert {event for _, event in told} == {"connection lost", "connection back"}
    assert rows(migrated_url, "SELECT name FROM followers WHERE halted_at IS NOT NULL") == []
    assert rows(migrated_url, "SELECT entity FROM held_entities") == []


def add_regardless(url: str) -> None:
    add(with_setting(url, "default_transaction_read_only", "off"), 1)


def positions(url: str) -> set[int]:
    names = [f"{model.NAME}_{projections.suffix(model)}" for model in projections.READ_MODELS]
    return {at for (at,) in rows(url, "SELECT position FROM followers WHERE name = ANY(%s)", names)}
